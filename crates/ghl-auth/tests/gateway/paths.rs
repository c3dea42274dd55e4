//! Targets under attack: what is checked is what is sent, and no way leads around an allow-list.

use std::collections::BTreeSet;

use crate::attack::{Siege, bearer, raw, request, times};
use crate::caller::Way;

/// Dots as someone may read them.
const DOTS: [&str; 14] = [
    ".",
    "%2e",
    "%2E",
    "%252e",
    "%25252e",
    "%c0%ae",
    "%C0%2E",
    "%e0%80%ae",
    "%u002e",
    "%uff0e",
    "%ef%bc%8e",
    "%e2%80%a4",
    ".%00",
    "%ff0e",
];

/// Slashes as someone may read them.
const SLASHES: [&str; 24] = [
    "/",
    "%2f",
    "%2F",
    "%252f",
    "%25252f",
    "\\",
    "%5c",
    "%255c",
    "%c0%af",
    "%C0%5C",
    "%e0%80%af",
    "%c1%9c",
    "%ef%bc%8f",
    "%e2%88%95",
    "%u2215",
    "%u002f",
    "//",
    "/./",
    ";/",
    ";x=1/",
    "%3b/",
    "%00/",
    "%0a/",
    "%20/",
];

/// Paths that may lead elsewhere, `U` for the way up and `/` for a slash, whichever they are.
const SHAPES: [&str; 8] = [
    "/contacts/Uusers",
    "/contacts/U/users",
    "/contacts/a/U/U/users",
    "/contacts/aU",
    "/contacts/U",
    "/U/contacts/a",
    "/contacts/U/U/U/oauth/token",
    "/users/U/contacts/a",
];

/// Some that need no table.
const BY_HAND: [&str; 44] = [
    "/contacts",
    "/contacts/",
    "/contacts//a",
    "//contacts/a",
    "/contacts/a/",
    "/contacts/a/b",
    "/contacts/a//",
    "/contacts/..",
    "/contacts/../users",
    "/contacts/.",
    "/contacts/./a",
    "/contacts/...",
    "/contacts/..;/users",
    "/contacts/a;/../users",
    "/contacts;/a",
    "/contacts/a;x=/users",
    "/contacts/%2e%2e",
    "/contacts/%2e%2e%2fusers",
    "/contacts/..%2fusers",
    "/contacts/..%5cusers",
    "/contacts/..\\users",
    "/contacts\\..\\users",
    "/contacts/%00",
    "/contacts/a%00/../users",
    "/contacts/a%0d%0aX-A:%20b",
    "/contacts/a%20HTTP/1.1",
    "/contacts/a%23",
    "/contacts/a%3f",
    "/contacts/a%3f/../users",
    "/contacts/%",
    "/contacts/%2",
    "/contacts/%zz",
    "/contacts/%u0041",
    "/contacts/%e9",
    "/contacts/%c3%a9",
    "/CONTACTS/a",
    "/contacts/%61",
    "/%63ontacts/a",
    "/contacts/a:b",
    "/contacts/a@evil.example",
    "/@evil.example/contacts/a",
    "/contacts/~",
    "/contacts/%7e",
    "/.contacts/a",
];

/// Whether someone may take a path for another than that of one contact, by whichever ways of reading it.
/// It shares nothing with the service's own judgement.
fn may_lead_elsewhere(path: &str) -> bool {
    let mut readings = BTreeSet::from([path.as_bytes().to_vec()]);
    for _ in 0..4 {
        let more: Vec<Vec<u8>> = readings.iter().flat_map(|one| [decoded(one), alike(one)]).collect();
        readings.extend(more);
    }
    readings.iter().any(|reading| {
        [false, true].into_iter().any(|cuts| {
            let Some(parts) = resolved(reading, cuts) else { return true };
            !matches!(parts.as_slice(), [first, id] if first == b"contacts" && !id.is_empty())
        })
    })
}

/// Escapes once taken for what they stand for, those with a `u`, too.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut rest = bytes;
    let number = |digits: Option<&[u8]>| {
        let text = std::str::from_utf8(digits?).ok()?;
        u32::from_str_radix(text, 16).ok()
    };
    while let Some((first, more)) = rest.split_first() {
        let (wide, narrow) = (number(rest.get(2..6)), number(rest.get(1..3)));
        match (first, rest.get(1), wide, narrow) {
            (b'%', Some(b'u' | b'U'), Some(wide), _) => {
                let c = char::from_u32(wide).unwrap_or('?');
                all.extend_from_slice(c.to_string().as_bytes());
                rest = &rest[6..];
            }
            (b'%', _, _, Some(narrow)) => {
                all.push(u8::try_from(narrow).unwrap_or(b'?'));
                rest = &rest[3..];
            }
            _ => {
                all.push(*first);
                rest = more;
            }
        }
    }
    all
}

/// What looks like a dot or a slash taken for one, and what is written longer than needed.
fn alike(bytes: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = bytes.to_vec();
    let table: [(&[u8], &[u8]); 11] = [
        (b"\xc0\xae", b"."),
        (b"\xe0\x80\xae", b"."),
        (b"\xc0\x2e", b"."),
        ("\u{ff0e}".as_bytes(), b"."),
        ("\u{2024}".as_bytes(), b"."),
        (b"\xc0\xaf", b"/"),
        (b"\xe0\x80\xaf", b"/"),
        (b"\xc1\x9c", b"/"),
        ("\u{ff0f}".as_bytes(), b"/"),
        ("\u{2215}".as_bytes(), b"/"),
        (b"\\", b"/"),
    ];
    for (long, short) in table {
        while let Some(at) = text.windows(long.len()).position(|part| part == long) {
            text.splice(at..at + long.len(), short.iter().copied());
        }
    }
    text
}

/// The parts of a path when all ways up were gone. None where it is no path, or may be cut short.
fn resolved(bytes: &[u8], cuts: bool) -> Option<Vec<Vec<u8>>> {
    if bytes.iter().any(|c| *c < 0x21 || matches!(c, b'?' | b'#' | 0x7f)) {
        return None;
    }
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for part in bytes.strip_prefix(b"/")?.split(|c| *c == b'/') {
        let part = if cuts { part.split(|c| *c == b';').next().unwrap_or_default() } else { part };
        match part {
            b".." => {
                parts.pop()?;
            }
            b"." | b"" => {}
            other => parts.push(other.to_vec()),
        }
    }
    Some(parts)
}

#[test]
fn the_judge_of_paths_knows_a_way_out_when_it_sees_one() {
    for good in ["/contacts/abc", "/contacts/a:b", "/contacts/%61", "/contacts/...", "/contacts/%c3%a9"] {
        assert!(!may_lead_elsewhere(good), "{good}");
    }
    for bad in [
        "/contacts/..",
        "/contacts/a/b",
        "/contacts/%2e%2e",
        "/contacts/%252e%252e%252fusers",
        "/contacts/a%5c..",
        "/contacts/%c0%ae%c0%ae",
        "/contacts/..;",
        "/users/a",
        "/contacts/a%u2215b",
        "/contacts/a%ef%bc%8fb",
        "/contacts/a%00",
    ] {
        assert!(may_lead_elsewhere(bad), "{bad}");
    }
}

#[test]
fn no_path_leads_around_an_allow_list_and_what_was_checked_is_what_is_sent() {
    let most = times("GHL_AUTH_PATHS", 2000);
    let siege = Siege::new();
    let key = bearer(&siege.key_for(&["GET /contacts/*"]));
    let mut paths: BTreeSet<String> = BY_HAND.iter().map(|path| (*path).to_owned()).collect();
    let mut all = Vec::new();
    for shape in SHAPES {
        for first in DOTS {
            for second in DOTS {
                for slash in SLASHES {
                    let tail = shape["/contacts".len().min(shape.len())..].to_owned();
                    let head = &shape[..shape.len() - tail.len()];
                    let tail = tail.replace("/", "\u{1}").replace('U', &format!("{first}{second}"));
                    // The first slash of all stays one, so that it is a path.
                    all.push(format!("{head}{}", tail.replacen('\u{1}', "/", 1).replace('\u{1}', slash)));
                }
            }
        }
    }
    // A step that shares nothing with the table's sizes takes some of each.
    let (count, step) = (all.len(), 7919);
    let some = (1..=count).map(|number| all[number * step % count].clone());
    for path in some {
        if paths.len() >= most {
            break;
        }
        paths.insert(path);
    }
    let (mut wires, mut sent) = ([siege.wire(), siege.wire()], 0);
    for path in &paths {
        for (way, wire) in Way::BOTH.into_iter().zip(&mut wires) {
            let got = wire.ask(&request(way, "GET", path, &[&key], b""));
            let status = got.as_ref().map(|got| got.status);
            let arrived = siege.arrived();
            match arrived.as_slice() {
                [] => {
                    let is_refused = matches!(status, None | Some(400 | 403 | 404));
                    assert!(is_refused, "{way:?} {path}: {got:?}");
                }
                [one] => {
                    sent += 1;
                    assert_eq!((&one.target, status), (path, Some(200)), "{way:?}: not what was asked");
                    assert!(!may_lead_elsewhere(path), "{way:?}: {path} leaves the allow-list");
                }
                several => panic!("{way:?} {path}: {several:?}"),
            }
        }
    }
    assert!(sent > 0, "some are good");
    siege.end();
}

#[test]
fn targets_that_are_no_paths_are_refused_and_no_request_is_told_back() {
    let siege = Siege::new();
    let key = siege.bearer();
    let mut targets: Vec<(&str, String)> = Vec::new();
    for method in ["GET", "POST", "OPTIONS", "DELETE"] {
        let mut add = |target: &str| targets.push((method, target.to_owned()));
        for authority in ["localhost", "127.0.0.1", "evil.example", "services.leadconnectorhq.com"] {
            for scheme in ["http", "https", "ftp", "HTTP"] {
                add(&format!("{scheme}://{authority}/gateway/contacts/x"));
            }
            add(&format!("//{authority}/gateway/contacts/x"));
            add(&format!("{authority}:80"));
            add(&format!("/gateway//{authority}/contacts/x"));
            add(&format!("/gateway@{authority}/contacts/x"));
            add(&format!("/gateway:80@{authority}/contacts/x"));
            add(&format!("/gateway.{authority}/contacts/x"));
        }
        for target in [
            "*",
            "/gateway*",
            "/gateway;x/contacts/x",
            "/gateway/contacts;x/x",
            "/gateway/contacts/x;",
            "/gateway%2fcontacts/x",
            "/gateway\\contacts\\x",
            "/gateway/../gateway/contacts/x",
            "/gateway/..",
            "/Gateway/contacts/x",
            "/GATEWAY/contacts/x",
            "/gateway#/contacts/x",
            "/gateway%23/contacts/x",
            "/gateway/contacts/%23x",
            "/gateway/contacts/x%3f",
            "gateway/contacts/x",
            "?/gateway/contacts/x",
            "#/gateway/contacts/x",
            "/gateway/contacts/x\u{e9}",
            "/gateway/contacts/x\u{7f}",
            "/gateway/contacts/<x>",
            "/gateway/contacts/\"x\"",
        ] {
            add(target);
        }
    }
    assert!(targets.len() >= 200, "{}", targets.len());
    for (number, (method, target)) in targets.iter().enumerate() {
        let bytes = raw(Way::BOTH[number % 2], method, target, &[&key], b"");
        let got = crate::attack::ask(&siege.house.private, &bytes);
        let status = got.as_ref().map(|got| got.status);
        assert!(matches!(status, None | Some(400 | 401 | 404 | 405 | 421)), "{method} {target}: {got:?}");
        let arrived = siege.arrived();
        assert!(arrived.is_empty(), "{method} {target}: {arrived:?}");
    }
    for target in ["/gateway/contacts/x", "localhost:80", "*", "/gateway", "http://localhost/gateway/x"] {
        for method in ["TRACE", "CONNECT"] {
            let told = "X-Told-Back: told-back";
            let got = crate::attack::ask(
                &siege.house.private,
                &raw(Way::Plain, method, target, &[&key, told], b""),
            );
            let got = got.expect("an answer");
            assert!(matches!(got.status, 400 | 405), "{method} {target}: {}", got.head);
            let back = format!("{}{}", got.head, String::from_utf8_lossy(&got.body));
            assert!(!back.contains("told-back"), "{back}");
        }
    }
    assert!(siege.arrived().is_empty());
    siege.end();
}

#[test]
fn what_stands_behind_a_hash_is_never_sent() {
    let siege = Siege::new();
    let key = siege.bearer();
    for target in ["/contacts/x#y", "/contacts/x?a=b#c", "/contacts/x#?/../users", "/contacts/x#/../users"] {
        for way in Way::BOTH {
            let got = crate::attack::ask(&siege.house.private, &request(way, "GET", target, &[&key], b""));
            let status = got.expect("an answer").status;
            let arrived = siege.arrived();
            match arrived.first() {
                None => assert_eq!(status, 400, "{way:?} {target}"),
                Some(one) => {
                    let before = target.split('#').next().unwrap_or_default();
                    assert_eq!((one.target.as_str(), status), (before, 200), "{way:?} {target}");
                }
            }
        }
    }
    siege.end();
}

#[test]
fn an_allow_list_looks_at_the_path_and_not_at_what_is_asked_of_it() {
    let siege = Siege::new();
    let key = bearer(&siege.key_for(&["GET /contacts/*", "POST /contacts/*/tags"]));
    let mut wire = siege.wire();
    let queries = [
        "/contacts/x",
        "path=/contacts/x",
        "../contacts/x",
        "/../contacts/x",
        "a=b/contacts/x",
        "%2fcontacts%2fx",
        "url=http://localhost/contacts/x",
        "x=/users/&y=/contacts/",
        "method=GET",
        "_method=GET",
        "a?b?/contacts/x",
        "a=%2e%2e%2f",
        "..",
        "/",
        "",
        "x=1;y=2",
        "*",
        "GET%20/contacts/x",
    ];
    let cases = [
        ("GET", "/contacts/x", true),
        ("GET", "/users/x", false),
        ("DELETE", "/contacts/x", false),
        ("POST", "/contacts/x/tags", true),
        ("GET", "/contacts/x/tags", false),
        ("GET", "/contacts/", false),
    ];
    for (method, path, is_allowed) in cases {
        for (number, query) in queries.iter().enumerate() {
            let target = format!("{path}?{query}");
            let way = Way::BOTH[number % 2];
            let got = wire.ask(&request(way, method, &target, &[&key], b"")).expect("an answer");
            let arrived = siege.arrived();
            match is_allowed {
                true => {
                    assert_eq!((got.status, arrived.len()), (200, 1), "{method} {target}");
                    assert_eq!(arrived[0].target, target);
                }
                false => {
                    assert_eq!((got.status, got.code().as_str()), (403, "not_allowed"), "{method} {target}");
                    assert!(arrived.is_empty(), "{method} {target}: {arrived:?}");
                }
            }
        }
    }
    siege.end();
}
