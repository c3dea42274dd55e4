//! What the health check's own calls need, and what they tell.

use tokens::InstallationId;

use super::super::finding::{Area, Finding};

/// What came of adding the tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tagging {
    /// No contact or no tag is configured.
    NotConfigured,
    /// It was added, and whether it was on the contact before and is now.
    Added { was_there: bool, is_there: bool },
}

/// The tag, and the workflow as far as the tag tells of it.
pub(crate) fn tag(tagging: Tagging, tag: &str, contact: &str) -> Vec<Finding> {
    let said = || vec![("tag", tag.to_owned()), ("contact", contact.to_owned())];
    match tagging {
        Tagging::NotConfigured => vec![Finding::good(Area::Tag, "tag_none", vec![])],
        Tagging::Added { was_there, is_there } => vec![
            match is_there {
                true => Finding::good(Area::Tag, "tag_good", said()),
                false => Finding::warning(Area::Tag, "tag_not_seen", said()),
            },
            match was_there {
                true => Finding::warning(Area::Workflow, "tag_left", said()),
                false => Finding::good(Area::Workflow, "workflow_unseen", vec![]),
            },
        ],
    }
}

/// The scopes that the health check's calls need.
pub(crate) fn scopes_of_the_check(id: &InstallationId, contact: bool, tag: bool) -> Vec<&'static str> {
    match (id, contact, tag) {
        (InstallationId::Location(_), true, true) => vec!["contacts.readonly", "contacts.write"],
        (InstallationId::Location(_), true, false) => vec!["contacts.readonly"],
        _ => vec!["locations.readonly"],
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::codes;
    use super::*;

    #[test]
    fn a_tag_tells_of_itself_and_of_its_workflow() {
        let check = |tagging, expected: &[&str]| assert_eq!(codes(&tag(tagging, "t", "c")), expected);
        check(Tagging::NotConfigured, &["tag_none"]);
        check(Tagging::Added { was_there: false, is_there: true }, &["tag_good", "workflow_unseen"]);
        check(Tagging::Added { was_there: true, is_there: false }, &["tag_not_seen", "tag_left"]);
    }
}
