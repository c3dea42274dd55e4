//! Keys that are used as they never were before: T-521.

use std::collections::BTreeSet;

use tokens::records::{AuditLine, KeyId, KeyRecord, KeyUse, Reach};
use tokens::{Clock as _, InstallationId, Records};

use crate::support::{DAY, HOUR, House, Rest};
use crate::{other_process, process, told};

struct Story<'a> {
    house: &'a House,
    records: &'a dyn Records,
}

impl Story<'_> {
    async fn key(&self, id: &str) -> KeyId {
        let id = KeyId(id.into());
        let key = KeyRecord {
            id: id.clone(),
            name: id.0.clone(),
            hash: [7; 32],
            verbs: BTreeSet::new(),
            reach: Reach::All,
            lane: tokens::Lane::default(),
            allowed: Vec::new(),
            created_at: self.house.clock.now(),
            expires_at: None,
            revoked_at: None,
            last_use: None,
        };
        self.records.add_key(&key).await.expect("a key");
        id
    }

    async fn reads(&self, key: &KeyId, installations: std::ops::Range<usize>) {
        let at = self.house.clock.now();
        let line = |number: usize| AuditLine {
            at,
            key: key.clone(),
            id: InstallationId::from_parts("location", &format!("loc{number}")).expect("an id"),
            generation: 1,
            count: 1,
            request_id: None,
        };
        self.records.audit(&installations.map(line).collect::<Vec<_>>()).await.expect("audit");
    }

    async fn comes_from(&self, key: &KeyId, source: &str) {
        let used = KeyUse { at: self.house.clock.now(), source: source.into() };
        self.records.note_uses(&[(key.clone(), used)]).await.expect("a use");
    }
}

#[tokio::test]
async fn a_key_that_does_what_it_never_did_is_told_once_a_day() {
    let house = House::new(Rest::Sqlite).await;
    let (upkeep, records) = process(&house, Vec::new());
    let (other, _) = other_process(&house, Vec::new());
    let story = Story { house: &house, records: records.as_ref() };
    let (usual, new) = (story.key("usual").await, story.key("new").await);
    let look = async || {
        tokio::join!(upkeep.watch_keys(), other.watch_keys());
        told(&records).await.len()
    };
    story.reads(&usual, 0..100).await;
    story.comes_from(&usual, "127.0.0.1").await;
    assert_eq!(look().await, 0, "it is new itself");
    house.advance(HOUR);
    // What it always does, a few more, and a key that begins.
    story.reads(&usual, 0..149).await;
    story.comes_from(&usual, "127.0.0.1").await;
    story.reads(&new, 0..100).await;
    story.comes_from(&new, "unix").await;
    assert_eq!(look().await, 0);
    // Fifty that it never read.
    story.reads(&usual, 149..150).await;
    assert_eq!((look().await, look().await), (1, 1));
    house.advance(HOUR / 60);
    story.comes_from(&usual, "192.0.2.7").await;
    assert_eq!((look().await, look().await), (2, 2));
    let notices = records.notices(10).await.expect("the notices");
    let codes: Vec<_> = notices.iter().filter_map(|(notice, _)| notice.code.clone()).collect();
    assert_eq!(codes, ["new_source", "many_reads"]);
    let said = notices[0].0.said.clone().expect("words");
    assert!(said.contains("key=usual") && said.contains("source=192.0.2.7"), "{said}");
    // Once for each kind and day.
    house.advance(HOUR);
    story.reads(&usual, 1000..1100).await;
    story.comes_from(&usual, "192.0.2.8").await;
    assert_eq!(look().await, 2);
    house.advance(DAY);
    story.reads(&usual, 2000..2050).await;
    assert_eq!(look().await, 3);
}
