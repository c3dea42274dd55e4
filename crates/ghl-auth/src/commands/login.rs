//! `login`: a person consents, HighLevel hands out a code, and the code is exchanged at once.

mod callback;

use std::io::IsTerminal;

use highlevel::{AppCredentials, Client, Consent};
use serde_json::json;
use tokens::{AuthorizationCode, CompanyId, Installation, InstallationId};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::cli::LoginArgs;
use crate::config::Meant;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, rfc3339};
use crate::shutdown::{asked_to_stop, landing_first};
use crate::text::Text;
use crate::wiring::{Context, random_text};

pub(crate) async fn run(args: LoginArgs, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    let (api, app, settings, page, meant, scopes) = context.settings(|config| {
        let (api, app, store) = (config.api(), config.app(), config.store());
        let (page, meant, scopes) = (config.authorize_url(), config.meant(), config.scopes());
        Some((api?, app?, store?, page?, meant?, scopes))
    })?;
    let client = context.client(api)?;
    let (store, _) = context.open_store(&settings, Some(&meant)).await?;
    let keeper = context.keeper(store, &client, app.clone()).await;
    let code = match &args.code {
        Some(code) => code_in(&context.text, code, None)?,
        None => ask_person(&args, context, &app, &page, scopes.as_deref()).await?,
    };
    let text = &context.text;
    if !args.json {
        output::talk(&text.say("exchanging", &[]));
    }
    let Some(connected) = landing_first(&keeper, keeper.connect(&code)).await else {
        return Err(Explained::new(text, "stopped", Exit::Failed, &[]));
    };
    let installation = connected.map_err(|error| context.keeper_error(&error))?;
    if args.json {
        output::document(&json!({
            "kind": installation.id.kind(),
            "id": installation.id.as_str(),
            "company_id": installation.tokens.company.as_ref().map(tokens::CompanyId::as_str),
            "expires_at": rfc3339(installation.tokens.expires_at),
            "scope": installation.tokens.scopes,
        }));
    } else {
        output::answer(&text.say("tokens-saved", &[]));
        super::check::describe(text, &installation);
        let whose = explain::whose(text, &installation.id);
        output::good_news(&text.say("connected", &[("id", whose.into())]));
    }
    warn_of_surprises(context, &installation, &meant);
    if let (Meant::AnyCompany, InstallationId::Company(company)) = (&meant, &installation.id) {
        tell_of_locations(context, &client, &app, company, &installation, keeper.store().can_park()).await;
    }
    Ok(Exit::Good)
}

/// Says which locations come with a company, and how their tokens are had.
async fn tell_of_locations(
    context: &Context,
    client: &Client,
    app: &AppCredentials,
    company: &CompanyId,
    installation: &Installation,
    has_room: bool,
) {
    let text = &context.text;
    let app_id = highlevel::app_id(&app.client_id);
    match upkeep::listed(client, app_id, company, &installation.tokens).await {
        Ok(listed) => {
            let key = if has_room { "login-locations" } else { "login-locations-no-room" };
            output::talk(&text.say(key, &[("count", listed.len().into())]));
        }
        Err(error) => {
            let arguments = [("why", error.to_string().into())];
            output::warning(text, &text.say("warning-no-list", &arguments));
        }
    }
}

/// Names a grant of another location or class than the one configured, and the cure.
pub(crate) fn warn_of_surprises(context: &Context, installation: &Installation, meant: &Meant) {
    let (text, got) = (&context.text, &installation.id);
    let wanted = match (meant, got) {
        (Meant::Installation(wanted), got) if wanted == got => return,
        (Meant::Installation(wanted), got) if wanted.kind() == got.kind() => {
            let arguments =
                [("got", explain::whose(text, got).into()), ("wanted", explain::whose(text, wanted).into())];
            return output::warning(text, &text.say("warning-other-location", &arguments));
        }
        (Meant::AnyCompany, InstallationId::Company(_))
        | (Meant::AnyLocation, InstallationId::Location(_)) => return,
        (Meant::AnyCompany, InstallationId::Location(_)) => "Company",
        (Meant::AnyLocation | Meant::Installation(_), _) => "Location",
    };
    let key = if wanted == "Company" { "warning-wanted-company" } else { "warning-wanted-location" };
    output::warning(text, &text.say(key, &[("got", explain::whose(text, got).into())]));
}

/// Shows the consent page's address and waits for the code: at the loopback address that the page
/// redirects to, or pasted by hand, whichever comes first.
async fn ask_person(
    args: &LoginArgs,
    context: &Context,
    app: &AppCredentials,
    page: &str,
    scopes: Option<&str>,
) -> Result<AuthorizationCode, Explained> {
    let text = &context.text;
    let state = random_text::<32>();
    let url = Consent { page, app, scopes, state: Some(&state) }.to_string();
    output::talk(&text.say("login-open", &[]));
    match args.json {
        true => output::talk(&url),
        false => output::answer(&url),
    }
    if !args.no_browser && std::io::stdout().is_terminal() {
        // Without a browser here, the person opens the address elsewhere.
        let _ = open::that_detached(&url);
    }
    let listener = callback::listen(&app.redirect_uri, text).await;
    match &listener {
        Some(_) => output::talk(&text.say("login-waiting", &[("uri", app.redirect_uri.as_str().into())])),
        None => output::talk(&text.say("login-paste", &[])),
    }
    let may_come = listener.is_some();
    tokio::select! {
        came = callback::code(listener, &state, text) => came,
        pasted = pasted(text, &state, may_come) => pasted,
        () = asked_to_stop() => Err(Explained::new(text, "stopped", Exit::Failed, &[])),
    }
}

/// Reads lines until one holds a code, or says that the app was not allowed. Where nobody can paste
/// anything (more), the callback may still come.
async fn pasted(text: &Text, state: &str, may_come: bool) -> Result<AuthorizationCode, Explained> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        match lines.next_line().await {
            Ok(Some(line)) if line.trim().is_empty() => {}
            Ok(Some(line)) => match code_in(text, &line, Some(state)) {
                Ok(code) => return Ok(code),
                Err(refused) if refused.exit == Exit::Person => return Err(refused),
                Err(error) => output::error(text, &error),
            },
            Ok(None) | Err(_) if may_come => return std::future::pending().await,
            Ok(None) | Err(_) => return Err(Explained::new(text, "nobody_answered", Exit::Person, &[])),
        }
    }
}

/// The code in what a person pasted: the whole address of the redirect, its query, or the code alone.
pub(crate) fn code_in(
    text: &Text,
    pasted: &str,
    state: Option<&str>,
) -> Result<AuthorizationCode, Explained> {
    let pasted = pasted.trim().trim_matches(['"', '\'', '<', '>']);
    let bad = || Explained::new(text, "no_code", Exit::Usage, &[]);
    let query = match pasted.split_once('?') {
        Some((_, query)) => query,
        None if pasted.contains("code=") || pasted.contains("error=") => pasted,
        None => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            let is_code = (8..=512).contains(&pasted.len()) && pasted.chars().all(plain);
            return is_code.then(|| AuthorizationCode::new(pasted)).ok_or_else(bad);
        }
    };
    let query = query.split('#').next().unwrap_or_default();
    let find = |name: &str| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).filter(|v| !v.is_empty())
    };
    if let Some(refusal) = find("error") {
        let said: String = refusal.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(Explained::new(text, "consent_refused", Exit::Person, &[("said", said.into())]));
    }
    match (state, find("state")) {
        (Some(expected), Some(came)) if expected != came => {
            return Err(Explained::new(text, "wrong_state", Exit::Usage, &[]));
        }
        _ => {}
    }
    find("code").map(AuthorizationCode::new).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Lang;

    #[test]
    fn a_code_is_found_in_whatever_a_person_pastes() {
        let text = Text::new(Lang::En);
        let check = |pasted: &str, expected: Result<&str, &str>| {
            let got = code_in(&text, pasted, Some("S"));
            let got = got.as_ref().map(AuthorizationCode::expose).map_err(|error| error.code);
            assert_eq!(got, expected, "{pasted}");
        };
        let code = "0123456789abcdef0123456789abcdef01234567";
        check(code, Ok(code));
        check(&format!("  {code}\r\n"), Ok(code));
        check(&format!("https://google.com/?code={code}"), Ok(code));
        check(&format!("https://google.com/?code={code}&state=S#top"), Ok(code));
        check(&format!("\"https://x.example/cb?state=S&code={code}\""), Ok(code));
        check(&format!("code={code}"), Ok(code));
        check(&format!("https://x.example/?code={code}&state=other"), Err("wrong_state"));
        check("https://x.example/?error=access_denied&state=S", Err("consent_refused"));
        check("https://x.example/?state=S", Err("no_code"));
        check("https://x.example/", Err("no_code"));
        check("hello world", Err("no_code"));
        check("short", Err("no_code"));
    }
}
