//! Settings that can be read and are likely not meant.

use super::super::finding::{Area, Finding};
use crate::exit::Exit;

/// The settings beyond what makes them faulty.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingsFacts {
    pub(crate) env_file: Option<String>,
    pub(crate) bad_lines: Vec<usize>,
    pub(crate) cleaned: Vec<String>,
    /// Names and values of what an example is easily left in; no secrets.
    pub(crate) plain: Vec<(String, String)>,
    /// Names of secrets that hold an example's words.
    pub(crate) example_secrets: Vec<String>,
    pub(crate) client_id: Option<String>,
}

/// Whether a value is what the template, or a guide, has in its place.
pub(crate) fn is_placeholder(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    ["seu_", "sua_", "your_", "your-", "change_me", "changeme", "xxxx", "<"]
        .iter()
        .any(|start| value.starts_with(start))
}

/// Settings that can be read and are likely not meant.
pub(crate) fn settings(facts: &SettingsFacts) -> Vec<Finding> {
    let area = Area::Configuration;
    let mut found = Vec::new();
    let path = || ("path", facts.env_file.clone().unwrap_or_else(|| ".env".to_owned()));
    if !facts.bad_lines.is_empty() {
        let lines = facts.bad_lines.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        found.push(Finding::warning(area, "env_lines", vec![path(), ("lines", lines)]));
    }
    if !facts.cleaned.is_empty() {
        found.push(Finding::warning(area, "cleaned", vec![("names", facts.cleaned.join(", "))]));
    }
    let plain = facts.plain.iter().filter(|(_, value)| is_placeholder(value)).map(|(name, _)| name);
    let examples: Vec<&str> = plain.chain(&facts.example_secrets).map(String::as_str).collect();
    if !examples.is_empty() {
        let names = ("names", examples.join(", "));
        found.push(Finding::failure(area, "placeholder", Exit::Usage, vec![names]));
    }
    if let Some(id) = &facts.client_id
        && !is_placeholder(id)
        && !is_client_id(id)
    {
        found.push(Finding::warning(area, "client_id_shape", vec![]));
    }
    found
}

/// `<24 hex>-<suffix>`, as the marketplace shows it.
fn is_client_id(id: &str) -> bool {
    let Some((app, suffix)) = id.split_once('-') else { return false };
    app.len() == 24 && app.bytes().all(|byte| byte.is_ascii_hexdigit()) && !suffix.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_examples_words_are_known_and_others_are_not() {
        for example in ["SEU_CLIENT_ID", "your-client-id", "CHANGEME", "<client id>", "xxxxxxxx"] {
            assert!(is_placeholder(example), "{example}");
        }
        for real in ["seutotal", "0123456789abcdef01234567-abcd1234", "x", "JARDINS"] {
            assert!(!is_placeholder(real), "{real}");
        }
        for (id, good) in [
            ("0123456789abcdef01234567-abcd1234", true),
            ("0123456789abcdef01234567", false),
            ("0123456789abcdef01234567-", false),
            ("0123456789abcdef0123456-abcd1234", false),
            ("0123456789abcdef0123456z-abcd1234", false),
        ] {
            assert_eq!(is_client_id(id), good, "{id}");
        }
    }
}
