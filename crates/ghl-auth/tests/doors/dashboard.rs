//! The dashboard: who gets in and for how long, who is kept out, and what hostile names do to its pages.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokens::Timestamp;
use tokens::records::{KeyId, Reach, Session, Verb};

use crate::house::{House, block_on, home, install_named, location, now, these, tokens};
use crate::support::{Run, Running};
use crate::wire::{Answer, ask, request};

/// What a browser sends with a form on one of our pages.
const OURS: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

fn post(house: &House, path: &str, headers: &[(&str, &str)], form: &str) -> Answer {
    let mut all = vec![("Content-Type", "application/x-www-form-urlencoded")];
    all.extend_from_slice(headers);
    ask(&house.private, &request("POST", path, &all, form))
}

fn look(house: &House, path: &str, cookie: &str) -> Answer {
    ask(&house.private, &request("GET", path, &[("Cookie", cookie)], ""))
}

/// `name=value` of the cookie that an answer brings.
fn cookie_of(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {}", answer.head));
    cookie.split(';').next().expect("a value").to_owned()
}

/// Signs in with a key.
fn sign_in(house: &House, key: &str) -> Answer {
    post(house, "/sign-in", &[OURS], &format!("key={key}&to=/keys"))
}

/// What the terminal prints, where the service has a port that is known beforehand.
fn invited(house: &House, arguments: &[&str]) -> Run {
    let mut command = house.home.command(arguments);
    command.env("GHL_AUTH_LISTEN", "127.0.0.1:8787");
    Running::start(command).end()
}

/// A session as it lies among the records, of which the cookie is known.
fn planted(house: &House, name: &str, key: Option<&str>, began_at: Timestamp, used_at: Timestamp) -> String {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, format!("session.{name}").as_bytes()).as_ref());
    let key = key.map(|key| KeyId(key[5..13].to_owned()));
    block_on(house.records.open_session(&Session { cookie: hash, key, began_at, used_at })).expect("room");
    format!("ghl-auth-session={name}")
}

#[test]
fn a_session_begins_with_an_admin_key_or_a_link_and_ends_when_it_should() {
    let house = House::new();
    let admin = house.master_key();
    house.until_checked();

    let signed_in = sign_in(&house, &admin);
    assert_eq!((signed_in.status, signed_in.header("location")), (303, Some("/keys")), "{}", signed_in.body);
    let given = signed_in.header("set-cookie").expect("a cookie");
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(given.contains(attribute), "{given}");
    }
    let first = cookie_of(&signed_in);
    house.plant(first.split('=').nth(1).expect("a value"));
    assert_eq!(look(&house, "/keys", &first).status, 200);

    // A cookie that somebody else put there is never taken for one's own, and a new sign-in ends the old.
    let again =
        post(&house, "/sign-in", &[OURS, ("Cookie", "ghl-auth-session=made-up")], &format!("key={admin}"));
    let second = cookie_of(&again);
    assert!(second != first && second != "ghl-auth-session=made-up");
    let third = cookie_of(&post(&house, "/sign-in", &[OURS, ("Cookie", &second)], &format!("key={admin}")));
    assert_eq!(look(&house, "/", &second).status, 303, "its place was taken");
    assert_eq!(look(&house, "/", &third).status, 200);

    // Behind TLS the cookie is for TLS alone.
    let secure = post(&house, "/sign-in", &[OURS, ("X-Forwarded-Proto", "https")], &format!("key={admin}"));
    let secure = secure.header("set-cookie").expect("a cookie");
    assert!(secure.starts_with("__Host-ghl-auth-session=") && secure.contains("; Secure"), "{secure}");

    // Half an hour without use, twelve hours in all, and a clock that was set back.
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let at = now();
    for (name, began_at, used_at, status) in [
        ("fresh", at, at, 200),
        ("used-lately", at - minutes(600), at - minutes(29), 200),
        ("idle", at - minutes(600), at - minutes(31), 303),
        ("old", at - minutes(721), at, 303),
        ("of-tomorrow", at + minutes(1440), at + minutes(1440), 303),
    ] {
        let cookie = planted(&house, name, Some(&admin), began_at, used_at);
        assert_eq!(look(&house, "/", &cookie).status, status, "{name}");
    }
    // What is used goes on.
    let hash = block_on(house.records.session(&{
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, b"session.used-lately").as_ref());
        hash
    }));
    assert!(hash.expect("a look").expect("a session").used_at >= at, "its use is noted");

    // By a link, once.
    let printed = invited(&house, &["dashboard", "--json"]).good();
    let url = printed.json()["url"].as_str().expect("a link").to_owned();
    let link = url.split("link=").nth(1).expect("its secret").to_owned();
    house.plant(&link);
    for _ in 0..2 {
        let path = format!("/sign-in?link={link}");
        assert_eq!(look(&house, &path, "").status, 200, "a look uses nothing up");
    }
    let by_link = post(&house, "/sign-in", &[OURS], &format!("link={link}"));
    assert_eq!(by_link.status, 303);
    assert_eq!(post(&house, "/sign-in", &[OURS], &format!("link={link}")).status, 403);
    let by_link = cookie_of(&by_link);
    assert_eq!(look(&house, "/", &by_link).status, 200);

    // Whoever signs out is out, and out everywhere if they say so.
    let form = format!("csrf={}", csrf(&look(&house, "/", &by_link)));
    let out = post(&house, "/sign-out", &[OURS, ("Cookie", &by_link)], &form);
    assert_eq!((out.status, out.header("location")), (303, Some("/sign-in")));
    assert!(out.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")));
    assert_eq!(look(&house, "/", &by_link).status, 303);
    assert_eq!(look(&house, "/", &third).status, 200);
    let form = format!("csrf={}&everywhere=1", csrf(&look(&house, "/", &third)));
    assert_eq!(post(&house, "/sign-out", &[OURS, ("Cookie", &third)], &form).status, 303);
    assert_eq!(look(&house, "/", "ghl-auth-session=fresh").status, 303);

    // A session ends with its key.
    let cookie = cookie_of(&sign_in(&house, &admin));
    assert_eq!(look(&house, "/", &cookie).status, 200);
    block_on(house.records.revoke_key(&KeyId(admin[5..13].to_owned()), now())).expect("revoked");
    crate::house::until(|| look(&house, "/", &cookie).status == 303);
    house.end();
}

#[test]
fn nobody_gets_in_without_an_admin_key_and_the_terminal_always_does() {
    let house = House::new();
    let admin = house.master_key();
    let token = house.key(&[Verb::Token, Verb::Gateway], Reach::All);
    let narrow = house.key(&Verb::ALL, these([location("elsewhere")]));
    house.until_known(&token);
    for (key, status) in
        [(&token, 403), (&narrow, 403), (&"ghlk_wrong".to_owned(), 403), (&String::new(), 403)]
    {
        let answer = sign_in(&house, key);
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.header("set-cookie").is_none());
    }
    // Guessing is slow; who knows the key, or is at the terminal, is not kept out by it.
    let mut statuses: Vec<u16> =
        (0..40).map(|number| sign_in(&house, &format!("ghlk_guess{number}")).status).collect();
    statuses.dedup();
    assert_eq!(statuses, [403, 429]);
    assert_eq!(sign_in(&house, &admin).status, 303);
    let printed = invited(&house, &["dashboard"]).good();
    assert!(printed.out.starts_with("http://"), "{}", printed.out);
    // From another page nobody is signed in as somebody else.
    for headers in [
        &[("Sec-Fetch-Site", "cross-site")][..],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[],
    ] {
        let answer = post(&house, "/sign-in", headers, &format!("key={admin}"));
        assert_eq!((answer.status, answer.header("set-cookie")), (403, None), "{headers:?}");
    }
    // And nowhere but to us.
    for elsewhere in [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "%0d%0aset-cookie:a=b",
    ] {
        let answer = post(&house, "/sign-in", &[OURS], &format!("key={admin}&to={elsewhere}"));
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{elsewhere}");
    }
    // Strangers' listener knows nothing of it.
    for path in ["/", "/sign-in", "/installations", "/assets/dashboard.js"] {
        assert_eq!(ask(&house.public, &request("GET", path, &[], "")).status, 404, "{path}");
    }
    house.end();
}

/// What a form on one of our pages brings back.
fn csrf(page: &Answer) -> String {
    let rest = page.body.split("name=\"csrf\" value=\"").nth(1).expect("a form").to_owned();
    rest.split('"').next().expect("a value").to_owned()
}

#[test]
fn what_is_paused_rests_until_someone_goes_on() {
    let house = House::new();
    let admin = house.master_key();
    house.until_checked();
    let cookie = cookie_of(&sign_in(&house, &admin));
    let path = format!("/installations/location/{}", house.home.location());
    let act = |action: &str| {
        let form = format!("csrf={}", csrf(&look(&house, "/settings", &cookie)));
        let answer = post(&house, &format!("{path}/{action}"), &[OURS, ("Cookie", &cookie)], &form);
        assert_eq!(answer.status, 303, "{action}: {}", answer.body);
        look(&house, answer.header("location").expect("a page"), &cookie).body
    };
    let windows =
        || house.get("/v1/maintenances", &admin).json()["maintenances"].as_array().cloned().expect("a list");
    let checks = || house.get("/v1/checks?limit=100", &admin).json()["checks"].as_array().map(Vec::len);
    let before = checks();
    // Twice is once.
    for _ in 0..2 {
        assert!(act("pause").contains("It is paused."));
    }
    assert_eq!(windows().len(), 1);
    assert_eq!(windows()[0]["until"], serde_json::Value::Null);
    assert!(look(&house, "/", &cookie).body.contains("Paused"), "the list says so");
    assert!(look(&house, "/", &cookie).body.contains("Everything works"));
    assert_eq!(checks(), before);
    assert!(act("resume").contains("It is checked again."));
    assert!(windows().is_empty());
    assert_eq!(checks(), before.map(|count| count + 1), "it was checked first");
    assert!(!look(&house, "/", &cookie).body.contains("Paused"));

    // What happened to its grant is noted, whoever did it.
    assert!(look(&house, &path, &cookie).body.contains("set 1 ·"));
    house.home.run(["refresh"]).good();
    crate::house::until(|| look(&house, &path, &cookie).body.contains("set 2 ·"));
    house.end();
}

#[test]
fn an_install_that_waits_is_served_or_turned_away_from_the_first_page() {
    let waiting = [location("waits1"), location("waits2")];
    let house = House::with(home(), |store| {
        for id in &waiting {
            block_on(store.park(id, &tokens(id.as_str(), None, now()), now())).expect("room");
        }
    });
    let admin = house.master_key();
    let cookie = cookie_of(&sign_in(&house, &admin));
    let first = look(&house, "/", &cookie);
    assert!(waiting.iter().all(|id| first.body.contains(&format!("{} was installed", id.as_str()))));
    let form = format!("csrf={}", csrf(&first));
    let act = |id: &str, action: &str| {
        let path = format!("/installations/location/{id}/{action}");
        let answer = post(&house, &path, &[OURS, ("Cookie", &cookie)], &form);
        (answer.status, answer.header("location").map(str::to_owned))
    };
    assert_eq!(act("waits1", "approve"), (303, Some("/installations/location/waits1?done=approved".into())));
    assert_eq!(act("waits2", "dismiss"), (303, Some("/".into())));
    assert_eq!(act("waits2", "approve").0, 404);
    assert!(block_on(house.store.parked()).expect("a look").is_empty());
    assert_eq!(look(&house, "/installations/location/waits1", &cookie).status, 200);
    assert_eq!(look(&house, "/installations/location/waits2", &cookie).status, 404);
    house.end();
}

#[test]
fn settings_are_shown_and_secrets_are_not() {
    let house = House::new();
    let admin = house.master_key();
    let cookie = cookie_of(&sign_in(&house, &admin));
    let page = look(&house, "/settings", &cookie);
    assert_eq!(page.status, 200);
    for shown in ["GHL_CLIENT_ID", "GHL_STORE", "sqlite:", "GHL_AUTH_LISTEN", "127.0.0.1:0", "GHL_AUTH_KEY"] {
        assert!(page.body.contains(shown), "{shown}");
    }
    let env = std::fs::read_to_string(house.home.path(".env")).expect("the settings");
    let mut secrets = 0;
    for line in env.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        if name == "GHL_CLIENT_SECRET" {
            secrets += 1;
            assert!(!page.body.contains(value.trim_matches('"')), "{name}");
        }
    }
    assert_eq!(secrets, 1, "{env}");
    assert!(!page.body.contains(crate::support::KEY));
    house.end();
}

#[test]
fn a_person_reads_their_own_language_and_a_page_where_something_is_wrong() {
    let house = House::new();
    let admin = house.master_key();
    let cookie = cookie_of(&sign_in(&house, &admin));
    let get = |path: &str, headers: &[(&str, &str)]| ask(&house.private, &request("GET", path, headers, ""));
    let html = ("Accept", "text/html,application/xhtml+xml");
    let language = |answer: &Answer| {
        let rest = answer.body.split("<html lang=\"").nth(1).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    // The browser's, unless somebody chose another; the service's where neither is spoken.
    for (asked, spoken) in [("pt-BR,en;q=0.5", "pt-BR"), ("en", "en"), ("de", "en")] {
        assert_eq!(language(&get("/sign-in", &[("Accept-Language", asked)])), spoken, "{asked}");
    }
    let referer = format!("http://{}/installations?q=a", house.private);
    let choose = |site: (&str, &str), wanted: &str| {
        post(&house, "/language", &[site, ("Referer", &referer)], &format!("language={wanted}"))
    };
    let chosen = choose(OURS, "pt-BR");
    assert_eq!((chosen.status, chosen.header("location")), (303, Some("/installations?q=a")));
    let kept = cookie_of(&chosen);
    let both = format!("{cookie}; {kept}");
    assert_eq!(language(&get("/", &[("Accept-Language", "en"), ("Cookie", &both)])), "pt-BR");
    assert_eq!(choose(("Sec-Fetch-Site", "cross-site"), "pt-BR").status, 403);
    for wanted in ["de", "", "en%0d%0aset-cookie:a=b"] {
        let answer = choose(OURS, wanted);
        assert_eq!((answer.status, answer.header("set-cookie")), (400, None), "{wanted}");
    }

    // What is wrong is a page for whoever reads pages, and JSON for everybody else.
    for (path, status, said) in [
        ("/installations/location/a%20b", 400, "bad_id"),
        ("/installations?state=odd", 400, "bad_query"),
        ("/nowhere", 404, "not_found"),
    ] {
        let page = get(path, &[html, ("Cookie", &both)]);
        assert_eq!((page.status, language(&page).as_str()), (status, "pt-BR"), "{path}");
        assert!(page.body.contains(said), "{path}: {}", page.body);
        assert!(
            page.header("content-security-policy")
                .is_some_and(|policy| policy.contains("default-src 'none'"))
        );
        let document = get(path, &[("Cookie", &cookie)]);
        assert_eq!((document.status, document.code().as_str()), (status, said), "{path}");
    }
    let page =
        post(&house, "/connect", &[("Sec-Fetch-Site", "cross-site"), html, ("Cookie", &cookie)], "csrf=x");
    assert!(
        page.status == 403 && page.body.contains("not_from_here") && language(&page) == "en",
        "{}",
        page.body
    );
    house.end();
}

/// What names would do if they were more than text.
pub(crate) fn hostile() -> Vec<String> {
    serde_json::from_str(include_str!("../../../../tests/dashboard/hostile.json")).expect("a list of names")
}

#[test]
fn three_hundred_hostile_names_are_text_and_nothing_else() {
    let names = hostile();
    assert!(names.len() >= 300, "{}", names.len());
    let house = House::with(home(), |store| install_named(store, &names));
    let admin = house.key_like(&Verb::ALL, Reach::All, |key| key.name = hostile()[2].clone());
    house.until_known(&admin);
    let cookie = cookie_of(&sign_in(&house, &admin));
    let mut pages = vec!["/".to_owned(), "/keys".to_owned(), "/settings".to_owned()];
    pages.extend((0..names.len()).map(|number| format!("/installations/location/hostile{number}")));
    pages.push("/installations?limit=1000".to_owned());
    pages.push("/installations?q=%3Cscript%3Ealert(1)%3C/script%3E&state=&sort=id".to_owned());
    pages.push("/sign-in?to=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&link=%22%3E%3Cscript%3E".to_owned());
    let mut shown = 0;
    for path in &pages {
        let page = look(&house, path, &cookie);
        assert_eq!(page.status, 200, "{path}");
        // Each tag of ours is known, and no other is there.
        for tag in page.body.split('<').skip(1) {
            let name: String =
                tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(TAGS.contains(&name.as_str()) || tag.starts_with("!doctype html>"), "{path}: `<{tag}`");
            assert!(
                !tag.contains("evil.example") || !tag.split('>').next().unwrap_or_default().contains("evil"),
                "{path}"
            );
        }
        assert!(!page.body.contains("alert(1)</script>"), "{path}");
        shown += usize::from(page.body.contains("&#60;script&#62;") || page.body.contains("&lt;script&gt;"));
    }
    assert!(shown > 50, "they are shown as they are: {shown}");
    house.end();
}

/// All that pages of the dashboard are made of.
pub(crate) const TAGS: [&str; 45] = [
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "body",
    "a",
    "header",
    "nav",
    "form",
    "input",
    "button",
    "main",
    "section",
    "h1",
    "h2",
    "p",
    "dl",
    "div",
    "dt",
    "dd",
    "small",
    "span",
    "svg",
    "rect",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "time",
    "ul",
    "li",
    "label",
    "select",
    "option",
    "code",
    "pre",
    "b",
    "figure",
    "figcaption",
    "ol",
    "footer",
];
