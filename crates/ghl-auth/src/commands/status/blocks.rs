//! Days as a row of blocks, which say the same with and without colour.

use anstyle::{AnsiColor, Style};
use tokens::{Block, DAYS, Uptime, percent};

use crate::text::Text;

/// What stands before a text that blocks follow.
const BEFORE_BLOCKS: usize = 2;

/// What stands beside the blocks of a row: an indent, a gap, and the share.
const BESIDE: usize = 12;

/// Fewer days say nothing.
const FEWEST: usize = 7;

/// Where there is room for fewer days than these behind what a row is about, it has a line of its own.
const FEWEST_BEHIND: usize = 30;

/// What days look like.
pub(super) struct Blocks {
    glyphs: [char; 4],
    /// How many days there is room for.
    pub(super) count: usize,
}

impl Blocks {
    /// As many days as fit into `width` columns, by what the terminal can show.
    pub(super) fn within(width: Option<usize>, draws: bool) -> Self {
        let room = width.map_or(DAYS, |width| width.saturating_sub(BESIDE));
        let glyphs = if draws { ['█', '▆', '▂', '·'] } else { ['#', '+', '_', '.'] };
        Self { glyphs, count: room.clamp(FEWEST, DAYS) }
    }

    /// As many as fit behind a text of so many columns; none where those are too few.
    pub(super) fn behind(label: usize, width: Option<usize>, draws: bool) -> Option<Self> {
        let width = width.map(|width| width.saturating_sub(label + BEFORE_BLOCKS));
        let is_enough = width.is_none_or(|width| width >= FEWEST_BEHIND + BESIDE);
        is_enough.then(|| Self::within(width, draws))
    }

    fn look(&self, block: Block) -> (char, Style) {
        let [good, mixed, bad, unchecked] = self.glyphs;
        match block {
            Block::Good => (good, AnsiColor::Green.on_default()),
            Block::Mixed => (mixed, AnsiColor::Yellow.on_default()),
            Block::Bad => (bad, AnsiColor::Red.on_default()),
            Block::Unchecked => (unchecked, Style::new().dimmed()),
        }
    }

    /// The latest days, today at the right, and the share of all of them.
    pub(super) fn row(&self, uptime: &Uptime) -> String {
        let mut row = String::from("  ");
        let mut style = Style::new();
        for day in uptime.latest(self.count) {
            let (glyph, new) = self.look(day.block());
            if new != style {
                row.push_str(&format!("{style:#}{new}"));
                style = new;
            }
            row.push(glyph);
        }
        row.push_str(&format!("{style:#}  {}", uptime.share().map_or_else(|| "-".to_owned(), percent)));
        row
    }

    /// What the blocks say, in words.
    pub(super) fn legend(&self, text: &Text) -> String {
        let words = [
            ("uptime-good", Block::Good),
            ("uptime-mixed", Block::Mixed),
            ("uptime-bad", Block::Bad),
            ("uptime-unchecked", Block::Unchecked),
        ];
        let words = words.map(|(key, block)| {
            let (glyph, style) = self.look(block);
            format!("{style}{glyph}{style:#} {}", text.say(key, &[]))
        });
        format!("  {}", words.join("  "))
    }
}

#[cfg(test)]
mod tests {
    use tokens::{Day, Timestamp};

    use super::*;

    #[test]
    fn as_many_days_are_shown_as_fit_and_each_looks_different_without_colour() {
        let now = Timestamp::from_millis(99 * 24 * 60 * 60 * 1000);
        let day = |number, checks, good| Day { number, checks, good };
        let uptime = Uptime::of(&[day(10, 1, 0), day(97, 2, 2), day(98, 2, 1), day(99, 2, 0)], now);
        let check = |width, draws, ends: &str| {
            let blocks = Blocks::within(width, draws);
            let row = anstream::adapter::strip_str(&blocks.row(&uptime)).to_string();
            assert!(row.ends_with(ends), "{row}");
            assert!(width.is_none_or(|width| row.chars().count() <= width), "{width:?}: {row}");
            row.chars().count() - ends.chars().count()
        };
        assert_eq!(check(None, true, "·█▆▂  42.85 %"), 2 + 86);
        assert_eq!(check(Some(120), false, ".#+_  42.85 %"), 2 + 86);
        assert_eq!(check(Some(80), true, "·█▆▂  42.85 %"), 2 + 64);
        assert_eq!(check(Some(60), true, "·█▆▂  42.85 %"), 2 + 44);
    }
}
