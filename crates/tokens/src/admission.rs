//! What becomes of a grant that nobody here asked for: a marketplace install.

use std::collections::BTreeSet;

use crate::installation::{Connection, Installation, InstallationId};

/// Whom the operator lets in without being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstallPolicy {
    /// Nobody: each grant waits for approval.
    Approve,
    /// These.
    Allowlist(BTreeSet<InstallationId>),
    /// Everybody.
    Open,
}

/// What is done with a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is served from now on.
    Serve,
    /// It waits for approval.
    Park,
}

impl InstallPolicy {
    /// Decides about a grant for `id`, where `present` is what we have for it. One that works is
    /// never replaced without approval, whatever the policy: the code may be someone else's.
    pub fn admit(&self, id: &InstallationId, present: Option<&Installation>) -> Admission {
        let healthy = present.is_some_and(|present| !matches!(present.connection, Connection::Broken(_)));
        let welcome = match self {
            Self::Approve => false,
            Self::Allowlist(ids) => ids.contains(id),
            Self::Open => true,
        };
        match welcome && !healthy {
            true => Admission::Serve,
            false => Admission::Park,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::installation::Broken;
    use crate::sample;

    fn check(policy: &InstallPolicy, present: Option<&Installation>, expected: Admission) {
        let id = sample::installation().id;
        assert_eq!(policy.admit(&id, present), expected, "{policy:?} over {present:?}");
    }

    #[test]
    fn a_stranger_is_served_only_where_the_operator_said_so() {
        let ours = InstallPolicy::Allowlist([sample::installation().id].into());
        let others = InstallPolicy::Allowlist(BTreeSet::new());
        check(&InstallPolicy::Approve, None, Admission::Park);
        check(&ours, None, Admission::Serve);
        check(&others, None, Admission::Park);
        check(&InstallPolicy::Open, None, Admission::Serve);
    }

    #[test]
    fn what_works_is_never_replaced_unasked_and_what_is_broken_may_be() {
        let works = sample::installation();
        let broken = Broken { since: Timestamp::from_millis(0), said: String::new() };
        let broken = Installation { connection: Connection::Broken(broken), ..works.clone() };
        check(&InstallPolicy::Open, Some(&works), Admission::Park);
        check(&InstallPolicy::Open, Some(&broken), Admission::Serve);
        check(&InstallPolicy::Approve, Some(&broken), Admission::Park);
    }
}
