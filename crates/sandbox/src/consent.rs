//! The consent page: what a person sees between "install" and the callback.
//!
//! HighLevel's lives at `/v2/oauth/chooselocation` and wants both `client_id` and `version_id`; what it shows without
//! one of them, and on the older path, was measured by third parties (2026-08). The page needs no script.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::call::{Answer, Call};
use crate::grants::Approval;
use crate::settings::Settings;
use crate::world::World;

/// Where the page is.
pub(crate) const PATH: &str = "/v2/oauth/chooselocation";

/// The choice that stands for the whole agency; location ids are letters and digits only.
const AGENCY: &str = "-";

/// What an address may not hold when it becomes a header.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`');
/// What a value in a query may hold besides letters and digits.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the address of the page, and then its form, say.
struct Request {
    client_id: Option<String>,
    version_id: Option<String>,
    redirect_uri: Option<String>,
    response_type: Option<String>,
    state: Option<String>,
    scope: Option<String>,
}

/// A request that can be agreed to.
struct Valid {
    redirect_uri: String,
}

impl Request {
    fn read(value: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            client_id: value("client_id"),
            version_id: value("version_id"),
            redirect_uri: value("redirect_uri"),
            response_type: value("response_type"),
            state: value("state"),
            scope: value("scope"),
        }
    }

    fn check(&self, settings: &Settings) -> Result<Valid, Answer> {
        let Some(client_id) = &self.client_id else { return Err(blank_page()) };
        let Some(version_id) = &self.version_id else { return Err(problem("error.noversionid")) };
        if *client_id != settings.client_id {
            return Err(no_integration(client_id));
        }
        if version_id != settings.version_id() {
            return Err(problem("error.noAppVersionIdFound"));
        }
        if self.response_type.as_deref() != Some("code") {
            return Err(problem("response_type must be code"));
        }
        let redirect_uri = self.redirect_uri.clone().unwrap_or_default();
        let known = settings.redirect_uris.is_empty() || settings.redirect_uris.contains(&redirect_uri);
        match known && is_address(&redirect_uri) {
            true => Ok(Valid { redirect_uri }),
            false => Err(problem("redirect_uri is not one of the app's redirect URLs")),
        }
    }
}

fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !text.chars().any(char::is_control))
}

/// `GET /v2/oauth/chooselocation`.
pub(crate) fn page(world: &mut World, call: &Call) -> Answer {
    let request = Request::read(|name| call.query_value(name));
    match request.check(&world.settings) {
        Ok(valid) => Answer::html(200, form(world, &request, &valid)),
        Err(answer) => answer,
    }
}

/// `POST /v2/oauth/chooselocation`: Allow or Cancel was clicked.
pub(crate) fn decide(world: &mut World, call: &Call) -> Answer {
    let fields = call.fields().unwrap_or_default();
    let value = |name: &str| {
        fields.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
    };
    let request = Request::read(value);
    let Valid { redirect_uri } = match request.check(&world.settings) {
        Ok(valid) => valid,
        Err(answer) => return answer,
    };
    let state = request.state.as_deref();
    if value("choice").as_deref() != Some("allow") {
        return cancelled(&world.settings, &redirect_uri, state);
    }
    let location_id = match value("location").as_deref() {
        Some(AGENCY) => None,
        Some(id) if world.crm.location(id).is_some() => Some(id.to_owned()),
        _ => return problem("no such location"),
    };
    let (_, to) = world.approve(Approval { redirect_uri, location_id }, state);
    Answer::redirect(to)
}

/// Whether HighLevel calls back after a refusal is not published; its help page only says that nothing is shared.
fn cancelled(settings: &Settings, redirect_uri: &str, state: Option<&str>) -> Answer {
    match settings.cancel_calls_back {
        true => {
            Answer::redirect(callback(redirect_uri, &[("error", Some("access_denied")), ("state", state)]))
        }
        false => {
            let text = "<h1>Not installed</h1><p>Nothing was installed and nothing is shared. You can close this page.</p>";
            Answer::html(200, document("Not installed", text))
        }
    }
}

/// `GET /oauth/chooselocation`: the address before 2026-05, which fails for apps of today's marketplace.
pub(crate) fn dead_page(call: &Call) -> Answer {
    no_integration(&call.query_value("client_id").unwrap_or_default())
}

/// An address to send the browser to: what it had, then what we add, before any fragment.
pub(crate) fn callback(redirect_uri: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let (address, fragment) = redirect_uri.split_once('#').unwrap_or((redirect_uri, ""));
    let mut to = utf8_percent_encode(address, HEADER).to_string();
    let mut joint = match (address.contains('?'), address.ends_with(['?', '&'])) {
        (false, _) => "?",
        (true, false) => "&",
        (true, true) => "",
    };
    for (name, value) in parameters.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
        to.push_str(joint);
        to.push_str(name);
        to.push('=');
        to.extend(utf8_percent_encode(value, VALUE));
        joint = "&";
    }
    if !fragment.is_empty() {
        to.push('#');
        to.extend(utf8_percent_encode(fragment, HEADER));
    }
    to
}

fn no_integration(client_id: &str) -> Answer {
    let app_id = client_id.split('-').next().unwrap_or_default();
    problem(&format!("HttpException: No integration found with the id: {app_id}"))
}

/// What is shown without a `client_id`: nothing, while the page's own request fails.
fn blank_page() -> Answer {
    let why = "400 CastError: Cast to ObjectId failed for value \"\" at path \"appId\"";
    Answer::html(200, format!("<!doctype html><title></title><!-- {why} -->"))
}

fn problem(text: &str) -> Answer {
    let body = format!("<h1>Something went wrong</h1><p>{}</p>", escape(text));
    Answer::html(400, document("Something went wrong", &body))
}

fn form(world: &World, request: &Request, valid: &Valid) -> String {
    let hidden = [
        ("client_id", request.client_id.as_deref()),
        ("version_id", request.version_id.as_deref()),
        ("response_type", request.response_type.as_deref()),
        ("redirect_uri", Some(valid.redirect_uri.as_str())),
        ("state", request.state.as_deref()),
        ("scope", request.scope.as_deref()),
    ];
    let hidden: String = hidden
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .map(|(name, value)| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escape(value)))
        .collect();
    let body = format!(
        r#"<p class="note">This is a sandbox on your own machine. No HighLevel account is touched.</p>
<h1>Install the app</h1>
<p>App <code>{app}</code> asks to be installed.</p>
<form method="post" action="{PATH}">
{hidden}<fieldset><legend>Where?</legend>
{choices}</fieldset>
{scopes}<p>It will then send you to <code>{redirect_uri}</code>.</p>
<p><button name="choice" value="allow">Allow &amp; Install</button>
<button name="choice" value="cancel" class="plain">Cancel</button></p>
</form>"#,
        app = escape(world.settings.app_id()),
        choices = choices(world),
        scopes = asked_scopes(request.scope.as_deref()),
        redirect_uri = escape(&valid.redirect_uri),
    );
    document("Install the app", &body)
}

/// Locations that have the app already are offered too, unlike HighLevel's chooser: a first try is often a second.
fn choices(world: &World) -> String {
    let locations = world.crm.locations().iter().enumerate().map(|(index, location)| {
        let installed = match world.grants.installed_at(&location.id) {
            Some(_) => " (already installed)",
            None => "",
        };
        let name = format!("{} \u{2014} {}{installed}", location.name, location.id);
        choice(&location.id, &name, index == 0)
    });
    let agency = choice(AGENCY, "The whole agency: a company token", false);
    locations.chain([agency]).collect()
}

fn choice(value: &str, label: &str, chosen: bool) -> String {
    let checked = if chosen { " checked" } else { "" };
    format!(
        "<label><input type=\"radio\" name=\"location\" value=\"{}\"{checked}> {}</label>\n",
        escape(value),
        escape(label)
    )
}

fn asked_scopes(scope: Option<&str>) -> String {
    let items: String = scope
        .unwrap_or_default()
        .split_whitespace()
        .map(|name| format!("<li>{}</li>", escape(name)))
        .collect();
    match items.is_empty() {
        true => String::new(),
        false => format!("<p>It asks for:</p><ul>{items}</ul>\n"),
    }
}

fn document(title: &str, body: &str) -> String {
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 36rem; margin: 3rem auto; padding: 0 1rem; color: #1d2733; }}
h1 {{ font-size: 1.4rem; }}
fieldset {{ border: 1px solid #c6ced8; border-radius: 6px; }}
label {{ display: block; padding: .25rem 0; }}
code {{ overflow-wrap: anywhere; }}
button {{ font: inherit; padding: .5rem 1rem; border: 1px solid #155eef; border-radius: 6px; background: #155eef; color: #fff; }}
button.plain {{ background: #fff; color: #1d2733; border-color: #c6ced8; }}
.note {{ color: #5b6776; font-size: .9rem; }}
</style>
</head>
<body>
{body}
</body>
</html>
"#
    )
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(redirect_uri: &str, state: &str, expected: &str) {
        assert_eq!(callback(redirect_uri, &[("code", Some("c0de")), ("state", Some(state))]), expected);
    }

    #[test]
    fn a_callback_keeps_what_the_address_had_and_encodes_what_it_adds() {
        check("http://a/b", "s", "http://a/b?code=c0de&state=s");
        check("http://a/b?x=1", "s", "http://a/b?x=1&code=c0de&state=s");
        check("http://a/b?", "s", "http://a/b?code=c0de&state=s");
        check("http://a/b#top", "s", "http://a/b?code=c0de&state=s#top");
        check(
            "http://a/b",
            "a b&c=d+e\r\nX: y",
            "http://a/b?code=c0de&state=a%20b%26c%3Dd%2Be%0D%0AX%3A%20y",
        );
        check("http://a/é\r\nX: y", "s", "http://a/%C3%A9%0D%0AX:%20y?code=c0de&state=s");
    }
}
