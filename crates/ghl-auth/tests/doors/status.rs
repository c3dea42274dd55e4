//! What anybody may see of how the service is: nothing where nobody said so, no name without a word about
//! names, and of a badge a label and a word.

use tokens::records::Badge;
use tokens::store::ListedNote;
use tokens::{Health, InstallationId, Standing, Subject};

use crate::dashboard::{TAGS, hostile};
use crate::house::{House, block_on, home, install, install_named, location, now, until};
use crate::wire::{Answer, ask, request};

fn shown(mode: &str) -> House {
    House::of(home().set("GHL_AUTH_STATUS_PAGE", mode))
}

fn look(address: &str, path: &str) -> Answer {
    ask(address, &request("GET", path, &[], ""))
}

/// What an answer says, whichever request it is to.
fn said(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let of_the_moment = ["x-request-id", "date"];
    let headers = answer.headers().filter(|(name, _)| !of_the_moment.contains(&&*name.to_ascii_lowercase()));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    (answer.status, headers, answer.body.clone())
}

/// Notes that someone stands so.
fn stand(house: &House, id: &InstallationId, health: Health) {
    let subject = Subject::Installation(id.clone());
    until(|| {
        let standings = block_on(house.records.standings()).expect("standings");
        let before = standings.into_iter().find(|standing| standing.subject == subject);
        let before = before.unwrap_or_else(|| Standing::new(subject.clone(), now()));
        let standing = Standing {
            health,
            revision: before.revision + 1,
            since: now(),
            said: Some("what went wrong at length".into()),
            ..before
        };
        block_on(house.records.tell(&standing, None, &[])).expect("room")
    });
}

fn plant_badge(house: &House, name: &str, about: Option<InstallationId>, label: &str) {
    let badge = Badge { name: name.into(), about, label: label.into(), created_at: now() };
    block_on(house.records.add_badge(&badge)).expect("room");
}

#[test]
fn where_nobody_said_so_there_is_neither_a_page_nor_a_badge_and_no_sign_that_there_could_be() {
    let house = House::new();
    plant_badge(&house, "a-badge", None, "ghl-auth");
    for address in [&house.private, &house.public] {
        let nothing = said(&look(address, "/no-such-path"));
        assert_eq!(nothing.0, 404);
        for path in ["/status", "/badge/a-badge.svg", "/badge/other.svg", "/badge/a-badge", "/badge/"] {
            assert_eq!(said(&look(address, path)), nothing, "{path} at {address}");
        }
        // The same for whoever reads pages.
        let read = |path: &str| {
            let html = ("Accept", "text/html");
            said(&ask(address, &request("GET", path, &[html, ("Accept-Language", "pt-BR")], "")))
        };
        assert_eq!(read("/status"), read("/no-such-path"));
        assert_eq!(read("/badge/a-badge.svg"), read("/no-such-path"));
    }
    assert_eq!(look(&house.public, "/assets/dashboard.css").status, 404);
    house.end();
}

#[test]
fn the_page_says_up_late_or_down_to_anybody_and_names_nobody() {
    let house = shown("on");
    house.until_checked();
    let (one, other) = (house.location(), location("otherOTHERother"));
    install(&house.store, &other, "other-access-token");
    let note = ListedNote { id: other.clone(), name: Some("A customer's name".into()), unlisted_at: None };
    block_on(house.store.note_listed(&[note])).expect("noted");
    let verdict = |word: &str| {
        let verdict = format!("<span class=\"dot\" aria-hidden=\"true\"></span>{word}</h1>");
        until(|| look(&house.public, "/status").body.contains(&verdict));
    };
    verdict("Up");
    for address in [&house.private, &house.public] {
        let page = look(address, "/status");
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.body.matches("<rect ").count(), 90, "a block for each day");
        assert!(page.body.contains("100 %") && page.body.contains("Days: 1 good"), "{}", page.body);
        let tag = page.header("etag").expect("a tag").to_owned();
        let again = ask(address, &request("GET", "/status", &[("If-None-Match", &tag)], ""));
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        // A key changes nothing, and what else is asked for isn't there.
        assert_eq!(ask(address, &request("POST", "/status", &[], "")).status, 405);
        assert_eq!(look(address, "/status/").status, 404);
        assert_eq!(look(address, "/assets/dashboard.css").status, 200);
    }
    assert_eq!(look(&house.public, "/assets/dashboard.js").status, 404);
    assert_eq!(look(&house.public, "/sign-in").status, 404);

    stand(&house, &one, Health::Degraded);
    verdict("Late");
    stand(&house, &one, Health::Down);
    verdict("Late");
    stand(&house, &other, Health::NeedsPerson);
    verdict("Down");
    let page = look(&house.public, "/status");
    for secret in [one.as_str(), other.as_str(), "customer", "went wrong"] {
        let visible = page.body.split("<svg").next().expect("a beginning");
        assert!(!visible.contains(secret), "`{secret}` in {visible}");
    }
    assert!(!page.body.contains("customer") && !page.body.contains(one.as_str()), "{}", page.body);
    // Who is gone is nobody's trouble any more.
    stand(&house, &one, Health::Operational);
    verdict("Late");
    block_on(house.store.remove(&other, now())).expect("removed");
    verdict("Up");
    house.end();
}

#[test]
fn with_names_each_installation_is_there_by_its_name_and_a_hostile_one_is_only_text() {
    let names = hostile();
    let id = |number: usize| location(&format!("hostile{number}"));
    let home = home().set("GHL_AUTH_STATUS_PAGE", "names");
    let house = House::with(home, |store| install_named(store, &names));
    house.until_checked();
    let page = look(&house.public, "/status");
    assert_eq!(page.status, 200);
    assert_eq!(page.body.matches("<li>").count(), 200);
    assert!(page.body.contains("More than these are not shown."));
    for tag in page.body.split('<').skip(1) {
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        let is_ours = TAGS.contains(&name.as_str()) || name == "rect" || tag.starts_with("!doctype html>");
        assert!(is_ours, "`<{tag}`");
    }
    assert!(page.body.contains("&#60;script&#62;") && !page.body.contains("alert(1)</script>"));
    // Without its name, an installation is called by its id.
    for number in 0..names.len() {
        block_on(house.store.remove(&id(number), now())).expect("removed");
    }
    until(|| look(&house.public, "/status").body.contains(&format!("{}</li>", house.home.location())));
    house.end();
}

#[test]
fn a_badge_lives_from_when_it_is_made_until_it_is_revoked() {
    let house = shown("on");
    house.until_checked();
    let nothing = said(&look(&house.public, "/badge/no-such-badge.svg"));
    assert_eq!(nothing.0, 404);
    let made = house.home.run(["badge", "create", "--json"]).good().json();
    let url = made["url"].as_str().expect("an address").to_owned();
    let path = url.strip_prefix("https://example.com").expect("where browsers come back to").to_owned();
    assert!(path.len() >= "/badge/.svg".len() + 24, "144 bits: {path}");
    assert_eq!(made["markdown"], format!("![ghl-auth]({url})"));
    assert_eq!(made["html"], format!("<img src=\"{url}\" alt=\"ghl-auth\">"));
    until(|| look(&house.public, &path).status == 200);
    let badge = look(&house.public, &path);
    assert!(badge.body.contains("<title>ghl-auth: up</title>"), "{}", badge.body);
    for (name, value) in [
        ("content-type", "image/svg+xml"),
        ("cache-control", "public, max-age=60"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(badge.header(name), Some(value), "{}", badge.head);
    }
    let tag = badge.header("etag").expect("a tag").to_owned();
    let again = ask(&house.public, &request("GET", &path, &[("If-None-Match", &tag)], ""));
    assert_eq!(again.status, 304);

    // Of one installation, with a label that would like to be more.
    let location = house.home.location().to_owned();
    let label = "<script>alert(1)</script>\"&";
    let arguments = ["badge", "create", "--location", &location, "--label", label, "--json"];
    let of_one = house.home.run(arguments).good().json();
    let path_of_one = format!("/badge/{}.svg", of_one["badge"].as_str().expect("a name"));
    until(|| look(&house.public, &path_of_one).body.contains(": up</title>"));
    let drawn = look(&house.public, &path_of_one).body;
    assert!(!drawn.contains("<script") && !drawn.contains(&location), "{drawn}");
    assert!(drawn.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;: up"), "{drawn}");
    let list = house.home.run(["badge", "list"]).good().out;
    assert!(list.contains(&path) && list.contains("the service") && list.contains(&location), "{list}");
    assert_eq!(house.home.run(["badge", "list", "--json"]).good().json()["badges"][1]["id"], *location);

    // Whom it is about is forgotten.
    block_on(house.store.remove(&house.location(), now())).expect("removed");
    until(|| look(&house.public, &path_of_one).body.contains(": unknown</title>"));

    house.home.run(["badge", "revoke", &url]).good().answers("is revoked");
    house.home.run(["badge", "revoke", &url]).fails_with(2, "badge_unknown");
    until(|| said(&look(&house.public, &path)) == nothing);
    assert_eq!(look(&house.public, &path_of_one).status, 200, "the other lives on");

    house.home.run(["badge", "create", "--location", "nobody"]).fails_with(3, "not_connected");
    house.home.run(["badge", "create", "--label", &"x".repeat(65)]).fails_with(2, "badge_label");
    house.home.run(["badge", "create", "--label", " "]).fails_with(2, "badge_label");
    house.end();
}

#[test]
fn a_badge_that_nobody_can_see_yet_is_made_with_a_word_about_it() {
    let home = home();
    let made = home.run(["badge", "create"]).good().complains("GHL_AUTH_STATUS_PAGE");
    assert_eq!(made.out.lines().count(), 3, "{}", made.out);
    home.run(["badge", "list"]).good().answers("/badge/");
    let home = home.set("GHL_AUTH_STATUS_PAGE", "yes");
    home.run(["badge", "create"]).fails_with(2, "configuration").complains("neither off, on nor names");
    home.run(["serve"]).fails_with(2, "configuration");
}

#[test]
fn each_reads_the_page_in_their_own_language() {
    let house = shown("on");
    for language in ["pt-BR", "en", "pt-BR"] {
        let headers = [("Accept-Language", language)];
        let page = ask(&house.public, &request("GET", "/status", &headers, ""));
        assert_eq!(page.status, 200);
        assert!(page.body.contains(&format!("<html lang=\"{language}\"")), "{language}: {}", page.body);
        assert_eq!(page.header("vary"), Some("accept-language, cookie"));
    }
    house.end();
}
