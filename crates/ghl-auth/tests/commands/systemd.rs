//! What systemd hears of the service, in the order in which it has to.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sandbox::Matcher;

use crate::serving::Service;
use crate::support::Home;

/// systemd's end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// Listens in a home, whose service is to be heard of four times a second.
    fn of(home: Home) -> (Self, Home) {
        let path = home.path("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        let home = home.set("NOTIFY_SOCKET", &path.display().to_string()).set("WATCHDOG_USEC", "500000");
        (Self(socket), home)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 512];
        let length = self.0.recv(&mut bytes).expect("it is heard of within a minute");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// The next that is no sign of life.
    fn news(&self) -> String {
        loop {
            match self.next().as_str() {
                "WATCHDOG=1\n" => {}
                other => return other.to_owned(),
            }
        }
    }

    /// The moment at which a reload began, by the clock that systemd compares with.
    fn reload(&self) -> u64 {
        let news = self.news();
        let moment =
            news.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.trim().parse().ok());
        moment.unwrap_or_else(|| panic!("not the beginning of a reload: {news:?}"))
    }
}

#[test]
fn systemd_hears_when_it_is_ready_that_it_lives_when_it_reloads_and_when_it_stops() {
    let home = Home::connected().set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    home.expire();
    home.sandbox.hold(Matcher::Refresh);
    let (manager, home) = Manager::of(home);
    let mut service = Service::start(home);
    assert_eq!(manager.next(), "READY=1\n", "first of all");
    assert_eq!(service.get("/livez", None).status, 200, "whoever is ready answers");
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
    service.until(|| service.home.sandbox.held() > 0);
    // A refresh is in the air: the reload lasts until it has landed, and the service lives meanwhile.
    service.running.signal("HUP");
    let first = manager.reload();
    for _ in 0..4 {
        assert_eq!(manager.next(), "WATCHDOG=1\n", "a reload that takes long is no reason to be killed");
    }
    service.home.sandbox.release();
    assert_eq!(manager.news(), "READY=1\n");
    service.running.until_it_says("were read anew");
    // With settings that are no good the service goes on, and the reload is over all the same.
    service.home.write(".env", "GHL_AUTH_AUDIT=sometimes\n");
    service.running.signal("HUP");
    let second = manager.reload();
    assert!(first > 0 && second > first, "{first} {second}");
    assert_eq!(manager.news(), "READY=1\n");
    assert_eq!(manager.next(), "WATCHDOG=1\n");
    service.running.signal("TERM");
    assert_eq!(manager.news(), "STOPPING=1\n");
    service.running.until_it_ends();
    assert_eq!(service.home.sandbox.counts().rotations, 1);
}

#[test]
fn systemd_does_not_hear_of_a_service_that_can_t_start() {
    let (manager, home) = Manager::of(Home::connected().set("GHL_AUTH_LISTEN", "nowhere"));
    home.run(["serve"]).ended(2);
    manager.0.set_nonblocking(true).expect("it can be asked");
    assert!(manager.0.recv(&mut [0; 16]).is_err());
}
