//! The dashboard: who gets in and for how long, who is kept out, and what hostile names do to its pages.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokens::Timestamp;
use tokens::records::{KeyId, Reach, Session, Verb};
use tokens::store::ListedNote;

use crate::house::{House, block_on, home, install, location, now, these};
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
    let csrf = |page: &Answer| {
        let rest = page.body.split("name=\"csrf\" value=\"").nth(1).expect("a form").to_owned();
        rest.split('"').next().expect("a value").to_owned()
    };
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

/// What names would do if they were more than text.
pub(crate) fn hostile() -> Vec<String> {
    let plain = [
        "<script>alert(1)</script>",
        "</title><script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "<svg/onload=alert(1)>",
        "</textarea><script>alert(1)</script>",
        "javascript:alert(1)",
        "{{7*7}}",
        "${7*7}",
        "<%= 7*7 %>",
        "{% raw %}",
        "&lt;script&gt;",
        "&#60;script&#62;",
        "<!--",
        "-->",
        "<![CDATA[",
        "\u{202e}gpj.exe",
        "\u{0}\u{1}\u{7f}",
        "a\r\nset-cookie: a=b",
        "<a href=//evil.example>x</a>",
        "<base href=//evil.example>",
        "<meta http-equiv=refresh content=0;url=//evil.example>",
        "<style>*{display:none}</style>",
        "<form action=//evil.example>",
        "<iframe srcdoc='<script>alert(1)</script>'>",
    ];
    let around = ["", "x", " ", "\"", "'", ">", "</th>", "</a>", "é", "`", "\\", "\u{2028}"];
    plain.iter().flat_map(|name| around.iter().map(move |around| format!("{around}{name}{around}"))).collect()
}

#[test]
fn three_hundred_hostile_names_are_text_and_nothing_else() {
    let names = hostile();
    assert!(names.len() >= 300, "{}", names.len());
    let id = |number: usize| location(&format!("hostile{number}"));
    let house = House::with(home(), |store| {
        for number in 0..names.len() {
            install(store, &id(number), &format!("hostile-access-{number}"));
        }
        let notes: Vec<ListedNote> = names
            .iter()
            .enumerate()
            .map(|(number, name)| ListedNote { id: id(number), name: Some(name.clone()), unlisted_at: None })
            .collect();
        block_on(store.note_listed(&notes)).expect("noted");
    });
    let admin = house.key_like(&Verb::ALL, Reach::All, |key| key.name = hostile()[2].clone());
    house.until_known(&admin);
    let cookie = cookie_of(&sign_in(&house, &admin));
    let mut pages = vec!["/".to_owned(), "/keys".to_owned()];
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
pub(crate) const TAGS: [&str; 44] = [
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
];
