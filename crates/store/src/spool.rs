//! Where an answer lands before anything reads it, so that a crash can't reach it.
//!
//! A folder beside the store, one slot file for each flight: made, filled with zeros and flushed
//! before the refresh token is sent, so that landing needs no new room on the disk. The flight's
//! process holds a lock on its slot; a slot that nobody holds is from a flight that died.
//!
//! A slot is a row of records: eight bytes of mark, one that says whether it is sealed, four of
//! length, a checksum, the answer. What is not a whole record ends the row.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokens::StoreError;
use tokens::store::{FlightId, Landing};

use crate::data_file::held;
use crate::disk::{self, failed};
use crate::lock::{self, About};
use crate::row::{self, LandingAtRest};
use crate::seal::{Place, Sealer, checksum};

const MARK: &[u8; 8] = b"GHLSLOT1";
const HEADER: usize = 8 + 1 + 4 + 32;
const ROOM: usize = 64 * 1024;

/// The slots of one store.
pub(crate) struct Spool {
    folder: PathBuf,
    /// What the names of its slots begin with, where other stores may have slots in the same folder.
    prefix: String,
    sealer: Arc<Sealer>,
    slots: Mutex<HashMap<FlightId, Arc<Mutex<Slot>>>>,
}

struct Slot {
    file: File,
    end: u64,
}

impl Spool {
    /// The spool of the store at `path`; nothing is made before it is needed.
    pub(crate) fn beside(path: &Path, sealer: Arc<Sealer>) -> Self {
        let folder = disk::beside(path, ".spool");
        Self { folder, prefix: String::new(), sealer, slots: Mutex::default() }
    }

    /// The spool of the store with this id, in a folder that it may share with others.
    pub(crate) fn within(folder: &Path, store_id: &str, sealer: Arc<Sealer>) -> Self {
        let (folder, prefix) = (folder.to_owned(), format!("{store_id}."));
        Self { folder, prefix, sealer, slots: Mutex::default() }
    }

    /// Whether any slot may be there.
    pub(crate) fn exists(&self) -> bool {
        self.folder.exists()
    }

    fn slot_path(&self, flight: &FlightId) -> Result<PathBuf, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        match (1..=64).contains(&flight.0.len()) && flight.0.chars().all(plain) {
            true => Ok(self.folder.join(format!("{}{}.slot", self.prefix, flight.0))),
            false => Err(failed("name a slot in", &self.folder)(io::ErrorKind::InvalidFilename.into())),
        }
    }

    /// Whether the flight's name can be that of a file.
    pub(crate) fn check_name(&self, flight: &FlightId) -> Result<(), StoreError> {
        self.slot_path(flight).map(drop)
    }

    /// Makes the flight's slot and flushes it.
    pub(crate) fn reserve(&self, flight: &FlightId) -> Result<(), StoreError> {
        self.slot(flight).map(drop)
    }

    /// The flight's slot, made if need be. Flights wait for the disk side by side.
    fn slot(&self, flight: &FlightId) -> Result<Arc<Mutex<Slot>>, StoreError> {
        let path = self.slot_path(flight)?;
        if let Some(slot) = held(&self.slots).get(flight) {
            return Ok(slot.clone());
        }
        let file = self.make(&path).map_err(failed("set room aside in", &path))?;
        let slot = Arc::new(Mutex::new(Slot { file, end: 0 }));
        held(&self.slots).insert(flight.clone(), slot.clone());
        Ok(slot)
    }

    fn make(&self, path: &Path) -> io::Result<File> {
        // Whoever frees the last slot takes the folder away, and whoever clears up takes a slot that
        // is not locked yet: then it is made again.
        for _ in 0..50 {
            disk::create_folder(&self.folder)?;
            let file = match disk::create_new(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                made => made?,
            };
            if lock::try_exclusive(&file, About::Flight)? && disk::names(path, &file)? {
                let filled = file
                    .write_all_at(&[0; ROOM], 0)
                    .and_then(|()| file.sync_all())
                    .and_then(|()| disk::sync_folder(&self.folder));
                return filled.map(|()| file).inspect_err(|_| {
                    let _ = fs::remove_file(path);
                    let _ = fs::remove_dir(&self.folder);
                });
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Puts an answer into its slot and flushes it.
    pub(crate) fn land(&self, flight: &FlightId, landing: &Landing) -> Result<(), StoreError> {
        let path = self.slot_path(flight)?;
        let record = record(&self.sealer, flight, landing);
        let slot = self.slot(flight)?;
        let mut slot = held(&slot);
        slot.file
            .write_all_at(&record, slot.end)
            .and_then(|()| slot.file.sync_data())
            .map_err(failed("write", &path))?;
        slot.end += record.len() as u64;
        Ok(())
    }

    /// Takes the flight's slot away, and the folder with the last of them.
    pub(crate) fn free(&self, flight: &FlightId) -> Result<(), StoreError> {
        let path = self.slot_path(flight)?;
        let removed = fs::remove_file(&path);
        held(&self.slots).remove(flight);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => {
                let _ = fs::remove_dir(&self.folder);
                Ok(())
            }
        }
    }

    /// What landed in slots that nobody holds. Empty slots of dead flights are cleared away, and
    /// what can't be read is kept and named.
    pub(crate) fn landings(&self) -> Result<Vec<(FlightId, Landing)>, StoreError> {
        let mut landings = Vec::new();
        for (path, flight) in self.slot_files()? {
            self.collect(&path, &flight, &mut landings).map_err(failed("read", &path))?;
        }
        landings.sort_by_key(|(_, landing)| landing.received_at);
        Ok(landings)
    }

    /// How many slots hold an answer under another than the current key.
    pub(crate) fn under_other_keys(&self) -> Result<usize, StoreError> {
        let mut count = 0;
        for (path, _) in self.slot_files()? {
            match fs::read(&path) {
                Ok(bytes) => count += usize::from(is_under_another_key(&self.sealer, &bytes)),
                // Its flight has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", &path)(error)),
            }
        }
        Ok(count)
    }

    /// The slots of this store that are there.
    fn slot_files(&self) -> Result<Vec<(PathBuf, FlightId)>, StoreError> {
        let names = match fs::read_dir(&self.folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.folder)(error)),
        };
        let mut found = Vec::new();
        for name in names {
            let path = name.map_err(failed("list", &self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let flight = name.and_then(|name| name.strip_prefix(&self.prefix)?.strip_suffix(".slot"));
            if let Some(flight) = flight.map(|flight| FlightId(flight.to_owned()))
                && self.check_name(&flight).is_ok()
            {
                found.push((path, flight));
            }
        }
        Ok(found)
    }

    fn collect(&self, path: &Path, flight: &FlightId, into: &mut Vec<(FlightId, Landing)>) -> io::Result<()> {
        let mut file = match disk::open_existing(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        if !lock::try_exclusive(&file, About::Flight)? || !disk::names(path, &file)? {
            return Ok(());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Row { landings, rest } = read(&self.sealer, flight, &bytes);
        match (landings.is_empty(), rest) {
            (true, Rest::Nothing) => {
                fs::remove_file(path)?;
                let _ = fs::remove_dir(&self.folder);
            }
            (true, Rest::Torn) => {
                tracing::warn!(slot = %path.display(), "an answer was cut off while it was written; kept as `.torn`");
                fs::rename(path, disk::beside(path, ".torn"))?;
            }
            (_, Rest::Sealed(why)) => {
                tracing::warn!(slot = %path.display(), why, "an answer can't be opened")
            }
            (false, _) => {}
        }
        into.extend(landings.into_iter().map(|landing| (flight.clone(), landing)));
        Ok(())
    }
}

/// What a slot holds.
struct Row {
    landings: Vec<Landing>,
    rest: Rest,
}

/// What is behind the last whole record.
enum Rest {
    Nothing,
    Torn,
    Sealed(&'static str),
}

fn record(sealer: &Sealer, flight: &FlightId, landing: &Landing) -> Vec<u8> {
    let plain = row::to_bytes(&LandingAtRest::from(landing));
    let sealed = sealer.seal(&Place::landing(flight), &plain);
    let payload = sealed.as_deref().unwrap_or(&plain);
    let mut record = Vec::with_capacity(HEADER + payload.len());
    record.extend_from_slice(MARK);
    record.push(u8::from(sealed.is_some()));
    record.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&checksum(payload));
    record.extend_from_slice(payload);
    record
}

fn read(sealer: &Sealer, flight: &FlightId, mut bytes: &[u8]) -> Row {
    let mut landings = Vec::new();
    let rest = loop {
        if bytes.iter().all(|byte| *byte == 0) {
            break Rest::Nothing;
        }
        let Some((sealed, payload, after)) = first_record(bytes) else { break Rest::Torn };
        bytes = after;
        let landing = if sealed {
            match sealer.open(&Place::landing(flight), payload) {
                Ok(plain) => landing(&plain),
                Err(crate::seal::Unopened::Broken) => break Rest::Sealed("its seal is broken"),
                Err(_) => break Rest::Sealed("none of the keys given opens it"),
            }
        } else {
            landing(payload)
        };
        match landing {
            Some(landing) => landings.push(landing),
            None => break Rest::Sealed("it is of another form"),
        }
    };
    Row { landings, rest }
}

fn is_under_another_key(sealer: &Sealer, mut bytes: &[u8]) -> bool {
    while let Some((sealed, payload, after)) = first_record(bytes) {
        if sealed && !sealer.is_current(payload) {
            return true;
        }
        bytes = after;
    }
    false
}

fn landing(plain: &[u8]) -> Option<Landing> {
    row::from_bytes::<LandingAtRest>(plain).and_then(LandingAtRest::into_landing).ok()
}

/// Whether it is sealed, what it holds, and what comes behind it.
fn first_record(bytes: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let length = u32::from_le_bytes(header[9..13].try_into().ok()?);
    let (payload, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let whole = header.starts_with(MARK) && header[13..] == checksum(payload);
    whole.then_some((header[8] == 1, payload, after))
}

#[cfg(test)]
mod tests {
    use tokens::{AnswerBody, Timestamp, Version};

    use super::*;
    use crate::key::{Key, Keys};

    fn sealer(keys: &Keys) -> Arc<Sealer> {
        Arc::new(Sealer::new(keys))
    }

    fn sealed() -> Keys {
        Keys { current: Key::parse(&Key::generate()).ok(), old: Vec::new() }
    }

    fn answer(name: &str) -> Landing {
        Landing {
            id: None,
            version: Version { epoch: 1, generation: 1 },
            replaces: None,
            unasked: false,
            received_at: Timestamp::from_millis(1),
            status: 200,
            body: AnswerBody::new(format!("{{\"access_token\": \"{}\"}}", name.repeat(3000))),
        }
    }

    fn flight() -> FlightId {
        FlightId("f1".into())
    }

    #[test]
    fn stores_that_share_a_folder_leave_each_other_s_answers_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = sealed();
        let spool = |store: &str| Spool::within(&folder.path().join("spool"), store, sealer(&keys));
        spool("one").land(&flight(), &answer("eyJ")).expect("landed");
        let other = spool("other");
        other.reserve(&FlightId("f2".into())).expect("room");
        assert!(other.landings().expect("read").is_empty());
        other.free(&flight()).expect("nothing to be freed");
        other.free(&FlightId("f2".into())).expect("freed");
        assert_eq!(spool("one").landings().expect("read").len(), 1);
    }

    #[test]
    fn what_was_torn_is_kept_and_never_taken_for_an_answer() {
        for keys in [Keys::default(), sealed()] {
            let record = record(&sealer(&keys), &flight(), &answer("eyJ"));
            for length in (0..record.len()).step_by(97).chain([record.len() - 1]) {
                let folder = tempfile::tempdir().expect("a folder");
                let spool = Spool::beside(&folder.path().join("store"), sealer(&keys));
                spool.reserve(&flight()).expect("room");
                let path = spool.slot_path(&flight()).expect("a path");
                assert_eq!(
                    fs::metadata(&path).expect("a slot").len(),
                    ROOM as u64,
                    "it is filled beforehand"
                );
                let slot = disk::open_existing(&path).expect("a slot");
                slot.write_all_at(&record[..length], 0).expect("written");
                let after_the_crash = Spool::beside(&folder.path().join("store"), sealer(&keys));
                assert!(after_the_crash.landings().expect("read").is_empty(), "its process lives");
                assert!(path.exists());
                drop(spool);
                assert!(after_the_crash.landings().expect("read").is_empty(), "cut to {length}");
                assert_eq!(disk::beside(&path, ".torn").exists(), length > 0, "cut to {length}");
                assert!(!path.exists());
            }
        }
    }

    #[test]
    fn several_answers_and_long_ones_land_in_one_slot() {
        for keys in [Keys::default(), sealed()] {
            let folder = tempfile::tempdir().expect("a folder");
            let spool = Spool::beside(&folder.path().join("store"), sealer(&keys));
            let answers = [answer("one"), answer(&"two".repeat(20)), answer("three")];
            for answer in &answers {
                spool.land(&flight(), answer).expect("landed");
            }
            drop(spool);
            let spool = Spool::beside(&folder.path().join("store"), sealer(&keys));
            let landed = spool.landings().expect("read");
            let same = landed.iter().zip(&answers).all(|((_, landed), answer)| landed.body == answer.body);
            assert!(landed.len() == 3 && same);
            spool.free(&flight()).expect("freed");
            assert!(!spool.folder.exists());
        }
    }

    #[test]
    fn what_another_key_sealed_or_another_flight_is_left_where_it_lies() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = sealed();
        let open = |keys: &Keys| Spool::beside(&folder.path().join("store"), sealer(keys));
        open(&keys).land(&flight(), &answer("eyJ")).expect("landed");
        assert!(open(&sealed()).landings().expect("read").is_empty());
        assert!(open(&Keys::default()).landings().expect("read").is_empty());
        let path = open(&keys).slot_path(&flight()).expect("a path");
        let renamed = path.with_file_name("f2.slot");
        fs::rename(&path, &renamed).expect("renamed");
        assert!(open(&keys).landings().expect("read").is_empty());
        fs::rename(&renamed, &path).expect("renamed");
        assert_eq!(open(&keys).landings().expect("read").len(), 1, "nothing was lost");
    }
}
