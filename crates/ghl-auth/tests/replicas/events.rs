//! What HighLevel tells of comes to one replica or the other, in any order: the newest counts, whoever was told.

use std::time::{Duration, Instant};

use sandbox::Signature;
use tokens::{InstallationId, Timestamp};

use crate::house::{House, PATIENCE, Replica, ask};
use crate::postgres::{schema_of, server};
use crate::support::programs::Dice;
use crate::support::times;

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// What happened to a location, the oldest first, and whether it has the app in the end.
const STORIES: [([&str; 3], bool); 2] =
    [(["INSTALL", "UNINSTALL", "INSTALL"], true), (["UNINSTALL", "INSTALL", "UNINSTALL"], false)];

/// A location, what happened to it, and in which order that is told.
struct Told {
    id: InstallationId,
    bodies: [String; 3],
    order: [usize; 3],
    is_served: bool,
}

fn tell(house: &House, to: &Replica, body: &str) {
    let signature = house.sandbox.sign_webhook(body, Signature::Present);
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(signature.iter().map(|(name, value)| (*name, value.as_str())));
    let answer = ask(&to.address, "POST", "/webhooks/highlevel", &headers, body);
    assert_eq!(answer.status, 200, "{answer:?} {}", to.log());
}

/// What happened at half-minute intervals, the last of it half a minute ago.
fn bodies(house: &House, id: &InstallationId, kinds: [&str; 3]) -> [String; 3] {
    let settings = house.sandbox.settings();
    let now = i64::try_from(house.sandbox.now_millis()).expect("a time");
    let happened = |place: usize| {
        let ago = Duration::from_secs(30) * u32::try_from(3 - place).expect("few");
        let at = (Timestamp::from_millis(now) - ago).as_millis();
        jiff::Timestamp::from_millisecond(at).expect("an instant")
    };
    std::array::from_fn(|place| {
        format!(
            r#"{{"type":"{}","appId":"{}","installType":"Location","locationId":"{}","companyId":"{}","timestamp":"{}","webhookId":"{}-{place}"}}"#,
            kinds[place],
            settings.app_id(),
            id.as_str(),
            settings.company_id,
            happened(place),
            id.as_str(),
        )
    })
}

/// Waits until nothing waits in the queue.
fn until_acted_on(house: &House) {
    let sql = format!("SELECT count(*) FROM {}.events WHERE done_at IS NULL", schema_of(&house.address));
    let began = Instant::now();
    while server().sql(&sql).trim() != "0" {
        assert!(began.elapsed() < PATIENCE, "{} wait", server().sql(&sql));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// T-456.
#[test]
fn installs_and_uninstalls_told_in_any_order_to_two_replicas_end_with_the_newest() {
    let rounds = times("GHL_AUTH_SHUFFLES", 2);
    let seed = times("GHL_AUTH_SEED", std::process::id() as usize) as u64;
    println!("GHL_AUTH_SEED={seed}");
    let mut dice = Dice::new(seed);
    let house = House::of_company(rounds * ORDERS.len() * STORIES.len());
    let replicas = house.replicas(2);
    let key = house.api_key();
    let mut ids = house.ids.iter();
    let mut all = Vec::new();
    for _ in 0..rounds {
        for order in ORDERS {
            for (kinds, is_served) in STORIES {
                let id = ids.next().expect("a location").clone();
                if !is_served {
                    // As it is at HighLevel before anyone is told: it gives no token for it any more.
                    house.sandbox.uninstall(id.as_str());
                }
                all.push(Told { bodies: bodies(&house, &id, kinds), id, order, is_served });
            }
        }
    }
    std::thread::scope(|scope| {
        for told in &all {
            let throws: [(usize, Duration); 3] = std::array::from_fn(|_| {
                let pause = dice.within(Duration::from_millis(400));
                (usize::from(dice.one_in(2)), pause)
            });
            let (house, replicas) = (&house, &replicas);
            scope.spawn(move || {
                for (place, (to, pause)) in told.order.into_iter().zip(throws) {
                    std::thread::sleep(pause);
                    tell(house, &replicas[to], &told.bodies[place]);
                }
            });
        }
    });
    until_acted_on(&house);
    let wrong = |all: &[Told]| -> Vec<String> {
        let mut wrong = Vec::new();
        for told in all {
            for replica in &replicas {
                let status = replica.token(&key, &told.id).status;
                if status != if told.is_served { 200 } else { 404 } {
                    wrong.push(format!("{} {:?}: {status}", told.bodies[2], told.order));
                }
            }
        }
        wrong
    };
    // What a replica has at hand it looks at again within a second.
    let began = Instant::now();
    while !wrong(&all).is_empty() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(wrong(&all), Vec::<String>::new());
    // Whoever is told all of it again, the other way round, changes nothing.
    for told in &all {
        for place in told.order.into_iter().rev() {
            tell(&house, &replicas[place % 2], &told.bodies[place]);
        }
    }
    until_acted_on(&house);
    assert_eq!(wrong(&all), Vec::<String>::new());
    println!("{} locations, {} events", all.len(), 3 * all.len());
}
