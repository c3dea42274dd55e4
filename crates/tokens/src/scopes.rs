//! Which scopes a grant has beside those that the app wants: pure.
//!
//! An app that comes to want more gets it from a person only. Until then whoever installed it before
//! goes on with the scopes of that day, through every refresh.

use crate::installation::InstallationId;

/// What a location's token has beside the app's own scopes when it was minted from its company's
/// (measured 2026-08).
const OF_MINTING: [&str; 2] = ["oauth.readonly", "oauth.write"];

/// How the scopes of a grant differ from those that the app wants. Order and repetition don't matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Wanted and not granted, by name: a person has to authorise again.
    pub missing: Vec<String>,
    /// Granted and not wanted, by name. That stops nothing.
    pub extra: Vec<String>,
}

impl Drift {
    /// How `granted` differs from `wanted`, both as HighLevel writes scopes. Where either names none,
    /// nothing can be said, and there is no difference.
    pub fn of(id: &InstallationId, granted: &str, wanted: &str) -> Self {
        let (granted, wanted) = (names(granted), names(wanted));
        if granted.is_empty() || wanted.is_empty() {
            return Self::default();
        }
        let is_of_minting = |name: &str| match id {
            InstallationId::Location(_) => OF_MINTING.contains(&name),
            InstallationId::Company(_) => false,
        };
        let missing = wanted.iter().filter(|name| granted.binary_search(name).is_err());
        let extra = granted.iter().filter(|name| wanted.binary_search(name).is_err() && !is_of_minting(name));
        let owned = |name: &&str| (*name).to_owned();
        Self { missing: missing.map(owned).collect(), extra: extra.map(owned).collect() }
    }
}

/// The names in a list of scopes, sorted, each once.
fn names(scopes: &str) -> Vec<&str> {
    let mut names: Vec<&str> = scopes.split_whitespace().collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: &str, granted: &str, wanted: &str, missing: &[&str], extra: &[&str]) {
        let id = InstallationId::from_parts(kind, "X").expect("an id");
        let found = Drift::of(&id, granted, wanted);
        assert_eq!((found.missing, found.extra), (owned(missing), owned(extra)), "{granted} | {wanted}");
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wanted_and_not_granted_is_missing() {
        check("location", "a b", "a b", &[], &[]);
        check("location", "b  a\na", "a b b", &[], &[]);
        check("location", "a", "c b a", &["b", "c"], &[]);
        check("location", "a z", "a b", &["b"], &["z"]);
        check("location", "contacts.readonly", "contacts", &["contacts"], &["contacts.readonly"]);
    }

    #[test]
    fn what_minting_adds_to_a_location_is_not_extra() {
        check("location", "a oauth.write oauth.readonly", "a", &[], &[]);
        check("company", "a oauth.write", "a", &[], &["oauth.write"]);
        check("location", "a", "a oauth.write", &["oauth.write"], &[]);
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        check("location", "", "a", &[], &[]);
        check("location", "a", " ", &[], &[]);
    }
}
