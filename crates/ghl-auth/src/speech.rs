//! The words of the service: what the libraries need to say, in the language of whoever runs it.

use std::time::Duration;

use tokens::{KeeperError, Timestamp};
use upkeep::{CheckError, Said, Speech, Warning};

use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output;
use crate::text::{Arg, Text};

impl Speech for Text {
    fn say(&self, key: &str, arguments: &[(&str, String)]) -> String {
        let arguments: Vec<(&str, Arg<'_>)> =
            arguments.iter().map(|(name, value)| (*name, counted(name, value))).collect();
        Text::say(self, key, &arguments)
    }

    fn keeper_error(&self, error: &KeeperError) -> Said {
        said(explain::keeper_error(self, error))
    }

    fn check_error(&self, error: &CheckError) -> Said {
        said(explain::check_error(self, error))
    }

    fn warning(&self, warning: &Warning) -> Said {
        let (detail, code) = explain::warning(self, warning);
        Said { code, detail, action: String::new(), needs_person: false }
    }

    fn span(&self, span: Duration) -> String {
        output::span(span)
    }

    fn moment(&self, at: Timestamp) -> String {
        output::moment(at)
    }
}

/// What the sandbox's console says.
impl sandbox::Speech for Text {
    fn say(&self, key: &str, arguments: &[(&str, String)]) -> String {
        Speech::say(self, key, arguments)
    }
}

/// A count is a number, by which a sentence chooses between one and many.
fn counted<'a>(name: &str, value: &'a str) -> Arg<'a> {
    match (name, value.parse::<u64>()) {
        ("count", Ok(count)) => count.into(),
        _ => Arg::from(value),
    }
}

fn said(error: Explained) -> Said {
    let Explained { code, detail, action, exit, .. } = error;
    Said { code, detail, action, needs_person: exit == Exit::Person }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Lang;

    #[test]
    fn one_thing_is_said_as_one_thing() {
        let check = |lang, count: &str, expected: [&str; 2]| {
            let (text, arguments) = (Text::new(lang), [("count", count.to_owned())]);
            let said = [
                Speech::say(&text, "dash-verdict-trouble", &arguments),
                sandbox::Speech::say(&text, "console-verdict-trouble", &arguments),
            ];
            assert_eq!(said, expected);
        };
        check(Lang::En, "1", ["One thing needs you", "One thing goes wrong now"]);
        check(Lang::En, "2", ["2 things need you", "2 things go wrong now"]);
        check(Lang::PtBr, "1", ["Uma coisa precisa de você", "Uma coisa dá errado agora"]);
    }
}
