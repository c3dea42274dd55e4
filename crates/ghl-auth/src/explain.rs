//! Turns what went wrong into what happened, what to do, and how the command ends.
//!
//! Every code has a sentence `error-CODE` and a cure `error-CODE.action` in both languages.

use highlevel::{Failure, FailureKind};
use serde_json::{Value, json};
use store::{DatabaseCause, DatabaseTrouble};
use tokens::store::Exposure;
use tokens::{KeeperError, StoreError, Timestamp};
use upkeep::{CheckError, StepName, Warning};

use crate::exit::Exit;
use crate::output::moment;
use crate::text::{Arg, Text};

/// An error as people and programs get it.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
    pub(crate) action: String,
    pub(crate) authorize_url: Option<String>,
    pub(crate) exit: Exit,
}

impl Explained {
    pub(crate) fn new(text: &Text, code: &'static str, exit: Exit, arguments: &[(&str, Arg<'_>)]) -> Self {
        let key = format!("error-{code}");
        Self {
            code,
            detail: text.say(&key, arguments),
            action: text.say(&format!("{key}.action"), arguments),
            authorize_url: None,
            exit,
        }
    }

    /// Adds the link under which a person authorises, where that is the cure.
    pub(crate) fn with_link(mut self, link: Option<String>) -> Self {
        if self.exit == Exit::Person {
            self.authorize_url = link;
        }
        self
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut json = json!({ "code": self.code, "detail": self.detail, "action": self.action });
        if let Some(url) = &self.authorize_url {
            json["authorize_url"] = url.as_str().into();
        }
        json
    }
}

/// Why a token could not be had.
pub(crate) fn keeper_error(text: &Text, error: &KeeperError) -> Explained {
    let new = |code, exit, arguments: &[(&str, Arg<'_>)]| Explained::new(text, code, exit, arguments);
    match error {
        KeeperError::NotConnected(id) => {
            new("not_connected", Exit::Person, &[("id", whose(text, id).into())])
        }
        KeeperError::NeedsPerson { id, broken } => new(
            "needs_person",
            Exit::Person,
            &[
                ("id", whose(text, id).into()),
                ("since", moment(broken.since).into()),
                ("said", reason(text, &broken.said).into()),
            ],
        ),
        KeeperError::Suspended { id, since, said } => new(
            "suspended",
            Exit::Failed,
            &[
                ("id", whose(text, id).into()),
                ("since", moment(*since).into()),
                ("said", reason(text, said).into()),
            ],
        ),
        KeeperError::Company { location, company, trouble } => {
            let trouble = keeper_error(text, trouble);
            let arguments = [
                ("location", location.as_str().into()),
                ("company", company.as_str().into()),
                ("why", trouble.detail.into()),
                ("action", trouble.action.into()),
            ];
            new("company_trouble", trouble.exit, &arguments)
        }
        KeeperError::NotMinted { location, said } => new(
            "not_minted",
            Exit::Person,
            &[("location", location.as_str().into()), ("said", reason(text, said).into())],
        ),
        KeeperError::InvalidClient { said } => {
            new("invalid_client", Exit::Usage, &[("said", reason(text, said).into())])
        }
        KeeperError::InvalidCode { said } => {
            new("invalid_code", Exit::Person, &[("said", reason(text, said).into())])
        }
        KeeperError::Unanswered { said } => {
            new("unanswered", Exit::Unreachable, &[("said", reason(text, said).into())])
        }
        KeeperError::Resting { until, said } => new(
            "resting",
            Exit::Unreachable,
            &[("until", moment(*until).into()), ("said", reason(text, said).into())],
        ),
        KeeperError::FreshTokenRefused => new("fresh_token_refused", Exit::Failed, &[]),
        KeeperError::Parked(id) => new("parked", Exit::Person, &[("id", whose(text, id).into())]),
        KeeperError::Anonymous => new("anonymous_grant", Exit::Failed, &[]),
        KeeperError::Store(error) => store_error(text, error),
        KeeperError::Spooled(error) => {
            new("spooled", Exit::Unreachable, &[("why", store_error(text, error).detail.into())])
        }
        KeeperError::Unsaved(error) => {
            new("unsaved", Exit::Unreachable, &[("why", store_error(text, error).detail.into())])
        }
    }
}

/// Why the store did not do what it was asked.
pub(crate) fn store_error(text: &Text, error: &StoreError) -> Explained {
    let place = |place: &String| ("place", Arg::from(place.clone()));
    let new = |code, exit, arguments: &[(&str, Arg<'_>)]| Explained::new(text, code, exit, arguments);
    match error {
        StoreError::Io { place: at, source, .. } => {
            new("store_io", Exit::Unreachable, &[place(at), ("why", source.to_string().into())])
        }
        StoreError::Database { place: at, source, .. } => {
            let why = ("why", source.to_string().into());
            new(
                "store_database",
                Exit::Unreachable,
                &[place(at), why, ("cause", cause(source.as_ref()).into())],
            )
        }
        StoreError::IsFolder { place: at } => new("store_is_folder", Exit::Usage, &[place(at)]),
        StoreError::Exposed { place: at, why } => {
            let (why, cure) = exposure(text, at, *why);
            new("store_exposed", Exit::Usage, &[place(at), ("why", why.into()), ("cure", cure.into())])
        }
        StoreError::Unreadable { place: at, why } => {
            new("store_unreadable", Exit::Person, &[place(at), ("why", reason(text, why).into())])
        }
        StoreError::WrongKey { place: at, key_id } => {
            new("wrong_key", Exit::Usage, &[place(at), ("key", key_id.as_str().into())])
        }
        StoreError::SealBroken { place: at } => new("seal_broken", Exit::Unreachable, &[place(at)]),
        StoreError::KeyMissing { place: at } => new("key_missing", Exit::Usage, &[place(at)]),
        StoreError::TooNew { place: at } => new("store_too_new", Exit::Usage, &[place(at)]),
        StoreError::Poisoned { place: at } => new("store_poisoned", Exit::Unreachable, &[place(at)]),
        StoreError::NoRoomFor { place: at, what } => {
            new("no_room_for", Exit::Usage, &[place(at), ("what", (*what).into())])
        }
        StoreError::LeaseLost => new("lease_lost", Exit::Unreachable, &[]),
        StoreError::Standby { place: at, why } => {
            new("store_standby", Exit::Usage, &[place(at), ("why", standby(text, why).into())])
        }
        StoreError::InTheAir { place: at } => new("store_in_the_air", Exit::Unreachable, &[place(at)]),
        StoreError::ReadOnly { place: at } => new("store_read_only", Exit::Usage, &[place(at)]),
    }
}

/// What to do differs by what is wrong with a database on a network.
fn cause(source: &(dyn std::error::Error + Send + Sync + 'static)) -> &'static str {
    match source.downcast_ref::<DatabaseTrouble>().map_or(DatabaseCause::Other, DatabaseTrouble::cause) {
        DatabaseCause::Login => "login",
        DatabaseCause::NotLetIn => "not-let-in",
        DatabaseCause::NoDatabase => "no-database",
        DatabaseCause::NotAllowed => "not-allowed",
        DatabaseCause::Unreached => "unreached",
        DatabaseCause::Untrusted => "untrusted",
        DatabaseCause::NoTls => "no-tls",
        DatabaseCause::Crowded => "crowded",
        DatabaseCause::TableMissing => "table-missing",
        DatabaseCause::Other => "other",
    }
}

/// In which way others can get at a file or folder, and what to do about it.
pub(crate) fn exposure(text: &Text, place: &str, exposure: Exposure) -> (String, String) {
    let (key, detail) = match exposure {
        Exposure::Link => ("exposed-link", String::new()),
        Exposure::HardLinks => ("exposed-hard-links", String::new()),
        Exposure::NoFile => ("exposed-no-file", String::new()),
        Exposure::OtherOwner { owner } => ("exposed-other-owner", owner.to_string()),
        Exposure::OpenFolder { mode } => ("exposed-open-folder", format!("{mode:04o}")),
    };
    let arguments = [("place", place.into()), ("detail", detail.into())];
    (text.say(key, &arguments), text.say(&format!("{key}.action"), &arguments))
}

/// Why a check failed.
pub(crate) fn check_error(text: &Text, error: &CheckError) -> Explained {
    match error {
        CheckError::Token(error) => keeper_error(text, error),
        CheckError::Call { step, failure } => failed_call(text, *step, failure),
        CheckError::WorkflowSilent { waited } => {
            Explained::new(text, "workflow_silent", Exit::Failed, &[("seconds", waited.as_secs().into())])
        }
    }
}

/// A warning's sentence and code.
pub(crate) fn warning(text: &Text, warning: &Warning) -> (String, &'static str) {
    match warning {
        Warning::RefreshFailed { error, expires_at } => {
            let why = keeper_error(text, error);
            let arguments = [("why", why.detail.into()), ("until", until(*expires_at))];
            (text.say("warning-refresh-failed", &arguments), why.code)
        }
        Warning::TagWasStillThere => (text.say("warning-tag-still-there", &[]), "tag_was_still_there"),
        Warning::ScopesMissing(scopes) => {
            let arguments = [("scopes", scopes.join(" ").into())];
            (text.say("warning-check-scopes-missing", &arguments), "check_scopes_missing")
        }
        Warning::NobodyIsTold => (text.say("warning-nobody-is-told", &[]), "nobody_is_told"),
    }
}

fn failed_call(text: &Text, step: StepName, failure: &Failure) -> Explained {
    let (code, exit) = match failure.kind {
        FailureKind::TokenRefused => ("token_refused", Exit::Failed),
        FailureKind::PrivateTokenRefused => ("private_token_refused", Exit::Person),
        FailureKind::ScopeMissing => ("scope_missing", Exit::Failed),
        FailureKind::WrongClass => ("wrong_class", Exit::Failed),
        FailureKind::OtherLocation => ("other_location", Exit::Failed),
        FailureKind::VersionRefused => ("version_refused", Exit::Usage),
        FailureKind::NotActive => ("location_not_active", Exit::Failed),
        FailureKind::ContactNotFound => ("contact_not_found", Exit::Failed),
        FailureKind::RateLimited { .. } => ("rate_limited", Exit::Failed),
        FailureKind::Unavailable => ("unavailable", Exit::Unreachable),
        FailureKind::Unreachable => ("unreachable", Exit::Unreachable),
        FailureKind::NoAnswer => ("no_answer", Exit::Unreachable),
        FailureKind::Unreadable => ("unreadable_answer", Exit::Failed),
        FailureKind::Other => ("refused", Exit::Failed),
    };
    let status = failure.status.map_or_else(|| "–".to_owned(), |status| status.to_string());
    let step = text.say(&format!("step-{}", step.as_str()), &[]);
    Explained::new(
        text,
        code,
        exit,
        &[("step", step.into()), ("said", reason(text, &failure.said).into()), ("status", status.into())],
    )
}

/// Our own words about something unreadable, in the reader's language; anything else as it is.
pub(crate) fn reason(text: &Text, why: &str) -> String {
    let slug: String = why.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    text.find(&format!("reason-{slug}"), &[]).unwrap_or_else(|| why.to_owned())
}

/// Why a notice did not arrive, in the reader's language: what this program says of it, around the codes of
/// whoever was to take it.
pub(crate) fn not_delivered(text: &Text, why: &str) -> String {
    let known = [
        ("it answered ", "delivery-answered"),
        ("it put off ", "delivery-put-off"),
        ("it refused ", "delivery-refused"),
        ("it has no use for ", "delivery-no-use"),
    ];
    let found = known.iter().find_map(|(words, key)| Some((key, why.strip_prefix(words)?)));
    let Some((key, rest)) = found else { return reason(text, why) };
    // What it has an answer to alone has a code alone.
    let (what, code) = rest.split_once(": ").unwrap_or((rest, rest));
    text.say(key, &[("what", reason(text, what).into()), ("code", code.into())])
}

/// Why a store is on standby, as far as this program wrote it down, in the reader's language.
pub(crate) fn standby(text: &Text, why: &str) -> String {
    let known = [
        ("moving to ", "standby-moving"),
        ("moved to ", "standby-moved"),
        ("being filled from ", "standby-being-filled"),
        ("given up for ", "standby-given-up"),
        ("restored from ", "standby-restored"),
    ];
    let found = known.iter().find_map(|(words, key)| Some((key, why.strip_prefix(words)?)));
    found.map_or_else(|| why.to_owned(), |(key, place)| text.say(key, &[("place", place.into())]))
}

/// "location X", in the reader's language.
pub(crate) fn whose(text: &Text, id: &tokens::InstallationId) -> String {
    text.say(&format!("whose-{}", id.kind()), &[("id", id.as_str().into())])
}

/// Until when a token lives, for a sentence.
pub(crate) fn until(at: Timestamp) -> Arg<'static> {
    moment(at).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Lang;

    /// What is said of a way that takes no notice, from the sources that say it.
    #[test]
    fn each_reason_that_no_notice_arrived_is_told_in_both_languages() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../upkeep/src/");
        let mut said = Vec::new();
        for file in ["notify/post.rs", "notify/email.rs", "notify/heartbeat.rs", "outbox.rs"] {
            let source = std::fs::read_to_string(format!("{folder}{file}")).expect("a source");
            let source = source.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
            for before in ["failed(\"", "said: \"", "|_| \"", "Err(\"", "PRIVATE: &str = \""] {
                said.extend(
                    source.split(before).skip(1).filter_map(|it| it.split('"').next()).map(str::to_owned),
                );
            }
            for what in source.split("refused(\"").skip(1).filter_map(|it| it.split('"').next()) {
                said.extend([
                    format!("it put off {what}: 421"),
                    format!("it refused {what}: 550 5.7.1"),
                    format!("it has no use for {what}"),
                ]);
            }
        }
        said.push("it answered 503".to_owned());
        assert!(said.len() > 25, "the sources were read: {said:?}");
        let [english, portuguese] = [Lang::En, Lang::PtBr].map(Text::new);
        for why in said {
            assert_eq!(not_delivered(&english, &why), why);
            let told = not_delivered(&portuguese, &why);
            assert!(told != why && !told.contains("the ") && !told.contains(" it "), "{why}: {told}");
            let codes = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            assert_eq!(codes(&told), codes(&why), "{told}");
        }
    }

    /// Each code that this page can give, from its own text.
    #[test]
    fn each_code_has_a_sentence_and_a_cure() {
        let source = include_str!("explain.rs");
        let codes =
            ["(\"", "text, \""].iter().flat_map(|before| source.split(before).skip(1)).filter_map(|piece| {
                let (code, rest) = piece.split_once('"')?;
                (rest.starts_with(", Exit::")).then_some(code)
            });
        let mut count = 0;
        for code in codes {
            for lang in [Lang::En, Lang::PtBr] {
                let text = Text::new(lang);
                let arguments = [
                    "id", "since", "said", "until", "why", "place", "key", "step", "status", "seconds",
                    "what", "cure",
                ]
                .map(|name| (name, Arg::from("x")));
                assert!(text.find(&format!("error-{code}"), &arguments).is_some(), "{code}");
                assert!(text.find(&format!("error-{code}.action"), &arguments).is_some(), "{code}.action");
            }
            count += 1;
        }
        assert!(count > 30, "the codes were read: {count}");
    }
}
