//! Which marketplace apps there are: one without a name, as ever, and those that `GHL_APPS` names.
//!
//! Each has its own credentials, its own store and its own keys. Everything else about the program
//! is the same for all of them.

use std::fmt;

use super::{Config, Found, Source, shown};

/// What the app without a name is called where one has to be named.
const UNNAMED: &str = "default";

/// Names that stand for something else: that of the app without one, and what rests beside a store.
const TAKEN: [&str; 3] = [UNNAMED, "records", "spool"];

const LONGEST_NAME: usize = 32;

/// An app of one's own in HighLevel's marketplace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum App {
    /// The one whose settings are `GHL_CLIENT_ID` and so on.
    #[default]
    Unnamed,
    /// One whose settings are `GHL_APP_NAME_CLIENT_ID` and so on.
    Named(String),
}

/// Why a text names no app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BadName {
    /// It is no name at all.
    Form,
    /// It stands for something else.
    Taken,
    /// It is there already.
    Twice,
}

impl App {
    /// Its name, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Unnamed => None,
            Self::Named(name) => Some(name),
        }
    }

    /// The name of its variable `GHL_REST`.
    pub(super) fn variable(&self, name: &str) -> String {
        match self {
            Self::Unnamed => name.to_owned(),
            Self::Named(app) => {
                let rest = name.strip_prefix("GHL_").unwrap_or(name);
                format!("GHL_APP_{}_{rest}", app.to_ascii_uppercase().replace('-', "_"))
            }
        }
    }

    fn parse(text: &str, before: &[Self]) -> Result<Self, BadName> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let app = Self::Named(text.to_owned());
        match text {
            _ if !(1..=LONGEST_NAME).contains(&text.len()) || !text.chars().all(plain) => Err(BadName::Form),
            _ if TAKEN.contains(&text) => Err(BadName::Taken),
            _ if before.contains(&app) => Err(BadName::Twice),
            _ => Ok(app),
        }
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().unwrap_or(UNNAMED))
    }
}

impl Config<'_> {
    /// The apps there are, the one without a name first. It is there unless others are named and
    /// nothing is said of it.
    pub(crate) fn apps(&mut self) -> Option<Vec<App>> {
        let Some(list) = self.optional("GHL_APPS") else { return Some(vec![App::Unnamed]) };
        let mut apps = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match App::parse(name, &apps) {
                Ok(app) => apps.push(app),
                Err(why) => {
                    let message = match why {
                        BadName::Form => "bad-app-name",
                        BadName::Taken => "bad-app-taken",
                        BadName::Twice => "bad-app-twice",
                    };
                    return self.malformed("GHL_APPS", message, vec![("value", shown(name))]);
                }
            }
        }
        if apps.is_empty() || self.source.speaks_of_the_unnamed_app() {
            apps.insert(0, App::Unnamed);
        }
        Some(apps)
    }
}

impl Source {
    fn speaks_of_the_unnamed_app(&self) -> bool {
        let said = ["GHL_CLIENT_ID", "GHL_CLIENT_SECRET", "GHL_REDIRECT_URI", "GHL_PRIVATE_TOKEN"];
        let unnamed = self.of_app(App::Unnamed);
        said.iter().any(|name| !matches!(unnamed.find(name), Found::Nothing))
    }

    /// The app that `--app` or, without it, `GHL_APP` names.
    pub(crate) fn app_wanted(&self, named: Option<&str>) -> Option<String> {
        named.map(str::to_owned).or_else(|| match self.find("GHL_APP") {
            Found::Value(name) => Some(name),
            Found::Nothing | Found::BadFile { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn apps(settings: &[(&str, &str)]) -> Option<String> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let source = Source::of(settings.collect::<HashMap<_, _>>());
        let apps = Config::new(&source).apps();
        apps.map(|apps| apps.iter().map(App::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_app_without_a_name_is_there_unless_only_others_are() {
        let check = |settings: &[(&str, &str)], expected| {
            assert_eq!(apps(settings).as_deref(), expected, "{settings:?}")
        };
        check(&[], Some("default"));
        check(&[("GHL_APPS", " , ")], Some("default"));
        check(&[("GHL_APPS", "billing, crm-2")], Some("billing crm-2"));
        check(&[("GHL_APPS", "billing"), ("GHL_SCOPES", "x")], Some("billing"));
        check(&[("GHL_APPS", "billing"), ("GHL_REDIRECT_URI", "x")], Some("default billing"));
        check(&[("GHL_APPS", "billing"), ("GHL_PRIVATE_TOKEN", "x")], Some("default billing"));
        for bad in ["Billing", "a_b", "a.b", "a/b", "ä", "default", "records", "spool", "a,b,a"] {
            check(&[("GHL_APPS", bad)], None);
        }
        let longest = "a".repeat(LONGEST_NAME);
        check(&[("GHL_APPS", &longest)], Some(&longest));
        check(&[("GHL_APPS", &format!("{longest}a"))], None);
    }

    #[test]
    fn an_apps_variables_have_its_name_in_theirs() {
        let billing = App::Named("bill-1".into());
        assert_eq!(billing.variable("GHL_CLIENT_ID"), "GHL_APP_BILL_1_CLIENT_ID");
        assert_eq!(App::Unnamed.variable("GHL_CLIENT_ID"), "GHL_CLIENT_ID");
    }
}
