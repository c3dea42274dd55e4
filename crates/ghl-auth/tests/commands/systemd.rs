//! What systemd hears of the service, in the order in which it has to.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use sandbox::Matcher;

use crate::serving::Service;
use crate::support::{Home, Running, http, is_there, like};

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

/// The calls that a group of systemd's lets through, with those of the groups within it.
fn group(name: &str) -> BTreeSet<String> {
    let listed = Command::new("systemd-analyze").args(["syscall-filter", name]).output().expect("it runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names = text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut calls = BTreeSet::new();
    for name in names {
        match name.starts_with('@') {
            true => calls.extend(group(name)),
            false => drop(calls.insert(name.to_owned())),
        }
    }
    calls
}

/// What the unit lets through, and every call that the service makes from its start to its end.
#[test]
fn the_units_filter_lets_through_all_that_the_service_calls() {
    if !is_there("strace") || !is_there("systemd-analyze") {
        eprintln!("strace or systemd-analyze is not there: the filter is not tried");
        return;
    }
    let unit = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/systemd/ghl-auth.service"
    ));
    let unit = unit.expect("the unit");
    assert!(unit.contains("SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n"));
    let denied: BTreeSet<String> = group("@privileged").union(&group("@resources")).cloned().collect();
    let allowed: BTreeSet<String> = group("@system-service").difference(&denied).cloned().collect();
    assert!(allowed.contains("read") && !allowed.contains("setuid"), "{allowed:?}");
    let home = crate::serving::home();
    let trace = home.path("trace");
    let ours = home.command(["serve"]);
    let mut command = Command::new("strace");
    if nix::unistd::geteuid().is_root() {
        // As anyone but root, for whom SQLite does more.
        command.args(["-u", "nobody"]);
        give_to_nobody(&home);
    }
    command.args(["-f", "-qq", "-o"]).arg(&trace).arg(ours.get_program()).arg("serve");
    let mut running = Running::start(like(&ours, command));
    let said = running.until_it_says("Programs ask here: http://127.0.0.1:");
    let address = said.lines().find_map(|line| line.strip_prefix("Programs ask here: ")).expect("one");
    let key = home.run(["keys", "create", "--name", "all", "--all"]).good().out;
    let path = format!("{address}/v1/locations/{}/token?minimum_life=86400", home.location());
    let bearer = format!("Bearer {}", key.trim());
    let began = std::time::Instant::now();
    while http("GET", &path, &[("authorization", &bearer)], "").status != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", running.said());
    }
    // The one that is traced, by its parent.
    let children = format!("/proc/{0}/task/{0}/children", running.child.id());
    let traced = std::fs::read_to_string(children).expect("strace's child");
    for signal in ["-HUP", "-TERM"] {
        Command::new("kill").args([signal, traced.trim()]).status().expect("kill is there");
        if signal == "-HUP" {
            running.until_it_says("were read anew");
        }
    }
    running.end();
    let trace = std::fs::read_to_string(trace).expect("a trace");
    let calls: BTreeSet<&str> = trace
        .lines()
        .filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(').map(|(name, _)| name))
        .filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .collect();
    assert!(calls.contains("accept4") && calls.contains("fsync"), "{calls:?}");
    // Refused, and nothing lost: the unit's own LimitCORE stands for it.
    let others: Vec<_> =
        calls.into_iter().filter(|call| !allowed.contains(*call) && *call != "prlimit64").collect();
    assert!(others.is_empty(), "{others:?}");
}

fn give_to_nobody(home: &Home) {
    for name in [".", ".env", "tokens.db"] {
        std::os::unix::fs::lchown(home.path(name), Some(65534), Some(65534)).expect("root may");
    }
}

/// Nobody, without a capability, who can write to one folder and nowhere else.
#[test]
fn it_works_for_a_user_who_may_do_nothing_but_write_to_its_folder() {
    let able =
        Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success());
    if !nix::unistd::geteuid().is_root() || !able || !is_there("setpriv") {
        eprintln!("nothing can be mounted here: it is not tried");
        return;
    }
    let home = crate::serving::home();
    let folder = home.path(".");
    give_to_nobody(&home);
    let ours = home.command(["serve"]);
    let mut command = Command::new("unshare");
    // As ProtectSystem=strict has it: everything can be read only, but the one folder.
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro / && cd \"$1\" || exit 9
        touch /tmp/.ghl-auth-test 2> /dev/null && exit 8
        exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all \
            --inh-caps=-all \"$2\" serve";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(&folder).arg(ours.get_program());
    let mut running = Running::start(like(&ours, command));
    let said = running.until_it_says("Programs ask here: http://127.0.0.1:");
    let address = said.lines().find_map(|line| line.strip_prefix("Programs ask here: ")).expect("one");
    let key = home.run(["keys", "create", "--name", "all", "--all"]).good().out;
    let path = format!("{address}/v1/locations/{}/token?minimum_life=86400", home.location());
    let bearer = format!("Bearer {}", key.trim());
    let began = std::time::Instant::now();
    while http("GET", &path, &[("authorization", &bearer)], "").status != 200 {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", running.said());
    }
    running.signal("TERM");
    running.end().good();
    assert_eq!(home.sandbox.counts().rotations, 1);
}
