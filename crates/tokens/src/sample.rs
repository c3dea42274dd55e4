//! An installation to test with.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::installation::{Connection, Installation, InstallationId, Version};
use crate::secret::{AccessToken, RefreshToken, ReplyMembers};
use crate::token_set::{RefreshBy, TokenSet};

pub(crate) fn installation() -> Installation {
    let issued_at = Timestamp::from_millis(1_790_000_000_000);
    Installation {
        id: InstallationId::Location("BBBBBBBBBBBBBBBBBBBB".parse().expect("an id")),
        version: Version { epoch: 1, generation: 1 },
        tokens: TokenSet {
            access: AccessToken::new("access"),
            refresh_by: RefreshBy::Own(RefreshToken::new("refresh")),
            issued_at,
            expires_at: issued_at + Duration::from_secs(24 * 3600),
            scopes: "contacts.readonly contacts.write".into(),
            company: None,
            members: ReplyMembers::new("{}"),
        },
        previous: None,
        connection: Connection::Connected,
        intent: None,
        last_check: None,
        connected_at: issued_at,
        name: None,
        unlisted_at: None,
    }
}
