//! The `.env` file, and values that a container runtime passed through as they stood in one.
//!
//! What counts is what the users of the Python template have: `KEY=value`, quotes of either kind,
//! `export`, comments after a space and `#`, and spaces in values without quotes. Nothing is
//! interpolated: a secret with a `$` in it stays what it is.

use std::collections::HashMap;

/// A line that is no assignment, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadLine(pub(crate) usize);

/// Reads a whole file. A name that comes twice has its last value.
pub(crate) fn parse(text: &str) -> (HashMap<String, String>, Vec<BadLine>) {
    let mut values = HashMap::new();
    let mut bad = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match assignment(line) {
            Some((name, value)) => drop(values.insert(name.to_owned(), value)),
            None => bad.push(BadLine(index + 1)),
        }
    }
    (values, bad)
}

fn assignment(line: &str) -> Option<(&str, String)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name =
        !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    is_name.then(|| clean(value).map(|value| (name, value)))?
}

/// What is meant by the text behind the `=`: without its quotes, without a comment. `None` when a
/// quote is not closed or something other than a comment follows it.
pub(crate) fn clean(raw: &str) -> Option<String> {
    let raw = raw.trim();
    match raw.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            let (value, rest) = quoted(&raw[1..], quote)?;
            let rest = rest.trim_start();
            (rest.is_empty() || rest.starts_with('#')).then_some(value)
        }
        Some('#') => Some(String::new()),
        _ => {
            let comment = raw.match_indices('#').find(|(at, _)| raw[..*at].ends_with(char::is_whitespace));
            Some(comment.map_or(raw, |(at, _)| &raw[..at]).trim_end().to_owned())
        }
    }
}

/// The text up to the closing quote, with its escapes undone, and what follows the quote.
fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Some((value, &text[at + c.len_utf8()..])),
            '\\' => match chars.next()?.1 {
                'n' if quote == '"' => value.push('\n'),
                't' if quote == '"' => value.push('\t'),
                c if c == quote || c == '\\' || (c == '$' && quote == '"') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_its_writer_meant() {
        let check = |raw: &str, expected: Option<&str>| assert_eq!(clean(raw).as_deref(), expected, "{raw}");
        check("plain", Some("plain"));
        check(" spaced out ", Some("spaced out"));
        check("\"SEU_CLIENT_ID\"", Some("SEU_CLIENT_ID"));
        check("\"https://x.example/\" # Ex: https://google.com/", Some("https://x.example/"));
        check("'it''s'", None);
        check("'it\\'s'", Some("it's"));
        check("\"a \\\"b\\\" \\$c \\\\ \\d\"", Some("a \"b\" $c \\ \\d"));
        check("12 # hours", Some("12"));
        check("Status#1", Some("Status#1"));
        check("# nothing", Some(""));
        check("", Some(""));
        check("\"\"", Some(""));
        check("\"open", None);
        check("\"a\" b", None);
        check("$HOME/x", Some("$HOME/x"));
    }

    #[test]
    fn a_file_is_read_line_by_line() {
        let text = "\u{feff}# a comment\r\nexport A=1\r\n\r\nB = \"two words\" # why\nnot an assignment\n2C=3\nA=4\n";
        let (values, bad) = parse(text);
        assert_eq!(values.get("A").map(String::as_str), Some("4"));
        assert_eq!(values.get("B").map(String::as_str), Some("two words"));
        assert_eq!(values.len(), 2);
        assert_eq!(bad, [BadLine(5), BadLine(6)]);
    }
}
