//! `serve`: one keeper for every program on the machine.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Interval, interval, timeout};

use crate::cli::ServeArgs;
use crate::config::{Doors, Listen, Source};
use crate::doors::{Sockets, Taken};
use crate::exit::Exit;
use crate::explain::Explained;
use crate::output;
use crate::service::{MayStayClosed, Service, Settings};
use crate::shutdown::asked_to_stop;
use crate::systemd;
use crate::text::Text;
use crate::wiring::Context;

/// After this long, what is still in the air is left to the next start.
const STOP_WITHIN: Duration = Duration::from_secs(60);

const PROBE_WITHIN: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: &ServeArgs, context: &Context) -> Result<Exit, Explained> {
    if args.probe {
        return probe(context).await;
    }
    context.warn_of_source();
    let apps = context.of_each_app()?;
    let (doors, settings) = settings_of(context, &apps, args)?;
    let to_become = settings.first().and_then(Settings::to_become);
    let sockets = Sockets::bind(&doors, to_become).map_err(|taken| not_bound(context, &taken))?;
    let apps = apps.iter().zip(settings).collect();
    let service = Service::start(context, apps, &sockets, doors.hosts.clone(), MayStayClosed::Any).await?;
    announce(context, &doors, &sockets);
    systemd::ready();
    watch(service, args, context, &doors, &sockets).await
}

/// Where the service listens, by the names of all apps' redirect addresses, and what each app needs.
pub(super) fn settings_of(
    context: &Context,
    apps: &[Context],
    args: &ServeArgs,
) -> Result<(Doors, Vec<Settings>), Explained> {
    let read = Context::settings_of_each(apps, |config| {
        let doors = config.doors(args.i_expose_the_private_api);
        let settings = Settings::read(config);
        Some((doors?, settings?))
    })?;
    let (doors, settings): (Vec<Doors>, Vec<Settings>) = read.into_iter().unzip();
    for (number, app) in apps.iter().enumerate() {
        let callback = settings[number].callback();
        let same = |other: &Settings| callback.is_some() && other.callback() == callback;
        if let Some(other) = settings[..number].iter().position(same) {
            // Codes may only go to the app that they were made for.
            let variable = |app: &Context| app.source.name_of("GHL_REDIRECT_URI");
            let arguments = [
                ("one", variable(&apps[other]).into()),
                ("other", variable(app).into()),
                ("path", callback.unwrap_or_default().into()),
                ("app", app.source.app().to_string().into()),
            ];
            return Err(Explained::new(&app.text, "one_callback", Exit::Usage, &arguments));
        }
    }
    let mut all = context.settings(|config| config.doors(args.i_expose_the_private_api))?;
    all.hosts.extend(doors.into_iter().flat_map(|doors| doors.hosts));
    all.hosts.sort();
    all.hosts.dedup();
    Ok((all, settings))
}

pub(super) fn not_bound(context: &Context, taken: &Taken) -> Explained {
    let arguments = [("address", taken.address.clone().into()), ("why", taken.error.to_string().into())];
    Explained::new(&context.text, "listen", Exit::Usage, &arguments)
}

fn announce(context: &Context, doors: &Doors, sockets: &Sockets) {
    let text = &context.text;
    let private = match sockets.private_address() {
        Some(address) if doors.tls.is_some() => format!("https://{address}"),
        Some(address) => format!("http://{address}"),
        None => doors.private.to_string(),
    };
    output::answer(&text.say("serve-private", &[("address", private.into())]));
    if let Some(address) = sockets.public_address() {
        output::answer(&text.say("serve-public", &[("address", format!("http://{address}").into())]));
    }
}

/// Keeps the service until it is asked to stop; a second request to stop is obeyed at once.
async fn watch(
    mut service: Service,
    args: &ServeArgs,
    context: &Context,
    doors: &Doors,
    sockets: &Sockets,
) -> Result<Exit, Explained> {
    let text = &context.text;
    let mut hangups = signal(SignalKind::hangup()).ok();
    let mut pulse = systemd::watchdog_period().map(interval);
    let mut stop = pin!(asked_to_stop());
    // A service that was replaced and is not at its end yet.
    let mut ending = None;
    loop {
        tokio::select! {
            () = &mut stop => break,
            () = hangup(&mut hangups) => {}
            () = service.one_may_open() => {
                tracing::info!("an app's store can be opened again: the service begins anew with it");
            }
            () = tick(&mut pulse) => {
                if service.is_alive() {
                    systemd::still_alive();
                }
                continue;
            }
        }
        systemd::reloading();
        let closed = service.closed();
        if let Some(new) =
            under_the_watchdog(&mut pulse, begin_anew(args, context, doors, sockets, &closed)).await
        {
            let old = std::mem::replace(&mut service, new);
            let mut end = Box::pin(timeout(STOP_WITHIN, old.stop()));
            tokio::select! {
                ended = under_the_watchdog(&mut pulse, &mut end) => if ended.is_err() {
                    tracing::warn!("what was begun under the old settings takes long; the new ones are in use");
                },
                () = &mut stop => {
                    ending = Some(end);
                    break;
                }
            }
        }
        systemd::ready();
    }
    systemd::stopping();
    output::talk(&text.say("serve-stopping", &[]));
    let end = async {
        tokio::join!(service.stop(), async {
            if let Some(ending) = ending {
                // When its time is up, so is ours.
                let _ = ending.await;
            }
        });
    };
    tokio::select! {
        stopped = timeout(STOP_WITHIN, end) => match stopped {
            Ok(()) => Ok(Exit::Good),
            Err(_) => Err(Explained::new(text, "stop_took_too_long", Exit::Unreachable, &[])),
        },
        () = asked_to_stop() => Err(Explained::new(text, "stopped", Exit::Failed, &[])),
    }
}

async fn hangup(hangups: &mut Option<tokio::signal::unix::Signal>) {
    match hangups {
        Some(hangups) => drop(hangups.recv().await),
        None => std::future::pending().await,
    }
}

async fn tick(pulse: &mut Option<Interval>) {
    match pulse {
        Some(pulse) => drop(pulse.tick().await),
        None => std::future::pending().await,
    }
}

/// Does what has its own end, and lets systemd wait for it.
async fn under_the_watchdog<T>(pulse: &mut Option<Interval>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tick(pulse) => systemd::still_alive(),
        }
    }
}

/// Reads the settings and secrets anew. The new service begins on the same sockets before the old one
/// ends, so that nobody is turned away; with settings that don't hold, or with a store that was open and
/// can't be opened now, there is none, and the old one goes on.
async fn begin_anew(
    args: &ServeArgs,
    context: &Context,
    bound: &Doors,
    sockets: &Sockets,
    closed: &[String],
) -> Option<Service> {
    let begun = async {
        let source = Source::read(context.source.env_file().as_deref()).map_err(|unreadable| {
            let path = unreadable.path.display().to_string();
            let arguments = [("path", path.into()), ("why", unreadable.error.to_string().into())];
            Explained::new(&context.text, "env_file", Exit::Usage, &arguments)
        })?;
        let text = Text::new(context.text.lang);
        let anew = Context { text, source, app: context.app.clone(), throwaway: context.throwaway };
        let apps = anew.of_each_app()?;
        let (doors, settings) = settings_of(&anew, &apps, args)?;
        if !doors.are_at(bound) {
            output::talk(&context.text.say("serve-doors-stay", &[]));
        }
        let apps = apps.iter().zip(settings).collect();
        Service::start(&anew, apps, sockets, doors.hosts, MayStayClosed::These(closed)).await
    };
    match begun.await {
        Ok(new) => {
            tracing::info!("settings and secrets were read anew");
            Some(new)
        }
        Err(error) => {
            output::error(&context.text, &error);
            tracing::warn!(code = error.code, "the service goes on with the settings it had");
            None
        }
    }
}

/// Whether a service answers where the settings say: for a container's health check.
async fn probe(context: &Context) -> Result<Exit, Explained> {
    let doors = context.settings(|config| config.doors(true))?;
    let answered = timeout(PROBE_WITHIN, livez(&doors)).await;
    match answered {
        Ok(Ok(true)) => Ok(Exit::Good),
        _ => {
            let arguments = [("address", doors.private.to_string().into())];
            Err(Explained::new(&context.text, "probe", Exit::Failed, &arguments))
        }
    }
}

/// Asks for `/livez`. Behind TLS, that someone listens has to do.
async fn livez(doors: &Doors) -> std::io::Result<bool> {
    match &doors.private {
        Listen::Unix(path) => is_well(UnixStream::connect(path).await?).await,
        Listen::Tcp(address) => {
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            let stream = TcpStream::connect(address).await?;
            match doors.tls {
                Some(_) => Ok(true),
                None => is_well(stream).await,
            }
        }
    }
}

async fn is_well(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> std::io::Result<bool> {
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    Ok(&status == b"HTTP/1.1 200")
}
