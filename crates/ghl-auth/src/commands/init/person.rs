//! Whoever answers: at a terminal, or beforehand by flags.

use std::fmt::Display;
use std::io::IsTerminal;

use inquire::ui::{ErrorMessageRenderConfig, RenderConfig};
use inquire::{Confirm, InquireError, Password, PasswordDisplayMode, Select};

use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
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
    pub(super) fn answer<T>(
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
                true => self.type_secretly(&asks, known),
                false => self.type_openly(&asks, known),
            }?;
            match good(text, &typed) {
                Ok(answer) => return Ok(answer),
                Err(why) => self.object(&why),
            }
        }
    }

    /// One of several, by the number of its place.
    pub(super) fn choice(&self, key: &str, options: Vec<String>, known: usize) -> Result<usize, Explained> {
        if !self.is_there {
            return Ok(known);
        }
        let text = &self.text;
        self.say_where(key);
        let (asks, help) = (text.say(&format!("init-{key}"), &[]), text.say("init-choose", &[]));
        let asked = Select::new(&asks, options)
            .with_help_message(&help)
            .with_starting_cursor(known)
            .with_render_config(plain())
            .raw_prompt();
        asked.map(|chosen| chosen.index).map_err(|error| self.interrupted(&error))
    }

    /// Yes or no; yes where nobody is there, since flags said what is wanted.
    pub(super) fn agrees(&self, asks: &str) -> Result<bool, Explained> {
        if !self.is_there {
            return Ok(true);
        }
        let text = &self.text;
        let (yes, no) = (text.say("init-yes", &[]), text.say("init-no", &[]));
        let parser = |typed: &str| {
            let typed = typed.trim().to_lowercase();
            let means = |word: &str| !typed.is_empty() && word.to_lowercase().starts_with(&typed);
            match (means(&yes), means(&no)) {
                (true, _) => Ok(true),
                (_, true) => Ok(false),
                _ => Err(()),
            }
        };
        let formatter = |agrees: bool| if agrees { yes.clone() } else { no.clone() };
        let hint = text.say("init-yes-by-default", &[]);
        let asked = Confirm {
            formatter: &formatter,
            parser: &parser,
            default_value_formatter: &|_| hint.clone(),
            error_message: text.say("init-yes-or-no", &[]),
            ..Confirm::new(asks)
        };
        let asked = asked.with_default(true).with_render_config(plain()).prompt();
        asked.map_err(|error| self.interrupted(&error))
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

    fn type_openly(&self, asks: &str, known: Option<&str>) -> Result<String, Explained> {
        let asked = inquire::Text::new(asks).with_render_config(plain());
        let asked = match known {
            Some(known) => asked.with_default(known).prompt(),
            None => asked.prompt(),
        };
        asked.map_err(|error| self.interrupted(&error))
    }

    fn type_secretly(&self, asks: &str, known: Option<&str>) -> Result<String, Explained> {
        let help = self.text.say("init-keeps", &[]);
        let asked = Password::new(asks)
            .without_confirmation()
            .with_display_mode(PasswordDisplayMode::Masked)
            .with_render_config(plain());
        let asked = if known.is_some() { asked.with_help_message(&help) } else { asked };
        let typed = asked.prompt().map_err(|error| self.interrupted(&error))?;
        Ok(match known {
            Some(known) if typed.trim().is_empty() => known.to_owned(),
            _ => typed,
        })
    }

    fn interrupted(&self, error: &InquireError) -> Explained {
        match error {
            InquireError::OperationCanceled | InquireError::OperationInterrupted => {
                Explained::new(&self.text, "init_interrupted", Exit::Failed, &[])
            }
            error => {
                let why: &dyn Display = error;
                let arguments = [("why", why.to_string().into())];
                Explained::new(&self.text, "init_terminal", Exit::Usage, &arguments)
            }
        }
    }
}

/// Colours where the rest of the program has them.
fn plain() -> RenderConfig<'static> {
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => {
            RenderConfig { error_message: ErrorMessageRenderConfig::empty(), ..RenderConfig::empty() }
        }
        _ => RenderConfig::default_colored(),
    }
}
