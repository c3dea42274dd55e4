//! The sealed form of the token file, and the note beside it that is no secret.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokens::{Installation, InstallationId, LastCheck, Version};
use zeroize::Zeroizing;

use crate::data_file::random_name;
use crate::disk;
use crate::row::{self, CheckAtRest};
use crate::seal::{Place, Sealer, Unopened};
use crate::template;

const VERSION: u32 = 1;

/// What anyone may read of a sealed file; the seal is bound to it.
#[derive(Serialize, Deserialize)]
struct Envelope {
    ghl_auth_sealed: u32,
    #[serde(default)]
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    data: String,
}

impl Envelope {
    fn place(&self) -> Result<Place, Unopened> {
        match (&self.kind, &self.id) {
            (Some(kind), Some(id)) => {
                let id = InstallationId::from_parts(kind, id).map_err(|_| Unopened::Broken)?;
                let version = Version { epoch: self.epoch, generation: self.generation };
                Ok(Place::field("file", &id, version, "document"))
            }
            _ => Ok(Place::whole("file", "document")),
        }
    }
}

/// An opened envelope.
pub(crate) struct Opened {
    pub(crate) plain: Zeroizing<Vec<u8>>,
    pub(crate) under_the_current_key: bool,
}

/// Opens a sealed file; none when the file is not sealed.
pub(crate) fn open(bytes: &[u8], sealer: &Sealer) -> Result<Option<Opened>, Unopened> {
    let sealed = template::text(bytes).ok().and_then(|text| template::scan(text).ok());
    let Some(scan) = sealed.filter(|scan| scan.members.contains_key("ghl_auth_sealed")) else {
        return Ok(None);
    };
    if scan.members["ghl_auth_sealed"].as_u64().is_some_and(|version| version > u64::from(VERSION)) {
        return Err(Unopened::TooNew);
    }
    let envelope: Envelope =
        serde_json::from_value(serde_json::Value::Object(scan.members)).map_err(|_| Unopened::Broken)?;
    let data = STANDARD.decode(&envelope.data).map_err(|_| Unopened::Broken)?;
    let plain = sealer.open(&envelope.place()?, &data)?;
    Ok(Some(Opened { plain, under_the_current_key: sealer.is_current(&data) }))
}

/// Seals a document for the file; none without a key.
pub(crate) fn seal(installation: Option<&Installation>, plain: &[u8], sealer: &Sealer) -> Option<Vec<u8>> {
    let mut envelope = Envelope {
        ghl_auth_sealed: VERSION,
        key: sealer.current_id()?,
        kind: installation.map(|installation| installation.id.kind().to_owned()),
        id: installation.map(|installation| installation.id.as_str().to_owned()),
        epoch: installation.map_or(0, |installation| installation.version.epoch),
        generation: installation.map_or(0, |installation| installation.version.generation),
        data: String::new(),
    };
    let place = envelope.place().expect("an installation's id is one");
    envelope.data = STANDARD.encode(sealer.seal(&place, plain)?);
    let mut bytes = serde_json::to_vec_pretty(&envelope).expect("strings and numbers are always JSON");
    bytes.push(b'\n');
    Some(bytes)
}

/// Notes what a check found, beside the file; not worth failing for.
pub(crate) fn note_check(path: &Path, id: &InstallationId, check: &LastCheck) {
    let note = disk::beside(path, ".check");
    let temporary = disk::beside(path, &format!(".check.{}", random_name()));
    let bytes = row::to_bytes(&CheckAtRest::new(id, check));
    let written = disk::create_new(&temporary)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&temporary, &note));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        tracing::debug!(file = %note.display(), %error, "what the check found was not noted");
    }
}

/// What the last check found, if it was noted.
pub(crate) fn last_check(path: &Path, id: &InstallationId) -> Option<LastCheck> {
    let bytes = fs::read(disk::beside(path, ".check")).ok()?;
    row::from_bytes::<CheckAtRest>(&bytes).ok()?.of(id)
}
