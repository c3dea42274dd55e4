//! A key is good for the installations it names, compared whole, and for no other, however alike.

use std::collections::BTreeSet;

use tokens::InstallationId;
use tokens::records::Verb;

use crate::house::{House, company, home, install, install_of, location, these};
use crate::wire::{Answer, ask_all, bearer, request};

/// A sub-account's id; all others look like it.
const ONE: &str = "ve9EPM428h8vShlRW1KT";

/// Ids that could be HighLevel's, each a little different from [`ONE`] or from another one.
fn alike() -> Vec<String> {
    let mut all = BTreeSet::from([ONE.to_owned()]);
    for end in 1..ONE.len() {
        all.insert(ONE[..end].to_owned());
        all.insert(ONE[end..].to_owned());
    }
    for (place, letter) in ONE.char_indices() {
        let with = |c: char| format!("{}{c}{}", &ONE[..place], &ONE[place + 1..]);
        let other_case = if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        };
        all.extend([with(other_case), with('-'), with('_'), with('0'), with('O'), with('l')]);
        all.insert(format!("{}-{}", &ONE[..place], &ONE[place..]));
    }
    all.extend([ONE.to_ascii_lowercase(), ONE.to_ascii_uppercase(), ONE.repeat(3)]);
    all.extend(["location", "company", "token", "All", "null", "0", "-", "_", "--all"].map(String::from));
    all.into_iter().take(150).collect()
}

/// What stands in a path and is no id of HighLevel's, though some of it may look like [`ONE`].
fn impossible() -> Vec<String> {
    let mut all: Vec<String> = [
        "%00",
        "%00x",
        "%2f",
        "%2F",
        "%252f",
        "%5c",
        "%20",
        "%09",
        "%0a",
        "%0d%0a",
        "%7f",
        "%2e",
        "%2e%2e",
        "%c0%af",
        "%ff",
        "%80",
        "%e2%80%8b",
        "%ef%bb%bf",
        "%25",
        "%3f",
        "%23",
        "%3b",
        ";a=b",
        "+",
        ".",
        "..",
        ",",
        "*",
        "'",
        "\"%22",
        "%5b%5d",
        "~",
        "!",
        "$",
        "&",
        "=",
        ":",
        "@",
        "|",
        "{}",
        "^",
        "%u0031",
        "%",
        "%4",
        "%zz",
    ]
    .iter()
    .flat_map(|odd| [format!("{ONE}{odd}"), format!("{odd}{ONE}")])
    .collect();
    // Look-alikes from other alphabets, a letter that changes under folding, full width, both marks.
    for (from, to) in [("e", "%D0%B5"), ("P", "%D0%A0"), ("M", "%D0%9C"), ("h", "%D2%BB"), ("S", "%D0%85")] {
        all.push(ONE.replace(from, to));
    }
    for (from, to) in [("K", "%E2%84%AA"), ("S", "%C5%BF"), ("1", "%EF%BC%91"), ("l", "%C4%B1")] {
        all.push(ONE.replace(from, to));
    }
    all.extend([
        format!("e%CC%81{ONE}"),
        "a".repeat(65),
        format!("{ONE}{}", "x".repeat(60)),
        ONE.repeat(200),
    ]);
    all
}

#[test]
fn of_two_hundred_ids_that_look_alike_no_key_reads_another_ones_token() {
    let (ids, impossible) = (alike(), impossible());
    assert!(ids.len() == 150 && impossible.len() >= 50, "{} {}", ids.len(), impossible.len());
    let token = |id: &InstallationId| format!("token-of-{}-{}.", id.kind(), id.as_str());
    let house = House::with(home(), |store| {
        for id in &ids {
            // Each id is both a sub-account's and an agency's.
            for id in [location(id), company(id)] {
                install(store, &id, &token(&id));
            }
        }
    });
    let keys: Vec<(String, String)> = ids
        .iter()
        .map(|id| {
            let verbs = [Verb::Token, Verb::Admin];
            (house.key(&verbs, these([location(id)])), house.key(&verbs, these([company(id)])))
        })
        .collect();
    house.until_known(&keys.last().expect("a key").1);

    // Everybody's token is at hand.
    let master = house.master_key();
    let warm: Vec<Vec<u8>> = ids
        .iter()
        .flat_map(|id| [format!("/v1/locations/{id}/token"), format!("/v1/companies/{id}/token")])
        .map(|path| request("GET", &path, &[("Authorization", &bearer(&master))], ""))
        .collect();
    assert!(ask_all(&house.private, &warm).iter().all(|answer| answer.status == 200));

    let mut reads = 0;
    for (id, (of_location, of_company)) in ids.iter().zip(&keys) {
        let own = |answer: &Answer, id: &InstallationId| {
            assert_eq!(answer.status, 200, "{id}: {}", answer.body);
            assert!(answer.body.contains(&token(id)), "{id}: {}", answer.body);
        };
        let mut requests = vec![
            request(
                "GET",
                &format!("/v1/locations/{id}/token"),
                &[("Authorization", &bearer(of_location))],
                "",
            ),
            request(
                "GET",
                &format!("/v1/companies/{id}/token"),
                &[("Authorization", &bearer(of_company))],
                "",
            ),
        ];
        // A company's key is not one for the location of the same name, nor the other way round.
        let crossed = |key: &str, path: String| request("GET", &path, &[("Authorization", &bearer(key))], "");
        requests.push(crossed(of_company, format!("/v1/locations/{id}/token")));
        requests.push(crossed(of_location, format!("/v1/companies/{id}/token")));
        requests.push(crossed(of_location, format!("/v1/installations/company/{id}")));
        for other in ids.iter().filter(|other| *other != id) {
            requests.push(crossed(of_location, format!("/v1/locations/{other}/token")));
            requests.push(crossed(of_company, format!("/v1/companies/{other}/token")));
        }
        for odd in &impossible {
            requests.push(crossed(of_location, format!("/v1/locations/{odd}/token")));
        }
        let answers = ask_all(&house.private, &requests);
        own(&answers[0], &location(id));
        own(&answers[1], &company(id));
        for (request, answer) in requests.iter().zip(&answers).skip(2) {
            let what = String::from_utf8_lossy(request);
            assert!([400, 403, 404].contains(&answer.status), "{what}{} {}", answer.status, answer.body);
            assert!(!answer.body.contains("token-of-"), "{what}{}", answer.body);
            reads += 1;
        }
    }
    assert!(reads > 50_000, "{reads}");
    house.end();
}

#[test]
fn what_a_key_is_shown_of_others_is_nothing_by_any_door() {
    let house = House::with(home(), |store| {
        for id in ["mine", "yours"] {
            install(store, &location(id), &format!("token-of-{id}"));
        }
    });
    house.until_checked();
    let mine = house.key(&[Verb::Token, Verb::Admin], these([location("mine"), company("agency")]));
    house.until_known(&mine);
    let ask = |method: &str, path: &str, body: &str| house.ask(method, path, &mine, body);
    // The same id in another spelling is the same id: it is decoded once.
    assert_eq!(ask("GET", "/v1/locations/%6Dine/token", "").status, 200);
    assert_eq!(ask("GET", "/v1/locations/%256Dine/token", "").status, 400);
    for (method, path, body) in [
        ("GET", "/v1/locations/%79ours/token", ""),
        ("GET", "/v1/locations/yours/token?minimum_life=0", ""),
        ("POST", "/v1/locations/yours/token/refused", r#"{"generation":1}"#),
        ("GET", "/v1/companies/mine/token", ""),
        ("GET", "/v1/locations/agency/token", ""),
        ("GET", "/v1/installations/location/yours", ""),
        ("DELETE", "/v1/installations/location/yours", ""),
        ("GET", "/v1/checks?kind=location&id=yours", ""),
        ("POST", "/v1/checks", r#"{"kind":"location","id":"yours"}"#),
        ("POST", "/v1/parked/location/yours/approve", ""),
        ("DELETE", "/v1/parked/location/yours", ""),
        ("GET", "/v1/maintenances", ""),
        ("POST", "/v1/maintenances", r#"{"seconds":60,"kind":"location","id":"yours"}"#),
        ("POST", "/v1/maintenances", r#"{"seconds":60}"#),
    ] {
        let answer = ask(method, path, body);
        assert_eq!((answer.status, answer.code().as_str()), (403, "out_of_reach"), "{method} {path}");
    }
    // Whether there is something of that name is not told either.
    let there = ask("GET", "/v1/installations/location/yours", "");
    let nowhere = ask("GET", "/v1/installations/location/nowhere", "");
    assert_eq!(there.body, nowhere.body);
    let list = ask("GET", "/v1/installations", "").body;
    assert!(
        list.contains("mine") && !list.contains("yours") && !list.contains(house.home.location()),
        "{list}"
    );
    for path in ["/v1/checks", "/v1/parked"] {
        let list = ask("GET", path, "").body;
        assert!(!list.contains(house.home.location()), "{path}: {list}");
    }
    // For what can't be an id there is no key.
    for odd in ["a/b", "a%2fb", "", "a b", "é", "a\n", "a.b", "*"] {
        house.home.run(["keys", "create", "--name", "odd", "--location", odd]).ended(2);
    }
    house.end();
}

/// Companies that look alike, and the locations of each: some are called as a company is, and each differs from
/// one of another company by a letter, its case or its end.
fn companies_alike() -> Vec<(String, BTreeSet<String>)> {
    let one = "kMvB1lO0uOqYdTqXa2Zs";
    let companies = [
        one.to_owned(),
        one.to_ascii_lowercase(),
        one.replace("1l", "l1"),
        one[..19].to_owned(),
        format!("{one}0"),
        one.replace('O', "0"),
    ];
    let mut taken = BTreeSet::new();
    let locations = |company: &String| {
        let ends = ["", "0", "00", "o", "-", "_"].map(|end| format!("{company}{end}"));
        let ends = ends.into_iter().chain([company.to_ascii_uppercase(), company[1..].to_owned()]);
        ends.filter(|id| taken.insert(id.clone())).collect()
    };
    let of_each: Vec<BTreeSet<String>> = companies.iter().map(locations).collect();
    companies.into_iter().zip(of_each).collect()
}

#[test]
fn a_key_of_one_company_or_of_its_locations_reads_nothing_of_another_company() {
    let companies = companies_alike();
    let token = |id: &InstallationId| format!("token-of-{}-{}.", id.kind(), id.as_str());
    let house = House::with(home(), |store| {
        for (of, locations) in &companies {
            install(store, &company(of), &token(&company(of)));
            for id in locations {
                install_of(store, &location(id), &token(&location(id)), of);
            }
        }
    });
    // For whom each key is: a company alone, each location alone, and all of a company with its locations.
    let mut keys: Vec<(String, BTreeSet<InstallationId>)> = Vec::new();
    let mut hand_out = |ids: BTreeSet<InstallationId>| {
        keys.push((house.key(&[Verb::Token, Verb::Admin], these(ids.clone())), ids));
    };
    let mut all = BTreeSet::new();
    for (of, locations) in &companies {
        let family: BTreeSet<_> = locations.iter().map(|id| location(id)).chain([company(of)]).collect();
        for id in &family {
            hand_out(BTreeSet::from([id.clone()]));
        }
        all.extend(family.clone());
        hand_out(family);
    }
    assert!(all.len() >= 35, "{}", all.len());
    house.until_known(&keys.last().expect("a key").0);

    let path = |id: &InstallationId| match id {
        InstallationId::Location(id) => format!("/v1/locations/{id}/token"),
        InstallationId::Company(id) => format!("/v1/companies/{id}/token"),
    };
    let (mut own, mut foreign) = (0, 0);
    // The second time the answers are at hand, and are given on a shorter way.
    for _ in 0..2 {
        for (key, reach) in &keys {
            let requests: Vec<Vec<u8>> = all
                .iter()
                .map(|id| request("GET", &path(id), &[("Authorization", &bearer(key))], ""))
                .collect();
            for (id, answer) in all.iter().zip(ask_all(&house.private, &requests)) {
                if reach.contains(id) {
                    assert_eq!(answer.status, 200, "{id}: {}", answer.body);
                    assert!(answer.body.contains(&token(id)), "{id}: {}", answer.body);
                    own += 1;
                } else {
                    assert_eq!((answer.status, answer.code().as_str()), (403, "out_of_reach"), "{id}");
                    assert!(!answer.body.contains("token-of-"), "{id}: {}", answer.body);
                    foreign += 1;
                }
            }
        }
    }
    // In a list there is no more than it may read; a company's own key does not see its locations there.
    for (key, reach) in &keys {
        let list: serde_json::Value =
            serde_json::from_str(&house.get("/v1/installations", key).body).expect("JSON");
        let text = |one: &serde_json::Value, name: &str| one[name].as_str().expect("text").to_owned();
        let listed: BTreeSet<InstallationId> = list["installations"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| InstallationId::from_parts(&text(one, "kind"), &text(one, "id")).expect("an id"))
            .collect();
        assert_eq!(&listed, reach);
    }
    assert!(own > 200 && foreign > 4_000, "{own} {foreign}");
    house.end();
}
