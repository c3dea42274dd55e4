//! `demo`: everything at once on a machine of one's own, with nothing to configure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbox::{Sandbox, UserType};
use server::ApiKey;
use tokens::Clock as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::keys;
use crate::cli::{CheckArgs, DemoArgs, LoginArgs, StatusArgs};
use crate::config::{Doors, Listen, Source};
use crate::doors::Sockets;
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::service::{MayStayClosed, Service, Settings};
use crate::shutdown::asked_to_stop;
use crate::text::Text;
use crate::wiring::{Context, SystemClock, random_text};

/// The workflow of the sandbox takes a second to send its message and remove the tag.
const WORKFLOW_WITHIN: Duration = Duration::from_secs(20);

/// What a check needs: fewer scopes than the sandbox's own, so that the output can be read.
const SCOPES: [&str; 3] = ["contacts.readonly", "contacts.write", "locations.readonly"];

pub(crate) async fn run(args: &DemoArgs, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let trouble = |error: std::io::Error| {
        Explained::new(text, "demo", Exit::Failed, &[("why", error.to_string().into())])
    };
    let sandbox = Sandbox::builder().speech(Text::new(text.lang)).start().await.map_err(trouble)?;
    sandbox.set_scopes(SCOPES);
    let folder = fresh_folder().map_err(trouble)?;
    let inside = Context {
        text: Text::new(text.lang),
        source: Source::of(settings(&sandbox, &folder)),
        app: None,
        throwaway: true,
    };

    let arguments = [("url", sandbox.base_url().into()), ("folder", folder.display().to_string().into())];
    output::answer(&text.say("demo-begins", &arguments));

    headline(text, "demo-login");
    let redirect_uri = "http://127.0.0.1:8788/oauth/callback";
    let code = sandbox.approve(redirect_uri, None, UserType::Location);
    let login = LoginArgs { code: Some(code), no_browser: true, json: false };
    super::login::run(login, &inside).await?;

    headline(text, "demo-check");
    let check = CheckArgs { json: false, wait_for_workflow: Some(WORKFLOW_WITHIN) };
    let exit = super::check::run(&check, &inside).await?;
    let messages = sandbox.counts().messages;
    output::answer(&text.say("demo-message", &[("count", messages.into())]));

    headline(text, "demo-status");
    super::status::run(&StatusArgs::default(), &inside).await?;

    headline(text, "demo-serve");
    let location = sandbox.settings().location_id.clone();
    let key = keys::for_the_demo(&inside, &location).await?;
    let (service, sockets) = serve(&inside).await?;
    let asked = ask(&inside, &sockets, &location, &key).await;
    if let Err(error) = asked {
        service.stop().await;
        return Err(trouble(error));
    }
    if !args.once {
        if let Some(address) = sockets.private_address() {
            let records = inside.open_records().await?;
            let link = server::invite(records.as_ref(), None, SystemClock.now()).await;
            let (path, _) = link.map_err(|error| inside.store_error(&error))?;
            output::answer("");
            output::answer(&text.say("demo-dashboard", &[]));
            output::answer(&format!("  http://{address}{path}"));
        }
        output::answer("");
        super::sandbox::say_where_the_console_is(text, &sandbox);
        output::answer(&text.say("demo-goes-on", &[]));
        asked_to_stop().await;
    }
    service.stop().await;
    output::answer("");
    output::answer(&text.say("demo-ends", &[("folder", folder.display().to_string().into())]));
    sandbox.stop().await;
    Ok(exit)
}

fn headline(text: &Text, key: &str) {
    output::answer("");
    output::headline(&text.say(key, &[]));
}

fn fresh_folder() -> std::io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("ghl-auth-demo-{}", random_text::<6>()));
    // The process's umask makes it its owner's only.
    std::fs::create_dir(&folder).map(|()| folder)
}

fn settings(sandbox: &Sandbox, folder: &Path) -> HashMap<String, String> {
    let mut settings = Source::pairs(&sandbox.env_file());
    settings.insert("GHL_STORE".into(), format!("sqlite:{}", folder.join("ghl-auth.db").display()));
    settings.insert("GHL_AUTH_KEY".into(), store::Key::generate().to_string());
    settings
}

/// The service, where it listens by itself or, when someone is there, at any free port.
async fn serve(inside: &Context) -> Result<(Service, Sockets), Explained> {
    let (doors, settings) =
        inside.settings(|config| Some((config.doors(false)?, Settings::read(config)?)))?;
    let anywhere = Doors { private: Listen::Tcp(([127, 0, 0, 1], 0).into()), ..doors.clone() };
    let sockets = Sockets::bind(&doors, None).or_else(|_| Sockets::bind(&anywhere, None));
    let sockets = sockets.map_err(|taken| super::serve::not_bound(inside, &taken))?;
    let service =
        Service::start(inside, vec![(inside, settings)], &sockets, doors.hosts, MayStayClosed::Any).await?;
    Ok((service, sockets))
}

/// Asks for a token, and for something of HighLevel's through the gateway, and shows how to do the same.
async fn ask(inside: &Context, sockets: &Sockets, location: &str, key: &ApiKey) -> std::io::Result<()> {
    let text = &inside.text;
    let address = sockets.private_address().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    output::answer(&text.say("serve-private", &[("address", format!("http://{address}").into())]));
    for (path, asks, answered, not_answered) in [
        (format!("/v1/locations/{location}/token"), "demo-ask", "demo-asked", "demo-not-answered"),
        (format!("/gateway/locations/{location}"), "demo-pass", "demo-passed", "demo-not-passed"),
    ] {
        output::answer(&text.say(asks, &[]));
        output::answer(&format!("  curl -H 'Authorization: Bearer {}' http://{address}{path}", key.expose()));
        match is_answered(address, &path, key).await? {
            true => output::good_news(&text.say(answered, &[])),
            false => return Err(std::io::Error::other(text.say(not_answered, &[]))),
        }
    }
    Ok(())
}

async fn is_answered(address: SocketAddr, path: &str, key: &ApiKey) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        key.expose()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
