//! `import` of many grants that other programs have kept.

use serde_json::{Value, json};

use crate::houses::{all, holds, open};
use crate::support::{Home, Run};

const STORE: &str = "sqlite:ghl-auth.db";

/// A JWT that says whose it is and when it was issued, in seconds since 1970.
fn jwt(class: &str, id: &str, issued_at: i64) -> String {
    use base64::Engine as _;
    let claims = json!({
        "authClass": class, "authClassId": id, "iat": issued_at, "exp": issued_at + 86_400,
    });
    let encode = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", encode(claims.to_string()), encode("sig".repeat(80)))
}

const NOW: i64 = 1_790_000_000;

/// HighLevel's token reply for a location.
fn reply(id: &str, issued_at: i64) -> Value {
    json!({
        "access_token": jwt("Location", id, issued_at),
        "token_type": "Bearer",
        "expires_in": 86_399,
        "refresh_token": format!("eyJrefresh-{id}-{issued_at}"),
        "scope": "contacts.readonly contacts.write",
        "userType": "Location",
        "companyId": "AAAAAAAAAAAAAAAAAAAA",
        "locationId": id,
        "userId": "CCCCCCCCCCCCCCCCCCCC",
    })
}

fn home() -> Home {
    Home::new().sealed()
}

fn import(home: &Home, text: &str, more: &[&str]) -> Run {
    home.write("grants", text);
    let run = home.run(["import", "grants"].iter().chain(more));
    assert!(
        !run.out.contains("eyJ") && !run.err.contains("eyJ"),
        "no secret is shown: {}{}",
        run.out,
        run.err
    );
    run
}

#[track_caller]
fn told(run: &Run, format: &str, taken: usize, present: usize, refused: &[(usize, &str)]) {
    let json = run.json();
    assert_eq!(json["format"], format, "{json}");
    assert_eq!((&json["taken"], &json["present"]), (&taken.into(), &present.into()), "{json}");
    let list = json["refused"].as_array().expect("a list");
    let found: Vec<_> = list
        .iter()
        .map(|it| (it["entry"].as_u64().expect("a number") as usize, it["why"].as_str().expect("why")))
        .collect();
    assert_eq!(found, refused, "{json}");
}

#[test]
fn token_replies_one_a_line() {
    let home = home();
    let mut lines: Vec<String> = (0..30).map(|n| reply(&format!("L{n:02}"), NOW).to_string()).collect();
    let mut company = reply("L00", NOW);
    company["userType"] = "Company".into();
    company["access_token"] = jwt("Company", "AAAAAAAAAAAAAAAAAAAA", NOW).into();
    company.as_object_mut().expect("an object").remove("locationId");
    lines.push(company.to_string());
    lines[3] = "{\"access_token\": \"eyJ".to_owned();
    lines[7] = json!({ "access_token": "eyJx" }).to_string();
    let text = lines.join("\n\n");
    let refused = [(7, "it is no JSON"), (15, "it holds no refresh token")];
    told(&import(&home, &text, &["--dry-run", "--json"]).ended(1), "jsonl", 29, 0, &refused);
    assert!(all(&home, STORE).is_empty(), "a dry run changes nothing");
    told(&import(&home, &text, &["--json"]).ended(1), "jsonl", 29, 0, &refused);
    let found = all(&home, STORE);
    assert_eq!(found.len(), 29);
    assert_eq!(found[0].tokens.issued_at.as_millis(), NOW * 1000);
    assert_eq!(found[28].id.kind(), "company");
    // Once more: all of them are here.
    told(&import(&home, &text, &["--json"]).ended(1), "jsonl", 0, 29, &refused);
}

#[test]
fn nothing_is_replaced_by_something_older() {
    let home = home();
    let grants = |at: [i64; 3]| {
        let line = |n: usize| reply(&format!("L{n}"), at[n]).to_string();
        [line(0), line(1), line(2)].join("\n")
    };
    told(&import(&home, &grants([NOW; 3]), &["--json"]).good(), "jsonl", 3, 0, &[]);
    let older = "the store has a newer grant, or one of the same time";
    let mixed = grants([NOW - 5, NOW + 5, NOW]);
    told(&import(&home, &mixed, &["--json"]).ended(1), "jsonl", 1, 1, &[(1, older)]);
    let issued = || -> Vec<i64> {
        all(&home, STORE).iter().map(|it| it.tokens.issued_at.as_millis() / 1000 - NOW).collect()
    };
    assert_eq!(issued(), [0, 5, 0]);
    told(&import(&home, &mixed, &["--json", "--replace"]).good(), "jsonl", 1, 2, &[]);
    assert_eq!(issued(), [-5, 5, 0]);
    // The same one twice in a file: the newer counts.
    let twice =
        [reply("L9", NOW), reply("L9", NOW + 1), reply("L9", NOW)].map(|it| it.to_string()).join("\n");
    told(&import(&home, &twice, &["--json"]).ended(1), "jsonl", 2, 0, &[(3, older)]);
    assert_eq!(issued(), [-5, 5, 0, 1]);
}

#[test]
fn the_official_sdk_s_documents() {
    let session = |id: &str, resource: &str| {
        let mut session = reply(id, NOW);
        for (name, value) in [
            ("_id", json!({ "$oid": "65f0c0ffee65f0c0ffee65f0" })),
            ("applicationId", json!("app1")),
            ("resourceId", json!(resource)),
            ("expire_at", json!({ "$numberLong": ((NOW + 86_399) * 1000).to_string() })),
            ("createdAt", json!({ "$date": "2026-09-21T14:13:20.000Z" })),
            ("updatedAt", json!({ "$date": "2026-09-21T14:13:20.000Z" })),
        ] {
            session[name] = value;
        }
        session
    };
    let mut opaque = session("L2", "L2");
    opaque["access_token"] = "an-opaque-token".into();
    opaque["expires_in"] = json!({ "$numberInt": "86399" });
    let all_of_them = [session("L1", "L1"), opaque, session("L3", "L4")];
    let refused = [(3, "its tokens are not of the resource that it names")];
    let lines = all_of_them.clone().map(|it| it.to_string()).join("\n");
    let list = serde_json::to_string_pretty(&all_of_them).expect("JSON");
    for text in [lines, list] {
        let home = home();
        told(&import(&home, &text, &["--json"]).ended(1), "mongodb", 2, 0, &refused);
        let found = all(&home, STORE);
        assert_eq!(found[1].tokens.expires_at.as_millis(), (NOW + 86_399) * 1000, "also of an opaque token");
        assert!(!found[0].tokens.members.expose().contains("resourceId"));
    }
}

#[test]
fn nango_s_connections() {
    let connection = |id: &str| {
        json!({
            "id": 7, "connection_id": format!("c-{id}"), "provider": "highlevel",
            "provider_config_key": "highlevel", "connection_config": {},
            "created_at": "2026-09-21T14:13:20.000Z",
            "credentials": {
                "type": "OAUTH2", "access_token": jwt("Location", id, NOW),
                "refresh_token": format!("eyJrefresh-{id}"),
                "expires_at": "2026-09-22T14:13:19.000Z", "raw": reply(id, NOW),
            },
        })
    };
    let mut bare = connection("L3");
    bare.as_object_mut().expect("an object").remove("credentials");
    let refused = [(3, "it has no credentials: fetch each connection by itself")];
    let list = [connection("L1"), connection("L2"), bare];
    for text in [
        json!({ "connections": list }).to_string(),
        serde_json::to_string_pretty(&list).expect("JSON"),
        list.clone().map(|it| it.to_string()).join("\n"),
    ] {
        let home = home();
        let run = import(&home, &text, &["--json"]);
        // A connection without credentials is no connection of Nango's to a reader of its first line.
        told(&run.ended(1), "nango", 2, 0, &refused);
        assert_eq!(all(&home, STORE).len(), 2);
    }
    let home = home();
    told(&import(&home, &connection("L1").to_string(), &["--json"]).good(), "nango", 1, 0, &[]);
}

#[test]
fn n8n_s_credentials() {
    let credential = |id: &str, kind: &str, data: Value| {
        json!({ "id": id, "name": format!("HighLevel {id}"), "type": kind, "data": data,
                "createdAt": "2026-09-21T14:13:20.000Z", "updatedAt": "2026-09-21T14:13:20.000Z" })
    };
    let granted =
        |id: &str| json!({ "clientId": "x", "clientSecret": "eyJ-secret", "oauthTokenData": reply(id, NOW) });
    let text = json!([
        credential("1", "highLevelOAuth2Api", granted("L1")),
        credential("2", "slackOAuth2Api", granted("L2")),
        credential("3", "highLevelOAuth2Api", json!({ "clientId": "x" })),
        credential("4", "highLevelOAuth2Api", json!("U2FsdGVkX1+encrypted")),
        credential("5", "oAuth2Api", granted("L5")),
    ]);
    let refused = [
        (2, "it is a credential for another service"),
        (3, "nobody has connected it yet"),
        (4, "it is encrypted: export it with --decrypted"),
    ];
    let home = home();
    told(&import(&home, &text.to_string(), &["--json"]).ended(1), "n8n", 2, 0, &refused);
    assert_eq!(all(&home, STORE).len(), 2);
    let home = home.set("GHL_AUTH_LANG", "pt-BR");
    let run = import(&home, &text.to_string(), &[]).ended(1).answers("Já estavam aqui: 2.");
    run.complains("é uma credencial de outro serviço").complains("ninguém a conectou ainda");
}

#[test]
fn a_grant_that_was_imported_lives_on() {
    let home = Home::connected();
    let exported = home.run(["export"]).good().out;
    let one: Value = serde_json::from_str(&exported).expect("JSON");
    let home = home.sealed();
    // Named, a single reply is a list of one.
    let run = import(&home, &one.to_string(), &["--format", "jsonl", "--json"]).good();
    told(&run, "jsonl", 1, 0, &[]);
    home.run(["refresh"]).good();
    assert!(holds(&home, STORE));
}

#[test]
fn a_store_that_stands_by_takes_nothing_in() {
    let home = home();
    crate::houses::block_on(open(&home, STORE).set_standby(Some("moved to x"))).expect("set");
    let two = [reply("L1", NOW), reply("L2", NOW)].map(|it| it.to_string()).join("\n");
    import(&home, &two, &[]).fails_with(2, "store_standby");
    import(&home, &reply("L1", NOW).to_string(), &[]).fails_with(2, "store_standby");
    assert!(all(&home, STORE).is_empty());
}
