//! What the program says, in English and in Brazilian Portuguese.
//!
//! The sentences stand in `locales/`, in Mozilla's Fluent, one file for each language. Each is parsed when it is
//! said for the first time: a command says a few of a thousand. A test keeps the two files complete.

use std::collections::HashMap;
use std::sync::OnceLock;

use fluent_bundle::concurrent::FluentBundle;
use fluent_bundle::{FluentArgs, FluentResource};
use fluent_syntax::ast::{Entry, Message};
use unic_langid::LanguageIdentifier;

pub(crate) use fluent_bundle::FluentValue as Arg;

/// A language the program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lang {
    En,
    PtBr,
}

impl Lang {
    /// Every language there is.
    pub(crate) const ALL: [Lang; 2] = [Self::En, Self::PtBr];

    /// From `GHL_AUTH_LANG`, else from what the system's variables say in their order.
    pub(crate) fn choose(named: Option<&str>) -> Self {
        let system = || ["LC_ALL", "LC_MESSAGES", "LANG"].iter().find_map(|name| set(name));
        match named.map(str::to_owned).or_else(system) {
            Some(name) if name.to_ascii_lowercase().starts_with("pt") => Self::PtBr,
            _ => Self::En,
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::PtBr => "pt-BR",
        }
    }

    fn sentences(self) -> &'static str {
        match self {
            Self::En => include_str!("../locales/en/ghl-auth.ftl"),
            Self::PtBr => include_str!("../locales/pt-BR/ghl-auth.ftl"),
        }
    }
}

/// A sentence as it stands in its file, and as it is understood.
struct Sentence {
    source: &'static str,
    parsed: OnceLock<Option<Message<&'static str>>>,
}

impl Sentence {
    /// Finds one of a language's.
    fn find(lang: Lang, name: &str) -> Option<&'static Message<&'static str>> {
        static ENGLISH: OnceLock<HashMap<&str, Sentence>> = OnceLock::new();
        static PORTUGUESE: OnceLock<HashMap<&str, Sentence>> = OnceLock::new();
        let all = match lang {
            Lang::En => &ENGLISH,
            Lang::PtBr => &PORTUGUESE,
        };
        let sentence = all.get_or_init(|| Self::all_in(lang.sentences())).get(name)?;
        let parse = || match fluent_syntax::parser::parse_runtime(sentence.source) {
            Ok(resource) | Err((resource, _)) => resource.body.into_iter().find_map(|entry| match entry {
                Entry::Message(message) => Some(message),
                _ => None,
            }),
        };
        sentence.parsed.get_or_init(parse).as_ref()
    }

    /// All sentences of a file: each begins with its name and goes on with lines that do not begin with a letter.
    fn all_in(file: &'static str) -> HashMap<&'static str, Self> {
        let begins = |line: &str| line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '#');
        let mut all = HashMap::new();
        let (mut rest, mut at) = (file, 0);
        for line in file.split_inclusive('\n') {
            if begins(line) {
                let source;
                (source, rest) = rest.split_at(at);
                Self::add(source, &mut all);
                at = 0;
            }
            at += line.len();
        }
        Self::add(rest, &mut all);
        all
    }

    fn add(source: &'static str, all: &mut HashMap<&'static str, Self>) {
        if let Some((name, _)) = source.split_once('=')
            && !source.starts_with('#')
        {
            all.insert(name.trim_end(), Self { source, parsed: OnceLock::new() });
        }
    }
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The sentences of one language.
pub(crate) struct Text {
    pub(crate) lang: Lang,
    /// The app, among several, that is spoken of.
    app: Option<String>,
    bundle: FluentBundle<FluentResource>,
}

impl Text {
    pub(crate) fn new(lang: Lang) -> Self {
        let id: LanguageIdentifier = lang.tag().parse().expect("the tag of a language");
        let mut bundle = FluentBundle::new_concurrent(vec![id]);
        bundle.set_use_isolating(false);
        Self { lang, app: None, bundle }
    }

    /// The sentences about a named app: what they tell a reader to run is about it, too.
    pub(crate) fn about(lang: Lang, app: Option<&str>) -> Self {
        Self { app: app.map(str::to_owned), ..Self::new(lang) }
    }

    /// The sentence called `key`, or an attribute of it as `key.attribute`, with its arguments.
    pub(crate) fn say(&self, key: &str, arguments: &[(&str, Arg<'_>)]) -> String {
        self.find(key, arguments).unwrap_or_else(|| {
            debug_assert!(false, "no sentence `{key}`");
            key.to_owned()
        })
    }

    /// The sentence, if there is one.
    pub(crate) fn find(&self, key: &str, arguments: &[(&str, Arg<'_>)]) -> Option<String> {
        let (name, attribute) = match key.split_once('.') {
            Some((name, attribute)) => (name, Some(attribute)),
            None => (key, None),
        };
        let message = Sentence::find(self.lang, name)?;
        let pattern = match attribute {
            Some(attribute) => &message.attributes.iter().find(|one| one.id.name == attribute)?.value,
            None => message.value.as_ref()?,
        };
        let arguments: FluentArgs<'_> =
            arguments.iter().map(|(name, value)| (*name, value.clone())).collect();
        let mut errors = Vec::new();
        let said = self.bundle.format_pattern(pattern, Some(&arguments), &mut errors);
        debug_assert!(errors.is_empty(), "`{key}`: {errors:?}");
        Some(match &self.app {
            None => said.into_owned(),
            Some(app) => naming(app, &said),
        })
    }
}

/// A sentence in which the commands that are about one app name it.
fn naming(app: &str, said: &str) -> String {
    const PROGRAM: &str = "ghl-auth ";
    const ABOUT_ONE_APP: [&str; 13] = [
        "check",
        "doctor",
        "exec",
        "export",
        "import",
        "installs",
        "keys",
        "login",
        "maintenance",
        "notify",
        "refresh",
        "status",
        "token",
    ];
    let mut parts = said.split(PROGRAM);
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let word = part.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        named.push_str(PROGRAM);
        if ABOUT_ONE_APP.contains(&word) {
            named.push_str(&format!("--app {app} "));
        }
        named.push_str(part);
    }
    named
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Every message and attribute of a language, with the arguments that it uses.
    fn inventory(lang: Lang) -> BTreeMap<String, Vec<String>> {
        let mut all = BTreeMap::new();
        let mut name = String::new();
        let mut place = String::new();
        for line in lang.sentences().lines() {
            let is_text = line.starts_with([' ', '}']);
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            if !is_text {
                name = line.split('=').next().unwrap_or_default().trim().to_owned();
                place = name.clone();
            } else if let Some(attribute) = line.trim().strip_prefix('.') {
                place = format!("{name}.{}", attribute.split('=').next().unwrap_or_default().trim());
            }
            let arguments: &mut Vec<String> = all.entry(place.clone()).or_default();
            for piece in line.split('$').skip(1) {
                let end = piece.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(piece.len());
                arguments.push(piece[..end].to_owned());
            }
            arguments.sort();
            arguments.dedup();
        }
        all
    }

    #[test]
    fn what_a_reader_is_told_to_run_is_about_the_app_that_is_spoken_of() {
        let check = |said: &str, expected: &str| assert_eq!(naming("crm", said), expected);
        check("Run `ghl-auth login`.", "Run `ghl-auth --app crm login`.");
        check("ghl-auth keys create, ghl-auth serve", "ghl-auth --app crm keys create, ghl-auth serve");
        check("ghl-auth --app NAME login, ghl-auth", "ghl-auth --app NAME login, ghl-auth");
        check("ghl-auth waits", "ghl-auth waits");
    }

    #[test]
    fn each_language_says_everything_the_other_says() {
        let (english, portuguese) = (inventory(Lang::En), inventory(Lang::PtBr));
        for (key, arguments) in &english {
            assert_eq!(portuguese.get(key), Some(arguments), "pt-BR: {key}");
        }
        for key in portuguese.keys() {
            assert!(english.contains_key(key), "en: {key}");
        }
        assert!(english.len() > 100, "the inventory reads the files");
    }

    /// Every sentence of a language, with its arguments as `sample` has them.
    fn rendered(lang: Lang, sample: fn(&str) -> Arg<'static>) -> Vec<(String, String)> {
        let text = Text::new(lang);
        let all = inventory(lang);
        // What is put together from several sentences is tried with the longest list of arguments.
        let keys = all.iter().map(|(key, arguments)| {
            let arguments: Vec<_> = arguments.iter().map(|name| (name.as_str(), sample(name))).collect();
            (key.clone(), text.find(key, &arguments).unwrap_or_default())
        });
        keys.collect()
    }

    #[test]
    fn portuguese_draws_prepositions_and_articles_together() {
        let sample = |name: &str| match name {
            "whose" => Arg::from("o próprio serviço"),
            "what" => Arg::from("a mensagem"),
            _ => Arg::from("x"),
        };
        let apart = ["de", "em", "por"].iter().flat_map(|preposition| {
            ["o", "a", "os", "as"].map(|article| format!(" {preposition} {article} "))
        });
        let apart: Vec<String> = apart.chain([" a o ".to_owned(), " a os ".to_owned()]).collect();
        let sentences = rendered(Lang::PtBr, sample);
        assert!(sentences.len() > 500, "the sentences were read: {}", sentences.len());
        for (key, said) in sentences {
            let padded = format!(" {} ", said.replace('\n', " "));
            let found = apart.iter().find(|words| padded.contains(*words));
            assert!(found.is_none(), "{key}: `{}` in: {said}", found.map_or("", String::as_str));
        }
    }

    #[test]
    fn one_of_a_thing_is_not_many() {
        const COUNTS: [&str; 14] = [
            "count",
            "put",
            "landed",
            "taken",
            "present",
            "refused",
            "rotated",
            "skipped",
            "failed",
            "failures",
            "warnings",
            "length",
            "remaining",
            "all",
        ];
        let sample = |name: &str| match COUNTS.contains(&name) {
            true => Arg::from(1_usize),
            false => Arg::from("x"),
        };
        // What follows a one and ends like a plural, and is none.
        const SINGULAR: [&str; 4] = ["is", "was", "has", "needs"];
        for lang in [Lang::En, Lang::PtBr] {
            for (key, said) in rendered(lang, sample) {
                let words: Vec<&str> = said.split_whitespace().collect();
                for pair in words.windows(2) {
                    let next = pair[1].trim_matches(|c: char| !c.is_alphanumeric());
                    let is_many = pair[0] == "1"
                        && next.chars().all(char::is_alphabetic)
                        && next.len() > 1
                        && next.ends_with('s')
                        && !SINGULAR.contains(&next);
                    assert!(!is_many, "{lang:?}: {key}: {said}");
                }
            }
        }
    }

    #[test]
    fn each_file_is_whole() {
        for lang in [Lang::En, Lang::PtBr] {
            if let Err((_, errors)) = FluentResource::try_new(lang.sentences().to_owned()) {
                panic!("{lang:?}: {errors:?}");
            }
        }
    }

    #[test]
    fn each_sentence_is_found_by_its_name_alone() {
        for lang in [Lang::En, Lang::PtBr] {
            for key in inventory(lang).keys() {
                let (name, attribute) = key.split_once('.').unwrap_or((key, ""));
                let message = Sentence::find(lang, name).unwrap_or_else(|| panic!("{lang:?}: {name}"));
                let has = message.attributes.iter().any(|one| one.id.name == attribute);
                assert!(attribute.is_empty() || has, "{lang:?}: {key}");
            }
            assert!(Sentence::find(lang, "no-such-sentence").is_none());
        }
    }

    /// The keys that stand in the source as `say("key"`; those put together at run time have tests
    /// of their own where they are put together.
    #[test]
    fn each_sentence_that_is_said_exists() {
        let english = inventory(Lang::En);
        let mut seen = 0;
        // The words of the sandbox's console are ours, too.
        let folders = ["src", "../sandbox/src/console", "../sandbox/templates"];
        let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for file in folders.iter().flat_map(|folder| sources(&home.join(folder))) {
            let source = std::fs::read_to_string(&file).expect("a source file");
            let said = ["say(\"", "say_of(\""].map(|opening| source.split(opening).skip(1));
            for piece in said.into_iter().flatten() {
                let key = piece.split('"').next().unwrap_or_default();
                if !key.is_empty() && !key.contains('{') && key != "key" {
                    assert!(english.contains_key(key), "{}: {key}", file.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 50, "the sources were read");
    }

    /// Titles are put together from what a notice tells and of whom.
    #[test]
    fn each_notice_has_a_title_in_each_language() {
        let arguments = |name: &'static str| (name, Arg::from("x"));
        for lang in [Lang::En, Lang::PtBr] {
            let text = Text::new(lang);
            let title = |key: String| {
                let found = text.find(&key, &["name", "whose", "health"].map(arguments));
                assert!(found.is_some_and(|title| title.starts_with("x: ")), "{lang:?}: {key}");
            };
            for kind in tokens::NoticeKind::ALL {
                use tokens::NoticeKind::{Flapping, Late, Recovered, Reminder};
                if kind != Late {
                    title(format!("notice-{}", kind.as_str()));
                }
                if matches!(kind, Late | Recovered | Reminder | Flapping) {
                    title(format!("notice-checks-{}", kind.as_str()));
                }
            }
            let said = ["last", "due", "key", "count", "source", "remaining", "limit", "at"].map(arguments);
            for key in [
                "late-checks",
                "key-many-reads",
                "key-new-source",
                "key-anomaly.action",
                "daily-quota",
                "daily-quota.action",
            ] {
                assert!(text.find(key, &said).is_some_and(|said| said.ends_with('.')), "{lang:?}: {key}");
            }
        }
    }

    fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries =
            std::fs::read_dir(folder).expect("the sources").map(|entry| entry.expect("an entry").path());
        entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn the_language_is_what_is_named_first() {
        assert_eq!(Lang::choose(Some("pt-BR")), Lang::PtBr);
        assert_eq!(Lang::choose(Some("pt_BR.UTF-8")), Lang::PtBr);
        assert_eq!(Lang::choose(Some("en")), Lang::En);
        assert_eq!(Lang::choose(Some("C")), Lang::En);
    }
}
