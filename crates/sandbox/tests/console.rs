//! The console: what it shows, what its buttons do, and who may press them.

mod common;

use std::time::Duration;

use common::{Answer, FORM, admin, api, connect, form, raw, refresh, send, tag, until, whole};
use sandbox::{Sandbox, Settings, Speech};
use serde_json::json;

const CONSOLE: &str = "/_sandbox/console";

/// Says the name of each sentence, and what is put in.
struct Names;

impl Speech for Names {
    fn say(&self, key: &str, arguments: &[(&str, String)]) -> String {
        let values: Vec<&str> = arguments.iter().map(|(_, value)| value.as_str()).collect();
        format!("{key}[{}]", values.join("|"))
    }
}

fn with_console() -> Sandbox {
    let builder = Sandbox::builder().settings(Settings::seeded(42).of_agency(30)).speech(Names);
    builder.start_blocking().expect("a free port")
}

fn page(sandbox: &Sandbox) -> String {
    let answer = send(sandbox, "GET", CONSOLE, &[], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

/// Sends a form as a browser does, and gives what the console says was done.
fn press(sandbox: &Sandbox, fields: &[(&str, &str)]) -> String {
    let origin = sandbox.base_url();
    let headers = [FORM, ("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
    let answer = send(sandbox, "POST", CONSOLE, &headers, &form(fields));
    assert_eq!(answer.status, 303, "{fields:?}: {}", answer.body);
    let to = answer.header("location").expect("an address");
    to.strip_prefix("/_sandbox/console?done=").expect("the console").to_owned()
}

fn read_contact(sandbox: &Sandbox, access: &str) -> u16 {
    api(sandbox, "GET", &format!("/contacts/{}", sandbox.settings().contact_id), access, None).status
}

/// One part of the page.
fn part<'p>(page: &'p str, id: &str) -> &'p str {
    let (_, rest) = page.split_once(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no {id}"));
    rest.split_once("</section>").or_else(|| rest.split_once("</dl>")).map_or(rest, |(part, _)| part)
}

#[test]
fn a_browser_is_led_to_the_console_and_a_program_is_answered_as_by_highlevel() {
    let sandbox = with_console();
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let led = send(&sandbox, "GET", "/", &[browser], "");
    assert_eq!((led.status, led.header("location")), (302, Some(CONSOLE)));
    assert_eq!(send(&sandbox, "GET", "/", &[], "").status, 401);
    assert_eq!(send(&sandbox, "GET", "/", &[("accept", "*/*")], "").status, 401);
    assert_eq!(sandbox.console_url(), Some(format!("{}/", sandbox.base_url())));
    assert!(send(&sandbox, "GET", "/_sandbox", &[browser], "").body.contains("/_sandbox/faults"));

    let without = common::sandbox();
    assert_eq!(send(&without, "GET", "/", &[browser], "").status, 401);
    assert_eq!(send(&without, "GET", CONSOLE, &[browser], "").status, 404);
    assert_eq!(without.console_url(), None);
}

#[test]
fn it_shows_nothing_that_opens_anything_and_loads_nothing_from_elsewhere() {
    let sandbox = with_console();
    let (access, refresh_token) = connect(&sandbox);
    let answer = send(&sandbox, "GET", CONSOLE, &[], "");
    let shown = &answer.body;
    for secret in
        [&access, &refresh_token, &sandbox.settings().client_secret, &sandbox.settings().private_token]
    {
        assert!(!shown.contains(secret.as_str()));
        assert!(!shown.contains(&secret[secret.len() - 12..]));
    }
    for token in [&access, &refresh_token] {
        assert!(shown.contains(&format!("<small>…{}</small>", &token[token.len() - 4..])));
    }
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    for outside in ["style=", "<style", "onclick", "src=\"http", "href=\"http", "javascript:"] {
        assert!(!shown.contains(outside), "{outside}");
    }
    for name in ["console.css", "console.js", "icon.svg"] {
        let asset = send(&sandbox, "GET", &format!("{CONSOLE}/{name}"), &[], "");
        assert_eq!((asset.status, asset.header("x-content-type-options")), (200, Some("nosniff")), "{name}");
        assert!(!asset.body.replace("http://www.w3.org/2000/svg", "").contains("http"), "{name}");
    }
    assert_eq!(send(&sandbox, "GET", &format!("{CONSOLE}/else"), &[], "").status, 404);
}

#[test]
fn a_token_is_seen_issued_used_up_and_ended() {
    let sandbox = with_console();
    let rows = || {
        let page = page(&sandbox);
        part(&page, "tokens").split("<tr>").skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(rows()[0].contains("console-no-tokens"));
    let (_, first) = connect(&sandbox);
    let row = &rows()[0];
    for told in [
        "console-by-code",
        "console-issued[1]",
        "console-alive-until[",
        "console-alive[]",
        "Sandbox Location 1",
    ] {
        assert!(row.contains(told), "{told} in {row}");
    }

    refresh(&sandbox, &first);
    refresh(&sandbox, &first);
    let seen = rows();
    assert_eq!(seen.len(), 3, "newest first");
    assert!(seen[0].contains("console-by-refresh") && seen[0].contains("console-repeated[2]"), "{}", seen[0]);
    assert!(seen[1].contains("console-issued[2]") && seen[1].contains("console-alive[]"), "{}", seen[1]);
    assert!(seen[2].contains("console-issued[1]"), "{}", seen[2]);
    assert!(
        seen[2].contains("console-used-up-repeatable[") && seen[2].contains("console-alive-until["),
        "{}",
        seen[2]
    );

    assert_eq!(press(&sandbox, &[("deed", "clock"), ("seconds", "31")]), "moved");
    assert!(rows()[2].contains("console-used-up[]"));
    refresh(&sandbox, &first);
    assert!(rows()[0].contains("400 Invalid grant"), "{}", rows()[0]);

    let location = sandbox.settings().location_id.clone();
    assert_eq!(press(&sandbox, &[("deed", "revoke_access"), ("id", &location)]), "changed");
    assert!(!rows().concat().contains("console-alive-until["));
    assert!(rows()[2].contains("console-alive[]"));
    assert_eq!(press(&sandbox, &[("deed", "revoke"), ("id", &location)]), "changed");
    assert!(!rows().concat().contains("console-alive"));
}

#[test]
fn an_outage_is_thrown_by_a_button_and_taken_back_by_another() {
    let sandbox = with_console();
    let (access, _) = connect(&sandbox);
    assert!(page(&sandbox).contains("console-verdict-good"));
    assert_eq!(press(&sandbox, &[("deed", "outage"), ("outage", "down")]), "thrown");
    assert_eq!(read_contact(&sandbox, &access), 503);
    let shown = page(&sandbox);
    assert!(shown.contains("console-verdict-trouble[1]") && shown.contains("console-happened[1]"));
    assert!(part(&shown, "requests").contains("<code>status</code>"));
    let together = shown.split("name=\"together\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let together = together.expect("a way back").to_owned();
    assert_eq!(press(&sandbox, &[("deed", "take_back"), ("together", &together)]), "taken_back");
    assert_eq!(read_contact(&sandbox, &access), 200);
    assert!(page(&sandbox).contains("console-verdict-good"));

    // It ends by itself, when the sandbox's clock says so.
    press(&sandbox, &[("deed", "outage"), ("outage", "down")]);
    sandbox.advance(Duration::from_secs(299));
    assert_eq!(read_contact(&sandbox, &access), 503);
    sandbox.advance(Duration::from_secs(2));
    assert_eq!(read_contact(&sandbox, &access), 200);
    assert!(page(&sandbox).contains("console-verdict-good"));

    // A program throws the same.
    assert_eq!(admin(&sandbox, "POST", "/_sandbox/outages", json!({ "outage": "rate_limited" })).status, 200);
    assert_eq!(read_contact(&sandbox, &access), 429);
    assert_eq!(admin(&sandbox, "POST", "/_sandbox/outages", json!({ "outage": "?" })).status, 400);
}

#[test]
fn all_off_lets_highlevel_answer_as_at_the_start() {
    let sandbox = with_console();
    let (access, refresh_token) = connect(&sandbox);
    let location = sandbox.settings().location_id.clone();
    for fields in [
        &[("deed", "outage"), ("outage", "unreachable")][..],
        &[("deed", "fault"), ("fault", "hold"), ("on", "token"), ("often", "1"), ("percent", "100")],
        &[("deed", "fault"), ("fault", "7"), ("path", "/contacts"), ("often", "always"), ("percent", "100")],
    ] {
        assert_eq!(press(&sandbox, fields), "thrown");
    }
    press(&sandbox, &[("deed", "suspend"), ("id", &location)]);
    press(&sandbox, &[("deed", "limits"), ("burst", "0"), ("seconds", "10"), ("enforced", "yes")]);
    press(&sandbox, &[("deed", "scopes"), ("scopes", "reading")]);
    let shown = page(&sandbox);
    for told in [
        "console-verdict-trouble[4]",
        "console-outage-unreachable",
        "console-fault-hold[] (console-on-token[])",
        "console-fault-status[401] (console-on-path[/contacts])",
        "console-is-suspended[Sandbox Location 1]",
    ] {
        assert!(shown.contains(told), "{told}");
    }
    assert_eq!(press(&sandbox, &[("deed", "all_off")]), "all_off");
    assert!(page(&sandbox).contains("console-verdict-good"));
    assert_eq!(read_contact(&sandbox, &access), 200);
    let fresh = refresh(&sandbox, &refresh_token);
    assert!(fresh.text("scope").contains("contacts.write"));
}

#[test]
fn what_hangs_is_counted_and_let_go_by_its_button() {
    let sandbox = with_console();
    let (access, _) = connect(&sandbox);
    press(&sandbox, &[("deed", "fault"), ("fault", "hold_answers"), ("on", "contact_read")]);
    let asking = std::thread::spawn({
        let (sandbox, access) = (sandbox.clone(), access.clone());
        move || read_contact(&sandbox, &access)
    });
    until(|| sandbox.held() == 1);
    assert!(page(&sandbox).contains("console-held[1]"));
    // Another hold's button does not let it go.
    press(&sandbox, &[("deed", "release"), ("on", "contact_read")]);
    assert!(page(&sandbox).contains("console-fault-hold-answers[] (console-on-contact_read[])"));
    assert_eq!(
        press(&sandbox, &[("deed", "release"), ("on", "contact_read"), ("processed", "yes")]),
        "taken_back"
    );
    assert_eq!(asking.join().expect("an answer"), 200);
}

/// The fields that each button of the page would send.
fn buttons(page: &str) -> Vec<Vec<(String, String)>> {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
        Some(value.to_owned())
    };
    let mut all = Vec::new();
    for form in page.split("<form method=\"post\"").skip(1).filter_map(|rest| rest.split("</form>").next()) {
        let tags = |kind: &str| -> Vec<String> {
            let opening = format!("<{kind}");
            let tags = form.split(&opening).skip(1);
            tags.filter_map(|rest| rest.split('>').next()).map(str::to_owned).collect()
        };
        let mut fields: Vec<(String, String)> = Vec::new();
        for input in tags("input") {
            let name = attribute(&input, "name").expect("a name");
            fields.push((name, attribute(&input, "value").unwrap_or_default()));
        }
        for select in form.split("<select").skip(1) {
            let name = attribute(select, "name").expect("a name");
            let first = select.split("<option").nth(1).expect("a choice");
            fields.push((name, attribute(first, "value").expect("a value")));
        }
        for button in tags("button") {
            let own = attribute(&button, "name").zip(attribute(&button, "value"));
            all.push(fields.iter().cloned().chain(own).collect());
        }
    }
    all
}

#[test]
fn every_button_of_the_page_does_what_it_is_for() {
    let sandbox = with_console();
    connect(&sandbox);
    press(&sandbox, &[("deed", "suspend"), ("id", &sandbox.settings().location_id.clone())]);
    press(&sandbox, &[("deed", "outage"), ("outage", "flaky")]);
    press(&sandbox, &[("deed", "fault"), ("fault", "hold"), ("path", "/nobody's")]);
    let all = buttons(&page(&sandbox));
    assert!(all.len() > 100, "{}", all.len());
    for fields in &all {
        let pairs: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_ne!(press(&sandbox, &pairs), "nothing", "{fields:?}");
    }
    // What nobody drew is not done.
    for fields in [
        &[("deed", "all")][..],
        &[("deed", "outage"), ("outage", "?")],
        &[("deed", "fault"), ("fault", "999"), ("on", "any"), ("often", "1"), ("percent", "100")],
        &[("deed", "fault"), ("fault", "0"), ("on", "any"), ("often", "0"), ("percent", "100")],
        &[("deed", "fault"), ("fault", "0"), ("on", "any"), ("often", "1"), ("percent", "101")],
        &[("deed", "clock"), ("seconds", "99999999999999")],
        &[("deed", "clock"), ("seconds", "-1")],
        &[("deed", "suspend"), ("id", "nowhere")],
        &[("deed", "scopes"), ("scopes", "?")],
        &[],
    ] {
        assert_eq!(press(&sandbox, fields), "nothing", "{fields:?}");
    }
}

#[test]
fn tags_and_the_workflow_s_messages_are_seen_and_hostile_texts_are_texts() {
    let sandbox = with_console();
    let (access, _) = connect(&sandbox);
    tag(&sandbox, "POST", &access, &sandbox.settings().health_tag.clone());
    let hostile = "\"><script>alert(1)</script>'";
    tag(&sandbox, "POST", &access, hostile);
    raw(&sandbox, "GET", "/<script>alert(2)</script>\"'", &[], "");
    admin(&sandbox, "POST", "/_sandbox/faults", json!({ "fault": "lose_answer", "on": { "path": hostile } }));
    let shown = page(&sandbox);
    assert!(!shown.contains("<script>"), "{shown}");
    let contacts = part(&shown, "contacts");
    assert!(contacts.contains("Clara Sandbox") && contacts.contains("Status:Online-AuthService"));
    assert!(contacts.contains("&lt;script&gt;") || contacts.contains("&#60;script&#62;"), "{contacts}");
    assert!(contacts.contains("console-tag-goes["));
    assert!(part(&shown, "messages").contains("console-message[Clara Sandbox]"));
    let filtered =
        send(&sandbox, "GET", "/_sandbox/console?find=%22%3E%3Cscript%3E&done=%3Cscript%3E", &[], "");
    assert!(!filtered.body.contains("<script>"));

    sandbox.advance(Duration::from_secs(2));
    let later = page(&sandbox);
    assert!(!part(&later, "contacts").contains("Status:Online"));
    assert!(part(&later, "messages").contains("Status:Online-AuthService"));
}

#[test]
fn a_few_locations_are_shown_and_the_others_are_found() {
    let sandbox = with_console();
    let shown = page(&sandbox);
    assert!(shown.contains("console-more-locations[20]"));
    let last = sandbox.location_ids().pop().expect("a location");
    assert!(!shown.contains(&last));
    let found = send(&sandbox, "GET", &format!("/_sandbox/console?find={}", last.to_uppercase()), &[], "");
    assert!(found.body.contains(&last) && !found.body.contains("console-more-locations"));
}

#[test]
fn another_site_s_page_turns_no_control_and_no_other_name_is_answered() {
    let sandbox = with_console();
    let own = sandbox.base_url();
    let body = json!({ "fault": "lose_request" }).to_string();
    let controls = [
        ("POST", "/_sandbox/faults"),
        ("POST", CONSOLE),
        ("POST", "/_sandbox/reset"),
        ("DELETE", "/_sandbox/faults"),
    ];
    for (method, path) in controls {
        for headers in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:1")],
            &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            let answer = send(&sandbox, method, path, headers, &body);
            assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert!(sandbox.waiting_faults().is_empty());

    // A name of theirs that leads to this machine: DNS rebinding.
    let rebound = |method: &str, path: &str| -> Answer {
        use std::io::{Read, Write};
        let address = own.replace("http://", "");
        let mut stream = std::net::TcpStream::connect(&address).expect("the sandbox listens");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\n\
             sec-fetch-site: same-origin\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        whole(&bytes).expect("a whole answer")
    };
    for (method, path) in controls.into_iter().chain([("GET", CONSOLE), ("GET", "/_sandbox/env")]) {
        let answer = rebound(method, path);
        assert_eq!(answer.status, 421, "{method} {path}");
        assert!(!answer.body.contains("GHL_CLIENT_SECRET"));
    }
    assert!(sandbox.waiting_faults().is_empty());
    // Whoever is no browser says neither, and a page of our own says the truth.
    assert_eq!(send(&sandbox, "POST", "/_sandbox/faults", &[], &body).status, 200);
    let ours = [("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(send(&sandbox, "POST", "/_sandbox/faults", &ours, &body).status, 200);
    assert_eq!(sandbox.waiting_faults().len(), 2);
}
