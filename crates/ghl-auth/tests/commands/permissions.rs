//! Files and folders that others could get at: the service refuses to start, with the path and the
//! cure, and what it makes is for nobody else.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::serving::{Service, home};
use crate::support::{Home, KEY, Run, Running, is_there, like, mode};

/// Nobody on this machine, and the group of nobody.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A folder of its own within the home.
fn folder(home: &Home, name: &str, bits: u32) -> PathBuf {
    let path = home.path(name);
    std::fs::create_dir(&path).expect("the home is ours");
    mode(&path, bits);
    path
}

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().expect("mkfifo is there");
    assert!(made.success());
}

fn give_away(path: &Path, user: u32, group: u32) {
    std::os::unix::fs::lchown(path, Some(user), Some(group)).expect("root may");
}

/// The service does not start, and says what is wrong with which path and what to do about it.
#[track_caller]
fn refused(what: &str, home: &Home, path: &Path, cure: &str) {
    said_to_be_wrong(what, home.run(["serve"]), path, cure);
}

#[track_caller]
fn said_to_be_wrong(what: &str, run: Run, path: &Path, cure: &str) {
    assert_eq!(run.code, 2, "{what}: {}{}", run.out, run.err);
    let path = path.display().to_string();
    assert!(run.err.contains(&path) && run.err.contains(cure), "{what}: no {path} or `{cure}`: {}", run.err);
    assert!(!run.err.contains("Programs ask here"), "{what}");
}

/// The service starts.
#[track_caller]
fn accepted(home: Home) {
    Service::start(home).stop();
}

/// A home whose key is in a file of its own folder.
fn with_key_in(name: &str) -> (Home, PathBuf) {
    let home = home();
    let place = folder(&home, "secrets", 0o700).join(name);
    (home.set("GHL_AUTH_KEY", "").set("GHL_AUTH_KEY_FILE", &place.display().to_string()), place)
}

fn write(path: &Path, text: &str, bits: u32) {
    std::fs::write(path, text).expect("the folder is ours");
    mode(path, bits);
}

#[test]
fn a_secret_is_not_taken_from_a_file_that_others_can_read_or_replace() {
    for bits in [0o644, 0o640, 0o604, 0o660, 0o666, 0o620, 0o601, 0o777] {
        let (home, key) = with_key_in("key");
        write(&key, KEY, bits);
        refused(&format!("{bits:o}"), &home, &key, "chmod 600");
    }
    for bits in [0o777, 0o703, 0o722] {
        let (home, key) = with_key_in("key");
        write(&key, KEY, 0o600);
        mode(key.parent().expect("a folder"), bits);
        refused(&format!("in a folder {bits:o}"), &home, &key, "chmod go-w");
    }
    let (home, key) = with_key_in("key");
    symlink("elsewhere", &key).expect("a link");
    write(&key.with_file_name("elsewhere"), KEY, 0o644);
    refused("a link to a file that others can read", &home, &key, "chmod 600");
    let (home, key) = with_key_in("key");
    symlink("nowhere", &key).expect("a link");
    refused("a link to nothing", &home, &key, "GHL_AUTH_KEY=");
    let (home, key) = with_key_in("key");
    refused("nothing", &home, &key, "GHL_AUTH_KEY=");
    let (home, key) = with_key_in("key");
    write(&key, &"A".repeat(1 << 20), 0o600);
    refused("a megabyte", &home, &key, "GHL_AUTH_KEY=");
    // Links are what Kubernetes makes of its secrets.
    let (home, key) = with_key_in("key");
    symlink("elsewhere", &key).expect("a link");
    write(&key.with_file_name("elsewhere"), KEY, 0o400);
    mode(key.parent().expect("a folder"), 0o1777);
    accepted(home);
}

#[test]
fn a_secret_is_not_waited_for_at_a_pipe_or_read_from_a_device() {
    let (home, key) = with_key_in("key");
    pipe(&key);
    mode(&key, 0o600);
    refused("a pipe", &home, &key, "Name a file");
    let (home, key) = with_key_in("key");
    symlink("pipe", &key).expect("a link");
    pipe(&key.with_file_name("pipe"));
    refused("a link to a pipe", &home, &key, "Name a file");
    let (home, key) = with_key_in("key");
    std::fs::create_dir(&key).expect("a folder");
    refused("a folder", &home, &key, "Name a file");
    let (home, key) = with_key_in("key");
    let _socket = std::os::unix::net::UnixListener::bind(&key).expect("a socket");
    refused("a socket", &home, &key, "Name a file");
    let zero = home.set("GHL_AUTH_KEY_FILE", "/dev/zero");
    refused("a device", &zero, Path::new("/dev/zero"), "Name a file");
    let home = zero.set("GHL_AUTH_KEY_FILE", "").set("GHL_AUTH_KEY", KEY);
    let run = home.run(["--env-file", "/dev/zero", "serve"]);
    said_to_be_wrong("settings without an end", run, Path::new("/dev/zero"), "code: env_file");
}

/// What an access list adds shows in the bits of the group.
#[test]
fn a_secret_is_not_taken_from_a_file_whose_access_list_lets_others_in() {
    let (home, key) = with_key_in("key");
    write(&key, KEY, 0o600);
    // Version 2; the owner, the user 65534, the group, the mask, others.
    let script = "import os, struct, sys
entry = lambda tag, bits, id=0xffffffff: struct.pack('<HHI', tag, bits, id)
acl = struct.pack('<I', 2) + entry(1, 6) + entry(2, 4, 65534) + entry(4, 0) + entry(16, 4) + entry(32, 0)
os.setxattr(sys.argv[1], 'system.posix_acl_access', acl)";
    let set = Command::new("python3").args(["-c", script]).arg(&key).output();
    if !set.is_ok_and(|set| set.status.success()) {
        eprintln!("no access list can be set here: it is not tried");
        return;
    }
    refused("an access list", &home, &key, "chmod 600");
}

#[test]
fn a_certificate_s_key_is_not_taken_from_where_others_can_get_at_it() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, private) = (made.cert.pem(), made.signing_key.serialize_pem());
    let with_tls = || {
        let home = home();
        let place = folder(&home, "tls", 0o700);
        let (crt, key) = (place.join("tls.crt"), place.join("tls.key"));
        write(&crt, &certificate, 0o644);
        write(&key, &private, 0o600);
        let name = |path: &Path| path.display().to_string();
        let home = home.set("GHL_AUTH_TLS_CERT", &name(&crt)).set("GHL_AUTH_TLS_KEY", &name(&key));
        (home, crt, key)
    };
    for bits in [0o644, 0o640, 0o606] {
        let (home, _, key) = with_tls();
        mode(&key, bits);
        refused(&format!("{bits:o}"), &home, &key, "chmod 600");
    }
    let (home, _, key) = with_tls();
    mode(key.parent().expect("a folder"), 0o777);
    refused("in a folder for everyone", &home, &key, "chmod go-w");
    let (home, _, key) = with_tls();
    std::fs::remove_file(&key).expect("ours");
    pipe(&key);
    refused("a pipe", &home, &key, "Name a file");
    let home = home.set("GHL_AUTH_TLS_KEY", "/dev/zero");
    refused("a device", &home, Path::new("/dev/zero"), "Name a file");
    let (home, crt, _) = with_tls();
    std::fs::remove_file(&crt).expect("ours");
    pipe(&crt);
    refused("a certificate from a pipe", &home, &crt, "code: certificate_files");
    let home = home.set("GHL_AUTH_TLS_CERT", "/dev/zero");
    refused("a certificate from a device", &home, Path::new("/dev/zero"), "code: certificate_files");
}

/// A home whose database is in a folder of its own.
fn with_database() -> (Home, PathBuf) {
    let home = Home::new().sealed();
    let place = folder(&home, "data", 0o700).join("tokens.db");
    let url = format!("sqlite:{}", place.display());
    (home.set("GHL_STORE", &url).log_in().set("GHL_AUTH_LISTEN", "127.0.0.1:0"), place)
}

fn records_of(database: &Path) -> PathBuf {
    database.with_file_name("tokens.db.records.db")
}

fn move_away(path: &Path) -> PathBuf {
    let away = path.with_extension("away");
    std::fs::rename(path, &away).expect("the folder is ours");
    away
}

#[test]
fn a_database_is_not_kept_where_others_can_put_their_own() {
    for bits in [0o777, 0o703, 0o707] {
        let (home, database) = with_database();
        let folder = database.parent().expect("a folder");
        mode(folder, bits);
        refused(&format!("a folder {bits:o}"), &home, folder, "chmod go-w");
        home.run(["token"]).fails_with(2, "store_exposed");
        home.run(["keys", "list"]).fails_with(2, "store_exposed");
        mode(folder, bits | 0o1000);
        accepted(home);
    }
    // A single command takes the template's file as it finds it.
    let home = Home::new();
    let place = folder(&home, "data", 0o777);
    let home = home.set("GHL_STORE", &format!("file:{}/ghl_tokens.json", place.display())).log_in();
    home.run(["check"]).good();
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    refused("the template's file in a folder for everyone", &home, &place, "chmod go-w");
    mode(&place, 0o755);
    accepted(home);
}

#[test]
fn a_database_is_not_taken_through_a_link_or_from_what_is_no_file() {
    let which: [fn(&Path) -> PathBuf; 2] = [Path::to_path_buf, records_of];
    for which in which {
        for (what, cure) in [("a link", "not a link"), ("a link to nothing", "not a link")] {
            let (home, database) = with_database();
            home.run(["keys", "list"]).good();
            let database = which(&database);
            let away = move_away(&database);
            if what == "a link to nothing" {
                std::fs::remove_file(&away).expect("ours");
            }
            symlink(&away, &database).expect("a link");
            refused(what, &home, &database, cure);
            assert_eq!(away.exists(), what == "a link", "nothing was made behind it");
        }
        let (home, database) = with_database();
        home.run(["keys", "list"]).good();
        let database = which(&database);
        std::fs::hard_link(&database, database.with_extension("other")).expect("a second name");
        refused("a second name", &home, &database, "cp -p");
        move_away(&database);
        pipe(&database);
        refused("a pipe", &home, &database, "a regular file");
        std::fs::remove_file(&database).expect("ours");
        std::fs::create_dir(&database).expect("a folder");
        refused("a folder", &home, &database, "code: store_is_folder");
    }
    let home = home().set("GHL_STORE", "sqlite:/dev/zero");
    refused("a device", &home, Path::new("/dev/zero"), "a regular file");
    let home = home.set("GHL_STORE", "file:/dev/zero");
    refused("a device for a file", &home, Path::new("/dev/zero"), "a regular file");
    let home = home.set("GHL_STORE", "file:pipe.json");
    pipe(&home.path("pipe.json"));
    refused("a pipe for a file", &home, Path::new("pipe.json"), "a regular file");
    home.run(["check"]).fails_with(2, "store_exposed");
}

/// Runs a command as nobody, in no other group.
fn as_nobody(home: &Home, arguments: &[&str]) -> Command {
    let ours = home.command(arguments);
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(ours.get_program());
    command.args(arguments);
    like(&ours, command)
}

#[test]
fn what_belongs_to_another_user_is_not_taken() {
    if !is_root() || !is_there("setpriv") {
        eprintln!("only root can give files away: it is not tried");
        return;
    }
    let (home, database) = with_database();
    let place = database.parent().expect("a folder");
    let run = |what: &str, path: &Path, cure: &str| {
        let run = Running::start(as_nobody(&home, &["serve"])).end();
        said_to_be_wrong(what, run, path, cure);
    };
    mode(&home.path("."), 0o755);
    mode(&home.path(".env"), 0o644);
    mode(place, 0o1777);
    mode(&database, 0o666);
    run("root's database", &database, "chown");
    for path in [place, &database] {
        give_away(path, NOBODY, NOBODY);
    }
    mode(place, 0o700);
    write(&records_of(&database), "", 0o666);
    run("root's records", &records_of(&database), "chown");
    std::fs::remove_file(records_of(&database)).expect("ours");
    // A group that is not ours may write there.
    give_away(place, NOBODY, 1);
    mode(place, 0o770);
    run("another group's folder", place, "chmod go-w");
    give_away(place, NOBODY, NOBODY);
    let mut running = Running::start(as_nobody(&home, &["serve"]));
    running.until_it_says("Programs ask here");
    running.signal("TERM");
    running.end().good();
    let secret = home.path("root-s-key");
    write(&secret, KEY, 0o600);
    let mut command = as_nobody(&home, &["serve"]);
    command.env("GHL_AUTH_KEY", "").env("GHL_AUTH_KEY_FILE", &secret);
    said_to_be_wrong("root's key", Running::start(command).end(), &secret, "Permission denied");
}

/// Every file under a folder, but those that the test has written.
fn made_by_the_service(folder: &Path) -> Vec<(PathBuf, std::fs::Metadata)> {
    let entries = std::fs::read_dir(folder).expect("ours").map(|entry| entry.expect("an entry").path());
    let all = entries.filter(|path| path.file_name().is_some_and(|name| name != ".env"));
    all.flat_map(|path| {
        let found = std::fs::symlink_metadata(&path).expect("it is there");
        let within = if found.is_dir() { made_by_the_service(&path) } else { Vec::new() };
        within.into_iter().chain([(path, found)])
    })
    .collect()
}

#[test]
fn whatever_the_mask_what_it_makes_is_for_nobody_else() {
    for mask in ["000", "022", "077", "0777"] {
        let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db").log_in();
        for name in ["tokens.db", "tokens.db.records.db"] {
            // As an older program, or a restored copy, may have left them.
            home.run(["keys", "list"]).good();
            mode(&home.path(name), 0o666);
        }
        let home = home.set("GHL_AUTH_LISTEN", "unix:api.sock");
        home.sandbox.hold_answers(sandbox::Matcher::Refresh);
        let ours = home.command(["serve"]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {mask}; exec \"$0\" serve")]).arg(ours.get_program());
        let mut running = Running::start(like(&ours, command));
        running.until_it_says("Programs ask here");
        // With an answer in the air there is a place beside the store for it to land in.
        let refresh = home.start(["refresh"]);
        while home.sandbox.held() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let made = made_by_the_service(&home.path("."));
        assert!(made.len() >= 8, "two databases with their logs, a socket, a landing place: {made:?}");
        for (path, found) in made {
            let expected = match found.file_type() {
                kind if kind.is_socket() => 0o660,
                kind if kind.is_dir() => 0o700,
                _ => 0o600,
            };
            assert_eq!(found.mode() & 0o7777, expected, "{} under {mask}", path.display());
        }
        home.sandbox.release();
        refresh.end().good();
        running.signal("TERM");
        running.end().good();
    }
}

#[test]
fn a_socket_is_not_put_where_others_can_put_their_own() {
    let home = home();
    let place = folder(&home, "run", 0o777);
    let socket = place.join("api.sock");
    let home = home.set("GHL_AUTH_LISTEN", &format!("unix:{}", socket.display()));
    refused("a folder for everyone", &home, &socket, "chmod go-w");
    mode(&place, 0o755);
    write(&socket, "a file", 0o600);
    refused("a file in its place", &home, &socket, "code: listen");
    assert_eq!(std::fs::read_to_string(&socket).expect("it stays"), "a file");
}

/// Started by root for whoever owns the tokens: the owner can ask it.
#[test]
fn the_socket_belongs_to_whom_the_tokens_belong_to() {
    if !is_root() || !is_there("setpriv") {
        eprintln!("only root becomes another user: it is not tried");
        return;
    }
    // In a folder of its own, there too without the right to give files away, which a container may
    // lack, and in one of root's, as /run is.
    for (socket, lacks) in [("api.sock", "-syslog"), ("api.sock", "-chown"), ("run/api.sock", "-syslog")] {
        let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db").log_in();
        folder(&home, "run", 0o755);
        for path in [".", ".env", "tokens.db"] {
            give_away(&home.path(path), NOBODY, NOBODY);
        }
        let home = home.set("GHL_AUTH_LISTEN", &format!("unix:{socket}"));
        let mut command = Command::new("setpriv");
        let ours = home.command(["serve"]);
        command.args(["--bounding-set", lacks, "--inh-caps", lacks]).arg(ours.get_program()).arg("serve");
        let mut running = Running::start(like(&ours, command));
        running.until_it_says(&format!("Programs ask here: unix:{socket}"));
        let found = std::fs::metadata(home.path(socket)).expect("a socket");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (NOBODY, NOBODY, 0o660), "{socket}");
        let probe = Running::start(as_nobody(&home, &["serve", "--probe"])).end();
        assert_eq!(probe.code, 0, "its owner can ask: {}", probe.err);
        let records = std::fs::metadata(home.path("tokens.db.records.db")).expect("records");
        assert_eq!(records.uid(), NOBODY);
        running.signal("TERM");
        running.end().good();
        // A dead socket in root's folder is in nobody's way.
        let mut again = home.start(["serve"]);
        again.until_it_says("Programs ask here");
        again.signal("TERM");
        again.end().good();
    }
}

#[test]
fn a_certificate_s_key_that_only_root_can_read_is_refused_where_root_becomes_someone_else() {
    if !is_root() {
        eprintln!("only root becomes another user: it is not tried");
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db").log_in();
    let crt = home.write("tls.crt", &made.cert.pem()).display().to_string();
    let key = home.write("tls.key", &made.signing_key.serialize_pem());
    for path in [".", "tokens.db", "tls.crt"] {
        give_away(&home.path(path), NOBODY, NOBODY);
    }
    let home = home
        .set("GHL_AUTH_LISTEN", "127.0.0.1:0")
        .set("GHL_AUTH_TLS_CERT", &crt)
        .set("GHL_AUTH_TLS_KEY", &key.display().to_string());
    refused("root's key", &home, &key, "Permission denied");
    give_away(&key, NOBODY, NOBODY);
    let mut running = home.start(["serve"]);
    running.until_it_says("Programs ask here: https://");
    running.signal("TERM");
    running.end().good();
}
