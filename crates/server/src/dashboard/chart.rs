//! The last checks of an installation as bars: how long each took, and what it found.

use tokens::{CheckRecord, Health};

use super::frame::{Sign, Words};

const WIDTH: usize = 720;
const HEIGHT: usize = 120;

/// What is drawn.
pub(super) struct Chart {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) bars: Vec<Bar>,
    /// The longest that one took.
    pub(super) longest_ms: u128,
    /// In a sentence, for who does not see it.
    pub(super) told: String,
}

/// A check.
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) y: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) class: &'static str,
    pub(super) told: String,
}

/// Draws the checks, which come newest first, with the newest at the right.
pub(super) fn chart(words: &Words<'_>, checks: &[CheckRecord]) -> Option<Chart> {
    let longest_ms = checks.iter().map(|check| check.took.as_millis()).max()?;
    let step = WIDTH / checks.len().max(30);
    let bars = checks.iter().enumerate().map(|(number, check)| {
        let sign = Sign::of(words, Some(check.health));
        let share = check.took.as_millis() * (HEIGHT as u128 - 4) / longest_ms.max(1);
        let height = 4 + usize::try_from(share).unwrap_or(HEIGHT);
        Bar {
            x: WIDTH - (number + 1) * step,
            y: HEIGHT - height,
            width: step.saturating_sub(1).max(1),
            height,
            class: sign.class,
            told: format!("{}: {}, {} ms", words.moment(check.at), sign.word, check.took.as_millis()),
        }
    });
    let good = checks.iter().filter(|check| check.health == Health::Operational).count();
    let told = words.say_of("dash-chart", "share", format!("{good}/{}", checks.len()));
    Some(Chart { width: WIDTH, height: HEIGHT, bars: bars.collect(), longest_ms, told })
}
