//! When a key is used as it never was before: pure, so that it can be read as a table.

use std::time::Duration;

use crate::records::Habits;

/// What counts as of late.
pub const OF_LATE: Duration = Duration::from_secs(10 * 60);

/// So many installations that a key never read before, of late, are no coincidence.
const MANY: usize = 50;

/// Something that a key never did before. A key that is new has no habits to break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// It took the tokens of so many installations for the first time.
    ManyReads(usize),
    /// It came from somewhere for the first time.
    NewSource(String),
}

impl Anomaly {
    /// The word for its kind.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ManyReads(_) => "many_reads",
            Self::NewSource(_) => "new_source",
        }
    }
}

impl Habits {
    /// What is unusual about it.
    pub fn anomalies(&self) -> Vec<Anomaly> {
        let reads = (self.has_read && self.newly_read >= MANY).then_some(Anomaly::ManyReads(self.newly_read));
        let source = self.new_source.clone().filter(|_| self.has_come).map(Anomaly::NewSource);
        reads.into_iter().chain(source).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::KeyId;

    #[test]
    fn what_a_key_never_did_is_unusual_unless_the_key_is_new() {
        let check = |has_read, newly_read, has_come, new_source: Option<&str>, expected: &[&str]| {
            let new_source = new_source.map(str::to_owned);
            let (key, name) = (KeyId("k".into()), String::new());
            let habits = Habits { key, name, has_read, newly_read, has_come, new_source };
            let found: Vec<_> = habits.anomalies().iter().map(Anomaly::as_str).collect();
            assert_eq!(found, expected, "{habits:?}");
        };
        check(true, 49, true, None, &[]);
        check(true, 50, true, None, &["many_reads"]);
        check(false, 5000, false, Some("192.0.2.1"), &[]);
        check(true, 0, true, Some("192.0.2.1"), &["new_source"]);
        check(true, 99, true, Some("unix"), &["many_reads", "new_source"]);
    }
}
