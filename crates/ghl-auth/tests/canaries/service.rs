//! The service, driven through everything it does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sandbox::{Fault, FaultKind, Matcher, UserType};
use serde_json::json;

use crate::search::Canaries;
use crate::serving::{Listener, Service, document};
use crate::support::{Home, KEY, Page, Running, free_port, http, is_there, like};

/// Another 32 bytes in base64.
const OLD_KEY: &str = "c2l4dHkgZm91ciBiaXRzIHRpbWVzIGZvdXIgb2Ygb2w=";

const WEBHOOK_KEY: &str = "VGhlIHdlYmhvb2sncyBzZWNyZXQgaGFzIDMyIGJ5dGU=";

/// What stands in the path of each address that notices go to.
const WAYS: [(&str, &str); 5] = [
    ("GHL_NOTIFY_WEBHOOK_URL", "hook-7Yt2mQzR4vKc"),
    ("GHL_NOTIFY_SLACK_URL", "T024F-B047C-9uWq3xLn8sPd"),
    ("GHL_NOTIFY_DISCORD_URL", "1187-jH5gTr0bVeXa6yNk"),
    ("GHL_NOTIFY_TELEGRAM_URL", "bot9911:AAFzD1cMw8oUiE2f"),
    ("GHL_HEARTBEAT_URL", "3f0c9d5e-58aa-4b7e-9d14-6be2a1c07755"),
];

/// A service whose every secret is planted, and what was seen of it.
struct Watched {
    service: Service,
    canaries: Canaries,
    listener: Listener,
    admin: String,
    program: String,
    seen: Vec<(String, Vec<u8>)>,
}

/// A home whose secrets are in files, except those of the `.env`.
fn furnished(home: Home, canaries: &mut Canaries, listener: &Listener) -> Home {
    let secret = home.sandbox.settings().client_secret.clone();
    canaries.plant(&secret);
    for key in [KEY, OLD_KEY, WEBHOOK_KEY] {
        canaries.plant(key.trim_end_matches('='));
        canaries.plant_bytes(&STANDARD.decode(key).expect("base64"));
    }
    let mut home = home;
    let hook = format!("whsec_{WEBHOOK_KEY}");
    let mut files = vec![
        ("GHL_CLIENT_SECRET", secret),
        ("GHL_AUTH_KEY", KEY.to_owned()),
        ("GHL_AUTH_OLD_KEYS", OLD_KEY.to_owned()),
        ("GHL_NOTIFY_WEBHOOK_SECRET", hook),
    ];
    for (name, secret) in WAYS {
        canaries.plant(secret);
        files.push((name, format!("{}/{secret}?chat_id=1", listener.address)));
    }
    for (name, value) in files {
        let file = format!("secret-{name}");
        home.write(&file, &value);
        home = home.set(&format!("{name}_FILE"), &file);
    }
    home
}

impl Watched {
    fn start(format: &str) -> Self {
        let (mut canaries, listener) = (Canaries::default(), Listener::start());
        let home = furnished(Home::new(), &mut canaries, &listener);
        let home = home.set("GHL_STORE", "sqlite:tokens.db").log_in();
        let home = home
            .set("GHL_AUTH_LOG", "trace")
            .set("GHL_AUTH_LOG_FORMAT", format)
            .set("GHL_AUTH_LISTEN", "127.0.0.1:0")
            .set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0")
            .set("GHL_AUTH_AUDIT", "each")
            .set("GHL_NOTIFY_ALLOW_PRIVATE", "true")
            .set("GHL_ALERT_AFTER", "1")
            .set("GHL_HEALTH_CHECK_TAG_NAME", "");
        let service = Service::start(home);
        let admin = service.key(&["admin", "--all", "--verb", "admin", "--verb", "token"]);
        let program = service.key(&["program", "--location", service.home.location()]);
        for key in [&admin, &program] {
            canaries.plant(key.strip_prefix("ghlk_").and_then(|key| key.get(8..)).expect("a key"));
        }
        let seen = Vec::new();
        let mut watched = Self { service, canaries, listener, admin, program, seen };
        watched.look_at_tokens();
        watched
    }

    /// Notes the tokens that there are now.
    fn look_at_tokens(&mut self) {
        let sandbox = &self.service.home.sandbox;
        let settings = sandbox.settings();
        for id in [&settings.location_id, &settings.company_id] {
            let tokens = [sandbox.current_access_token(id), sandbox.current_refresh_token(id)];
            tokens.into_iter().flatten().for_each(|token| self.canaries.plant(&token));
        }
    }

    fn code(&mut self, class: UserType) -> String {
        let code = self.service.home.code(class);
        self.canaries.plant(&code);
        code
    }

    /// Notes an answer, apart from what it was to tell.
    fn note(&mut self, what: &str, page: &Page, meant: &[&str]) {
        let mut text = format!("{}\n{}", page.head, page.body);
        for meant in meant {
            assert!(text.contains(meant), "{what}: {} does not tell it", page.status);
            text = text.replace(meant, "");
        }
        self.seen.push((format!("the answer to {what}"), text.into_bytes()));
    }

    /// Asks, and notes the answer.
    fn ask(&mut self, method: &str, path: &str, key: Option<&str>, body: &str) -> Page {
        let page = self.service.ask(method, path, key, body);
        self.note(&format!("{method} {path}"), &page, &[]);
        page
    }

    /// Asks for a token: the answer tells the access token, and nothing else that is secret.
    fn ask_for_token(&mut self, method: &str, path: &str, body: &str) -> Page {
        let key = self.program.clone();
        let page = self.service.ask(method, path, Some(&key), body);
        self.look_at_tokens();
        let token = document(&page)["access_token"].as_str().map(str::to_owned);
        let meant: Vec<&str> = token.as_deref().into_iter().collect();
        self.note(&format!("{method} {path}"), &page, &meant);
        page
    }

    fn token_path(&self) -> String {
        format!("/v1/locations/{}/token", self.service.home.location())
    }

    /// Looks for every secret known by now in everything that was seen, said and left behind.
    fn search(&self, least_files: usize) {
        assert!(self.canaries.planted.len() > 20, "{}", self.canaries.planted.len());
        for (what, text) in &self.seen {
            self.canaries.are_not_in(what, text);
        }
        self.canaries.are_not_in("what it said", self.service.running.said().as_bytes());
        for notice in self.listener.taken() {
            // Whoever takes a notice knows the address that it came to.
            let line = notice.head.lines().next().unwrap_or_default();
            let head = notice.head.replace(line, "");
            self.canaries.are_not_in("a notice", format!("{head}\n{}", notice.body).as_bytes());
            let others = WAYS.iter().filter(|(_, secret)| line.contains(secret)).count();
            assert_eq!(others, 1, "{line}");
        }
        for request in self.service.home.sandbox.ledger().requests {
            let target = format!("{}?{}", request.path, request.query.unwrap_or_default());
            self.canaries.are_not_in("the address of a request to HighLevel", target.as_bytes());
        }
        let files = self.canaries.are_not_under(&self.service.home.path("."), &["secret-"]);
        assert!(files >= least_files, "{files}");
    }

    /// Looks at what the system shows of the process, and at where it keeps files open.
    fn search_process(&self) {
        let process = format!("/proc/{}", self.service.running.child.id());
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("{process}/{file}"));
            self.canaries.are_not_in(file, &text.unwrap_or_else(|_| panic!("{file} can't be read")));
        }
        let folder = std::fs::canonicalize(self.service.home.path(".")).expect("it is there");
        let opened = std::fs::read_dir(format!("{process}/fd")).expect("it can be read");
        let targets = opened.flatten().filter_map(|opened| std::fs::read_link(opened.path()).ok());
        let files: Vec<_> = targets.filter(|path| path.is_absolute() && !path.starts_with("/dev")).collect();
        assert!(files.len() >= 4, "{files:?}");
        assert!(files.iter().all(|file| file.starts_with(&folder)), "{files:?}");
    }
}

/// Tokens asked for rightly and wrongly.
fn tokens(watched: &mut Watched) {
    let (path, program, admin) = (watched.token_path(), watched.program.clone(), watched.admin.clone());
    for _ in 0..2 {
        assert_eq!(watched.ask_for_token("GET", &path, "").status, 200);
    }
    watched.ask_for_token("GET", &format!("{path}?minimum_life=600"), "");
    let refused = format!("{path}/refused");
    assert_eq!(watched.ask_for_token("POST", &refused, r#"{"generation": 1}"#).status, 409);
    watched.ask("POST", &refused, Some(&program), "{\"generation\": ");
    watched.ask("GET", &path, None, "");
    let other = format!("{}{}", &admin[..20], &program[20..]);
    for wrong in [other.as_str(), "ghlk_", &program[..40], &format!("{program}A")] {
        assert!([401, 429].contains(&watched.ask("GET", &path, Some(wrong), "").status));
    }
    for exposed in [format!("{path}?key={program}"), format!("{path}?x={program}")] {
        let page = watched.service.get(&exposed, Some(&program));
        assert_eq!(page.status, 400);
        watched.note("a key in the address", &page, &[]);
    }
    let access = watched.service.home.sandbox.current_access_token(watched.service.home.location());
    let access = access.expect("a token");
    for name in [&access, &program] {
        // A secret in a place that was meant for something else.
        let page = watched.service.get(&format!("/v1/locations/{name}/token"), Some(&program));
        watched.note("a secret as an id", &page, &[]);
        let page = watched.service.get(&format!("/{name}"), Some(&program));
        watched.note("a secret as a path", &page, &[]);
        let page = watched.service.ask("POST", &refused, Some(&program), &json!({ name: 1 }).to_string());
        watched.note("a secret as a member", &page, &[]);
        let page =
            watched.service.ask("POST", &refused, Some(&program), &json!({ "generation": name }).to_string());
        watched.note("a secret as a generation", &page, &[]);
        let url = format!("{}{path}", watched.service.address);
        let page =
            http("GET", &url, &[("authorization", &format!("Basic {name}")), ("user-agent", name)], "");
        watched.note("a secret in other headers", &page, &[]);
    }
    watched.ask("GET", &format!("/v1/companies/{}/token", watched.service.home.location()), Some(&admin), "");
    for path in
        ["/v1/installations", "/v1/checks", "/v1/maintenances", "/v1/parked", "/metrics", "/openapi.json"]
    {
        assert_eq!(watched.ask("GET", path, Some(&admin), "").status, 200, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics", "/nowhere", "/"] {
        watched.ask("GET", path, None, "");
    }
}

/// A person authorises, others try to.
fn browsers(watched: &mut Watched) {
    let admin = watched.admin.clone();
    let page = watched.service.ask("POST", "/oauth/links", Some(&admin), "");
    let url = document(&page)["url"].as_str().expect("a link").to_owned();
    let link = url.split_once("link=").expect("a link").1.to_owned();
    watched.canaries.plant(&link);
    watched.note("POST /oauth/links", &page, &[&link]);
    let page = watched.service.get(&format!("/oauth/start?link={link}"), None);
    watched.note("GET /oauth/start", &page, &[&link]);
    let sent = watched.service.ask("POST", "/oauth/start", None, &format!("link={link}"));
    assert_eq!(sent.status, 303, "{}", sent.body);
    let location = sent.header("location").expect("a place to go").to_owned();
    let cookie =
        sent.header("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("one").to_owned();
    let state =
        location.split("state=").nth(1).and_then(|rest| rest.split('&').next()).expect("one").to_owned();
    let worth = cookie.split_once('=').expect("a value").1.to_owned();
    for secret in [&state, &worth] {
        watched.canaries.plant(secret);
    }
    watched.note("POST /oauth/start", &sent, &[&state, &worth]);
    watched.ask("POST", "/oauth/start", None, &format!("link={link}"));
    let code = watched.code(UserType::Location);
    let callback = format!("{}/oauth/callback?code={code}&state={state}", watched.service.address);
    let other = format!("{}=AAAA", cookie.split_once('=').expect("a name").0);
    let back = [
        ("HEAD", callback.clone(), cookie.clone()),
        ("GET", callback.clone(), other),
        ("GET", callback.replace(&state, "other"), cookie.clone()),
        ("GET", format!("{callback}&code={code}"), cookie.clone()),
        (
            "GET",
            format!("{}&error=denied&error_description=so", callback.replace("code=", "x=")),
            cookie.clone(),
        ),
        ("GET", callback.clone(), cookie.clone()),
        ("GET", callback.clone(), cookie.clone()),
    ];
    let mut statuses = Vec::new();
    for (method, url, cookie) in back {
        let page = http(method, &url, &[("cookie", &cookie)], "");
        watched.look_at_tokens();
        watched.note(&format!("{method} /oauth/callback"), &page, &[]);
        statuses.push(page.status);
    }
    assert_eq!(statuses, [200, 403, 403, 400, 400, 200, 403]);
    // An install from the marketplace: its page holds the code in a button, for the browser that brought it.
    let code = watched.code(UserType::Company);
    let page = watched.service.get(&format!("/oauth/callback?code={code}"), None);
    watched.note("an install", &page, &[&code]);
    assert_eq!(watched.ask("POST", "/oauth/callback", None, &format!("code={code}")).status, 202);
    watched.look_at_tokens();
    assert_eq!(watched.ask("POST", "/oauth/callback", None, &format!("code={code}")).status, 403);
    let company = watched.service.home.sandbox.settings().company_id.clone();
    watched.ask("GET", "/v1/parked", Some(&admin), "");
    let approve = format!("/v1/parked/company/{company}/approve");
    assert_eq!(watched.ask("POST", &approve, Some(&admin), "").status, 200);
    watched.service.home.sandbox.fault(Fault::new(FaultKind::TruncatedJson).on(Matcher::Exchange));
    let code = watched.code(UserType::Location);
    assert_eq!(watched.ask("POST", "/oauth/callback", None, &format!("code={code}")).status, 503);
}

/// A HighLevel, or something before it, that says back what it was sent.
fn bad_days(watched: &mut Watched) {
    let admin = watched.admin.clone();
    let location = watched.service.home.location().to_owned();
    let asked = json!({ "kind": "location", "id": location }).to_string();
    let planned = json!({ "seconds": 1, "reason": "moving" }).to_string();
    assert_eq!(watched.ask("POST", "/v1/maintenances", Some(&admin), &planned).status, 201);
    let sandbox = watched.service.home.sandbox.clone();
    let access = sandbox.current_access_token(&location).expect("a living grant");
    let refresh = sandbox.current_refresh_token(&location).expect("a living grant");
    let secret = sandbox.settings().client_secret.clone();
    let echoes = format!("bad token {access} or {refresh} of {secret}");
    for status in [400, 401, 403, 422, 500] {
        for body in
            [json!({ "message": echoes }), json!({ "error": echoes, "traceId": access }), json!([echoes])]
        {
            sandbox.fault(
                Fault::new(FaultKind::status(status, &body.to_string())).on(Matcher::ContactRead).times(2),
            );
            watched.ask("POST", "/v1/checks", Some(&admin), &asked);
            sandbox.clear_faults();
        }
    }
    sandbox.fault(Fault::new(FaultKind::NotActive).on(Matcher::ContactRead).until_cleared());
    watched.ask("POST", "/v1/checks", Some(&admin), &asked);
    sandbox.clear_faults();
    watched.ask("POST", "/v1/checks", Some(&admin), &asked);
    // Nothing lives for a whole day more: each of these refreshes.
    let path = format!("{}?minimum_life=86400", watched.token_path());
    for (status, times) in [(400, 8), (401, 1), (403, 1), (500, 1)] {
        let before = sandbox.counts().refreshes;
        let body = json!({ "error": "invalid_request", "error_description": echoes }).to_string();
        sandbox.fault(Fault::new(FaultKind::status(status, &body)).on(Matcher::Refresh).times(times));
        watched.ask_for_token("GET", &path, "");
        assert!(sandbox.counts().refreshes > before, "{status}");
        sandbox.clear_faults();
    }
    watched.ask("GET", "/v1/checks", Some(&admin), "");
    watched.ask("GET", "/v1/installations", Some(&admin), "");
    watched.ask("GET", &format!("/v1/installations/location/{location}"), Some(&admin), "");
    watched.ask("GET", "/metrics", Some(&admin), "");
}

fn driven_through_everything(format: &str) {
    let mut watched = Watched::start(format);
    tokens(&mut watched);
    browsers(&mut watched);
    bad_days(&mut watched);
    watched.listener.until(10);
    // Settings read anew, good ones and bad ones.
    watched.service.running.signal("HUP");
    watched.service.running.until_it_says("were read anew");
    let path = watched.token_path();
    assert_eq!(watched.ask_for_token("GET", &path, "").status, 200);
    let env = watched.service.home.read(".env");
    watched.service.home.write(".env", &format!("{env}\nGHL_AUTH_AUDIT='{KEY}\nGHL_AUTH_HOSTS={OLD_KEY}\n"));
    watched.service.running.signal("HUP");
    watched.service.running.until_it_says("goes on with the settings it had");
    watched.service.home.write(".env", &env);
    // Two databases with their logs as they are while it runs, and as it leaves them.
    watched.search_process();
    watched.search(6);
    let said = watched.service.running.said();
    assert!(said.contains("TRACE") && said.contains("answered"), "at `trace` it says much: {said}");
    watched.service.running.signal("TERM");
    watched.service.running.until_it_ends();
    watched.search(2);
}

#[test]
fn no_secret_is_told_or_left_behind_by_the_service_whose_log_is_for_people() {
    driven_through_everything("human");
}

#[test]
fn no_secret_is_told_or_left_behind_by_the_service_whose_log_is_json() {
    driven_through_everything("json");
}

/// The certificate's key, over TLS; and a certificate's file that holds something else.
#[test]
fn no_secret_is_told_by_the_service_behind_tls() {
    if !is_there("curl") {
        eprintln!("curl is not there: TLS is not tried");
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let mut canaries = Canaries::default();
    let home = Home::new().sealed().log_in();
    let der = made.signing_key.serialize_der();
    // What is private in it follows these four bytes; the rest is public or the same in all keys.
    let at = der.windows(2).position(|pair| pair == [0x04, 0x20]).expect("a private key of 32 bytes");
    canaries.plant_bytes(&der[at + 2..at + 34]);
    canaries.plant(KEY.trim_end_matches('='));
    let port = free_port();
    let certificate = home.write("tls.crt", &made.cert.pem()).display().to_string();
    let private = home.write("tls.key", &made.signing_key.serialize_pem()).display().to_string();
    let home = home
        .set("GHL_AUTH_LOG", "trace")
        .set("GHL_AUTH_LISTEN", &format!("127.0.0.1:{port}"))
        .set("GHL_AUTH_TLS_CERT", &certificate)
        .set("GHL_AUTH_TLS_KEY", &private);
    let mut running = home.start(["serve"]);
    running.until_it_says("Programs ask here: https://");
    let key = home.run(["keys", "create", "--name", "all", "--all"]).good().out.trim().to_owned();
    canaries.plant(&key[13..]);
    canaries.plant(&home.sandbox.current_access_token(home.location()).expect("alive"));
    canaries.plant(&home.sandbox.current_refresh_token(home.location()).expect("alive"));
    home.write("curl", &format!("header = \"authorization: Bearer {key}\"\n"));
    let url = format!("https://localhost:{port}/v1/locations/{}/token", home.location());
    let ask = || {
        let curl = std::process::Command::new("curl")
            .args(["-s", "-K"])
            .arg(home.path("curl"))
            .arg("--cacert")
            .arg(home.path("tls.crt"))
            .arg(&url)
            .output();
        String::from_utf8_lossy(&curl.expect("curl runs").stdout).into_owned()
    };
    let began = std::time::Instant::now();
    while !ask().contains("access_token") {
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{}", running.said());
    }
    // A key in the certificate's place, half a key, and someone who speaks plain HTTP.
    home.write("tls.crt", &made.signing_key.serialize_pem());
    ask();
    home.write("tls.key", &made.signing_key.serialize_pem()[..120]);
    ask();
    running.until_it_says("the old one stays");
    let said = std::panic::catch_unwind(|| http("GET", &format!("http://127.0.0.1:{port}/livez"), &[], ""));
    assert!(said.is_ok_and(|page| page.status != 200));
    running.signal("TERM");
    let run = running.end().good();
    canaries.are_not_in("what it said", format!("{}{}", run.out, run.err).as_bytes());
    home.write("tls.crt", "");
    canaries.are_not_under(&home.path("."), &["tls.key", "curl"]);
}

/// Secrets in the environment are seen there by whoever may look into the process: its owner may not.
#[test]
fn the_environment_of_the_service_is_shown_to_root_alone() {
    use std::os::unix::fs::MetadataExt as _;
    let service = Service::start(crate::serving::home());
    let environ = format!("/proc/{}/environ", service.running.child.id());
    let owner = std::fs::metadata(&environ).expect("it is there").uid();
    assert_eq!(owner, 0, "the process can't be looked into");
    let ours = std::fs::metadata(service.home.path(".")).expect("it is there").uid();
    if ours != 0 {
        assert!(std::fs::read(&environ).is_err());
    }
    service.stop();
}

/// Calls to the system that fail, each with an error that it may well give.
const FAILING: [(&str, &str); 8] = [
    ("pwrite64", "EIO"),
    ("fsync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("openat", "EMFILE"),
    ("write", "EPIPE"),
    ("read", "EIO"),
    ("sendto", "ECONNRESET"),
    ("fcntl", "EAGAIN"),
];

/// The service with one of its calls failing from the `nth` on, as far as it gets. Whether it came to
/// answer.
fn with_a_failing_call(call: &str, error: &str, nth: usize) -> bool {
    let mut canaries = Canaries::default();
    let home = Home::new().sealed().log_in();
    let home = home.set("GHL_AUTH_LOG", "trace").set("GHL_AUTH_LISTEN", "127.0.0.1:0");
    canaries.plant(&home.sandbox.settings().client_secret);
    canaries.plant(KEY.trim_end_matches('='));
    let key = home.run(["keys", "create", "--name", "all", "--all"]).good().out.trim().to_owned();
    canaries.plant(&key[13..]);
    let ours = home.command(["serve"]);
    let mut command = std::process::Command::new("strace");
    let inject = format!("inject={call}:error={error}:when={nth}+");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
    command.arg(ours.get_program()).arg("serve");
    let mut running = Running::start(like(&ours, command));
    let began = Instant::now();
    let address = loop {
        let said = running.said();
        let address =
            said.lines().find_map(|line| line.strip_prefix("Programs ask here: ").map(str::to_owned));
        let ended = running.child.try_wait().expect("it is ours").is_some();
        if address.is_some() || ended || began.elapsed() > Duration::from_secs(10) {
            break address;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let location = home.location().to_owned();
    let code = home.code(UserType::Location);
    canaries.plant(&code);
    let answered = address.is_some();
    if let Some(address) = address {
        let path = format!("{address}/v1/locations/{location}/token?minimum_life=86400");
        let bearer = format!("Bearer {key}");
        let requests = [("GET", path.clone(), ""), ("POST", format!("{address}/oauth/callback"), "code=")];
        for (method, url, body) in requests {
            let body = if body.is_empty() { String::new() } else { format!("{body}{code}") };
            // It may not answer any more.
            if let Some(page) = try_http(method, &url, &bearer, &body) {
                let token = serde_json::from_str::<serde_json::Value>(&page).ok();
                let token = token.and_then(|answer| answer["access_token"].as_str().map(str::to_owned));
                let page = page.replace(&token.unwrap_or_else(|| "no token".into()), "");
                canaries.are_not_in("an answer", page.as_bytes());
            }
        }
    }
    for token in [home.sandbox.current_access_token(&location), home.sandbox.current_refresh_token(&location)]
    {
        canaries.plant(&token.expect("alive"));
    }
    let children = format!("/proc/{0}/task/{0}/children", running.child.id());
    let traced = std::fs::read_to_string(children).unwrap_or_default();
    for child in traced.split_whitespace() {
        std::process::Command::new("kill").args(["-KILL", child]).status().expect("kill is there");
    }
    running.until_it_ends();
    canaries.are_not_in(&format!("what it said without {call} from {nth} on"), running.said().as_bytes());
    canaries.are_not_under(&home.path("."), &[]);
    answered
}

/// The body of an answer, if one comes soon.
fn try_http(method: &str, url: &str, bearer: &str, body: &str) -> Option<String> {
    let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let length = body.len();
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {bearer}\r\nconnection: close\r\n"
    );
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

#[test]
fn no_secret_is_told_when_the_system_fails_at_any_point() {
    if !is_there("strace") {
        eprintln!("strace is not there: failing calls are not tried");
        return;
    }
    let points: usize = std::env::var("GHL_AUTH_FAILURES").map_or(2, |text| text.parse().expect("a number"));
    let (next, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= points * FAILING.len() {
                        return;
                    }
                    let (call, error) = FAILING[number % FAILING.len()];
                    // At the start, and further and further on.
                    let came_to_answer = with_a_failing_call(call, error, 20 + number / FAILING.len() * 7);
                    answered.fetch_add(usize::from(came_to_answer), Ordering::SeqCst);
                }
            });
        }
    });
    let answered = answered.into_inner();
    assert!(answered > 0 && answered < points * FAILING.len(), "{answered}: some fail early, some late");
}
