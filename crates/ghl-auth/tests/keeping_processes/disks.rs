//! Disks that are full, and disks that fail.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;

use crate::support::programs::{Mounted, block_on, ends_within, in_a_world_of_its_own, report, told};
use crate::support::{House, Rest, short_tokens, times};
use crate::tracer::{Blow, Counts, Traced, strike, syncs, takes_room};

const PATIENCE: Duration = Duration::from_secs(40);
const BLOCK: u64 = 4096;

/// Waits until nothing takes up room but what is there: the system gives back what was taken away a
/// moment after it was closed.
fn until_all_room_is_given_back(folder: &Path) {
    let taken = || {
        let disk = nix::sys::statvfs::statvfs(folder).expect("a disk");
        (disk.blocks() - disk.blocks_free()) * disk.block_size()
    };
    let there = || -> u64 {
        let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").metadata());
        files.map(|file| file.map_or(0, |file| file.blocks() * 512)).sum()
    };
    let began = Instant::now();
    while taken() > there() {
        assert!(began.elapsed() < PATIENCE, "{} of {} bytes are given back", there(), taken());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Fills the disk until this many blocks are free.
fn leave_free(folder: &Path, blocks: u64) {
    until_all_room_is_given_back(folder);
    let disk = nix::sys::statvfs::statvfs(folder).expect("a disk");
    let fill = disk.blocks_free().saturating_sub(blocks) * disk.block_size() / BLOCK * BLOCK;
    let filler = vec![0u8; usize::try_from(fill).expect("a small disk")];
    fs::write(folder.join("filler"), filler).expect("it fits");
}

#[test]
fn a_full_disk_loses_nothing_whatever_room_is_left() {
    if !in_a_world_of_its_own("disks::a_full_disk_loses_nothing_whatever_room_is_left") {
        return;
    }
    for rest in [Rest::PlainFile, Rest::SealedFile, Rest::Sqlite] {
        let began = Instant::now();
        // SQLite's log needs more room than a file, and a run that finds none tries for 20 seconds.
        let most = if rest == Rest::Sqlite { 96 } else { 48 };
        let step = if rest == Rest::Sqlite { times("GHL_AUTH_DISK_STEP", 6) } else { 1 };
        let tries: Vec<u64> = (0..=most).step_by(step).collect();
        let lanes: Vec<_> = (0..12)
            .map(|lane| {
                let mine: Vec<u64> = tries.iter().copied().skip(lane).step_by(12).collect();
                std::thread::spawn(move || nearly_full(rest, &mine))
            })
            .collect();
        let mut wrong = Vec::new();
        let (mut refused, mut begun) = (0, 0);
        for lane in lanes {
            let found = lane.join().expect("no panic");
            wrong.extend(found.wrong);
            refused += found.refused;
            begun += found.begun;
        }
        assert!(refused >= 16 / step, "{rest:?}: {refused} were not begun: an answer needs sixteen blocks");
        assert!(begun >= 8 / step, "{rest:?}: {begun} were begun");
        report(&format!("a full disk with 0 to {most} blocks free, {rest:?}"), tries.len(), &wrong, began);
    }
}

/// How refreshes on a nearly full disk went.
#[derive(Default)]
struct Found {
    refused: usize,
    begun: usize,
    wrong: Vec<String>,
}

/// Refreshes on a disk with so many free blocks, one number after the other.
fn nearly_full(rest: Rest, tries: &[u64]) -> Found {
    let folder = crate::support::folder();
    let path = folder.path().to_owned();
    let _disk = Mounted::small_disk(&path, 1024);
    let house = House::in_folder(folder, rest, sandbox::Settings::default(), Duration::ZERO);
    block_on(house.log_in());
    let mut found = Found::default();
    for free in tries {
        leave_free(&path, *free);
        let before = house.sandbox.counts().refreshes;
        let tried = ends_within(house.start(&["refresh"]), PATIENCE);
        match house.sandbox.counts().refreshes - before {
            0 if tried.status.success() => found.wrong.push(format!("{rest:?}: {free} free: it did nothing")),
            0 => found.refused += 1,
            _ => found.begun += 1,
        }
        if rest != Rest::Sqlite {
            // The living token is there for all who ask, full disk or not.
            let served = ends_within(house.start(&["token"]), PATIENCE);
            if !served.status.success() {
                found.wrong.push(format!("{rest:?}: {free} blocks free: {}", told(&served)));
            }
        }
        fs::remove_file(path.join("filler")).expect("the filler");
        let after = ends_within(house.start(&["token"]), PATIENCE);
        if !after.status.success() || !house.is_whole() {
            let (tried, after) = (told(&tried), told(&after));
            found.wrong.push(format!("{rest:?}: {free} blocks free: {tried}; then {after}"));
            block_on(house.log_in());
        }
    }
    found
}

/// The n-th call of some kind fails, for n = 1, 2, …
fn failing(what: &str, counts: Counts, error: i32) {
    let all = [Rest::PlainFile, Rest::SealedFile, Rest::Sqlite];
    let what = what.to_owned();
    let lanes = all.map(|rest| {
        let what = what.clone();
        std::thread::spawn(move || {
            let began = Instant::now();
            let house = House::empty(rest, short_tokens());
            block_on(house.log_in());
            let mut wrong = Vec::new();
            for at in 1.. {
                match strike(&house.command(&["refresh"]), counts, at, Blow::Fail(error)) {
                    None => {
                        println!(
                            "{rest:?}: skipped, because processes can't be traced here (ptrace, x86-64)"
                        );
                        return;
                    }
                    Some(Traced { struck, .. }) => {
                        let next = ends_within(house.start(&["token"]), PATIENCE);
                        if !next.status.success() || !house.is_whole() {
                            wrong.push(format!("{rest:?}: {what} {at}: {}", told(&next)));
                            block_on(house.log_in());
                        }
                        if !struck {
                            report(&format!("{what}, each in turn, {rest:?}"), at - 1, &wrong, began);
                            return;
                        }
                    }
                }
            }
        })
    });
    for lane in lanes {
        lane.join().expect("nothing lost");
    }
}

#[test]
fn a_flush_that_fails_loses_nothing() {
    failing("a flush fails (EIO)", syncs, libc::EIO);
}

#[test]
fn a_write_for_which_there_is_no_room_loses_nothing() {
    failing("a write finds no room (ENOSPC)", takes_room, libc::ENOSPC);
}

#[test]
fn a_write_to_a_disk_that_turned_read_only_loses_nothing() {
    failing("a write is refused (EROFS)", takes_room, libc::EROFS);
}
