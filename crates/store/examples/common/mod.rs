//! What the benches of the store have in common.
#![allow(dead_code, unreachable_pub, reason = "each bench uses its own part")]

use std::sync::atomic::{AtomicU64, Ordering};

use tokens::{AccessToken, InstallationId, RefreshBy, RefreshToken, ReplyMembers, TokenSet};

use crate::sample::{DAY, START};

/// A token of `size` characters.
pub(crate) fn token(kind: &str, size: usize) -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut text = format!("eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.{kind}{number}.");
    // As little to be packed as a signature, and cheap: the bench shares the processor with what it
    // measures.
    let mut state = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend((0..10).map(|part| char::from(LETTERS[(state >> (6 * part)) as usize & 63])));
    }
    text.truncate(size);
    text
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

pub(crate) static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Tokens of `size` characters each.
pub(crate) fn set(id: &InstallationId, size: usize) -> TokenSet {
    TokenSet {
        access: AccessToken::new(token("access", size)),
        refresh_by: RefreshBy::Own(RefreshToken::new(token("refresh", size))),
        issued_at: START,
        expires_at: START + DAY,
        scopes: "contacts.readonly contacts.write locations.readonly".into(),
        company: None,
        members: ReplyMembers::new(format!(r#"{{"token_type":"Bearer","locationId":"{}"}}"#, id.as_str())),
    }
}
