//! What a commit and a new authorisation make of an installation: the same for every backend.

use std::time::Duration;

use tokens::store::Commit;
use tokens::{Connection, Installation, InstallationId, Previous, RefreshBy, Timestamp, TokenSet, Version};

use crate::seal::Sealer;

/// How long the set before is kept, in case HighLevel handed out a bad pair.
const KEEP_PREVIOUS: Duration = Duration::from_secs(24 * 60 * 60);

/// What a change comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// This is to be written.
    Changed(Box<Installation>),
    /// It is as wanted: an earlier try got through.
    AlreadySo(Box<Installation>),
    /// It has moved on, and is left alone.
    Moved(Box<Installation>),
}

/// Puts the next generation in the place of the one whose refresh token bought it, and of no other.
pub(crate) fn commit(found: Installation, commit: &Commit, sealer: &Sealer) -> Outcome {
    if is_same(&found.tokens, &commit.tokens) && found.version.epoch == commit.version.epoch {
        return Outcome::AlreadySo(Box::new(found));
    }
    let bought = match &found.tokens.refresh_by {
        RefreshBy::Own(token) => sealer.tells(commit.replaces, token),
        RefreshBy::Company(_) => true,
    };
    if found.version != commit.version || !bought {
        return Outcome::Moved(Box::new(found));
    }
    let version = Version { generation: found.version.generation + 1, ..found.version };
    Outcome::Changed(Box::new(renewed(found, version, &commit.tokens, commit.now)))
}

/// Begins a new epoch, or the first.
pub(crate) fn connect(
    found: Option<Installation>,
    id: &InstallationId,
    tokens: &TokenSet,
    now: Timestamp,
) -> Outcome {
    match found {
        Some(found) if is_same(&found.tokens, tokens) && found.connection == Connection::Connected => {
            Outcome::AlreadySo(Box::new(found))
        }
        Some(found) => {
            let Version { epoch, generation } = found.version;
            let version = Version { epoch: epoch + 1, generation: generation + 1 };
            let renewed = renewed(found, version, tokens, now);
            Outcome::Changed(Box::new(Installation { connected_at: now, unlisted_at: None, ..renewed }))
        }
        None => Outcome::Changed(Box::new(Installation {
            id: id.clone(),
            version: Version { epoch: 1, generation: 1 },
            tokens: tokens.clone(),
            previous: None,
            connection: Connection::Connected,
            intent: None,
            last_check: None,
            connected_at: now,
            name: None,
            unlisted_at: None,
        })),
    }
}

fn renewed(found: Installation, version: Version, tokens: &TokenSet, now: Timestamp) -> Installation {
    let previous = match is_same(&found.tokens, tokens) {
        true => found.previous,
        false => Some(Previous { tokens: found.tokens, keep_until: now + KEEP_PREVIOUS }),
    };
    Installation {
        version,
        tokens: tokens.clone(),
        previous,
        connection: Connection::Connected,
        intent: None,
        ..found
    }
}

/// Whether two sets are one.
pub(crate) fn is_same(one: &TokenSet, other: &TokenSet) -> bool {
    one.access == other.access && one.refresh_by == other.refresh_by
}
