//! The store, its key and its tables.

use ::store::Tables;

use super::super::finding::{Area, Finding};
use crate::exit::Exit;

const MIB: u64 = 1024 * 1024;

/// A refresh sets a quarter of a MiB aside, and a database grows in pieces: less than this is none.
const FULL: u64 = 16 * MIB;
const SOON_FULL: u64 = 200 * MIB;

/// With which keys the store is sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyFacts {
    pub(crate) has_current: bool,
    pub(crate) old: usize,
    /// So many records still need one of the old keys.
    pub(crate) left: usize,
}

pub(crate) fn key(facts: KeyFacts) -> Finding {
    match facts {
        KeyFacts { has_current: false, old: 1.., .. } => {
            Finding::warning(Area::Key, "old_keys_alone", vec![])
        }
        KeyFacts { has_current: false, .. } => Finding::good(Area::Key, "key_none", vec![]),
        KeyFacts { old: 0, .. } => Finding::good(Area::Key, "key_good", vec![]),
        KeyFacts { left: 0, .. } => Finding::warning(Area::Key, "old_keys_idle", vec![]),
        KeyFacts { left, .. } => {
            Finding::warning(Area::Key, "old_keys_needed", vec![("count", left.to_string())])
        }
    }
}

/// The store, once it is open.
#[derive(Clone, Debug)]
pub(crate) struct StoreFacts {
    pub(crate) place: String,
    pub(crate) free_bytes: Option<u64>,
    /// Why another keeps these grants, if another does.
    pub(crate) standby: Option<String>,
    pub(crate) landings: usize,
    pub(crate) in_place: bool,
}

/// Tables of a database on a network that are not as the store needs them.
pub(crate) fn tables(tables: Tables, place: &str) -> Option<Finding> {
    let place = vec![("place", place.to_owned())];
    match tables {
        Tables::Whole => None,
        Tables::None => Some(Finding::failure(Area::Store, "store_missing", Exit::Person, place)),
        Tables::Earlier => Some(Finding::warning(Area::Store, "tables_earlier", place)),
        Tables::WithoutRecords => {
            Some(Finding::failure(Area::Store, "records_missing", Exit::Unreachable, place))
        }
    }
}

pub(crate) fn store(facts: &StoreFacts) -> Vec<Finding> {
    let area = Area::Store;
    let place = || ("place", facts.place.clone());
    let mut found = Vec::new();
    if let Some(free) = facts.free_bytes.filter(|free| *free < SOON_FULL) {
        let said = vec![place(), ("free", (free / MIB).to_string())];
        found.push(match free < FULL {
            true => Finding::failure(area, "disk_full", Exit::Unreachable, said),
            false => Finding::warning(area, "disk_low", said),
        });
    }
    if let Some(why) = &facts.standby {
        found.push(Finding::warning(area, "standby", vec![place(), ("why", why.clone())]));
    }
    if facts.landings > 0 {
        found.push(Finding::warning(area, "landings", vec![("count", facts.landings.to_string())]));
    }
    if facts.in_place {
        found.push(Finding::warning(area, "in_place", vec![place()]));
    }
    if found.is_empty() {
        found.push(Finding::good(area, "store_good", vec![place()]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tests::codes;
    use super::*;

    #[test]
    fn a_disk_is_told_of_before_and_when_it_is_full() {
        let check = |free: Option<u64>, expected: &str, exit: Exit| {
            let facts = StoreFacts {
                place: "ghl.db".into(),
                free_bytes: free,
                standby: None,
                landings: 0,
                in_place: false,
            };
            let found = store(&facts);
            assert_eq!((codes(&found), found.first().map(|it| it.exit)), (vec![expected], Some(exit)));
        };
        check(None, "store_good", Exit::Good);
        check(Some(SOON_FULL), "store_good", Exit::Good);
        check(Some(SOON_FULL - 1), "disk_low", Exit::Good);
        check(Some(FULL - 1), "disk_full", Exit::Unreachable);
    }

    #[test]
    fn a_store_tells_of_all_that_is_odd_about_it() {
        let facts = StoreFacts {
            place: "ghl.db".into(),
            free_bytes: None,
            standby: Some("moved".into()),
            landings: 1,
            in_place: true,
        };
        assert_eq!(codes(&store(&facts)), ["standby", "landings", "in_place"]);
    }

    #[test]
    fn an_old_key_is_needed_or_not() {
        let check = |has_current, old, left, expected: &str| {
            assert_eq!(key(KeyFacts { has_current, old, left }).code, expected);
        };
        check(false, 0, 0, "key_none");
        check(false, 1, 0, "old_keys_alone");
        check(true, 0, 0, "key_good");
        check(true, 1, 0, "old_keys_idle");
        check(true, 1, 3, "old_keys_needed");
    }

    #[test]
    fn a_databases_tables_are_whole_or_a_matter_to_tell() {
        let check = |there, expected: Option<&str>| {
            assert_eq!(tables(there, "x").map(|found| found.code), expected);
        };
        check(Tables::Whole, None);
        check(Tables::None, Some("store_missing"));
        check(Tables::Earlier, Some("tables_earlier"));
        check(Tables::WithoutRecords, Some("records_missing"));
    }
}
