//! What makes an answer good, as far as that can be seen without asking HighLevel. An answer that is
//! not is a key of a message that explains it.

use std::collections::HashMap;

use axum::http::Uri;
use tokens::{ContactId, LocationId};

use crate::config::{Config, Fault, Source};
use crate::text::Text;

/// A good answer as it is kept, or what is wrong with it.
pub(super) type Checked<T> = Result<T, &'static str>;

/// Who is meant by an answer about the contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Id(ContactId),
    Email(String),
    Nobody,
}

/// The app's id, a hyphen and a suffix: HighLevel's ids of apps are 24 hexadecimal digits.
pub(super) fn client_id(typed: &str) -> Checked<String> {
    let typed = typed.trim();
    let (app, suffix) = typed.split_once('-').ok_or("init-bad-client-id")?;
    let is_app = app.len() == 24 && app.chars().all(|c| c.is_ascii_hexdigit());
    let is_suffix = (1..=32).contains(&suffix.len()) && suffix.chars().all(|c| c.is_ascii_alphanumeric());
    (is_app && is_suffix).then(|| typed.to_owned()).ok_or("init-bad-client-id")
}

/// One secret, or several with commas between them.
pub(super) fn client_secret(typed: &str) -> Checked<String> {
    let typed = typed.trim();
    if client_id(typed).is_ok() {
        return Err("init-secret-is-id");
    }
    if typed.starts_with("pit-") {
        return Err("init-secret-is-private");
    }
    let good = |secret: &str| {
        let secret = secret.trim();
        // What stands for a secret in an example has no digit.
        secret.len() >= 16
            && secret.chars().all(|c| c.is_ascii_graphic())
            && secret.chars().any(|c| c.is_ascii_digit())
    };
    typed.split(',').all(good).then(|| typed.to_owned()).ok_or("init-bad-client-secret")
}

/// An address that HighLevel may send a person's browser to with a code in it.
pub(super) fn redirect_uri(typed: &str) -> Checked<String> {
    let typed = typed.trim();
    let uri: Uri = typed.parse().map_err(|_| "init-bad-redirect")?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else { return Err("init-bad-redirect") };
    if typed.contains('#') || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("init-bad-redirect");
    }
    let is_here = highlevel::is_loopback(host);
    match scheme {
        // A name that nobody can have registered: it stands in an example.
        _ if !is_here && !host.contains('.') => Err("init-bad-redirect"),
        _ if host == "sua.url.de.redirecionamento" => Err("init-bad-redirect"),
        "https" => Ok(typed.to_owned()),
        "http" if is_here => Ok(typed.to_owned()),
        _ => Err("init-redirect-clear-text"),
    }
}

/// Whether HighLevel has been seen to refuse such an address in an app.
pub(super) fn is_refused_by_the_portal(redirect_uri: &str) -> bool {
    let address = redirect_uri.to_ascii_lowercase();
    address.contains("highlevel") || address.contains("ghl")
}

pub(super) fn location(typed: &str) -> Checked<String> {
    let id = an_id(typed).ok_or("init-bad-location")?;
    id.parse::<LocationId>().map(|id| id.as_str().to_owned()).map_err(|_| "init-bad-location")
}

/// An id, the address of the contact's page, an e-mail address, or a hyphen.
pub(super) fn whom(typed: &str) -> Checked<Whom> {
    let typed = typed.trim();
    if typed == "-" {
        return Ok(Whom::Nobody);
    }
    if typed.starts_with("https://") {
        let path = typed.split(['?', '#']).next().unwrap_or_default();
        let last = path.split('/').rev().find_map(an_id).ok_or("init-bad-contact")?;
        return last.parse().map(Whom::Id).map_err(|_| "init-bad-contact");
    }
    if typed.contains('@') {
        return email(typed).map(Whom::Email);
    }
    let id = an_id(typed).ok_or("init-bad-contact")?;
    id.parse().map(Whom::Id).map_err(|_| "init-bad-contact")
}

pub(super) fn email(typed: &str) -> Checked<String> {
    let typed = typed.trim();
    let (local, domain) = typed.split_once('@').ok_or("init-bad-email")?;
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"@,;<>\"()".contains(c);
    let is_good = !local.is_empty()
        && domain.contains('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
        && [local, domain].iter().all(|part| part.chars().all(plain));
    is_good.then(|| typed.to_owned()).ok_or("init-bad-email")
}

/// HighLevel's ids of locations and contacts are 20 letters and digits; we are not stricter than we must be.
fn an_id(typed: &str) -> Option<&str> {
    let typed = typed.trim();
    let is_id = (16..=32).contains(&typed.len()) && typed.chars().all(|c| c.is_ascii_alphanumeric());
    is_id.then_some(typed)
}

/// A name that people read: of a tag or of the service.
pub(super) fn name(typed: &str) -> Checked<String> {
    let typed = typed.trim();
    let is_good = (1..=100).contains(&typed.chars().count()) && !typed.contains(char::is_control);
    is_good.then(|| typed.to_owned()).ok_or("init-bad-name")
}

/// A place for the tokens, judged as every command judges it.
pub(super) fn store(text: &Text, typed: &str) -> Result<String, String> {
    let typed = typed.trim();
    let key = store::Key::generate();
    faultless(text, &[("GHL_STORE", typed), ("GHL_AUTH_KEY", &key)], |config| drop(config.store()))?;
    match typed {
        "" => Err(text.say("bad-store-kind", &[])),
        typed => Ok(typed.to_owned()),
    }
}

/// Hours from one check to the next; cron keeps no others than those that a day is made of.
pub(super) fn hours(text: &Text, typed: &str, by_cron: bool) -> Result<String, String> {
    let typed = typed.trim();
    faultless(text, &[("RUN_INTERVAL_HOURS", typed)], |config| {
        let _ = config.run_interval();
    })?;
    match typed.parse::<u32>() {
        Ok(hours) if by_cron && (hours > 24 || 24 % hours.max(1) != 0) => Err(text.say("init-bad-cron", &[])),
        Ok(hours) => Ok(hours.to_string()),
        Err(_) => Err(text.say("bad-interval", &[("value", typed.to_owned().into())])),
    }
}

fn faultless(
    text: &Text,
    settings: &[(&str, &str)],
    read: impl FnOnce(&mut Config<'_>),
) -> Result<(), String> {
    let settings: HashMap<String, String> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = Source::of(settings);
    let mut config = Config::new(&source);
    read(&mut config);
    config.faults().first().map_or(Ok(()), |fault: &Fault| Err(fault.problem(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Lang;

    #[test]
    fn what_stands_in_an_example_is_no_answer() {
        assert_eq!(client_id("SEU_CLIENT_ID_AQUI"), Err("init-bad-client-id"));
        assert_eq!(client_secret("SEU_CLIENT_SECRET_AQUI"), Err("init-bad-client-secret"));
        assert_eq!(redirect_uri("https://sua.url.de.redirecionamento/aqui"), Err("init-bad-redirect"));
        assert_eq!(location("O_ID_DA_SUA_LOCALIZACAO_GHL_AQUI"), Err("init-bad-location"));
        assert_eq!(whom("O_ID_DO_CONTATO_DE_HEALTH_CHECK_AQUI"), Err("init-bad-contact"));
    }

    #[test]
    fn a_client_id_is_an_apps_and_a_secret_is_not_one() {
        let id = "0123456789abcdef01234567-abcd1234";
        assert_eq!(client_id(&format!(" {id}\n")).as_deref(), Ok(id));
        assert_eq!(client_id("0123456789abcdef01234567"), Err("init-bad-client-id"));
        assert_eq!(client_secret(id), Err("init-secret-is-id"));
        assert_eq!(client_secret("pit-00000000-0000-4000-8000-000000000000"), Err("init-secret-is-private"));
        let secret = "00000000-0000-4000-8000-000000000000";
        assert_eq!(client_secret(secret).as_deref(), Ok(secret));
        assert!(client_secret(&format!("{secret}, {secret}")).is_ok());
        assert_eq!(client_secret("short1"), Err("init-bad-client-secret"));
    }

    #[test]
    fn a_code_travels_by_https_or_stays_on_the_machine() {
        let check = |typed: &str, expected: Checked<()>| {
            assert_eq!(redirect_uri(typed).map(drop), expected, "{typed}");
        };
        check("https://google.com/", Ok(()));
        check("http://127.0.0.1:8788/oauth/callback", Ok(()));
        check("http://localhost:8788/", Ok(()));
        check("http://[::1]:8788/", Ok(()));
        check("http://google.com/", Err("init-redirect-clear-text"));
        check("google.com", Err("init-bad-redirect"));
        check("https://me@google.com/", Err("init-bad-redirect"));
        check("https://intranet/", Err("init-bad-redirect"));
        check("", Err("init-bad-redirect"));
    }

    #[test]
    fn a_contact_is_named_by_id_by_its_page_or_by_email() {
        let check = |typed: &str, expected: Checked<Whom>| assert_eq!(whom(typed), expected, "{typed}");
        let id = || Ok(Whom::Id("AbCdEfGhIjKlMnOpQrSt".parse().expect("an id")));
        check("AbCdEfGhIjKlMnOpQrSt", id());
        check(
            "https://app.example.com/location/ZZZZZZZZZZZZZZZZZZZZ/contacts/AbCdEfGhIjKlMnOpQrSt?view=1",
            id(),
        );
        check(" ana@example.com ", Ok(Whom::Email("ana@example.com".into())));
        check("-", Ok(Whom::Nobody));
        check("ana@example", Err("init-bad-email"));
        check("@example.com", Err("init-bad-email"));
        check("a b@example.com", Err("init-bad-email"));
        check("Clara", Err("init-bad-contact"));
        check("", Err("init-bad-contact"));
    }

    #[test]
    fn a_store_and_an_interval_are_judged_as_every_command_judges_them() {
        let text = Text::new(Lang::En);
        assert_eq!(store(&text, "sqlite:ghl-auth.db").as_deref(), Ok("sqlite:ghl-auth.db"));
        assert!(store(&text, "mysql:x").is_err_and(|why| why.contains("file:PATH")));
        assert!(store(&text, "").is_err());
        assert_eq!(hours(&text, "12", true).as_deref(), Ok("12"));
        assert_eq!(hours(&text, "36", false).as_deref(), Ok("36"));
        assert!(hours(&text, "36", true).is_err_and(|why| why.contains("1, 2, 3, 4, 6, 8, 12")));
        for bad in ["", "0", "721", "soon"] {
            assert!(hours(&text, bad, false).is_err(), "{bad}");
        }
    }
}
