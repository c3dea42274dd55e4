//! The machine's time zone, in which the template's file and people tell the time.
//!
//! The usual lookup lists every zone the system has before it reads the one that counts, which takes
//! longer than everything else a short command does at its start. Only that one is read here.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::tz::TimeZone;

/// The zone that `TZ` names, else the system's, else UTC.
pub fn zone() -> TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| find(std::env::var("TZ").ok().as_deref())).clone()
}

fn find(named: Option<&str>) -> TimeZone {
    let found = match named {
        Some(name) => by_name(name.trim_start_matches(':')),
        None => by_file(Path::new("/etc/localtime")),
    };
    found.unwrap_or(TimeZone::UTC)
}

/// A zone by its name (`America/Sao_Paulo`), its file, or its rule (`<-03>3`), as POSIX has it.
fn by_name(name: &str) -> Option<TimeZone> {
    let is_plain = !name.is_empty() && Path::new(name).components().all(|part| part.as_os_str() != "..");
    let path = is_plain.then(|| PathBuf::from("/usr/share/zoneinfo").join(name))?;
    by_file(&path).or_else(|| TimeZone::posix(name).ok())
}

fn by_file(path: &Path) -> Option<TimeZone> {
    let data = std::fs::read(path).ok()?;
    TimeZone::tzif("local", &data).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(zone: &TimeZone) -> i8 {
        jiff::Timestamp::from_second(1_790_000_000).expect("an instant").to_zoned(zone.clone()).hour()
    }

    #[test]
    fn a_zone_is_named_or_ruled_or_utc() {
        assert_eq!(hour(&find(Some(""))), 14);
        assert_eq!(hour(&find(Some("<-03>3"))), 11);
        assert_eq!(hour(&find(Some("no/such/zone"))), 14);
        assert_eq!(hour(&find(Some("../../etc/passwd"))), 14);
        if Path::new("/usr/share/zoneinfo/America/Sao_Paulo").exists() {
            assert_eq!(hour(&find(Some("America/Sao_Paulo"))), 11);
            assert_eq!(hour(&find(Some(":America/Sao_Paulo"))), 11);
        }
    }
}
