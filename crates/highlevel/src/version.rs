//! Which API version a request of someone else's means that names none.

use crate::client::Dialect;

/// The services whose specification declares `2021-04-15` (counted in HighLevel's API documents, 2026-06).
const OF_APRIL: [&str; 8] = [
    "agent-studio",
    "calendars",
    "conversation-ai",
    "conversations",
    "knowledge-base",
    "knowledge-bases",
    "saas-api",
    "voice-ai",
];

/// The value of the `Version` header for a path: that of its service's own document, else `otherwise`.
/// Under `v3` all services have the same.
pub fn version_of(path: &str, otherwise: Dialect) -> &'static str {
    let path = path.strip_prefix('/').unwrap_or(path).as_bytes();
    let is_of_april = |service: &&str| {
        path.strip_prefix(service.as_bytes())
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'/' | b'?')))
    };
    match otherwise {
        Dialect::Dated if OF_APRIL.iter().any(is_of_april) => "2021-04-15",
        other => other.header(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_version_of_its_service() {
        let check = |path: &str, dialect, expected: &str| {
            assert_eq!(version_of(path, dialect), expected, "{path}");
        };
        check("/contacts/abc", Dialect::Dated, "2021-07-28");
        check("/calendars/events", Dialect::Dated, "2021-04-15");
        check("/calendars", Dialect::Dated, "2021-04-15");
        check("/calendars?x=y", Dialect::Dated, "2021-04-15");
        check("/calendarsx", Dialect::Dated, "2021-07-28");
        check("/conversations/", Dialect::V3, "v3");
        check("/", Dialect::Dated, "2021-07-28");
    }
}
