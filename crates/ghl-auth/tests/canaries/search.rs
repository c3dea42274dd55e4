//! Secrets that are planted, and the search for them in any guise.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

pub(crate) const WINDOW: usize = 12;

/// What every token of HighLevel's begins with.
pub(crate) const JWT_HEADER: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.";

/// The secrets, ready to be looked for.
#[derive(Default)]
pub(crate) struct Canaries {
    pub(crate) planted: HashSet<String>,
    windows: HashSet<[u8; WINDOW]>,
}

impl Canaries {
    pub(crate) fn plant(&mut self, secret: &str) {
        assert!(secret.len() >= WINDOW, "too short to be told from chance: {secret}");
        if self.planted.insert(secret.to_owned()) {
            self.plant_bytes(secret.as_bytes());
            // A JWT's header, in any form, says nothing.
            for window in forms(JWT_HEADER.as_bytes()).iter().flat_map(|form| windows(form)) {
                self.windows.remove(&window);
            }
        }
    }

    /// A secret that is no text.
    pub(crate) fn plant_bytes(&mut self, secret: &[u8]) {
        self.windows.extend(forms(secret).iter().flat_map(|form| windows(form)));
    }

    /// The first piece of a secret in `text`, if there is one.
    pub(crate) fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        text.windows(WINDOW).find(|window| {
            let window: [u8; WINDOW] = (*window).try_into().expect("as long as it says");
            self.windows.contains(&window)
        })
    }

    #[track_caller]
    pub(crate) fn are_not_in(&self, what: &str, text: &[u8]) {
        if let Some(found) = self.find(text) {
            let at = text.windows(WINDOW).position(|window| window == found).unwrap_or_default();
            let around = &text[at.saturating_sub(200)..(at + 200).min(text.len())];
            panic!("{what} holds `{}`: {}", String::from_utf8_lossy(found), String::from_utf8_lossy(around));
        }
    }

    /// Everything under a folder, save the settings and what `spared` names.
    #[track_caller]
    pub(crate) fn are_not_under(&self, folder: &Path, spared: &[&str]) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(folder).expect("the folder is ours") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name == ".env" || spared.iter().any(|spared| name.starts_with(spared)) {
                continue;
            }
            self.are_not_in("a file's name", name.as_bytes());
            match path.is_dir() {
                true => files += self.are_not_under(&path, spared),
                false => {
                    self.are_not_in(&name, &std::fs::read(&path).expect("a file"));
                    files += 1;
                }
            }
        }
        files
    }
}

fn windows(form: &[u8]) -> impl Iterator<Item = [u8; WINDOW]> {
    form.windows(WINDOW).map(|window| window.try_into().expect("as long as it says"))
}

/// A secret in each guise that it might leave in.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let hex = |secret: &[u8]| secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let percent: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
    let encoded: String = form_urlencoded::byte_serialize(secret).collect();
    let mut forms = vec![
        secret.to_vec(),
        secret.iter().rev().copied().collect(),
        hex(secret).into_bytes(),
        hex(secret).to_uppercase().into_bytes(),
        percent.clone().into_bytes(),
        percent.to_lowercase().into_bytes(),
        encoded.into_bytes(),
    ];
    // In base64 a text looks three ways, depending on what stands before it.
    for before in 0..3 {
        let shifted = [&vec![0; before][..], secret].concat();
        // The characters that the bytes before and behind have a part in differ from case to case.
        let inner = |text: String| {
            let end = text.trim_end_matches('=').len().saturating_sub(1);
            text.as_bytes()[[0, 2, 3][before]..end].to_vec()
        };
        forms.push(inner(STANDARD.encode(&shifted)));
        forms.push(inner(URL_SAFE.encode(&shifted)));
    }
    forms
}

#[test]
fn the_search_finds_a_secret_in_any_guise() {
    let mut canaries = Canaries::default();
    let secret = "00c0ffee-1234-4abc-8def-0123456789ab";
    canaries.plant(secret);
    for form in forms(secret.as_bytes()) {
        let leak = [b"before: ", &form[..], b" behind"].concat();
        assert!(canaries.find(&leak).is_some(), "{}", String::from_utf8_lossy(&form));
    }
    for wrapped in [
        format!("client_secret={secret}"),
        format!("x{secret}"),
        format!("ab{secret}y"),
        format!("(((({secret}"),
    ] {
        assert!(canaries.find(STANDARD.encode(&wrapped).as_bytes()).is_some(), "{wrapped}");
    }
    for start in 0..=secret.len() - WINDOW {
        assert!(canaries.find(&secret.as_bytes()[start..start + WINDOW]).is_some(), "from {start}");
    }
    assert_eq!(canaries.find(&secret.as_bytes()[..WINDOW - 1]), None);
    assert_eq!(canaries.find(b"nothing of the kind is said here"), None);
}
