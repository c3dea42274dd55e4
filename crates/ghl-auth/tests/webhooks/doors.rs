//! Who is believed: nobody but HighLevel, and of HighLevel nothing that could be read in two ways.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use sandbox::Signature;

use crate::house::House;
use crate::wire::{ask, ask_all, ask_or_be_left, request};
use crate::{PATH, event, events, home, sent, signed, status, times};

/// A location that is not kept, so that nothing follows.
const ELSEWHERE: &str = r#","locationId":"elsewhereELSEWHERE00""#;

#[test]
fn what_highlevel_signs_is_taken_at_both_doors_and_by_any_of_two_keys() {
    let home = home();
    let other = sandbox::Sandbox::builder()
        .settings(sandbox::Settings::seeded(43))
        .start_blocking()
        .expect("a sandbox");
    let keys = format!("{},{}", other.webhook_public_key(), home.sandbox.webhook_public_key());
    let house = House::of(home.set("GHL_WEBHOOK_PUBLIC_KEYS", &keys));
    let count = times("GHL_AUTH_WEBHOOKS", 100);
    let bodies = (0..count).map(|number| {
        let more = format!(r#","webhookId":"w{number}"{ELSEWHERE}"#);
        event(&house.home.sandbox, "UNINSTALL", &more)
    });
    let mut requests: Vec<_> = bodies.map(|body| signed(&house.home.sandbox, &body)).collect();
    let theirs = event(&house.home.sandbox, "UNINSTALL", &format!(r#","webhookId":"o"{ELSEWHERE}"#));
    requests.push(sent(&other.sign_webhook(&theirs, Signature::Present), &theirs));
    let at_public = ask_all(&house.public, &requests);
    for answer in &at_public {
        assert_eq!((answer.status, status(answer).as_str()), (200, "queued"), "{}", answer.body);
    }
    for answer in ask_all(&house.private, &requests) {
        assert_eq!((answer.status, status(&answer).as_str()), (200, "known"), "{}", answer.body);
    }
    assert_eq!(events(&house).0, i64::try_from(count + 1).expect("a number"));
    house.end();
}

#[test]
fn nothing_that_is_not_signed_as_it_ought_to_be_is_taken() {
    let house = House::of(home());
    let sandbox = &house.home.sandbox;
    let body =
        event(sandbox, "UNINSTALL", &format!(r#","locationId":"{}","n":1.0,"é":1"#, house.home.location()));
    let by = |signature| sandbox.sign_webhook(&body, signature);
    let good = by(Signature::Present)[0].1.clone();
    let raw = STANDARD.decode(&good).expect("base64");
    let ghl = |value: String| vec![("x-ghl-signature", value)];
    let mut requests = vec![
        sent(&[], &body),
        sent(&by(Signature::WrongKey), &body),
        sent(&by(Signature::Legacy), &body),
        sent(&by(Signature::NotApplicable), &body),
        sent(&ghl(String::new()), &body),
        sent(&ghl("N/A".into()), &body),
        sent(&ghl(format!("{good}, {good}")), &body),
        sent(&ghl(format!("sha256={good}")), &body),
        sent(&ghl(STANDARD.encode(&raw[..63])), &body),
        sent(&ghl(STANDARD.encode([raw.as_slice(), &[0]].concat())), &body),
        sent(&[ghl(good.clone()), ghl(good.clone())].concat(), &body),
        sent(&[ghl("N/A".into()), ghl(good.clone())].concat(), &body),
        sent(&[("x-wh-signature", good.clone())], &body),
        sent(&[("authorization", format!("Bearer {good}"))], &body),
    ];
    if URL_SAFE.encode(&raw) != good {
        requests.push(sent(&ghl(URL_SAFE.encode(&raw)), &body));
    }
    for bit in 0..512 {
        let mut other = raw.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        requests.push(sent(&ghl(STANDARD.encode(other)), &body));
    }
    // The same to whoever parses it, and not the bytes that were signed.
    for other in [
        body.replace("1.0", "1"),
        body.replace('é', "\\u00e9"),
        body.replace(',', ", "),
        format!("{body}\r\n"),
        format!("\u{feff}{body}"),
    ] {
        requests.push(sent(&ghl(good.clone()), &other));
    }
    for address in [&house.public, &house.private] {
        for answer in ask_all(address, &requests) {
            assert_eq!((answer.status, answer.code().as_str()), (401, "not_signed"), "{}", answer.body);
        }
    }
    assert_eq!(events(&house), (0, 0), "nothing was even written down");
    let key = house.master_key();
    assert_eq!(house.get(&house.token_path(), &key).status, 200);
    house.end();
}

#[test]
fn the_legacy_signature_is_taken_only_where_someone_said_so() {
    let home = home();
    let key = home.sandbox.webhook_rsa_public_key();
    let house = House::of(home.set("GHL_WEBHOOK_LEGACY_RSA", "on").set("GHL_WEBHOOK_RSA_PUBLIC_KEY", &key));
    let sandbox = &house.home.sandbox;
    let ask_with = |signature: Signature| {
        let body = event(sandbox, "UNINSTALL", &format!(r#","webhookId":"{signature:?}"{ELSEWHERE}"#));
        ask(&house.public, &sent(&sandbox.sign_webhook(&body, signature), &body)).status
    };
    for good in [Signature::Legacy, Signature::NotApplicable, Signature::Both, Signature::Present] {
        assert_eq!(ask_with(good), 200, "{good:?}");
    }
    assert_eq!(ask_with(Signature::Missing), 401);
    // Where the present one is there, it alone counts.
    let body = event(sandbox, "UNINSTALL", ELSEWHERE);
    let mut both = sandbox.sign_webhook(&body, Signature::WrongKey);
    both.extend(sandbox.sign_webhook(&body, Signature::Legacy));
    assert_eq!(ask(&house.public, &sent(&both, &body)).status, 401);
    house.end();
}

#[test]
fn what_is_too_long_or_no_plain_json_or_of_no_concern_changes_nothing() {
    let house = House::of(home());
    let sandbox = &house.home.sandbox;
    let ours = house.home.location().to_owned();
    let post = |body: &str| ask(&house.public, &signed(sandbox, body));
    for (body, outcome) in [
        (format!(r#"{{"type":"UNINSTALL","appId":"another","locationId":"{ours}"}}"#), "ignored"),
        (format!(r#"{{"type":"UNINSTALL","locationId":"{ours}"}}"#), "ignored"),
        (event(sandbox, "ContactCreate", &format!(r#","locationId":"{ours}""#)), "ignored"),
        (event(sandbox, "PLAN_CHANGE", &format!(r#","locationId":"{ours}""#)), "ignored"),
        (event(sandbox, "UNINSTALL", r#","locationId":"../../x""#), "ignored"),
        (event(sandbox, "UNINSTALL", r#","companyId":"ZZZZZZZZZZZZZZZZZZZZ""#), "queued"),
        (event(sandbox, "LocationCreate", r#","id":"ZZZZZZZZZZZZZZZZZZZZ""#), "queued"),
        (event(sandbox, "UPDATE", &format!(r#","locationId":"{ours}""#)), "queued"),
    ] {
        let answer = post(&body);
        assert_eq!((answer.status, status(&answer).as_str()), (200, outcome), "{body}: {}", answer.body);
    }
    for odd in ["", "[]", "{}", "null", "{\"type\":\"INSTALL\"", "\u{0}"] {
        let answer = post(odd);
        assert_eq!((answer.status, answer.code().as_str()), (400, "odd_webhook"), "{odd:?}");
    }
    // As long as HighLevel's longest, and a little longer.
    let long = |length: usize| {
        let more = format!(r#","webhookId":"long{length}"{ELSEWHERE},"x":""#);
        let short = event(sandbox, "UNINSTALL", &format!("{more}\""));
        event(sandbox, "UNINSTALL", &format!("{more}{}\"", "x".repeat(length - short.len())))
    };
    assert_eq!(post(&long(255 * 1024)).status, 200);
    assert_eq!(post(&long(256 * 1024)).status, 200);
    for (length, signature) in [(257, Signature::Present), (257, Signature::Missing)] {
        let body = long(length * 1024);
        let request = sent(&sandbox.sign_webhook(&body, signature), &body);
        let answer = ask_or_be_left(&house.public, &request);
        assert!(answer.is_none_or(|answer| answer.status == 413 && answer.code() == "webhook_too_long"));
    }
    let announced = format!(
        "POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        100 << 20
    );
    assert_eq!(ask(&house.public, announced.as_bytes()).status, 413, "it is not waited for");
    let body = event(sandbox, "UNINSTALL", ELSEWHERE);
    let signature = sandbox.sign_webhook(&body, Signature::Present)[0].1.clone();
    for headers in [
        vec![],
        vec![("Content-Type", "text/plain")],
        vec![("Content-Type", "application/x-www-form-urlencoded")],
        vec![("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
        vec![("Content-Type", "application/json"), ("Content-Encoding", "identity")],
    ] {
        let headers = [headers, vec![("x-ghl-signature", signature.as_str())]].concat();
        let answer = ask(&house.public, &request("POST", PATH, &headers, &body));
        assert_eq!((answer.status, answer.code().as_str()), (415, "not_plain_json"), "{headers:?}");
    }
    let key = house.master_key();
    assert_eq!(house.get(&house.token_path(), &key).status, 200);
    house.end();
}

#[test]
fn a_key_that_is_none_is_refused_at_the_start() {
    for (name, value) in [
        ("GHL_WEBHOOK_PUBLIC_KEYS", "AAAA"),
        ("GHL_WEBHOOK_PUBLIC_KEYS", "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("GHL_WEBHOOK_LEGACY_RSA", "yes"),
    ] {
        let run = crate::house::empty_home().set(name, value).run(["serve"]);
        run.ended(2).complains(name);
    }
    let home = crate::house::empty_home().set("GHL_WEBHOOK_LEGACY_RSA", "on");
    home.set("GHL_WEBHOOK_RSA_PUBLIC_KEY", "AAAA")
        .run(["serve"])
        .ended(2)
        .complains("GHL_WEBHOOK_RSA_PUBLIC_KEY");
}
