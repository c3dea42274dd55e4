//! Rewriting a file that can't be replaced by renaming, so that a crash leaves the old or the new.
//!
//! Docker's `-v file:/app/file` and a folder that we may not write leave no other way. The file is
//! its own journal: the new document is first appended with a checksum and flushed, then written
//! over the old one and flushed, then the journal goes. A reader takes the journal when its
//! checksum holds, and otherwise what stands at the head.
//!
//! ```text
//! OLD
//! OLD                journal(NEW)     old until the journal is whole, then new
//! NEW                journal(NEW)     new
//! NEW                                 new
//! ```

use crate::key::hex;
use crate::seal::checksum;

/// Begins the journal's line. No JSON text can hold it: there, a line break within a string is `\n`.
const MARK: &str = "\n%ghl-auth-journal ";

/// One change to the file; the next waits until it has reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes these bytes there.
    Write(usize, Vec<u8>),
    /// Cuts the file to this length.
    Cut(usize),
}

/// Finds the document in a file: in the last journal that is whole, or else at the head.
///
/// There can be two journals: a rewrite that was cut off leaves its own where it is, and the next
/// one appends behind it.
pub(crate) fn find(bytes: &[u8]) -> &[u8] {
    let mark = MARK.as_bytes();
    let marks = bytes.windows(mark.len()).enumerate().rev().filter(|(_, window)| *window == mark);
    marks.map(|(at, _)| &bytes[at + mark.len()..]).find_map(journal).unwrap_or(bytes)
}

/// The journal's document, if all of it is there.
fn journal(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes.iter().take(128).position(|byte| *byte == b'\n')?;
    let (length, sum) = std::str::from_utf8(&bytes[..line]).ok()?.split_once(' ')?;
    let document = bytes.get(line + 1..)?.get(..length.parse().ok()?)?;
    (hex(&checksum(document)) == sum).then_some(document)
}

/// The steps from a file whose document ends at `old_end` to the new document.
///
/// With `keep_room` the file does not shrink: what is set aside for an answer stays set aside.
pub(crate) fn rewrite(old_end: usize, new: &[u8], keep_room: bool) -> Vec<Step> {
    let at = old_end.max(new.len());
    let mut appended = vec![b' '; at - old_end];
    appended.extend_from_slice(format!("{MARK}{} {}\n", new.len(), hex(&checksum(new))).as_bytes());
    appended.extend_from_slice(new);
    let journal_length = appended.len() - (at - old_end);
    let mut head = new.to_vec();
    head.resize(at, b' ');
    let last = match keep_room {
        true => Step::Write(at, vec![b' '; journal_length]),
        false => Step::Cut(new.len()),
    };
    vec![Step::Write(old_end, appended), Step::Write(0, head), last]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(file: &mut Vec<u8>, step: &Step) {
        match step {
            Step::Write(at, bytes) => {
                file.resize(file.len().max(at + bytes.len()), 0);
                file[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            Step::Cut(length) => file.truncate(*length),
        }
    }

    fn document(name: &str, length: usize) -> Vec<u8> {
        format!("{{\"name\": \"{name}\", \"filler\": \"{}\"}}\n", "x".repeat(length)).into_bytes()
    }

    /// The document's name, as a reader sees it.
    fn read(file: &[u8]) -> String {
        let text = crate::template::text(find(file)).expect("a text");
        let scan = crate::template::scan(text).expect("an object");
        assert!(scan.end.is_some(), "the document is whole");
        scan.members["name"].as_str().expect("a name").to_owned()
    }

    fn end_of(file: &[u8]) -> usize {
        file.trim_ascii_end().len()
    }

    /// Crashes at every byte of every step, and once more where the disk wrote a step's 64-byte
    /// blocks in another order.
    fn crash_everywhere(old: &[u8], room: usize, new: &[u8], keep_room: bool) {
        let mut file = old.to_vec();
        file.resize(old.len() + room, b' ');
        let mut seen_new = false;
        for step in rewrite(end_of(&file), new, keep_room) {
            if let Step::Write(at, bytes) = &step {
                for length in 0..bytes.len() {
                    let mut torn = file.clone();
                    apply(&mut torn, &Step::Write(*at, bytes[..length].to_vec()));
                    let name = read(&torn);
                    assert!(
                        name == "new" || (!seen_new && name == "old"),
                        "{name} after {length} of {step:?}"
                    );
                }
                for seed in 0..40usize {
                    let mut torn = file.clone();
                    torn.resize(torn.len().max(at + bytes.len()), 0);
                    for (block, part) in bytes.chunks(64).enumerate() {
                        if (block * 7 + seed * 13 + block * seed).is_multiple_of(3) {
                            apply(&mut torn, &Step::Write(at + block * 64, part.to_vec()));
                        }
                    }
                    let name = read(&torn);
                    assert!(name == "new" || (!seen_new && name == "old"), "{name} in blocks of {step:?}");
                }
            }
            apply(&mut file, &step);
            seen_new = true;
            assert_eq!(read(&file), "new");
        }
        assert_eq!(find(&file), file, "no journal is left");
        assert_eq!(file.trim_ascii_end(), new.trim_ascii_end());
        assert!(file.len() == new.len() || keep_room);
    }

    #[test]
    fn a_crash_at_any_byte_leaves_the_old_or_the_new() {
        for (old, new) in [(300, 300), (300, 500), (500, 300), (0, 700)] {
            crash_everywhere(&document("old", old), 0, &document("new", new), false);
            crash_everywhere(&document("old", old), 4000, &document("new", new), true);
        }
    }

    #[test]
    fn room_that_was_set_aside_is_enough() {
        let (old, new) = (document("old", 300), document("new", 900));
        let mut file = old.clone();
        file.resize(old.len() + 4000, b' ');
        let length = file.len();
        for step in rewrite(end_of(&file), &new, true) {
            apply(&mut file, &step);
            assert_eq!(file.len(), length, "{step:?}");
        }
    }

    #[test]
    fn a_second_crash_in_the_rewrite_after_the_first_leaves_one_of_them() {
        let (old, new, newest) = (document("old", 300), document("new", 400), document("newest", 350));
        let steps = rewrite(old.len(), &new, false);
        let mut journaled = old.clone();
        apply(&mut journaled, &steps[0]);
        let Step::Write(_, head) = &steps[1] else { unreachable!() };
        for length in (0..head.len()).step_by(11) {
            let mut torn = journaled.clone();
            apply(&mut torn, &Step::Write(0, head[..length].to_vec()));
            let mut file = torn;
            for (number, step) in rewrite(end_of(&file), &newest, false).iter().enumerate() {
                if let Step::Write(at, bytes) = step {
                    for length in (0..bytes.len()).step_by(7) {
                        let mut torn = file.clone();
                        apply(&mut torn, &Step::Write(*at, bytes[..length].to_vec()));
                        assert_eq!(read(&torn), if number == 0 { "new" } else { "newest" });
                    }
                }
                apply(&mut file, step);
            }
            assert_eq!(file, newest);
        }
    }
}
