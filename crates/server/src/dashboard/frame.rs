//! What all pages have around them, and the words in them.

use std::time::Duration;

use askama::filters::Safe;
use tokens::store::Stand;
use tokens::{Health, InstallationId, Overview, Subject, Timestamp};
use upkeep::Speech;

use super::reader::{Reader, language};
use super::session::Viewer;
use crate::copies::rfc3339;
use crate::front::Front;

/// The pages that the way around leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Installations,
    Notices,
    Keys,
    Settings,
    Connect,
    /// One that it does not lead to.
    Elsewhere,
}

/// Around a page.
pub(super) struct Frame<'a> {
    pub(super) words: Words<'a>,
    /// What stands before all paths of this app.
    pub(super) prefix: &'a str,
    /// The app, where there are several.
    pub(super) app: Option<&'a str>,
    place: Place,
    /// What forms bring back; none where nobody is signed in.
    pub(super) csrf: Option<String>,
    /// What was just done, in words.
    pub(super) done: Option<String>,
    /// The other languages: their tags and their own names.
    pub(super) languages: Vec<(String, String)>,
}

impl<'a> Frame<'a> {
    pub(super) fn new(front: &'a Front, reader: &'a Reader, place: Place) -> Self {
        Self {
            words: Words { speech: reader.speech.as_ref(), now: front.house.clock.now() },
            prefix: &front.prefix,
            app: front.house.app.as_deref(),
            place,
            csrf: reader.viewer.as_ref().map(Viewer::csrf),
            done: None,
            languages: others(front, reader),
        }
    }

    /// What says to browsers that a link leads to where one is.
    pub(super) fn current(&self, place: &str) -> Safe<&'static str> {
        let name = match self.place {
            Place::Overview => "overview",
            Place::Installations => "installations",
            Place::Notices => "notices",
            Place::Keys => "keys",
            Place::Settings => "settings",
            Place::Connect => "connect",
            Place::Elsewhere => "",
        };
        Safe(if name == place { " aria-current=\"page\"" } else { "" })
    }
}

/// The languages that a page is not in.
fn others(front: &Front, reader: &Reader) -> Vec<(String, String)> {
    let here = language(reader.speech.as_ref());
    let all = front
        .house
        .languages
        .iter()
        .map(|speech| (language(speech.as_ref()), speech.say("page-language-name", &[])));
    all.filter(|(tag, _)| *tag != here).collect()
}

/// The words of a page.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    speech: &'a dyn Speech,
    pub(super) now: Timestamp,
}

impl Words<'_> {
    pub(super) fn say(&self, key: &str) -> String {
        self.speech.say(key, &[])
    }

    /// With one thing put in.
    pub(super) fn say_of(&self, key: &str, name: &str, value: impl ToString) -> String {
        self.speech.say(key, &[(name, value.to_string())])
    }

    pub(super) fn language(&self) -> String {
        language(self.speech)
    }

    /// How long ago, or in how long.
    pub(super) fn when(&self, at: Timestamp) -> String {
        match at <= self.now {
            true => self.say_of("ago", "span", self.speech.span(self.now.since(at))),
            false => self.say_of("dash-in", "span", self.speech.span(self.now.until(at))),
        }
    }

    pub(super) fn span(&self, span: Duration) -> String {
        self.speech.span(span)
    }

    pub(super) fn moment(&self, at: Timestamp) -> String {
        self.speech.moment(at)
    }
}

/// An instant, for people and for programs.
pub(super) struct When {
    pub(super) exact: String,
    pub(super) told: String,
    pub(super) machine: String,
}

impl When {
    pub(super) fn new(words: &Words<'_>, at: Timestamp) -> Self {
        Self { exact: words.moment(at), told: words.when(at), machine: rfc3339(at) }
    }
}

/// How something is, as a word and a colour that says the same.
pub(super) struct Sign {
    pub(super) class: &'static str,
    pub(super) word: String,
}

impl Sign {
    pub(super) fn of(words: &Words<'_>, health: Option<Health>) -> Self {
        let (class, key) = match health {
            None => ("unknown", "health-unknown"),
            Some(Health::Operational) => ("good", "health-operational"),
            Some(Health::Degraded) => ("late", "health-degraded"),
            Some(Health::Down) => ("bad", "health-down"),
            Some(Health::Suspended) => ("late", "health-suspended"),
            Some(Health::NeedsPerson) => ("bad", "health-needs-person"),
        };
        Self { class, word: words.say(key) }
    }

    /// Of what is paused nothing else matters.
    pub(super) fn of_installation(words: &Words<'_>, it: &Overview, is_paused: bool) -> Self {
        match is_paused {
            true => Self { class: "unknown", word: words.say("dash-paused") },
            false => Self::of(words, it.health(words.now)),
        }
    }
}

/// An installation in a list.
pub(super) struct Row {
    pub(super) kind: &'static str,
    pub(super) kind_word: String,
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) sign: Sign,
    pub(super) life: Life,
    pub(super) checked: Option<When>,
}

impl Row {
    pub(super) fn new(words: &Words<'_>, it: &Overview, is_paused: bool) -> Self {
        Self {
            kind: it.id.kind(),
            kind_word: kind_word(words, &it.id),
            id: it.id.as_str().to_owned(),
            name: it.name.clone(),
            sign: Sign::of_installation(words, it, is_paused),
            life: Life::new(words, it),
            checked: it.last_check.as_ref().map(|check| When::new(words, check.at)),
        }
    }
}

/// Where an installation's page is, behind the app's prefix.
pub(super) fn path_of(id: &InstallationId) -> String {
    format!("/installations/{}/{}", id.kind(), id.as_str())
}

/// What a subject is called, and where its page is, if it has one.
pub(super) fn whose(words: &Words<'_>, subject: &Subject) -> (String, Option<String>) {
    match subject {
        Subject::Installation(id) | Subject::Checks(Some(id)) => (id.as_str().to_owned(), Some(path_of(id))),
        Subject::Service => (words.say("dash-the-service"), None),
        Subject::Checks(None) => (words.say("dash-the-checks"), None),
    }
}

pub(super) fn kind_word(words: &Words<'_>, id: &InstallationId) -> String {
    words.say(match id {
        InstallationId::Location(_) => "dash-location",
        InstallationId::Company(_) => "dash-company",
    })
}

/// How long a token still lives, of all its life.
pub(super) struct Life {
    /// Of a hundred.
    pub(super) percent: u64,
    pub(super) told: String,
    pub(super) class: &'static str,
}

impl Life {
    pub(super) fn new(words: &Words<'_>, it: &Overview) -> Self {
        let left = it.remaining(words.now);
        let whole = it.issued_at.until(it.expires_at).as_secs().max(1);
        let percent = (left.as_secs() * 100 / whole).min(100);
        let told = match left.is_zero() {
            true => words.say_of("token-expired", "at", words.moment(it.expires_at)),
            false => words.say_of("token-lives", "span", words.span(left)),
        };
        let class = match percent {
            0 => "bad",
            1..=15 => "late",
            _ => "good",
        };
        Self { percent, told, class }
    }
}

/// The word for how an installation stands.
pub(super) fn stand_word(words: &Words<'_>, stand: Stand) -> String {
    words.say(&format!("dash-stand-{}", stand.as_str()))
}
