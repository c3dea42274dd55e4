//! Requests in odd forms: what can be said of where a request comes from, of what it is about and of
//! who sends it, in every way that some server has once believed.

use crate::house::{House, company, these};
use crate::wire::{Answer, Wire, ask_all, ask_or_be_left, bearer, request};
use tokens::records::Verb;

/// Headers by which proxies tell where a request came from and where it was to go.
const FORWARDED: [&str; 44] = [
    "Forwarded",
    "X-Forwarded",
    "X-Forwarded-By",
    "X-Forwarded-For",
    "X-Forwarded-For-Original",
    "X-Forwarded-Host",
    "X-Forwarded-Method",
    "X-Forwarded-Path",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Forwarded-Protocol",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Access-Token",
    "X-Forwarder-For",
    "X-Original-Host",
    "X-Original-Method",
    "X-Original-Remote-Addr",
    "X-Original-URI",
    "X-Original-Url",
    "X-Rewrite-Url",
    "X-HTTP-DestinationURL",
    "X-HTTP-Host-Override",
    "X-HTTP-Method",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Host",
    "X-Real-IP",
    "X-Remote-Addr",
    "X-Remote-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Custom-IP-Authorization",
    "X-Originating-IP",
    "X-ProxyUser-Ip",
    "True-Client-IP",
    "CF-Connecting-IP",
    "Client-IP",
];

#[test]
fn what_a_request_says_of_its_own_way_changes_no_decision() {
    let house = House::new();
    house.until_checked();
    let key = house.key(&[Verb::Token], these([house.location()]));
    house.until_known(&key);
    let path = house.token_path();
    assert_eq!(house.get(&path, &key).status, 200);
    let values: Vec<String> = [
        "127.0.0.1",
        "::1",
        "[::1]",
        "localhost",
        "localhost:80",
        "0.0.0.0",
        "10.0.0.1",
        "8.8.8.8",
        "127.0.0.1, 8.8.8.8",
        "8.8.8.8, 127.0.0.1",
        "unknown",
        "evil.example",
        "http://evil.example/",
        "https",
        "http",
        "443",
        "/livez",
        "/oauth/callback",
        "/metrics",
        "/v1/installations",
        "//evil.example",
        "for=127.0.0.1;host=localhost;proto=https",
        "for=\"[::1]\"",
        "GET",
        "DELETE",
        "TRACE",
        "admin",
        "*",
        "on",
        path.as_str(),
    ]
    .map(String::from)
    .into();
    assert_eq!(values.len(), 30);
    let authorization = bearer(&key);
    let location = house.home.location();
    // The decisions that something might turn round: without a key, with one, with one for someone
    // else, for a verb that it has not, and by a name that is not ours.
    let private = |headers: &[(&str, &str)]| {
        let with = |more: &[(&'static str, &str)], method: &str, path: &str| {
            let all: Vec<(&str, &str)> = headers.iter().copied().chain(more.iter().copied()).collect();
            request(method, path, &all, "")
        };
        let key = [("Authorization", authorization.as_str())];
        let mut foreign = b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n".to_vec();
        foreign.extend(headers.iter().flat_map(|(name, value)| format!("{name}: {value}\r\n").into_bytes()));
        foreign.extend(b"\r\n");
        vec![
            with(&[], "GET", &path),
            with(&key, "GET", &path),
            with(&key, "GET", "/v1/locations/elsewhere/token"),
            with(&key, "DELETE", &format!("/v1/installations/location/{location}")),
            with(&[], "GET", "/nowhere"),
            foreign,
        ]
    };
    let public = |headers: &[(&str, &str)]| {
        let public = ["/livez", "/metrics", "/readyz", "/v1/installations", path.as_str()];
        public.into_iter().map(|path| request("GET", path, headers, "")).collect::<Vec<_>>()
    };
    let decisions =
        |answers: &[Answer]| answers.iter().map(|answer| (answer.status, answer.code())).collect::<Vec<_>>();
    let plain = decisions(&ask_all(&house.private, &private(&[])));
    let statuses: Vec<u16> = plain.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [401, 200, 403, 403, 404, 421]);
    let plain_public = decisions(&ask_all(&house.public, &public(&[])));
    let statuses: Vec<u16> = plain_public.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200, 404, 404, 404, 404]);
    for name in FORWARDED {
        for (address, requests, plain) in [
            (&house.private, &private as &dyn Fn(&[(&str, &str)]) -> Vec<Vec<u8>>, &plain),
            (&house.public, &public, &plain_public),
        ] {
            let all: Vec<Vec<u8>> = values.iter().flat_map(|value| requests(&[(name, value)])).collect();
            for (value, answers) in values.iter().zip(ask_all(address, &all).chunks(plain.len())) {
                assert_eq!(decisions(answers), *plain, "{name}: {value}");
                for answer in answers {
                    assert!(
                        !answer.head.contains("evil") && !answer.body.contains("evil"),
                        "{}",
                        answer.body
                    );
                }
            }
        }
    }
    house.end();
}

/// Targets that are no plain path, or only nearly one of ours; `{}` is a route that needs a key.
fn targets() -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let routes = ["/v1/installations", "/metrics", "/v1/locations/{id}/token", "/v1/parked"];
    for route in routes {
        let bare = &route[1..];
        all.extend([
            format!("/livez#{route}"),
            format!("/livez%23{route}"),
            format!("/livez;{route}"),
            format!("/livez/..{route}"),
            format!("/livez/%2e%2e{route}"),
            format!("/livez/%2e%2e%2f{bare}"),
            format!("/livez%2f..{route}"),
            format!("/livez/.;{route}"),
            format!("/livez/..;{route}"),
            format!("/oauth/callback/..{route}"),
            format!("/oauth/callback/../..{route}"),
            format!("/oauth/callback%2f..%2f..{route}"),
            format!("/oauth/start;/..{route}"),
            format!("/{route}"),
            format!("//{route}"),
            format!("/.{route}"),
            format!("/./{bare}"),
            format!("/%2e{route}"),
            format!("/%2f{bare}"),
            format!("/\\{bare}"),
            format!("\\{bare}"),
            format!("/%5c{bare}"),
            format!("{route}/"),
            format!("{route}//"),
            format!("{route}/."),
            format!("{route}/..;/"),
            format!("{route}%00"),
            format!("{route}%20"),
            format!("{route}%0a"),
            format!("{route};"),
            format!("{route};a=b"),
            format!("{route}%3f"),
            format!("{route}%23"),
            format!("{route}.json"),
            format!("{route}%2f"),
            route.to_ascii_uppercase(),
            route.replacen('v', "V", 1).replacen('m', "M", 1),
            format!("/%{:02x}{}", bare.as_bytes()[0], &bare[1..]),
            format!("http://localhost{route}"),
            format!("http://127.0.0.1{route}"),
            format!("https://localhost{route}"),
            format!("http://evil.example{route}"),
            format!("ftp://localhost{route}"),
            format!("file://{route}"),
            format!("localhost{route}"),
            format!("@localhost{route}"),
            format!("user:pass@localhost{route}"),
            format!(":80{route}"),
            bare.to_owned(),
            format!("?{route}"),
            format!("#{route}"),
        ]);
    }
    all.extend(
        [
            "*",
            "localhost:80",
            "localhost",
            "127.0.0.1:443",
            "[::1]:80",
            "http://",
            "http:///livez",
            "//",
            "",
            "%",
        ]
        .map(String::from),
    );
    all
}

#[test]
fn a_target_that_is_no_plain_path_of_ours_leads_nowhere() {
    let house = House::new();
    let key = house.master_key();
    let location = house.home.location();
    let authorization = bearer(&key);
    let targets = targets();
    assert!(targets.len() >= 200, "{}", targets.len());
    for target in &targets {
        let target = target.replace("{id}", location);
        for (address, method) in [
            (&house.public, "GET"),
            (&house.private, "GET"),
            (&house.private, "OPTIONS"),
            (&house.private, "CONNECT"),
            (&house.private, "TRACE"),
        ] {
            let echo = "X-Echo: hear-me";
            let bytes = format!(
                "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n{echo}\r\n\r\n"
            );
            // Some are so odd that the engine ends the connection with or without a word.
            let Some(answer) = ask_or_be_left(address, bytes.as_bytes()) else { continue };
            let what = format!("{method} {target}");
            // What is not decoded is a path of one name; a `#` ends it, as it does in a browser.
            let is_livez = target.starts_with("/livez#") || target.starts_with("/livez?");
            match (method, is_livez) {
                ("GET", true) => {
                    assert!([200, 400, 404].contains(&answer.status), "{what}: {}", answer.status)
                }
                _ => assert!(
                    [400, 403, 404, 405].contains(&answer.status),
                    "{what}: {} {}",
                    answer.status,
                    answer.body
                ),
            }
            for inside in ["hear-me", location, "eyJ", "tokens_from_memory", key.as_str()] {
                assert!(!answer.body.contains(inside), "{what} shows `{inside}`: {}", answer.body);
            }
        }
    }
    // The same paths in their plain form are there.
    assert_eq!(house.get("/v1/installations", &key).status, 200);
    house.end();
}

/// Lines that nearly say who asks. `true` for the few that do.
fn authorizations(key: &str) -> Vec<(Vec<u8>, bool)> {
    let mut all: Vec<(Vec<u8>, bool)> = Vec::new();
    let mut add = |line: Vec<u8>, good| all.push((line, good));
    for (line, good) in [
        (format!("Authorization: Bearer {key}"), true),
        (format!("authorization: bearer {key}"), true),
        (format!("AUTHORIZATION:BEARER {key}"), true),
        (format!("aUtHoRiZaTiOn: \t BeArEr {key} \t"), true),
        (format!("Authorization : Bearer {key}"), false),
        (format!("Authorization\t: Bearer {key}"), false),
        (format!(" Authorization: Bearer {key}"), false),
        (format!("\tAuthorization: Bearer {key}"), false),
        (format!("Authorization:: Bearer {key}"), false),
        (format!("Authorization;: Bearer {key}"), false),
        (format!("Authorization Bearer {key}"), false),
        (format!("Authorization= Bearer {key}"), false),
        (format!("Authorization: Bearer\r\n {key}"), false),
        (format!("Authorization:\r\n Bearer {key}"), false),
        (format!("Authorization: Bearer {}\r\n\t{}", &key[..20], &key[20..]), false),
        (format!("Authorization: Bearer{key}"), false),
        (format!("Authorization: Bearer  {key}"), false),
        (format!("Authorization: Bearer\t{key}"), false),
        (format!("Authorization: {key}"), false),
        (format!("Authorization: Basic {key}"), false),
        (format!("Authorization: Token {key}"), false),
        (format!("Authorization: \"Bearer {key}\""), false),
        (format!("Authorization: Bearer \"{key}\""), false),
        (format!("Authorization: Bearer <{key}>"), false),
        (format!("Authorization: Bearer={key}"), false),
        (format!("Authorization: Bearer token={key}"), false),
        (format!("Authorization: Bearer {key}, Bearer {key}"), false),
        (format!("Authorization: Basic YTpi, Bearer {key}"), false),
        (format!("Authorization: Bearer {key} {key}"), false),
        (format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}"), false),
        (format!("Authorization: Bearer {key}\r\nauthorization: Basic YTpi"), false),
        (format!("Authorization: Basic YTpi\r\nAuthorization: Bearer {key}"), false),
        (format!("Authorization:\r\nAuthorization: Bearer {key}"), false),
        (format!("Authorization: Bearer {}", key.to_ascii_lowercase()), false),
        (format!("Authorization: Bearer {}", key.to_ascii_uppercase()), false),
        (format!("Authorization: Bearer {}", &key[..key.len() - 1]), false),
        (format!("Authorization: Bearer {}", &key[1..]), false),
        (format!("Authorization: Bearer {key}{key}"), false),
        (format!("Authorization: Bearer {key}="), false),
        ("Authorization:".into(), false),
        ("Authorization: Bearer".into(), false),
        ("Authorization: Bearer ".into(), false),
        ("Authorization: Bearer null".into(), false),
        ("Authorization: Bearer undefined".into(), false),
        ("Authorization: Bearer ghlk_".into(), false),
        ("Authorization: Bearer true".into(), false),
    ] {
        add(line.into_bytes(), good);
    }
    for other in [
        "Proxy-Authorization",
        "X-Authorization",
        "Authorization-Key",
        "X-Api-Key",
        "Api-Key",
        "ApiKey",
        "X-Auth",
        "X-Auth-Token",
        "X-Access-Token",
        "Access-Token",
        "Token",
        "Key",
        "Auth",
        "Authentication",
        "Authorisation",
        "WWW-Authenticate",
        "HTTP_AUTHORIZATION",
        "Http-Authorization",
        "Redirect-Authorization",
        "X-Forwarded-Authorization",
        "X-Original-Authorization",
        "Author\u{131}zation",
        "Authorization\u{200b}",
        "Authorizati0n",
        "Authorization_",
        "_Authorization",
        "Authori_zation",
        "Sec-WebSocket-Protocol",
        "Date",
        "Bearer",
    ] {
        add(format!("{other}: Bearer {key}").into_bytes(), false);
        add(format!("{other}: {key}").into_bytes(), false);
    }
    // Any byte at any of the places where a parser may look away.
    for byte in (0..=0x20_u8).chain(0x7f..=0xff) {
        // Blanks around a value are none of it; a line may end with a bare line feed.
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        let with = |parts: [&str; 2]| [parts[0].as_bytes(), &[byte], parts[1].as_bytes()].concat();
        let line = format!("Authorization: Bearer {key}");
        add(with(["Authorization", &line[13..]]), false);
        add(with(["Author", &line[6..]]), false);
        if !blank {
            add(with([&line[..14], &line[14..]]), false);
            add(with([&line, ""]), false);
            add(with([&line[..21], &line[21..]]), false);
            add(with([&line[..60], &line[60..]]), false);
        }
    }
    all
}

#[test]
fn only_one_plain_header_says_who_asks() {
    let house = House::new();
    let key = house.master_key();
    let path = house.token_path();
    let lines = authorizations(&key);
    assert!(lines.len() >= 500, "{}", lines.len());
    for warm in [false, true] {
        if warm {
            assert_eq!(house.get(&path, &key).status, 200);
        }
        // A query keeps an answer from coming from memory.
        let target = if warm { path.clone() } else { format!("{path}?minimum_life=1") };
        for (line, good) in &lines {
            let mut bytes = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
            bytes.extend(line);
            bytes.extend(b"\r\n\r\n");
            let answer = ask_or_be_left(&house.private, &bytes);
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            let what = String::from_utf8_lossy(line).escape_debug().to_string();
            match good {
                true => assert_eq!(status, 200, "{what}"),
                false => assert!([0, 400, 401, 429].contains(&status), "{status}: {what}"),
            }
            assert!(*good || answer.is_none_or(|answer| !answer.body.contains("eyJ")), "{what}");
        }
    }
    house.end();
}

/// Names by which someone else's page may have us called, and what is nearly a name of ours.
fn foreign_hosts() -> Vec<String> {
    let mut all: Vec<String> = [
        "evil.example",
        "attacker.test",
        "rebind.network",
        "a.b.c.d.e",
        "localtest.me",
        "lvh.me",
        "vcap.me",
        "127.0.0.1.nip.io",
        "127.0.0.1.sslip.io",
        "7f000001.rbndr.us",
        "localhost.evil.example",
        "evil-localhost",
        "localhostx",
        "xlocalhost",
        "local",
        "localdomain",
        "localhost.localdomain",
        "ip6-localhost",
        "ip6-loopback",
        "host.docker.internal",
        "gateway.docker.internal",
        "kubernetes.default.svc",
        "metadata",
        "metadata.google.internal",
        "169.254.169.254",
        "0.0.0.0",
        "0",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "127.1",
        "127.0.1",
        "127.0.0.2",
        "127.127.127.127",
        "127.0.0.01",
        "127.00.0.1",
        "127.0.0.1.",
        "localhost.",
        "LOCALHOST.",
        "[::]",
        "[::2]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "[::1%25lo]",
        "::1",
        "10.0.0.1",
        "192.168.0.1",
        "172.17.0.1",
        "services.leadconnectorhq.com",
        "example.org",
        "example.com.",
        "www.example.com",
        "example.comx",
        "xample.com",
        "example.co",
        "ghl-auth",
        "ghl-auth.local",
        "_",
        "-",
        "*",
    ]
    .map(String::from)
    .into();
    let odd = [
        "localhost:",
        "localhost:http",
        "localhost:-1",
        "localhost:123456",
        "localhost:80:80",
        ":80",
        "[::1",
        "[::1]x",
        "[::1]80",
        "::1]",
        "localhost/",
        "localhost/path",
        "localhost#",
        "localhost?",
        "localhost\\",
        "user@localhost",
        "localhost@evil.example",
        "http://localhost",
        "//localhost",
        "localhost, evil.example",
        "localhost evil.example",
        "localhost,localhost",
        "localhost;evil",
        "lo calhost",
        "%6cocalhost",
        "localhost%00",
        "localhost%20",
        "\"localhost\"",
        "'localhost'",
        "(localhost)",
        "localhost\t.evil.example",
        "l\u{f6}calhost",
        "\u{ff4c}ocalhost",
        "loc\u{430}lhost",
        "localhost\u{3002}",
        "127\u{ff0e}0.0.1",
        "\u{2460}27.0.0.1",
        "localhost\u{0}",
        "localhost\u{1}",
        "localhost\u{7f}",
        "",
        "{}",
        "${host}",
        "<b>",
    ];
    all.extend(odd.map(String::from));
    all
}

#[test]
fn by_a_name_that_is_not_its_own_neither_listener_answers_anything() {
    let house = House::new();
    let key = house.master_key();
    let path = house.token_path();
    let hosts = foreign_hosts();
    assert!(hosts.len() >= 100, "{}", hosts.len());
    let refused = |address: &str, lines: &str, target: &str, what: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\n{lines}Authorization: Bearer {key}\r\n\r\n");
        let Some(answer) = ask_or_be_left(address, bytes.as_bytes()) else { return };
        assert!([400, 421].contains(&answer.status), "{what}: {} {}", answer.status, answer.body);
        // Not even whether there is a route of that name.
        let nowhere = ask_or_be_left(address, bytes.replacen(target, "/nowhere", 1).as_bytes());
        assert_eq!(nowhere.map(|answer| answer.status), Some(answer.status), "{what}");
    };
    for address in [&house.private, &house.public] {
        for host in &hosts {
            for target in ["/livez", path.as_str()] {
                refused(address, &format!("Host: {host}\r\n"), target, host);
            }
        }
        for lines in
            ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nhost: evil.example\r\n"]
        {
            refused(address, lines, "/livez", lines);
        }
        for own in
            ["localhost", "LocalHost", "127.0.0.1", "[::1]", "example.com", "Example.COM:443", "localhost:1"]
        {
            let bytes = format!("GET /livez HTTP/1.1\r\nHost: {own}\r\n\r\n");
            let status = ask_or_be_left(address, bytes.as_bytes()).map(|answer| answer.status);
            assert_eq!(status, Some(200), "{own}");
        }
        // HTTP/1.0 needs no name, and gets no answer without one either.
        let old = ask_or_be_left(address, b"GET /livez HTTP/1.0\r\n\r\n");
        assert_eq!(old.map(|answer| answer.status), Some(400));
    }
    house.end();
}

#[test]
fn no_page_of_another_origin_is_let_in_on_an_answer() {
    let house = House::new();
    let key = house.master_key();
    let path = house.token_path();
    let authorization = bearer(&key);
    let mut requests = Vec::new();
    for origin in [
        "null",
        "https://evil.example",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1",
        "file://",
        "https://example.com",
        "https://example.com.evil.example",
        "https://evilexample.com",
        "chrome-extension://a",
        "https://app.gohighlevel.com",
        "https://services.leadconnectorhq.com",
        "*",
        "",
        "http://[::1]",
        "about:blank",
        "https://marketplace.gohighlevel.com",
        "data:",
        "capacitor://localhost",
        "https://localhost:8787",
    ] {
        let wants = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "GET"),
            ("Access-Control-Request-Headers", "authorization"),
            ("Access-Control-Request-Private-Network", "true"),
        ];
        let mut with = wants.to_vec();
        with.push(("Authorization", &authorization));
        for target in
            [path.as_str(), "/v1/installations", "/livez", "/oauth/callback", "/oauth/start", "/nowhere"]
        {
            requests.push(request("OPTIONS", target, &wants, ""));
            requests.push(request("GET", target, &with, ""));
        }
    }
    // That no answer has a header of theirs is asserted for every answer there is.
    for address in [&house.private, &house.public] {
        let answers = ask_all(address, &requests);
        let allows = |answer: &Answer| {
            answer.headers().any(|(name, _)| name.to_lowercase().starts_with("access-control"))
        };
        assert!(!answers.iter().any(allows));
        assert!(
            requests
                .iter()
                .zip(&answers)
                .all(|(asked, answer)| !asked.starts_with(b"OPTIONS") || answer.status >= 400)
        );
    }
    house.end();
}

/// Bytes after a request are the next request or nothing: a request is never read out of a body.
#[test]
fn where_a_request_ends_is_never_in_doubt() {
    let house = House::new();
    let key = house.key(&Verb::ALL, these([house.location(), company("none")]));
    house.until_known(&key);
    let hidden =
        format!("GET /v1/installations HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
    for lengths in [
        "Content-Length: 0\r\nContent-Length: 200\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5,6\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: \r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ] {
        let mut wire = Wire::to(&house.private);
        let first = format!("POST /livez HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n{hidden}");
        wire.send(first.as_bytes()).ok();
        let first = wire.answer(false);
        assert!(first.as_ref().is_none_or(|answer| answer.status >= 400), "{lengths:?}");
        let second = wire.answer(false);
        assert!(second.is_none(), "{lengths:?} was followed by {second:?}");
    }
    house.end();
}

#[test]
fn another_protocol_is_not_spoken_however_it_is_asked_for() {
    let house = House::new();
    let knowledge = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let tls = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n";
    for bytes in
        [&knowledge[..], tls, b"\0\0\0\0\r\n\r\n", b"GET /livez\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n"]
    {
        let answer = ask_or_be_left(&house.private, bytes);
        assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{answer:?}");
    }
    for (name, value) in [("Upgrade", "h2c"), ("Upgrade", "websocket"), ("Upgrade", "TLS/1.0, HTTP/1.1")] {
        let more = [("Connection", "Upgrade, HTTP2-Settings"), (name, value), ("HTTP2-Settings", "AAMAAABk")];
        let answer = ask_all(&house.private, &[request("GET", "/livez", &more, "")]);
        assert_eq!(answer[0].status, 200, "{value}");
        assert!(answer[0].head.starts_with("HTTP/1.1 200"), "{}", answer[0].head);
    }
    house.end();
}

#[test]
fn the_id_that_a_request_brings_is_given_back_only_when_it_is_plain() {
    let house = House::new();
    let id = |value: &[u8]| {
        let mut bytes = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: ".to_vec();
        bytes.extend(value);
        bytes.extend(b"\r\n\r\n");
        let answer = ask_or_be_left(&house.private, &bytes)?;
        answer.header("x-request-id").map(str::to_owned)
    };
    let long = "a".repeat(64);
    for plain in ["a", "a-b_c.1", "0af7651916cd43dd8448eb211c80319c", &long] {
        assert_eq!(id(plain.as_bytes()).as_deref(), Some(plain));
    }
    let longer = "a".repeat(65);
    let odd: [&[u8]; 14] = [
        b"",
        b"a b",
        b"a\tb",
        b"<b>",
        b"\x1b[31m",
        b"a\x00b",
        b"\xc3\xa9",
        b"a\x7f",
        b"../x",
        b"a/b",
        b"a\"b",
        b"{a}",
        b"%0d%0a",
        longer.as_bytes(),
    ];
    for odd in odd {
        // Our own, or no answer at all.
        let back = id(odd);
        let ours = |id: &String| {
            id.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)) && id.len() < 40
        };
        assert!(back.as_ref().is_none_or(ours), "{:?}: {back:?}", String::from_utf8_lossy(odd));
    }
    house.end();
}
