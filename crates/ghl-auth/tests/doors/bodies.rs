//! Bodies that are too long, never end, or are JSON of the kind that parsers trip over.

use std::io::Write as _;
use std::time::{Duration, Instant};

use tokens::records::Verb;

use crate::house::House;
use crate::wire::{Answer, Wire, ask, bearer, request};

const LONGEST_JSON: usize = 64 * 1024;
const LONGEST_FORM: usize = 8 * 1024;
const TEN_GIBIBYTES: u64 = 10 << 30;

/// Less than the ten seconds for which a body is waited for.
const AT_ONCE: Duration = Duration::from_secs(5);

impl House {
    /// What the service holds in memory, in KiB.
    fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.running.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
    }
}

/// The routes that read a body: their path, a body that is good, and what is answered to it.
fn readers(house: &House) -> Vec<(String, String, u16)> {
    let location = house.home.location();
    vec![
        (format!("/v1/locations/{location}/token/refused"), r#"{"generation":1}"#.into(), 409),
        ("/v1/checks".into(), format!(r#"{{"kind":"location","id":"{location}"}}"#), 200),
        ("/v1/maintenances".into(), r#"{"seconds":1,"reason":"a"}"#.into(), 201),
    ]
}

#[test]
fn a_body_is_read_as_far_as_its_limit_and_not_a_byte_further() {
    let house = House::new();
    let key = house.master_key();
    let authorization = bearer(&key);
    let before = house.resident();
    for (path, good, status) in readers(&house) {
        let of = |length: usize| format!("{good}{}", " ".repeat(length - good.len()));
        let answer = house.ask("POST", &path, &key, &of(LONGEST_JSON));
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let answer = house.ask("POST", &path, &key, &of(LONGEST_JSON + 1));
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_long"), "{path}");
        let answer = promised(&house.private, &path, &[("Authorization", &authorization)]);
        assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_long"), "{path}");
        let (answer, sent) = endless(&house.private, &path, &[("Authorization", &authorization)]);
        assert_eq!(answer.map(|answer| answer.code()).as_deref(), Some("body_too_long"), "{path}");
        assert!(sent < 16 << 20, "{path}: it went on reading for {sent} bytes");
        // Whoever is nobody is not listened to for so long.
        assert_eq!(promised(&house.private, &path, &[]).status, 401, "{path}");
        let (answer, sent) = endless(&house.private, &path, &[]);
        assert!(answer.is_none_or(|answer| answer.status == 401), "{path}");
        assert!(sent < 16 << 20, "{path}: {sent}");
    }
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for (address, path) in [&house.private, &house.public]
        .into_iter()
        .flat_map(|to| [(to, "/oauth/start"), (to, "/oauth/callback")])
    {
        let of = |length: usize| {
            let body = format!("x={}", "a".repeat(length - 2));
            ask(address, &request("POST", path, &[form], &body))
        };
        assert_eq!(of(LONGEST_FORM).status, 400, "{path}");
        for answer in [of(LONGEST_FORM + 1), promised(address, path, &[form])] {
            assert_eq!(answer.status, 413, "{path}");
            answer.is_a_protected_page();
        }
        let (answer, sent) = endless(address, path, &[form]);
        assert_eq!(answer.map(|answer| answer.status), Some(413), "{path}");
        assert!(sent < 16 << 20, "{path}: {sent}");
    }
    // Where no body is wanted, none is waited for.
    for (path, status) in
        [("/livez", 405), ("/v1/installations", 405), ("/nowhere", 404), ("/oauth/links", 201)]
    {
        let answer = promised(&house.private, path, &[("Authorization", &authorization)]);
        assert_eq!(answer.status, status, "{path}");
    }
    let grown = house.resident().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");
    house.end();
}

/// What is answered to a body of which little comes and much was promised.
fn promised(address: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let began = Instant::now();
    let mut wire = Wire::to(address);
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {TEN_GIBIBYTES}\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.send(format!("{head}\r\n{{\"generation\"").as_bytes()).expect("taken");
    let answer = wire.answer(false).expect("an answer");
    assert!(began.elapsed() < AT_ONCE, "{path}: {:?}", began.elapsed());
    assert!(wire.is_over_within(AT_ONCE), "{path}: the rest is not waited for");
    answer
}

/// What is answered to chunks without an end, and how many bytes of them were taken.
fn endless(address: &str, path: &str, headers: &[(&str, &str)]) -> (Option<Answer>, usize) {
    let mut wire = Wire::to(address);
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    wire.send(format!("{head}\r\n").as_bytes()).expect("taken");
    let chunk = format!("1000;a=b\r\n{}\r\n", "a".repeat(4096));
    let mut sent = 0;
    while sent < 64 << 20 && wire.stream.write_all(chunk.as_bytes()).is_ok() {
        sent += chunk.len();
    }
    (wire.answer(false), sent)
}

#[test]
fn what_is_not_quite_the_json_that_is_wanted_is_refused_quickly() {
    let house = House::new();
    let key = house.key(&Verb::ALL, tokens::records::Reach::All);
    house.until_known(&key);
    let path = format!("{}/refused", house.token_path());
    let before = house.resident();
    let generation = |value: &str| format!(r#"{{"generation":{value}}}"#);
    let mut bad: Vec<String> = [
        "",
        " ",
        "null",
        "true",
        "1",
        "\"\"",
        "[]",
        "[1]",
        "[[1]]",
        "{",
        "}",
        "{}",
        "{]",
        "{{}}",
        "{\"generation\"}",
        "{\"generation\":}",
        "{\"generation\":1,}",
        "{,\"generation\":1}",
        "{\"generation\":1}}",
        "{\"generation\":1} x",
        "{\"generation\":1}{\"generation\":1}",
        "{generation:1}",
        "{'generation':1}",
        "{\"generation\":1}//",
        "/**/{\"generation\":1}",
        "\u{feff}{\"generation\":1}",
        "\u{a0}{\"generation\":1}",
        "{\"generation\":1}\0",
        "{\"Generation\":1}",
        "{\"generation\":1,\"generation\":1}",
        "{\"generation\":1,\"generation\":2}",
        "{\"generation\":1,\"\\u0067eneration\":1}",
        "{\"generation\":1,\"x\":1}",
        "{\"generation\":1,\"__proto__\":{}}",
        "{\"generation\":1,\"\":1}",
        "{\"generation\":1,\"\\ud800\":1}",
        "{\"\\udc00\\ud800\":1}",
        "generation=1",
    ]
    .map(String::from)
    .into();
    for value in [
        "-1",
        "1.5",
        "1e999",
        "-1e999",
        "18446744073709551616",
        "99999999999999999999999",
        "01",
        "+1",
        "0x1",
        "1_000",
        "NaN",
        "Infinity",
        "\"1\"",
        "\"\\ud800\"",
        "\"\\udfff\"",
        "\"\\ud800\\ud800\"",
        "\"\\u12\"",
        "\"\\x41\"",
        "\"\u{1}\"",
        "[1]",
        "{}",
        "null",
        "true",
        "",
        " ",
    ] {
        bad.push(generation(value));
    }
    let most = LONGEST_JSON - 100;
    bad.extend([
        generation(&"9".repeat(most)),
        generation(&format!("1e{}", "9".repeat(most))),
        generation(&format!("1.{}", "1".repeat(most))),
        generation(&format!("\"{}\"", "a".repeat(most))),
        generation(&format!("\"{}\"", "\\ud800".repeat(most / 6))),
        "[".repeat(most),
        "{\"generation\":".repeat(most / 15),
        format!("{}{}", "{\"a\":".repeat(most / 12), "}".repeat(most / 12)),
        generation(&format!("{}{}", "[".repeat(most / 2), "]".repeat(most / 2))),
        generation(&format!("{}{}", "{\"a\":".repeat(most / 8), "[".repeat(most / 8))),
        format!("{{\"generation\":1{}}}", ",\"generation\":1".repeat(most / 15)),
        format!(
            "{{{}\"generation\":1}}",
            (0..6000).map(|number| format!("\"{number}\":1,")).collect::<String>()
        ),
        format!("{{{}}}", "\"\":0,".repeat(most / 6)),
        "{\"generation\":1\u{0}".repeat(3000),
        "\n".repeat(most),
    ]);
    let began = Instant::now();
    for body in &bad {
        let answer = house.ask("POST", &path, &key, body);
        let what = body.chars().take(60).collect::<String>();
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_body"), "{what}: {}", answer.body);
    }
    // To JSON these are whole numbers: an old generation, so that the token of now is the answer.
    for whole in ["0", "-0", "0.0", "0e9", "1e-999"] {
        let answer = house.ask("POST", &path, &key, &generation(whole));
        assert_eq!(answer.status, 200, "{whole}: {}", answer.body);
    }
    // Bytes that are no text.
    for odd in
        [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"{\"generation\":\"\xff\"}", b"{\"\xf8generation\":1}"]
    {
        let mut bytes = request("POST", &path, &[("Authorization", &bearer(&key)), ("X-Length", "")], "");
        let head = String::from_utf8(bytes).expect("text");
        bytes = head.replace("Content-Length: 0", &format!("Content-Length: {}", odd.len())).into_bytes();
        bytes.extend(odd);
        assert_eq!(ask(&house.private, &bytes).code(), "bad_body");
    }
    let each = began.elapsed() / u32::try_from(bad.len()).expect("few");
    assert!(each < Duration::from_millis(50), "{each:?} for each of {}", bad.len());

    // What is deeper and wider than the limit lets through ends there.
    for body in ["[".repeat(100_000), format!("{{{}}}", "\"k\":1,".repeat(1_000_000))] {
        let mut wire = Wire::to(&house.private);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        wire.send(head.as_bytes()).expect("taken");
        // It may be ended while we speak.
        wire.send(body.as_bytes()).ok();
        assert_eq!(wire.answer(false).map(|answer| answer.status), Some(413));
    }
    let grown = house.resident().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB");

    // The other routes read in the same way.
    let location = house.home.location();
    for (path, body) in [
        ("/v1/checks", format!(r#"["location","{location}"]"#)),
        ("/v1/checks", format!(r#"{{"kind":"location","id":"{location}","id":"{location}"}}"#)),
        ("/v1/checks", format!(r#"{{"kind":"location","id":"{location}","trigger":"clock"}}"#)),
        ("/v1/checks", r#"{"kind":"location","id":"\u0000"}"#.into()),
        ("/v1/checks", r#"{"kind":"location\u0000","id":"a"}"#.into()),
        ("/v1/checks", r#"{"kind":"location","id":["a"]}"#.into()),
        ("/v1/maintenances", "[60]".into()),
        ("/v1/maintenances", r#"[60,"reason"]"#.into()),
        ("/v1/maintenances", r#"{"seconds":60,"seconds":1}"#.into()),
        ("/v1/maintenances", r#"{"seconds":60,"until":"2099-01-01"}"#.into()),
        ("/v1/maintenances", r#"{"seconds":0}"#.into()),
        ("/v1/maintenances", r#"{"seconds":18446744073709551615}"#.into()),
        ("/v1/maintenances", r#"{"reason":"for ever and of everything"}"#.into()),
        ("/v1/maintenances", r#"{"seconds":null,"kind":"location","id":"a"}"#.into()),
        ("/v1/maintenances", r#"{"seconds":60,"kind":"location"}"#.into()),
        ("/v1/maintenances", r#"{"seconds":60,"kind":"service","id":"a"}"#.into()),
        ("/v1/maintenances", r#"{"seconds":60,"reason":"\ud800"}"#.into()),
        ("/v1/maintenances", format!(r#"{{"seconds":60,"reason":"{}"}}"#, "a".repeat(501))),
    ] {
        let answer = house.ask("POST", path, &key, &body);
        assert_eq!(answer.status, 400, "{path}: {body}: {}", answer.body);
        assert!(["bad_body", "bad_id"].contains(&answer.code().as_str()), "{}", answer.body);
    }
    let list = house.get("/v1/maintenances", &key);
    assert_eq!(list.body, r#"{"maintenances":[]}"#);
    house.end();
}
