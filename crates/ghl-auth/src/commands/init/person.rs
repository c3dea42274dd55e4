//! Whoever answers: at a terminal, or beforehand by flags.

use std::fmt::Display;
use std::io::IsTerminal;

use inquire::ui::{ErrorMessageRenderConfig, RenderConfig};
use inquire::{Confirm, InquireError, Password, PasswordDisplayMode, Select};

use crossterm::{cursor, event, execute, terminal};

use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::shutdown::asked_to_stop;
use crate::text::Text;

/// The one who is asked, and the language that is spoken with them.
pub(super) struct Person {
    pub(super) text: Text,
    is_there: bool,
}

/// A question: what is asked, and what is known of the answer before.
pub(super) struct Question<'a> {
    /// `init-KEY` is the question, `init-KEY.where` says where the answer is found.
    pub(super) key: &'a str,
    pub(super) flag: &'static str,
    pub(super) given: Option<String>,
    pub(super) known: Option<String>,
    pub(super) is_secret: bool,
}

impl Question<'_> {
    /// The answer by flag, which needs no asking.
    pub(super) fn given(self, given: Option<String>) -> Self {
        Self { given, ..self }
    }

    /// What is likely the answer, where nothing is known.
    pub(super) fn usually(self, usual: &str) -> Self {
        Self { known: self.known.or_else(|| Some(usual.to_owned())), ..self }
    }

    /// Forgets what was known where it is no answer to this question.
    pub(super) fn if_good(self, is_good: impl FnOnce(&str) -> bool) -> Self {
        Self { known: self.known.filter(|known| is_good(known)), ..self }
    }

    /// What nobody may see as it is typed.
    pub(super) fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }
}

impl Person {
    /// The person at the terminal, unless they said that they want no questions.
    pub(super) fn new(text: Text, wants_no_questions: bool) -> Self {
        let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        Self { text, is_there: terminal && !wants_no_questions }
    }

    pub(super) fn is_there(&self) -> bool {
        self.is_there
    }

    /// The answer to a question: by flag, by hand, or what was known before. One that is no good is
    /// explained and asked for again, where somebody is there to ask.
    pub(super) async fn answer<T>(
        &self,
        question: Question<'_>,
        good: impl Fn(&Text, &str) -> Result<T, String>,
    ) -> Result<T, Explained> {
        let text = &self.text;
        if let Some(given) = &question.given {
            return good(text, given).map_err(|why| self.refuses(question.flag, &why));
        }
        let known = question.known.as_deref().filter(|known| good(text, known).is_ok());
        if !self.is_there {
            let known = known.ok_or_else(|| self.misses(question.flag))?;
            return good(text, known).map_err(|why| self.refuses(question.flag, &why));
        }
        self.say_where(question.key);
        let asks = text.say(&format!("init-{}", question.key), &[]);
        loop {
            let typed = match question.is_secret {
                true => self.type_secretly(&asks, known).await,
                false => self.type_openly(&asks, known).await,
            }?;
            match good(text, &typed) {
                Ok(answer) => return Ok(answer),
                Err(why) => self.object(&why),
            }
        }
    }

    /// One of several, by the number of its place.
    pub(super) async fn choice(
        &self,
        key: &str,
        options: Vec<String>,
        known: usize,
    ) -> Result<usize, Explained> {
        if !self.is_there {
            return Ok(known);
        }
        self.say_where(key);
        let (asks, help) = (self.text.say(&format!("init-{key}"), &[]), self.text.say("init-choose", &[]));
        self.prompt(move || {
            let asked = Select::new(&asks, options).with_help_message(&help).with_starting_cursor(known);
            asked.with_render_config(look()).raw_prompt().map(|chosen| chosen.index)
        })
        .await
    }

    /// Yes or no; yes where nobody is there, since flags said what is wanted.
    pub(super) async fn agrees(&self, asks: &str) -> Result<bool, Explained> {
        if !self.is_there {
            return Ok(true);
        }
        let asks = asks.to_owned();
        let [yes, no, hint, mistaken] = ["init-yes", "init-no", "init-yes-by-default", "init-yes-or-no"]
            .map(|key| self.text.say(key, &[]));
        self.prompt(move || {
            let parser = |typed: &str| {
                let typed = typed.trim().to_lowercase();
                let means = |word: &str| !typed.is_empty() && word.to_lowercase().starts_with(&typed);
                match (means(&yes), means(&no)) {
                    (true, _) => Ok(true),
                    (_, true) => Ok(false),
                    _ => Err(()),
                }
            };
            let asked = Confirm {
                formatter: &|agrees| if agrees { yes.clone() } else { no.clone() },
                parser: &parser,
                default_value_formatter: &|_| hint.clone(),
                error_message: mistaken.clone(),
                ..Confirm::new(&asks)
            };
            asked.with_default(true).with_render_config(look()).prompt()
        })
        .await
    }

    /// Says what is wrong with an answer.
    pub(super) fn object(&self, why: &str) {
        output::warning(&self.text, why);
    }

    /// An answer by flag that is no good.
    pub(super) fn refuses(&self, flag: &str, why: &str) -> Explained {
        let arguments = [("flag", flag.to_owned().into()), ("why", why.to_owned().into())];
        Explained::new(&self.text, "init_answer", Exit::Usage, &arguments)
    }

    /// Flags without which nothing can be set up where nobody is there to ask.
    pub(super) fn misses(&self, flags: &str) -> Explained {
        Explained::new(&self.text, "init_missing", Exit::Usage, &[("flags", flags.to_owned().into())])
    }

    fn say_where(&self, key: &str) {
        output::talk("");
        output::talk(&self.text.say(&format!("init-{key}.where"), &[]));
    }

    async fn type_openly(&self, asks: &str, known: Option<&str>) -> Result<String, Explained> {
        let (asks, known) = (asks.to_owned(), known.map(str::to_owned));
        self.prompt(move || {
            let asked = inquire::Text::new(&asks).with_render_config(look());
            match &known {
                Some(known) => asked.with_default(known).prompt(),
                None => asked.prompt(),
            }
        })
        .await
    }

    async fn type_secretly(&self, asks: &str, known: Option<&str>) -> Result<String, Explained> {
        let asks = asks.to_owned();
        let help = known.is_some().then(|| self.text.say("init-keeps", &[]));
        let typed = self
            .prompt(move || {
                let asked = Password::new(&asks)
                    .without_confirmation()
                    .with_display_mode(PasswordDisplayMode::Masked)
                    .with_render_config(look());
                match &help {
                    Some(help) => asked.with_help_message(help).prompt(),
                    None => asked.prompt(),
                }
            })
            .await?;
        Ok(match known {
            Some(known) if typed.trim().is_empty() => known.to_owned(),
            _ => typed,
        })
    }

    /// Waits for what is typed, in a thread of its own: whoever asks the process to stop is heard too.
    async fn prompt<T: Send + 'static>(
        &self,
        asks: impl FnOnce() -> Result<T, InquireError> + Send + 'static,
    ) -> Result<T, Explained> {
        let asked = tokio::task::spawn_blocking(asks);
        tokio::select! {
            typed = asked => match typed {
                Ok(typed) => typed.map_err(|error| self.interrupted(&error)),
                Err(broken) => Err(self.no_terminal(&broken)),
            },
            () = asked_to_stop() => {
                leave_the_terminal_as_it_was();
                Err(self.interrupts())
            }
        }
    }

    /// Ends it here, on whoever's wish.
    pub(super) fn interrupts(&self) -> Explained {
        Explained::new(&self.text, "init_interrupted", Exit::Failed, &[])
    }

    fn interrupted(&self, error: &InquireError) -> Explained {
        match error {
            InquireError::OperationCanceled | InquireError::OperationInterrupted => self.interrupts(),
            error => self.no_terminal(error),
        }
    }

    pub(super) fn no_terminal(&self, why: &dyn Display) -> Explained {
        let arguments = [("why", why.to_string().into())];
        Explained::new(&self.text, "init_terminal", Exit::Usage, &arguments)
    }
}

/// The thread that waits for a key ends with the process, and can't do this by itself.
fn leave_the_terminal_as_it_was() {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(std::io::stderr(), event::DisableBracketedPaste, cursor::Show);
    output::talk("");
}

/// Colours where the rest of the program has them.
fn look() -> RenderConfig<'static> {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => {
            RenderConfig { error_message: ErrorMessageRenderConfig::empty(), ..RenderConfig::empty() }
        }
        _ => RenderConfig::default_colored(),
    }
}
