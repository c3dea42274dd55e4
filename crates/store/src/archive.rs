//! A sealed archive of everything that a store keeps: a backup.
//!
//! A file begins with `GHLARCH1` and sixteen random bytes that name it. Frames follow, each four bytes of
//! length (little-endian) and an envelope of `seal.rs`, bound to the archive's name, to its place in the
//! row and to whether it is the last. So a frame that was altered, cut, moved, left out or taken from
//! another archive is noticed, and an archive without its last frame is none. What is in a frame is JSON,
//! one entry a line; the first line of all is `{"ghl_auth_archive":1,"made_at":…}`.
//!
//! What rests is not bound to the store that it came from: an archive goes into any store.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokens::records::Line;
use tokens::store::{FlightId, Landing, Parked, Removed};
use tokens::{Installation, InstallationId, StoreError, Timestamp, TokenSet, Version};
use zeroize::Zeroizing;

use crate::data_file::random_name;
use crate::disk::{self, failed};
use crate::key::{Keys, hex};
use crate::row::{self, CheckAtRest, ConnectionAtRest, LandingAtRest, Odd, PreviousAtRest, TokensAtRest};
use crate::seal::{Place, Sealer, Unopened};

const MARK: &[u8; 8] = b"GHLARCH1";
const VERSION: u32 = 1;

/// A frame is sealed when it has grown to this.
const FRAME: usize = 256 * 1024;

/// No frame is longer: one entry may be larger than `FRAME` alone, but not without an end.
const LONGEST_FRAME: u32 = 64 * 1024 * 1024;

/// One thing in an archive.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A grant that waits for approval. These come first: no store on standby takes them in.
    Parked(Parked, TokenSet),
    /// An installation, with its previous set.
    Installation(Box<Installation>),
    /// An installation out of service.
    Removed(Removed),
    /// An answer that had landed and was not saved yet.
    Landing(FlightId, Box<Landing>),
    /// What the service remembers.
    Line(Line),
}

/// An archive that is being written. Nothing is there under its name before it is whole.
pub struct ArchiveWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    sealer: Sealer,
    name: String,
    frames: u64,
    lines: Zeroizing<Vec<u8>>,
}

/// An archive that is being read.
pub struct ArchiveReader {
    path: PathBuf,
    file: BufReader<File>,
    sealer: Sealer,
    name: String,
    frames: u64,
    ended: bool,
    /// When it was begun.
    pub made_at: Timestamp,
    entries: std::vec::IntoIter<Entry>,
}

fn place(name: &str, frame: u64, is_last: bool) -> Place {
    Place::archive(name, frame, is_last)
}

impl ArchiveWriter {
    /// Begins an archive; one that is there already is replaced when this one is whole.
    pub fn create(path: &Path, keys: &Keys, now: Timestamp) -> Result<Self, StoreError> {
        let sealer = Sealer::new(keys);
        if sealer.current_id().is_none() {
            return Err(StoreError::KeyMissing { place: path.display().to_string() });
        }
        let mut name = [0u8; 16];
        aws_lc_rs::rand::fill(&mut name).expect("the system has random bytes");
        let temporary = disk::beside(path, &format!(".{}", random_name()));
        let file = disk::create_new(&temporary).map_err(failed("create", &temporary))?;
        let mut file = BufWriter::new(file);
        file.write_all(MARK).and_then(|()| file.write_all(&name)).map_err(failed("write", &temporary))?;
        let head = Head { ghl_auth_archive: VERSION, made_at: now.as_millis() };
        let mut archive = Self {
            path: path.to_owned(),
            temporary,
            file,
            sealer,
            name: hex(&name),
            frames: 0,
            lines: Zeroizing::new(Vec::with_capacity(FRAME + 64 * 1024)),
        };
        archive.line(&row::to_bytes(&head));
        Ok(archive)
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let plain = row::to_bytes(&EntryAtRest::from(entry));
        if self.lines.len() + plain.len() > FRAME {
            self.seal_frame(false)?;
        }
        self.line(&plain);
        Ok(())
    }

    fn line(&mut self, plain: &[u8]) {
        self.lines.extend_from_slice(plain);
        self.lines.push(b'\n');
    }

    fn seal_frame(&mut self, is_last: bool) -> Result<(), StoreError> {
        let missing = || StoreError::KeyMissing { place: self.path.display().to_string() };
        let sealed =
            self.sealer.seal(&place(&self.name, self.frames, is_last), &self.lines).ok_or_else(missing)?;
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        self.file
            .write_all(&length.to_le_bytes())
            .and_then(|()| self.file.write_all(&sealed))
            .map_err(failed("write", &self.temporary))?;
        self.frames += 1;
        self.lines.clear();
        Ok(())
    }

    /// Ends the archive and gives it its name, on the disk when this is `Ok`.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.seal_frame(true)?;
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .and_then(|()| disk::sync_folder(&disk::folder_of(&self.path)))
            .map_err(failed("write", &self.path))
    }
}

impl Drop for ArchiveWriter {
    /// What did not become whole goes.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

impl ArchiveReader {
    /// Opens an archive; a wrong key is refused here.
    pub fn open(path: &Path, keys: &Keys) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(failed("open", path))?;
        let mut file = BufReader::new(file);
        let mut head = [0u8; 8 + 16];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(failed("read", path)(error));
            }
            Ok(()) if head.starts_with(MARK) => {}
            Ok(()) if head.starts_with(b"GHLARCH") => {
                return Err(StoreError::TooNew { place: path.display().to_string() });
            }
            _ => {
                let why = "it is no archive of this program".to_owned();
                return Err(StoreError::Unreadable { place: path.display().to_string(), why });
            }
        }
        let mut archive = Self {
            path: path.to_owned(),
            file,
            sealer: Sealer::new(keys),
            name: hex(&head[8..]),
            frames: 0,
            ended: false,
            made_at: Timestamp::from_millis(0),
            entries: Vec::new().into_iter(),
        };
        archive.next_frame()?;
        Ok(archive)
    }

    /// The next entry; none behind the last one of a whole archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Ok(Some(entry));
            }
            if self.ended {
                return Ok(None);
            }
            self.next_frame()?;
        }
    }

    /// Reads an archive to its end, so that nothing of one that is not whole is ever used.
    pub fn verify(path: &Path, keys: &Keys) -> Result<usize, StoreError> {
        let mut archive = Self::open(path, keys)?;
        let mut count = 0;
        while let Some(entry) = archive.next_entry()? {
            count += usize::from(matches!(entry, Entry::Installation(_)));
        }
        Ok(count)
    }

    fn next_frame(&mut self) -> Result<(), StoreError> {
        let at = || format!("{}, frame {}", self.path.display(), self.frames);
        let cut = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                StoreError::Unreadable { place: at(), why: "it ends in the middle".to_owned() }
            }
            _ => failed("read", &self.path)(error),
        };
        let mut length = [0u8; 4];
        self.file.read_exact(&mut length).map_err(cut)?;
        let length = u32::from_le_bytes(length);
        if length > LONGEST_FRAME {
            return Err(StoreError::SealBroken { place: at() });
        }
        let mut sealed = Vec::new();
        let read = (&mut self.file).take(u64::from(length)).read_to_end(&mut sealed);
        let read = read.map_err(failed("read", &self.path))?;
        if read < length as usize {
            return Err(StoreError::Unreadable { place: at(), why: "it ends in the middle".to_owned() });
        }
        let mut rest = [0u8; 1];
        let is_last = self.file.read(&mut rest).map_err(failed("read", &self.path))? == 0;
        let plain = match self.sealer.open(&place(&self.name, self.frames, is_last), &sealed) {
            // It holds in the middle of a row: then the archive was cut behind it.
            Err(Unopened::Broken)
                if is_last && self.sealer.open(&place(&self.name, self.frames, false), &sealed).is_ok() =>
            {
                let why = "it ends in the middle".to_owned();
                return Err(StoreError::Unreadable { place: at(), why });
            }
            opened => opened.map_err(|why| why.at(at()))?,
        };
        if !is_last {
            // The byte that was looked at is the next frame's first.
            self.file.seek_relative(-1).map_err(failed("read", &self.path))?;
        }
        let odd = |odd: Odd| StoreError::Unreadable { place: at(), why: odd.0 };
        let mut lines = plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        if self.frames == 0 {
            let head: Head = row::from_bytes(lines.next().unwrap_or_default()).map_err(odd)?;
            if head.ghl_auth_archive != VERSION {
                return Err(StoreError::TooNew { place: self.path.display().to_string() });
            }
            self.made_at = Timestamp::from_millis(head.made_at);
        }
        let entries =
            lines.map(|line| row::from_bytes::<EntryAtRest>(line).and_then(EntryAtRest::into_entry));
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(odd)?;
        self.entries = entries.into_iter();
        self.frames += 1;
        self.ended = is_last;
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    ghl_auth_archive: u32,
    made_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EntryAtRest {
    Installation(Box<InstallationAtRest>),
    Removed(RemovedAtRest),
    Parked(ParkedAtRest),
    Landing { flight: String, landing: LandingAtRest },
    Line { table: String, row: String },
}

#[derive(Serialize, Deserialize)]
struct InstallationAtRest {
    kind: String,
    id: String,
    epoch: u64,
    generation: u64,
    tokens: TokensAtRest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousAtRest>,
    connection: ConnectionAtRest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<CheckAtRest>,
    connected_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unlisted_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct RemovedAtRest {
    kind: String,
    id: String,
    epoch: u64,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<TokensAtRest>,
    at: i64,
}

#[derive(Serialize, Deserialize)]
struct ParkedAtRest {
    kind: String,
    id: String,
    at: i64,
    tokens: TokensAtRest,
}

impl From<&Entry> for EntryAtRest {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Installation(it) => Self::Installation(Box::new(InstallationAtRest {
                kind: it.id.kind().to_owned(),
                id: it.id.as_str().to_owned(),
                epoch: it.version.epoch,
                generation: it.version.generation,
                tokens: (&it.tokens).into(),
                previous: it.previous.as_ref().map(PreviousAtRest::from),
                connection: (&it.connection).into(),
                check: it.last_check.as_ref().map(|check| CheckAtRest::new(&it.id, check)),
                connected_at: it.connected_at.as_millis(),
                name: it.name.clone(),
                unlisted_at: it.unlisted_at.map(Timestamp::as_millis),
            })),
            Entry::Removed(it) => Self::Removed(RemovedAtRest {
                kind: it.id.kind().to_owned(),
                id: it.id.as_str().to_owned(),
                epoch: it.version.epoch,
                generation: it.version.generation,
                tokens: it.tokens.as_ref().map(TokensAtRest::from),
                at: it.at.as_millis(),
            }),
            Entry::Parked(it, tokens) => Self::Parked(ParkedAtRest {
                kind: it.id.kind().to_owned(),
                id: it.id.as_str().to_owned(),
                at: it.at.as_millis(),
                tokens: tokens.into(),
            }),
            Entry::Landing(flight, landing) => {
                Self::Landing { flight: flight.0.clone(), landing: landing.as_ref().into() }
            }
            Entry::Line(Line { table, row, .. }) => Self::Line { table: table.clone(), row: row.clone() },
        }
    }
}

impl EntryAtRest {
    fn into_entry(self) -> Result<Entry, Odd> {
        let id = |kind: &str, id: &str| {
            InstallationId::from_parts(kind, id).map_err(|error| Odd::new(error.to_string()))
        };
        Ok(match self {
            Self::Installation(it) => {
                let id = id(&it.kind, &it.id)?;
                Entry::Installation(Box::new(Installation {
                    version: Version { epoch: it.epoch, generation: it.generation },
                    tokens: it.tokens.into_tokens()?,
                    previous: it.previous.map(PreviousAtRest::into_previous).transpose()?,
                    connection: it.connection.into_connection()?,
                    intent: None,
                    last_check: it.check.and_then(|check| check.of(&id)),
                    connected_at: Timestamp::from_millis(it.connected_at),
                    name: it.name,
                    unlisted_at: it.unlisted_at.map(Timestamp::from_millis),
                    id,
                }))
            }
            Self::Removed(it) => Entry::Removed(Removed {
                id: id(&it.kind, &it.id)?,
                version: Version { epoch: it.epoch, generation: it.generation },
                tokens: it.tokens.map(TokensAtRest::into_tokens).transpose()?,
                at: Timestamp::from_millis(it.at),
            }),
            Self::Parked(it) => {
                let tokens = it.tokens.into_tokens()?;
                let parked = Parked {
                    id: id(&it.kind, &it.id)?,
                    company: tokens.company.clone(),
                    scopes: tokens.scopes.clone(),
                    at: Timestamp::from_millis(it.at),
                };
                Entry::Parked(parked, tokens)
            }
            Self::Landing { flight, landing } => {
                Entry::Landing(FlightId(flight), Box::new(landing.into_landing()?))
            }
            Self::Line { table, row } => Entry::Line(Line { table, place: 0, row }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    fn keys() -> Keys {
        Keys { current: Key::parse(&Key::generate()).ok(), old: Vec::new() }
    }

    /// An archive of several frames.
    fn written(path: &Path, keys: &Keys) -> Vec<u8> {
        let mut archive = ArchiveWriter::create(path, keys, Timestamp::from_millis(7)).expect("begun");
        for n in 0..40 {
            let row = format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(20_000));
            archive.add(&Entry::Line(Line { table: "checks".into(), place: n, row })).expect("added");
        }
        archive.finish().expect("whole");
        fs::read(path).expect("an archive")
    }

    /// The frames of an archive, with their lengths.
    fn frames(bytes: &[u8]) -> Vec<&[u8]> {
        let (mut frames, mut rest) = (Vec::new(), &bytes[24..]);
        while !rest.is_empty() {
            let length = u32::from_le_bytes(rest[..4].try_into().expect("four")) as usize;
            let (frame, after) = rest.split_at(4 + length);
            frames.push(frame);
            rest = after;
        }
        frames
    }

    #[test]
    fn what_is_archived_is_read_again_and_only_whole_and_in_its_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, keys) = (folder.path().join("backup"), keys());
        let bytes = written(&path, &keys);
        let mut archive = ArchiveReader::open(&path, &keys).expect("opens");
        assert_eq!(archive.made_at, Timestamp::from_millis(7));
        let mut count = 0;
        while let Some(Entry::Line(line)) = archive.next_entry().expect("read") {
            assert!(line.row.starts_with(&format!("{{\"n\":{count},")));
            count += 1;
        }
        assert_eq!(count, 40);
        assert!(!bytes.windows(20).any(|part| part == b"xxxxxxxxxxxxxxxxxxxx"), "nothing shows");

        let head = &bytes[..24];
        let all = frames(&bytes);
        assert!(all.len() >= 3, "{} frames", all.len());
        let refused = |what: &str, bytes: &[u8]| {
            fs::write(&path, bytes).expect("written");
            assert!(ArchiveReader::verify(&path, &keys).is_err(), "{what}");
        };
        let joined = |frames: &[&[u8]]| [head, &frames.concat()].concat();
        refused("cut behind a whole frame", &joined(&all[..all.len() - 1]));
        refused("a frame left out", &joined(&[&all[..1], &all[2..]].concat()));
        let mut swapped = all.clone();
        swapped.swap(0, 1);
        refused("two frames swapped", &joined(&swapped));
        refused("a frame twice", &joined(&[&all[..], &all[all.len() - 1..]].concat()));
        refused("something behind it", &[&bytes[..], b"x"].concat());
        for length in (0..bytes.len()).step_by(9973).chain([bytes.len() - 1]) {
            refused("cut", &bytes[..length]);
        }
        for at in (0..bytes.len()).step_by(4999) {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            refused("altered", &altered);
        }
        let other = written(&folder.path().join("other"), &keys);
        let taken = [&all[..1], &frames(&other)[1..]].concat();
        refused("frames of another archive", &joined(&taken));
        assert!(
            ArchiveReader::open(&folder.path().join("other"), &super::tests::keys()).is_err(),
            "another key"
        );
    }

    #[test]
    fn an_archive_that_was_given_up_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("backup");
        drop(ArchiveWriter::create(&path, &keys(), Timestamp::from_millis(7)).expect("begun"));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        assert!(ArchiveWriter::create(&path, &Keys::default(), Timestamp::from_millis(7)).is_err());
    }
}
