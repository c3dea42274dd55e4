//! The console: the sandbox's own page, on which a person watches an outage being survived, and throws it.
//!
//! Everything is part of the program: the page asks nobody else for anything and holds no script or style of its own.
//! It shows no token, only how tokens end. Its buttons are forms that do what `/_sandbox` does for curl; the script
//! keeps the page true and sends the forms without leaving it, and all works without.

mod deeds;
mod page;
mod words;

use crate::call::{Answer, Call};
use crate::desk::{Desk, Sheet, sheet};
use deeds::Done;

const PATH: &str = "/_sandbox/console";

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Finds the words of the console: the sentences are the program's, in the language of whoever runs it.
pub trait Speech: Send + Sync {
    /// The sentence called `key`, with its arguments; one called `count` is a number.
    fn say(&self, key: &str, arguments: &[(&str, String)]) -> String;
}

/// Leads a browser that asks for `/` to the console. A program is answered as by HighLevel.
pub(crate) fn front_door(desk: &Desk, call: &Call) -> Option<Sheet> {
    let accept = call.headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let is_browser = call.path == "/" && call.method == "GET" && accept.contains("text/html");
    (is_browser && desk.speech.is_some()).then(|| sheet(Answer::redirect(PATH.to_owned()), &[]))
}

/// Answers what is the console's.
pub(crate) fn answer(desk: &Desk, call: &Call) -> Option<Sheet> {
    let speech = desk.speech.as_deref()?;
    let mut sheet = match (call.method.as_str(), call.parts().as_slice()) {
        ("GET", ["_sandbox", "console"]) => {
            let done = call.query_value("done").and_then(|name| Done::named(&name));
            let find = call.query_value("find").unwrap_or_default();
            sheet(page::show(desk, speech, &find, done), &[])
        }
        ("POST", ["_sandbox", "console"]) => {
            let done = deeds::act(desk, call);
            let to = format!("{PATH}?done={}", done.name());
            sheet(Answer { status: 303, ..Answer::redirect(to) }, &[])
        }
        ("GET", ["_sandbox", "console", name]) => asset(name)?,
        _ => return None,
    };
    for (name, value) in [
        ("content-security-policy", POLICY),
        // Without it a browser would not say where a form of ours comes from.
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
    ] {
        sheet.headers.push((name.to_owned(), value.to_owned()));
    }
    Some(sheet)
}

fn asset(name: &str) -> Option<Sheet> {
    let (kind, text) = match name {
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return None,
    };
    let mut sheet = sheet(Answer::text(200, text), &[]);
    sheet.headers = vec![("content-type".to_owned(), kind.to_owned())];
    Some(sheet)
}
