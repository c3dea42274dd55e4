//! A bar on the terminal for what takes long; nothing where nobody watches.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::text::Text;

/// How far something has come.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Begins; `what` is a sentence of the locales.
    pub(crate) fn begin(text: &Text, what: &str, total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{msg} {bar:30} {human_pos}/{human_len} {eta}");
        let bar = ProgressBar::new(total).with_message(text.say(what, &[]));
        Self(Some(match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }))
    }

    /// So many more are done.
    pub(crate) fn add(&self, count: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for Progress {
    /// The bar goes: what is left to say is said without it.
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
