//! `init`: from a downloaded program to a light that is green, by questions.
//!
//! Each answer is written to `.env` as soon as it is good, and is the default of the next run. So the
//! command can end anywhere, and be run again for whatever is still missing.

mod answers;
mod paper;
mod person;
mod place;

use std::path::{Path, PathBuf};
use std::process::Command;

use answers::Whom;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use paper::Paper;
use person::{Person, Question};
use place::{Made, Place};
use tokens::ContactId;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{CheckArgs, InitArgs, LoginArgs, ScheduleAction, ScheduleWay};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::shutdown::asked_to_stop;
use crate::text::{Lang, Text};
use crate::wiring::Context;

/// Where the Python template keeps its tokens.
const TEMPLATES_FILE: &str = "ghl_tokens.json";

/// What the Python template calls it.
const TAG: &str = "Status:Online-AuthService";
const NAME: &str = "AuthServicePadrao";
const EVERY_HOURS: &str = "12";

/// Ways to be scheduled, in the order in which they are offered.
const WAYS: [&str; 4] = ["cron", "systemd", "service", "none"];

pub(crate) async fn run(args: Box<InitArgs>, context: &Context) -> Result<Exit, Explained> {
    let mut setup = Setup::new(*args, context)?;
    setup.refuse_what_is_set_up_by_hand(context)?;
    setup.warn_of_source();
    setup.language().await?;
    setup.all_at_once()?;
    setup.app().await?;
    setup.location().await?;
    setup.store().await?;
    let place = match setup.connect().await? {
        Some(place) => place,
        None => return Ok(Exit::Person),
    };
    setup.service_name().await?;
    if let Some(contact) = setup.contact(&place).await? {
        setup.tag(&place, &contact).await?;
    }
    let house = setup.house();
    output::talk("");
    match super::check::run(&CheckArgs::default(), &house).await? {
        Exit::Good => {}
        exit => {
            output::talk(&setup.say("init-not-yet", &[]));
            return Ok(exit);
        }
    }
    setup.schedule().await?;
    let arguments = [("path", setup.paper.path().display().to_string().into())];
    output::talk("");
    output::talk(&setup.say("init-done", &arguments));
    Ok(Exit::Good)
}

/// The setting up, under way.
struct Setup {
    args: InitArgs,
    paper: Paper,
    person: Person,
}

impl Setup {
    fn new(args: InitArgs, context: &Context) -> Result<Self, Explained> {
        let named = context.source.env_file().unwrap_or_else(|| PathBuf::from(".env"));
        let path = std::path::absolute(&named).map_err(|error| unwritten(&context.text, &named, &error))?;
        let paper = Paper::at(path, &context.source);
        let person = Person::new(Text::new(context.text.lang), args.init_yes);
        Ok(Self { args, paper, person })
    }

    fn say(&self, key: &str, arguments: &[(&str, crate::text::Arg<'_>)]) -> String {
        self.person.text.say(key, arguments)
    }

    /// The house that the settings make now, in the language that was chosen.
    fn house(&self) -> Context {
        Context {
            text: Text::new(self.person.text.lang),
            source: self.paper.source().clone(),
            app: None,
            throwaway: false,
        }
    }

    /// Several apps, agencies and Private Integration Tokens are for those who know what they do.
    fn refuse_what_is_set_up_by_hand(&self, context: &Context) -> Result<(), Explained> {
        let is_company = self.paper.value("GHL_USER_TYPE").is_some_and(|class| class != "Location");
        let by_hand = ["GHL_APPS", "GHL_APP", "GHL_PRIVATE_TOKEN"];
        let by_hand = by_hand.into_iter().find(|name| self.paper.value(name).is_some());
        let by_hand = by_hand.or(is_company.then_some("GHL_USER_TYPE"));
        match by_hand.or(context.app.is_some().then_some("--app")) {
            None => Ok(()),
            Some(name) => {
                Err(Explained::new(&self.person.text, "init_by_hand", Exit::Usage, &[("name", name.into())]))
            }
        }
    }

    fn warn_of_source(&self) {
        for warning in self.paper.source().warnings(&self.person.text) {
            output::warning(&self.person.text, &warning);
        }
    }

    /// Writes an answer down, and says so where the environment has another, which prevails.
    fn note(&mut self, name: &str, value: &str) -> Result<(), Explained> {
        let text = &self.person.text;
        let path = self.paper.path().to_owned();
        self.paper.note(name, value).map_err(|error| unwritten(text, &path, &error))?;
        if self.paper.is_overruled(name, value) {
            let arguments = [("name", name.to_owned().into())];
            output::warning(text, &text.say("init-overruled", &arguments));
        }
        Ok(())
    }

    fn question(&self, key: &'static str, flag: &'static str, variable: &str) -> Question<'static> {
        Question { key, flag, given: None, known: self.paper.value(variable), is_secret: false }
    }

    async fn language(&mut self) -> Result<(), Explained> {
        let languages = [("en", "English"), ("pt-BR", "Português (Brasil)")];
        let known = usize::from(self.person.text.lang == Lang::PtBr);
        let chosen = match &self.args.lang {
            Some(lang) => lang.clone(),
            None => {
                let names = languages.map(|(_, name)| name.to_owned()).to_vec();
                languages[self.person.choice("language", names, known).await?].0.to_owned()
            }
        };
        self.note("GHL_AUTH_LANG", &chosen)?;
        self.person.text = Text::new(Lang::choose(Some(&chosen)));
        output::talk(&self.say("init-welcome", &[]));
        Ok(())
    }

    /// Where nobody is there to ask, everything that is missing is told at once.
    fn all_at_once(&self) -> Result<(), Explained> {
        if self.person.is_there() {
            return Ok(());
        }
        let args = &self.args;
        let known = |name: &str, good: fn(&str) -> answers::Checked<String>| {
            self.paper.value(name).is_some_and(|value| good(&value).is_ok())
        };
        let lacks = [
            ("--client-id", args.client_id.is_some() || known("GHL_CLIENT_ID", answers::client_id)),
            (
                "--client-secret-file",
                args.client_secret_file.is_some() || known("GHL_CLIENT_SECRET", answers::client_secret),
            ),
            (
                "--redirect-uri",
                args.redirect_uri.is_some() || known("GHL_REDIRECT_URI", answers::redirect_uri),
            ),
            ("--location", args.init_location.is_some() || known("GHL_LOCATION_ID", answers::location)),
        ];
        let lacks: Vec<&str> =
            lacks.iter().filter(|(_, is_there)| !is_there).map(|(flag, _)| *flag).collect();
        match lacks.is_empty() {
            true => Ok(()),
            false => Err(self.person.misses(&lacks.join(", "))),
        }
    }

    async fn app(&mut self) -> Result<(), Explained> {
        let asked =
            self.question("client-id", "--client-id", "GHL_CLIENT_ID").given(self.args.client_id.clone());
        let id = self.person.answer(asked, plainly(answers::client_id)).await?;
        self.note("GHL_CLIENT_ID", &id)?;

        let asked = self.question("client-secret", "--client-secret-file", "GHL_CLIENT_SECRET");
        let asked = asked.given(self.secret_in_a_file()?).secret();
        let secret = self.person.answer(asked, plainly(answers::client_secret)).await?;
        self.note("GHL_CLIENT_SECRET", &secret)?;

        let asked = self.question("redirect-uri", "--redirect-uri", "GHL_REDIRECT_URI");
        let asked = asked.given(self.args.redirect_uri.clone());
        let uri = self.person.answer(asked, plainly(answers::redirect_uri)).await?;
        if answers::is_refused_by_the_portal(&uri) {
            output::warning(&self.person.text, &self.say("init-redirect-refused", &[]));
        }
        self.note("GHL_REDIRECT_URI", &uri)
    }

    fn secret_in_a_file(&self) -> Result<Option<String>, Explained> {
        let Some(path) = &self.args.client_secret_file else { return Ok(None) };
        match std::fs::read_to_string(path) {
            Ok(secret) => Ok(Some(secret)),
            Err(error) => {
                let why = format!("{}: {error}", path.display());
                Err(self.person.refuses("--client-secret-file", &why))
            }
        }
    }

    async fn location(&mut self) -> Result<(), Explained> {
        let given = self.args.init_location.take();
        let asked = self.question("location", "--location", "GHL_LOCATION_ID").given(given);
        let id = self.person.answer(asked, plainly(answers::location)).await?;
        self.note("GHL_LOCATION_ID", &id)
    }

    /// Where the tokens rest, and the key that seals them there.
    async fn store(&mut self) -> Result<(), Explained> {
        let usual =
            if Path::new(TEMPLATES_FILE).is_file() { "file:ghl_tokens.json" } else { "sqlite:ghl-auth.db" };
        let asked = self.question("store", "--store", "GHL_STORE").given(self.args.store.clone());
        let asked = asked.if_good(|known| answers::store(&self.person.text, known).is_ok()).usually(usual);
        let store = self.person.answer(asked, answers::store).await?;
        if !store.starts_with("file:") && self.paper.value("GHL_AUTH_KEY").is_none() {
            // Before the store is named: one without the other would be no settings at all.
            self.note("GHL_AUTH_KEY", &store::Key::generate())?;
            let arguments = [("path", self.paper.path().display().to_string().into())];
            output::talk(&self.say("init-key", &arguments));
        }
        self.note("GHL_STORE", &store)
    }

    /// Tokens of the location that is meant: those at rest, or of a login. None where a person has to
    /// consent who is not here.
    async fn connect(&mut self) -> Result<Option<Place>, Explained> {
        let mut code = self.args.code.take();
        loop {
            let house = self.house();
            // A code was asked for by whoever wants to log in anew.
            let found = match code {
                None => place::connected(&house).await?,
                Some(_) => Made::Nothing,
            };
            match found {
                Made::Place(place) => {
                    let name = place.name().await.unwrap_or_else(|| place.location().to_owned());
                    output::talk(&self.say("init-connected", &[("name", name.into())]));
                    return Ok(Some(*place));
                }
                Made::Another(other) => self.settle_for(&other).await?,
                Made::Nothing => match (code.take(), self.person.is_there()) {
                    (Some(code), _) => {
                        let login = LoginArgs { code: Some(code), no_browser: true, json: false };
                        super::login::run(login, &house).await?;
                    }
                    (None, true) => {
                        self.tell_of_the_templates_tokens();
                        self.log_in().await?;
                    }
                    (None, false) => {
                        let error = Explained::new(&house.text, "init_login", Exit::Person, &[]);
                        return Err(error.with_link(house.consent_link()));
                    }
                },
            }
        }
    }

    /// Tokens that are here already need no new consent.
    fn tell_of_the_templates_tokens(&self) {
        let is_elsewhere = self.paper.value("GHL_STORE").is_some_and(|store| !store.starts_with("file:"));
        if is_elsewhere && Path::new(TEMPLATES_FILE).is_file() {
            output::talk(&self.say("init-import", &[("path", TEMPLATES_FILE.into())]));
        }
    }

    /// The tokens are of another location than the one that was named.
    async fn settle_for(&mut self, other: &str) -> Result<(), Explained> {
        let wanted = self.paper.value("GHL_LOCATION_ID").unwrap_or_default();
        let arguments = [("found", other.to_owned().into()), ("wanted", wanted.into())];
        if !self.person.is_there() {
            return Err(Explained::new(&self.person.text, "init_another", Exit::Usage, &arguments));
        }
        self.person.object(&self.say("init-another", &arguments));
        match self.person.agrees(&self.say("init-take-other", &arguments)).await? {
            true => self.note("GHL_LOCATION_ID", other),
            // Whoever wants the first one gives the app to it.
            false => self.log_in().await,
        }
    }

    /// A login is a process of its own: what it still waits for at the terminal goes with it, and does
    /// not take the answers of the questions after it.
    async fn log_in(&self) -> Result<(), Explained> {
        output::talk("");
        output::talk(&self.say("init-login", &[]));
        loop {
            let trouble = |error: std::io::Error| self.person.no_terminal(&error);
            let program = std::env::current_exe().map_err(trouble)?;
            let mut login = Command::new(program);
            login.arg("--env-file").arg(self.paper.path()).arg("login");
            if self.args.no_browser {
                login.arg("--no-browser");
            }
            let mut login = login.spawn().map_err(trouble)?;
            let id = login.id();
            let mut ending = tokio::task::spawn_blocking(move || login.wait());
            let mut terminated = signal(SignalKind::terminate()).map_err(trouble)?;
            let ended = tokio::select! {
                biased;
                _ = terminated.recv() => {
                    if let Ok(id) = i32::try_from(id) {
                        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
                    }
                    let _ = ending.await;
                    return Err(self.person.interrupts());
                }
                // Ctrl-C has reached it as well: what it has in the air lands, if it is not asked twice.
                () = asked_to_stop() => {
                    let _ = ending.await;
                    return Err(self.person.interrupts());
                }
                ended = &mut ending => ended,
            };
            match ended {
                Ok(Ok(status)) if status.success() => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(trouble(error)),
                Err(broken) => return Err(self.person.no_terminal(&broken)),
            }
            if !self.person.agrees(&self.say("init-login-again", &[])).await? {
                return Err(self.person.interrupts());
            }
        }
    }

    async fn service_name(&mut self) -> Result<(), Explained> {
        let asked = self.question("name", "--service-name", "MICROSERVICE_NAME").usually(NAME);
        let asked = asked.given(self.args.service_name.clone());
        let name = self.person.answer(asked, plainly(answers::name)).await?;
        self.note("MICROSERVICE_NAME", &name)
    }

    /// The contact of the health check, if there is to be one.
    async fn contact(&mut self, place: &Place) -> Result<Option<ContactId>, Explained> {
        let mut given = match (&self.args.contact, &self.args.contact_email, self.args.no_contact) {
            (Some(id), _, _) => Some(id.clone()),
            (_, Some(email), _) => Some(email.clone()),
            (_, _, true) => Some("-".to_owned()),
            _ => None,
        };
        let flag = if self.args.contact_email.is_some() { "--contact-email" } else { "--contact" };
        loop {
            let is_by_flag = given.is_some();
            let asked = self.question("contact", flag, "GHL_HEALTH_CHECK_CONTACT_ID").given(given.take());
            let asked = if self.person.is_there() { asked } else { asked.usually("-") };
            let whom = self.person.answer(asked, plainly(answers::whom)).await?;
            match self.introduced(place, whom).await {
                Ok(Some(id)) => {
                    self.note("GHL_HEALTH_CHECK_CONTACT_ID", id.as_str())?;
                    return Ok(Some(id));
                }
                Ok(None) => {
                    if self.paper.value("GHL_HEALTH_CHECK_CONTACT_ID").is_some() {
                        self.note("GHL_HEALTH_CHECK_CONTACT_ID", "")?;
                    }
                    output::talk(&self.say("init-read-only", &[]));
                    return Ok(None);
                }
                Err(Unmet::Ask(why)) if self.person.is_there() => self.person.object(&why),
                Err(Unmet::Ask(why)) if is_by_flag => return Err(self.person.refuses(flag, &why)),
                Err(Unmet::Ask(why)) => {
                    return Err(self.person.refuses("GHL_HEALTH_CHECK_CONTACT_ID", &why));
                }
                Err(Unmet::End(error)) => return Err(error),
            }
        }
    }

    /// The contact that is meant, once HighLevel knows it.
    async fn introduced(&self, place: &Place, whom: Whom) -> Result<Option<ContactId>, Unmet> {
        let text = &self.person.text;
        let email = match whom {
            Whom::Nobody => return Ok(None),
            Whom::Id(id) => {
                match place.look_at(&id).await {
                    Ok(()) => {}
                    // What may not be read now can be, once the app has the scope.
                    Err(failure) if place::lacks_scope(&failure) => {
                        output::warning(text, &place::scope_sentence(text, "contacts.readonly"));
                    }
                    Err(failure) => return Err(Unmet::Ask(place::sentence(text, &failure))),
                }
                return Ok(Some(id));
            }
            Whom::Email(email) => email,
        };
        let refusal = |failure: highlevel::Failure, scope: &str| match place::lacks_scope(&failure) {
            true => Unmet::Ask(place::scope_sentence(text, scope)),
            false => Unmet::Ask(place::sentence(text, &failure)),
        };
        let found = place.find(&email).await.map_err(|failure| refusal(failure, "contacts.readonly"))?;
        if let Some(id) = found {
            let arguments = [("email", email.into()), ("id", id.as_str().to_owned().into())];
            output::talk(&text.say("init-contact-found", &arguments));
            return Ok(Some(id));
        }
        let asks = text.say("init-contact-make", &[("email", email.clone().into())]);
        if !self.person.agrees(&asks).await.map_err(Unmet::End)? {
            return Err(Unmet::Ask(text.say("init-contact-other", &[])));
        }
        let name = self.paper.value("MICROSERVICE_NAME").unwrap_or_else(|| NAME.to_owned());
        let id = place.make(&name, &email).await.map_err(|failure| refusal(failure, "contacts.write"))?;
        let arguments = [("email", email.into()), ("id", id.as_str().to_owned().into())];
        output::talk(&text.say("init-contact-made", &arguments));
        Ok(Some(id))
    }

    /// The tag of the health check, in HighLevel as far as the app may, and the name for the message.
    async fn tag(&mut self, place: &Place, contact: &ContactId) -> Result<(), Explained> {
        let asked = self.question("tag", "--tag", "GHL_HEALTH_CHECK_TAG_NAME").usually(TAG);
        let asked = asked.given(self.args.tag.clone());
        let tag = self.person.answer(asked, plainly(answers::name)).await?;
        self.note("GHL_HEALTH_CHECK_TAG_NAME", &tag)?;
        let text = &self.person.text;
        output::talk(&place.have_tag(text, &tag).await);
        let name = self.paper.value("MICROSERVICE_NAME").unwrap_or_else(|| NAME.to_owned());
        output::talk(&place.name_in(text, contact, &name).await);
        output::talk(&text.say("init-workflow", &[("tag", tag.into())]));
        Ok(())
    }

    /// Has the check made again and again, by what there is on this machine.
    async fn schedule(&mut self) -> Result<(), Explained> {
        let mut given = self.args.schedule.take();
        loop {
            let chosen = match (given.take(), self.person.is_there()) {
                (Some(way), _) => way,
                // Nobody's crontab is touched unless they said so.
                (None, false) => "none".to_owned(),
                (None, true) => {
                    let options = WAYS.map(|way| self.say(&format!("init-schedule-{way}"), &[])).to_vec();
                    WAYS[self.person.choice("schedule", options, usual_way()).await?].to_owned()
                }
            };
            if chosen == "none" {
                if self.paper.value("RUN_INTERVAL_HOURS").is_none() {
                    self.note(
                        "RUN_INTERVAL_HOURS",
                        self.args.every.clone().as_deref().unwrap_or(EVERY_HOURS),
                    )?;
                }
                output::talk(&self.say("init-no-schedule", &[]));
                return Ok(());
            }
            let by_cron = chosen == "cron";
            let asked = self.question("every", "--every", "RUN_INTERVAL_HOURS");
            let asked = asked
                .given(self.args.every.clone())
                .if_good(|known| answers::hours(&self.person.text, known, by_cron).is_ok())
                .usually(EVERY_HOURS);
            let hours = self.person.answer(asked, |text, typed| answers::hours(text, typed, by_cron)).await?;
            self.note("RUN_INTERVAL_HOURS", &hours)?;
            let way = ScheduleWay { systemd: chosen == "systemd", service: chosen == "service", json: false };
            match super::schedule::run(ScheduleAction::Install(way), &self.house()) {
                Ok(_) => return Ok(()),
                Err(error) if self.person.is_there() => output::error(&self.person.text, &error),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Why a contact is not one that can be used.
enum Unmet {
    /// Another answer may do.
    Ask(String),
    End(Explained),
}

/// What is found wrong is said in the person's language.
fn plainly<T>(good: fn(&str) -> answers::Checked<T>) -> impl Fn(&Text, &str) -> Result<T, String> {
    move |text, typed| good(typed).map_err(|key| text.say(key, &[]))
}

/// cron where it is there, else systemd's timers where they run, else nothing.
fn usual_way() -> usize {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let has_cron = std::env::split_paths(&paths).any(|folder| folder.join("crontab").is_file());
    let has_systemd = Path::new("/run/systemd/system").is_dir();
    match (has_cron, has_systemd) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 3,
    }
}

fn unwritten(text: &Text, path: &Path, error: &std::io::Error) -> Explained {
    let arguments = [("path", path.display().to_string().into()), ("why", error.to_string().into())];
    Explained::new(text, "init_unwritten", Exit::Usage, &arguments)
}
