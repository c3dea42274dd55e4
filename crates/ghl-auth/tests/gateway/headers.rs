//! Headers under attack: who someone says to be, in whose name, and by which trick of writing.

use crate::attack::{Got, LOCATION, Siege, bearer, raw, raw_lines, request};
use crate::caller::Way;

/// Programs that some services let in by their name alone.
const AGENTS: [&str; 60] = [
    "kube-probe/1.29",
    "GoogleHC/1.0",
    "ELB-HealthChecker/2.0",
    "Amazon-Route53-Health-Check-Service",
    "HealthCheck/1.0",
    "Prometheus/2.50.0",
    "Blackbox Exporter/0.24.0",
    "Grafana/10.0",
    "Envoy/HC",
    "HAProxy",
    "nginx",
    "Consul Health Check",
    "UptimeRobot/2.0",
    "Pingdom.com_bot_version_1.4",
    "StatusCake",
    "Better Uptime Bot",
    "Datadog Agent/7.0",
    "NewRelicPinger/1.0",
    "Zabbix",
    "check_http/v2.3 (nagios-plugins)",
    "Monit/5.33",
    "Site24x7",
    "Azure Traffic Manager Endpoint Monitor",
    "AzureLoadBalancerProbe",
    "Edge Health Probe",
    "GoogleStackdriverMonitoring-UptimeChecks",
    "Google-Cloud-Scheduler",
    "AppEngine-Google",
    "Googlebot/2.1",
    "bingbot/2.0",
    "facebookexternalhit/1.1",
    "Slackbot-LinkExpanding 1.0",
    "Twitterbot/1.0",
    "WhatsApp/2.0",
    "TelegramBot",
    "LinkedInBot/1.0",
    "curl/8.0",
    "Wget/1.21",
    "python-requests/2.31",
    "axios/1.6",
    "node",
    "Go-http-client/1.1",
    "okhttp/4.0",
    "Java/17",
    "PostmanRuntime/7.36",
    "insomnia/8",
    "HighLevel",
    "LeadConnector",
    "GHL-Webhook/1.0",
    "ghl-auth/0.1.0",
    "ghl-auth",
    "localhost",
    "127.0.0.1",
    "internal",
    "admin",
    "root",
    "-",
    "*",
    "${jndi:ldap://x}",
    "() { :;}; echo x",
];

/// Paths of HighLevel's, and what leads to them.
const ROUTES: [&str; 10] = [
    "",
    "/",
    "/contacts/",
    "/contacts/abc",
    "/locations/x",
    "/locations/search",
    "/oauth/installedLocations",
    "/oauth/token",
    "/calendars/events",
    "/opportunities/search?locationId=x",
];

fn each_way(bytes: impl Fn(Way) -> Vec<u8>) -> impl Iterator<Item = (Way, Vec<u8>)> {
    Way::BOTH.into_iter().map(move |way| (way, bytes(way)))
}

#[test]
fn nobody_is_let_in_for_what_their_program_is_called() {
    let siege = Siege::new();
    let mut wire = siege.wire();
    for agent in AGENTS {
        let agent = format!("User-Agent: {agent}");
        for route in ROUTES {
            for (way, bytes) in each_way(|way| request(way, "GET", route, &[&agent], b"")) {
                let got = wire.ask(&bytes).expect("an answer");
                assert_eq!(got.status, 401, "{way:?} {agent} {route}: {}", got.head);
            }
        }
    }
    assert!(siege.arrived().is_empty());
    siege.end();
}

#[test]
fn what_a_proxy_would_say_of_the_sender_changes_nothing_and_stays_here() {
    let siege = Siege::new();
    let (mut wire, key) = (siege.wire(), siege.bearer());
    let narrow = bearer(&siege.key_for(&["GET /contacts/*"]));
    let after = |prefix: &str, all: &str| -> Vec<String> {
        all.split(' ').map(|one| format!("{prefix}{one}")).collect()
    };
    let mut names = after(
        "X-Forwarded-",
        "For Host Proto Port Server Prefix Path Uri Url Scheme Ssl By User Email Groups Access-Token Method Client-Cert",
    );
    names.extend(after("X-Original-", "Url Uri Host Method Path For Forwarded-For Remote-Addr To"));
    names.extend(after("X-Rewrite-", "Url Uri Path Host"));
    names.extend(after("", "Forwarded X-Real-IP X-Forwarded X_Forwarded_For X_Original_Url X_Real_Ip"));
    names.extend(after("", "x-forwarded-for X-FORWARDED-HOST x-rewrite-url"));
    assert_eq!(names.len(), 40);
    let values = [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "localhost",
        "internal",
        "/",
        "/v1/installations",
        "/metrics",
        "/gateway/users/",
        "/users/",
        "../users",
        "http://localhost/v1/installations",
        "https://services.leadconnectorhq.com",
        "evil.example",
        "evil.example:8787",
        "for=127.0.0.1;host=localhost;proto=https",
        "for=\"[::1]\"",
        "https",
        "http",
        "443",
        "0",
        "on",
        "DELETE",
        "POST",
        "admin",
        "root@localhost",
        "127.0.0.1, 10.0.0.1, evil.example",
        "unknown",
        "_hidden",
        "Bearer x",
    ];
    for name in &names {
        for (number, value) in values.iter().enumerate() {
            let header = format!("{name}: {value}");
            // In turns: each name meets both ways, fifteen times each.
            let way = Way::BOTH[number % 2];
            let got = wire.ask(&request(way, "GET", "/contacts/x", &[&key, &header], b""));
            assert_eq!(got.expect("an answer").status, 200, "{way:?} {header}");
            let arrived = siege.arrived();
            let [one] = arrived.as_slice() else { panic!("{header}: {arrived:?}") };
            assert_eq!((one.method.as_str(), one.target.as_str()), ("GET", "/contacts/x"), "{header}");
            assert_eq!(one.all(name).count(), 0, "{header}: {one:?}");
            let refused = match number % 3 {
                0 => (wire.ask(&request(way, "GET", "/contacts/x", &[&header], b"")), 401),
                1 => (wire.ask(&request(way, "GET", "/users/x", &[&narrow, &header], b"")), 403),
                _ => (wire.ask(&request(way, "DELETE", "/contacts/x", &[&narrow, &header], b"")), 403),
            };
            assert_eq!(refused.0.expect("an answer").status, refused.1, "{way:?} {header}");
        }
    }
    assert!(siege.arrived().is_empty());
    siege.end();
}

/// As a reader would take a name who is not careful.
fn careless(name: &str) -> String {
    name.replace('_', "-").trim_matches(|c: char| c == '-' || !c.is_ascii_graphic()).to_ascii_lowercase()
}

#[test]
fn however_a_header_is_written_one_token_arrives_and_it_is_ours() {
    let siege = Siege::new();
    let key = siege.bearer();
    let names = [
        ("Authorization", "Bearer someone-elses"),
        ("Host", "evil.example"),
        ("Content-Length", "7"),
        ("Transfer-Encoding", "chunked"),
        ("X-Location-Id", LOCATION),
        ("X-Company-Id", "someone"),
        ("Cookie", "session=x"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eDp4"),
    ];
    let mut lines: Vec<(&str, Vec<u8>)> = Vec::new();
    for (name, value) in names {
        let mut add = |line: String| lines.push((name, line.into_bytes()));
        add(format!("{}: {value}", name.to_ascii_lowercase()));
        add(format!("{}: {value}", name.to_ascii_uppercase()));
        add(format!("{}: {value}", name.replace('-', "_")));
        add(format!("{}_: {value}", name.to_ascii_lowercase()));
        add(format!("_{name}: {value}"));
        for before in [" ", "\t", "\x0b", "\r", "\0", "\x7f", "\u{a0}"] {
            add(format!("{name}{before}: {value}"));
            add(format!("{before}{name}: {value}"));
        }
        add(format!("{name}:: {value}"));
        add(format!("{name}:{value}"));
        add(format!("{name}:\t{value}\t "));
        add(format!("{name}:\r\n {value}"));
        add(format!("{name}: {value}\r\n\tmore"));
        add(format!("X-A: b\r\n {name}: {value}"));
        add(format!("X-A: b\n{name}: {value}"));
        add(format!("X-A: b\r{name}: {value}"));
        add(format!("{name}: {value}\r\n{name}: {value}"));
        add(format!("{name}: {value}\r\n{}: other", name.to_ascii_lowercase()));
        add(format!("{name}: {value}, {value}"));
        add(format!("\"{name}\": {value}"));
        add(name.to_owned());
        add(format!(": {value}"));
        add(format!("{name}:"));
        add(format!("{name} {value}"));
        add(format!("{name}\\: {value}"));
        add(format!("{name}%: {value}"));
        for control in ["\0", "\x01", "\x08", "\x0b", "\x0c", "\x1b", "\x7f"] {
            add(format!("{name}: {value}{control}"));
            add(format!("{name}: a{control}{value}"));
        }
        for high in [0x80u8, 0xa0, 0xc3, 0xff] {
            lines.push((name, [name.as_bytes(), &[high], b": ", value.as_bytes()].concat()));
            lines.push((name, [name.as_bytes(), b": ", value.as_bytes(), &[high]].concat()));
        }
    }
    assert!(lines.len() >= 500, "{}", lines.len());
    for (number, (name, line)) in lines.iter().enumerate() {
        let text = String::from_utf8_lossy(line).into_owned();
        let path = format!("/contacts/h{number}");
        let target = format!("/gateway{path}");
        for with_key in [true, false] {
            let headers: Vec<&[u8]> = if with_key { vec![key.as_bytes(), line] } else { vec![line] };
            let mut bytes = raw_lines(Way::Plain, "GET", &target, &headers, b"");
            if name.ends_with("Length") || name.ends_with("Encoding") {
                // Seven bytes, or a chunk of none, so that nobody waits for more.
                bytes.extend_from_slice(b"0\r\n\r\n\r\n");
            }
            let mut wire = siege.wire();
            wire.send(&bytes);
            let got = wire.answer(false);
            let arrived = siege.arrived();
            let status = got.as_ref().map(|got| got.status);
            assert!(arrived.len() <= 1, "{text:?}: {arrived:?}");
            match arrived.first() {
                None => assert!(status.is_none_or(|status| status >= 400), "{text:?}: {status:?}"),
                Some(one) => {
                    assert!(with_key, "{text:?} lets someone in: {one:?}");
                    assert_eq!((status, one.target.as_str()), (Some(200), path.as_str()), "{text:?}");
                    let ours = |name: &str| matches!(name, "authorization" | "host" | "content-length");
                    let alike: Vec<_> =
                        one.headers.iter().filter(|(found, _)| careless(found) == careless(name)).collect();
                    assert!(alike.len() <= usize::from(ours(&careless(name))), "{text:?}: {one:?}");
                }
            }
        }
    }
    siege.end();
}

#[test]
fn no_header_of_ours_can_be_named_away_and_nothing_about_the_connection_passes() {
    let siege = Siege::new();
    let (mut wire, key) = (siege.wire(), siege.bearer());
    let named = [
        "authorization",
        "Authorization",
        "host",
        "version",
        "Version",
        "content-length",
        "content-type",
        "transfer-encoding",
        "x-request-id",
        "user-agent",
        "accept",
        "accept-encoding",
        "x-location-id",
        "x-company-id",
        "connection",
        "date",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "cookie",
        "prefer",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "keep-alive, authorization, host, version",
        "close, authorization",
        "authorization,authorization , ,content-length",
    ];
    let location = format!("X-Location-Id: {LOCATION}");
    for name in named {
        let connection = format!("Connection: {name}");
        for way in Way::BOTH {
            let headers = [key.as_str(), &location, "Version: 2023-02-21", &connection, "X-Mine: kept"];
            let got = wire.ask(&request(way, "POST", "/contacts/", &headers, b"{\"a\":1}"));
            assert_eq!(got.expect("an answer").status, 200, "{way:?} {connection}");
            let arrived = siege.arrived();
            let [one] = arrived.as_slice() else { panic!("{connection}: {arrived:?}") };
            assert_eq!(one.body, b"{\"a\":1}", "{connection}");
            let version = one.header("version").expect("a version");
            assert!(["2023-02-21", "2021-07-28"].contains(&version.as_str()), "{connection}: {one:?}");
            assert_eq!(one.all("version").count(), 1);
            assert_eq!(one.header("x-mine").as_deref(), Some("kept"), "{connection}");
            assert_eq!(one.header("x-location-id"), None);
            let about = one.all("connection").map(<[u8]>::to_vec).collect::<Vec<_>>();
            assert!(about.is_empty(), "{connection}: {one:?}");
        }
    }
    // Whatever is named goes, and what is about the connection goes unnamed.
    for line in [
        "Proxy-Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "TE: trailers, deflate;q=0.5",
        "Trailer: X-Secret",
        "Upgrade: websocket",
        "Upgrade: h2c",
        "Proxy-Authorization: Basic eDp4",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: x-hop\r\nX-Hop: 1",
        "Connection: X-HOP , close\r\nx-hop: 1",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        "Expect: 100-continue",
        "Prefer: wait=5",
    ] {
        for way in Way::BOTH {
            let got = wire.ask(&request(way, "POST", "/contacts/", &[&key, line], b"{}"));
            let got = got.expect("an answer");
            assert_eq!(got.status, 200, "{way:?} {line}");
            assert_eq!(got.header("upgrade"), None, "{way:?} {line}");
            let arrived = siege.arrived();
            let [one] = arrived.as_slice() else { panic!("{line}: {arrived:?}") };
            for name in [
                "proxy-connection",
                "keep-alive",
                "te",
                "trailer",
                "upgrade",
                "proxy-authorization",
                "http2-settings",
                "x-hop",
                "connection",
                "expect",
                "prefer",
            ] {
                assert_eq!(one.header(name), None, "{way:?} {line}");
            }
        }
    }
    siege.end();
}

#[test]
fn no_header_makes_another_method_of_the_one_that_was_allowed() {
    let siege = Siege::new();
    let narrow = bearer(&siege.key_for(&["GET /contacts/*"]));
    for name in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method", "x_http_method_override"] {
        for way in Way::BOTH {
            let line = format!("{name}: DELETE");
            let got = siege.wire().ask(&request(way, "GET", "/contacts/x", &[&narrow, &line], b""));
            assert_eq!(got.expect("an answer").status, 200, "{way:?} {line}");
            let arrived = siege.arrived();
            let [one] = arrived.as_slice() else { panic!("{line}: {arrived:?}") };
            assert_eq!((one.method.as_str(), one.header(name)), ("GET", None), "{way:?}");
        }
    }
    siege.end();
}

#[test]
fn a_key_in_a_query_a_form_or_a_cookie_lets_nobody_in_and_goes_nowhere() {
    let siege = Siege::new();
    let (mut wire, key) = (siege.wire(), siege.bearer());
    let secret = siege.key.clone();
    let escaped: String = secret.bytes().map(|c| format!("%{c:02x}")).collect();
    let mut refused = |way: Way, target: &str, headers: &[&str], body: &str, status: u16, code: &str| {
        let got: Got = wire.ask(&raw(way, "POST", target, headers, body.as_bytes())).expect("an answer");
        assert_eq!((got.status, got.code().as_str()), (status, code), "{way:?} {target} {headers:?} {body}");
    };
    for way in Way::BOTH {
        for query in [
            format!("access_token={secret}"),
            format!("ACCESS_TOKEN={secret}"),
            format!("api_key={secret}"),
            format!("apikey={secret}"),
            format!("authorization=Bearer%20{secret}"),
            format!("Authorizatio%6e={secret}"),
            format!("x={secret}"),
            format!("x={escaped}"),
            format!("a=b&c=d&x=Bearer+{secret}"),
            "access_token=something-else".to_owned(),
            "access_token".to_owned(),
            "a=1&%61pi_key=x".to_owned(),
        ] {
            refused(way, &format!("/gateway/contacts/?{query}"), &[&key], "", 400, "key_exposed");
        }
        let cookie = format!("Cookie: a=b; token={secret}");
        refused(way, "/gateway/contacts/", &[&key, &cookie], "", 400, "key_exposed");
        refused(way, "/gateway/contacts/", &[&cookie], "", 400, "key_exposed");
        for form in [format!("access_token={secret}"), format!("{{\"access_token\":\"{secret}\"}}")] {
            refused(way, "/gateway/contacts/", &["X-A: b"], &form, 401, "no_key");
        }
    }
    assert!(siege.arrived().is_empty());
    siege.house.plant(&secret);
    siege.house.plant(&escaped);
    siege.end();
}
