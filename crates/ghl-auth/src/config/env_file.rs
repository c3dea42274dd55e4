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

/// The file with `name` set to `value`, and every other byte as it was: in the place of the assignment
/// that counts so far, else behind a comment that shows one, else at the end.
pub(crate) fn with_value(text: &str, name: &str, value: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let own = lines.iter().rposition(|line| is_about(line, name));
    let shown = lines.iter().rposition(|line| {
        let shown = line.trim_start_matches('\u{feff}').trim_start().strip_prefix('#');
        shown.is_some_and(|line| is_about(line, name))
    });
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let fresh = format!("{name}={}{ending}", written(value));
    let mut after = String::with_capacity(text.len() + fresh.len() + ending.len());
    for (index, line) in lines.iter().enumerate() {
        match own {
            Some(at) if at == index => after.push_str(&with_its_value(line, value)),
            _ => after.push_str(line),
        }
        if own.is_none() && shown == Some(index) {
            end_line(&mut after, ending);
            after.push_str(&fresh);
        }
    }
    if own.is_none() && shown.is_none() {
        end_line(&mut after, ending);
        after.push_str(&fresh);
    }
    after
}

fn end_line(text: &mut String, ending: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push_str(ending);
    }
}

/// Whether a line assigns to `name`, however badly.
fn is_about(line: &str, name: &str) -> bool {
    let line = line.trim_start_matches('\u{feff}').trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    line.split_once('=').is_some_and(|(known, _)| known.trim() == name)
}

/// An assignment with another value: what stands before it stays, and a comment behind it.
fn with_its_value(line: &str, value: &str) -> String {
    let Some((before, raw)) = line.split_once('=') else { return line.to_owned() };
    let ending = &raw[raw.trim_end_matches(['\r', '\n']).len()..];
    let raw = raw.trim_start();
    let rest = match raw.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(&raw[1..], quote).map_or("", |(_, rest)| rest),
        _ => raw
            .match_indices('#')
            .find(|(at, _)| *at == 0 || raw[..*at].ends_with(char::is_whitespace))
            .map_or("", |(at, _)| &raw[raw[..at].trim_end().len()..]),
    };
    let comment = Some(rest.trim()).filter(|rest| rest.starts_with('#'));
    let comment = comment.map(|comment| format!(" {comment}")).unwrap_or_default();
    format!("{before}={}{comment}{ending}", written(value))
}

/// A value in quotes that this file's readers, a shell and a container runtime take alike, as far as
/// there are such.
fn written(value: &str) -> String {
    match value.contains(['$', '`', '"', '\\', '\n', '\t']) {
        false => format!("\"{value}\""),
        true if !value.contains(['\'', '\\', '\n', '\t']) => format!("'{value}'"),
        true => {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
            format!("\"{}\"", value.replace('\n', "\\n").replace('\t', "\\t"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_put_in_its_place_and_nothing_else_changes() {
        let check = |before: &str, expected: &str| {
            let after = with_value(before, "A", "new");
            assert_eq!(after, expected);
            assert_eq!(parse(&after).0.get("A").map(String::as_str), Some("new"));
        };
        check("", "A=\"new\"\n");
        check("B=1", "B=1\nA=\"new\"\n");
        check("# mine\r\nB=1\r\n", "# mine\r\nB=1\r\nA=\"new\"\r\n");
        check("export A = \"old\" # Ex: it\r\nB=1\r\n", "export A =\"new\" # Ex: it\r\nB=1\r\n");
        check("A=old one #2 # why\nBA=1\n", "A=\"new\" #2 # why\nBA=1\n");
        check("A=#nothing\n", "A=\"new\" #nothing\n");
        check("A=1\nA=\"open\nB=2", "A=1\nA=\"new\"\nB=2");
        check("x\n# A=example\n\nB=2\n", "x\n# A=example\nA=\"new\"\n\nB=2\n");
        check("\u{feff}A=1\nnot an assignment\n", "\u{feff}A=\"new\"\nnot an assignment\n");
    }

    #[test]
    fn every_value_is_read_as_it_was_written() {
        for value in
            ["a b", "#1", "it's", "\"q\"", "$HOME", "`x`", "a\\b", "'$\"\\`", "two\nlines\t", "ação", "a # b"]
        {
            let after = with_value("B=1\n", "A", value);
            let (values, bad) = parse(&after);
            assert_eq!((values.get("A").map(String::as_str), bad.len()), (Some(value), 0), "{after}");
            assert_eq!(with_value(&after, "A", value), after, "twice is once");
        }
    }

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
