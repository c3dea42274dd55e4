//! The book's list of errors and the program's are the same, in both languages and in both directions.
//!
//! The pages hold what the locales say of each code, with `…` for what differs from case to case, and
//! whatever else there is to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use fluent_syntax::ast::{Entry, Expression, InlineExpression, Pattern, PatternElement};

/// What a language says of a code: what happened, and what to do, where that is said apart.
struct Said {
    what: String,
    ways: Vec<String>,
    cure: Option<String>,
}

/// The parts of the page, in their order, and how their codes' sentences begin in the locales.
const PARTS: [&str; 3] = ["error-", "api-", "hint-"];

/// How those of what the doctor finds begin; they stand at the end, and each has a cure.
const FINDINGS: &str = "doctor-";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The sentences of one part, by code.
fn said(lang: &str, part: &str) -> BTreeMap<String, Said> {
    let path = format!("crates/ghl-auth/locales/{lang}/ghl-auth.ftl");
    let text = fs::read_to_string(root().join(path)).expect("the locale is there");
    let resource = fluent_syntax::parser::parse(text).expect("the locale is sound");
    let mut said = BTreeMap::new();
    for entry in resource.body {
        let Entry::Message(message) = entry else { continue };
        let Some(code) = message.id.name.strip_prefix(part) else { continue };
        let cure = message.attributes.iter().find(|attribute| attribute.id.name == "action");
        if part == FINDINGS && cure.is_none() {
            continue;
        }
        // A cure that differs as a whole has nothing to print.
        let cure = cure.map(|cure| words(&cure.value)).filter(|cure| cure != "…");
        let Some(what) = message.value.as_ref().map(words) else { continue };
        let ways = message.value.as_ref().map(ways).unwrap_or_default();
        said.insert(code.to_owned(), Said { what, ways, cure });
    }
    said
}

/// A sentence for one and for many, where it is said in both ways.
fn ways(pattern: &Pattern<String>) -> Vec<String> {
    match pattern.elements.as_slice() {
        [PatternElement::Placeable { expression: Expression::Select { variants, .. } }] => {
            variants.iter().map(|variant| words(&variant.value)).collect()
        }
        _ => vec![words(pattern)],
    }
}

/// A sentence in one line, with `…` for what differs.
fn words(pattern: &Pattern<String>) -> String {
    let element = |element: &PatternElement<String>| match element {
        PatternElement::TextElement { value } => value.clone(),
        PatternElement::Placeable { expression: Expression::Select { variants, .. } } => {
            let usual = variants.iter().find(|variant| variant.default).expect("a usual variant");
            words(&usual.value)
        }
        PatternElement::Placeable {
            expression: Expression::Inline(InlineExpression::StringLiteral { value }),
        } => value.clone(),
        PatternElement::Placeable { .. } => "…".to_owned(),
    };
    let text: String = pattern.elements.iter().map(element).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the page of a language has under each code of each part, without what only Markdown needs.
fn pages(lang: &str) -> Vec<BTreeMap<String, String>> {
    let path = root().join(format!("docs/{lang}/src/errors.md"));
    let page = fs::read_to_string(path).expect("the page is there").replace('\\', "");
    let parts = page.split("\n## ").skip(1).map(|part| {
        let sections = part.split("\n### `").skip(1);
        sections
            .map(|section| {
                let (code, rest) = section.split_once("`\n").expect("a code");
                (code.to_owned(), rest.to_owned())
            })
            .collect()
    });
    parts.collect()
}

/// All that the crates are made of, with every run of blanks as one.
fn sources() -> String {
    fn gather(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                gather(&entry, all);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(&entry).expect("a source"));
            }
        }
    }
    let mut all = String::new();
    for crate_folder in fs::read_dir(root().join("crates")).expect("the crates") {
        gather(&crate_folder.expect("a crate").path().join("src"), &mut all);
    }
    all.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The codes that stand before `what` in the sources, with the word that follows it.
fn codes_before(sources: &str, what: &str) -> Vec<(String, String)> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    let mut pieces = sources.split(what);
    let mut before = pieces.next().unwrap_or_default();
    for after in pieces {
        if let Some((_, code)) = before.rsplit_once('"').filter(|(_, code)| *code == word(code)) {
            found.push((code.to_owned(), word(after)));
        }
        before = after;
    }
    found
}

/// How each error ends a command. What the doctor finds ends one, too, and has a part of its own.
fn exits_of_errors(sources: &str) -> Vec<(String, String)> {
    let errors = said("en", "error-");
    let locale =
        fs::read_to_string(root().join("crates/ghl-auth/locales/en/ghl-auth.ftl")).expect("it is there");
    let mut exits = codes_before(sources, "\", Exit::");
    exits
        .retain(|(code, _)| errors.contains_key(code) || !locale.contains(&format!("\n{FINDINGS}{code} = ")));
    exits
}

#[test]
fn the_book_has_each_code_with_what_the_program_says_of_it_and_no_other() {
    for (lang, to_do) in [("en", "What to do"), ("pt-BR", "O que fazer")] {
        let pages = pages(lang);
        let mut lacking = String::new();
        let doctor = [(&FINDINGS, pages.last().expect("a part"))];
        for (part, page) in PARTS.iter().zip(&pages).chain(doctor) {
            let said = said(lang, part);
            assert!(said.len() > 8, "the codes were read: {}", said.len());
            for (code, said) in &said {
                let mut lines = vec![format!("> {}", said.what)];
                lines.extend(said.cure.as_ref().map(|cure| format!("**{to_do}:** {cure}")));
                let section = page.get(code).map(String::as_str).unwrap_or_default();
                if !lines.iter().all(|line| section.lines().any(|other| other == line)) {
                    lacking.push_str(&format!("### `{code}`\n\n{}\n\n", lines.join("\n\n")));
                }
            }
            for code in page.keys().filter(|code| !said.contains_key(*code)) {
                lacking.push_str(&format!("nobody says `{code}`\n\n"));
            }
        }
        assert!(lacking.is_empty(), "docs/{lang}/src/errors.md lacks\n\n{lacking}");
    }
}

#[test]
fn each_code_is_used_and_each_that_is_used_is_in_the_book() {
    let sources = sources();
    let [errors, answers, hints] = PARTS.map(|part| said("en", part));
    let all = [("error-", &errors), ("api-", &answers), ("hint-", &hints)];
    for (part, code) in all.iter().flat_map(|(part, codes)| codes.keys().map(move |code| (part, code))) {
        assert!(sources.contains(&format!("\"{code}\"")), "nobody uses {part}{code}");
    }
    let exits = exits_of_errors(&sources);
    assert!(exits.len() > 80, "the sources were read: {}", exits.len());
    for (code, _) in &exits {
        assert!(errors.contains_key(code), "{code} has no sentence");
    }
}

#[test]
fn the_book_says_how_each_error_ends_a_command() {
    let numbers = [("Failed", 1), ("Usage", 2), ("Person", 3), ("Unreachable", 4)];
    let exits = exits_of_errors(&sources());
    for (lang, words) in [("en", "Exit code"), ("pt-BR", "Código de saída")] {
        let page = &pages(lang)[0];
        for (code, exit) in &exits {
            let number = numbers.iter().find(|(name, _)| name == exit).expect("an exit code").1;
            let facts = format!("{words} {number}.");
            assert!(page[code].trim_start().starts_with(&facts), "docs/{lang}, `{code}`: {facts}");
        }
    }
}

#[test]
fn the_book_says_with_which_status_each_problem_is_answered() {
    let sources = sources();
    let ours = said("en", "api-");
    let mut seen = 0;
    for piece in sources.split("StatusCode::").skip(1) {
        let Some((name, rest)) = piece.split_once(", \"") else { continue };
        let Some((code, _)) = rest.split_once('"').filter(|(code, _)| ours.contains_key(*code)) else {
            continue;
        };
        // `StatusCode`s have no list, and their names are those of RFC 9110.
        let Some(status) =
            (400..600).filter_map(|status| http::StatusCode::from_u16(status).ok()).find(|status| {
                let reason = status.canonical_reason().unwrap_or_default();
                reason.to_uppercase().replace([' ', '-'], "_") == name
            })
        else {
            continue;
        };
        seen += 1;
        for lang in ["en", "pt-BR"] {
            let facts = format!("API: {}.", status.as_u16());
            assert!(pages(lang)[1][code].trim_start().starts_with(&facts), "docs/{lang}, `{code}`: {facts}");
        }
    }
    assert!(seen > 20, "the sources were read: {seen}");
}

#[test]
fn the_book_has_each_warning_and_each_code_of_notices() {
    let explain = fs::read_to_string(root().join("crates/ghl-auth/src/explain.rs")).expect("a source");
    let warnings: Vec<&str> = explain
        .split("), \"")
        .skip(1)
        .filter_map(|rest| rest.split_once("\")").map(|(code, _)| code))
        .filter(|code| !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(warnings.contains(&"tag_was_still_there"), "the warnings were read: {warnings:?}");
    let sources = sources();
    let notices = ["late", "uninstalled", "many_reads", "new_source", "daily_quota", "store_unavailable"];
    for lang in ["en", "pt-BR"] {
        let pages = pages(lang);
        let page = fs::read_to_string(root().join(format!("docs/{lang}/src/errors.md"))).expect("the page");
        for code in &warnings {
            assert!(pages[3].contains_key(*code), "docs/{lang}: the warning {code}");
        }
        assert_eq!(pages[3].len(), warnings.len(), "docs/{lang}: {:?}", pages[3].keys());
        for code in notices {
            assert!(page.contains(&format!("\n| `{code}` | ")), "docs/{lang}: {code} of notices");
            assert!(sources.contains(&format!("\"{code}\"")), "nobody tells of {code}");
        }
    }
}

/// The routes that a page names, `METHOD /path`.
fn routes_of_the_book() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/en/src/api.md")).expect("the page is there");
    let (_, table) = page.split_once("## All routes").expect("the table");
    let (table, _) = table.split_once("\n## ").expect("its end");
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`')).filter(|name| name.contains(" /"));
    names.map(str::to_owned).collect()
}

#[test]
fn the_book_has_each_route_of_the_api_and_no_other() {
    // What only browsers see besides has no place in a list for programs.
    let is_api = |path: &str| {
        let api = ["/v1/", "/oauth/", "/webhooks/", "/livez", "/readyz", "/metrics", "/openapi.json"];
        api.iter().any(|start| path.starts_with(start))
    };
    let entries = server::entries();
    let ours = entries.iter().filter(|entry| is_api(entry.path));
    let ours: BTreeSet<String> = ours.map(|entry| format!("{} {}", entry.method, entry.path)).collect();
    assert_eq!(routes_of_the_book(), ours);
}

/// Every sentence of both languages, as the words between what differs.
fn sentences() -> Vec<Vec<String>> {
    let mut sentences = Vec::new();
    for lang in ["en", "pt-BR"] {
        for way in said(lang, "").values().flat_map(|said| &said.ways) {
            let pieces: Vec<String> = way.split('…').map(str::to_owned).collect();
            // One that is all argument says nothing of its own.
            if pieces.iter().flat_map(|piece| piece.chars()).filter(|c| c.is_alphabetic()).count() > 3 {
                sentences.push(pieces);
            }
        }
    }
    sentences
}

fn is_said(line: &str, sentence: &[String]) -> bool {
    let [first, others @ ..] = sentence else { return false };
    let Some(mut rest) = line.strip_prefix(first.as_str()) else { return false };
    for (number, piece) in others.iter().enumerate() {
        let found = match number + 1 == others.len() {
            true if piece.is_empty() => return true,
            true => rest.rfind(piece.as_str()),
            false => rest.find(piece.as_str()),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty()
}

#[test]
fn what_the_book_shows_of_the_program_is_what_the_program_says() {
    let sentences = sentences();
    // A library's words, which are in no locale.
    let others = ["slack: it can't be reached"];
    let mut shown = 0;
    for lang in ["en", "pt-BR"] {
        let folder = root().join(format!("docs/{lang}/src"));
        let pages = fs::read_dir(folder).expect("the book").map(|page| page.expect("a page").path());
        for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
            let text = fs::read_to_string(&page).expect("a page");
            let blocks = text.split("```text\n").skip(1).filter_map(|rest| rest.split("\n```").next());
            // What goes over HTTP is tried elsewhere, and tables are no sentences.
            let blocks = blocks.filter(|block| !block.starts_with("HTTP/") && !block.starts_with("POST "));
            for line in blocks.flat_map(str::lines).filter(|line| !line.is_empty() && !line.starts_with(' '))
            {
                let line = ["warning: ", "aviso: "]
                    .iter()
                    .find_map(|label| line.strip_prefix(label))
                    .unwrap_or(line);
                let known =
                    others.contains(&line) || sentences.iter().any(|sentence| is_said(line, sentence));
                assert!(known, "{}: the program does not say: {line}", page.display());
                shown += 1;
            }
        }
    }
    assert!(shown > 50, "the blocks were read: {shown}");
}
