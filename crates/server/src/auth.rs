//! An API key becomes a [`Caller`].
//!
//! A key is found by its public part and compared by its hash, in constant time. What is known of
//! the keys is a copy that is taken anew when any process adds or revokes one.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use tokens::records::{KeyId, KeyRecord, KeyUse, Reach, Verb};
use tokens::{InstallationId, Timestamp};
use zeroize::Zeroizing;

use crate::key;

/// From where a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An address.
    Ip(IpAddr),
    /// The socket file.
    Unix,
}

impl Source {
    /// Whether it is this machine.
    pub(crate) fn is_local(self) -> bool {
        match self {
            Self::Ip(ip) => ip.is_loopback(),
            Self::Unix => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A key that is known, and when it was used last.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) record: KeyRecord,
    used_at: AtomicI64,
    used_from: Mutex<Option<Source>>,
    /// How many of its requests are on their way through the gateway.
    pub(crate) at_once: AtomicU32,
}

/// Whoever asks, by a key that is good.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) key: Arc<KnownKey>,
}

/// Why a request has no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It brings no key.
    NoKey,
    /// It brings a key where keys are seen and kept by others: in the address, in a form or in a cookie.
    Exposed,
    /// There is no such key.
    WrongKey,
    /// Too many wrong keys came from there lately.
    TooMany {
        /// When to try again.
        retry_after: Duration,
    },
    /// The key's life has ended by itself.
    Expired,
    /// Someone ended the key's life.
    Revoked,
}

/// Why a caller may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// The key does not hold the verb.
    Verb,
    /// The installation is not within the key's reach, whether it exists or not.
    Reach,
}

impl Caller {
    fn is_good(&self, now: Timestamp) -> Result<(), Unknown> {
        let record = &self.key.record;
        if record.revoked_at.is_some() {
            return Err(Unknown::Revoked);
        }
        match record.expires_at.is_some_and(|at| at <= now) {
            true => Err(Unknown::Expired),
            false => Ok(()),
        }
    }

    /// Remembers when and from where the key was used last.
    pub(crate) fn note_use(&self, source: Source, now: Timestamp) {
        self.key.used_at.store(now.as_millis(), Ordering::Relaxed);
        *held(&self.key.used_from) = Some(source);
    }

    /// Whether the key may do this.
    pub(crate) fn may(&self, verb: Verb) -> Result<(), Forbidden> {
        match self.key.record.verbs.contains(&verb) {
            true => Ok(()),
            false => Err(Forbidden::Verb),
        }
    }

    /// Whether the key reaches everything.
    pub(crate) fn reaches_all(&self) -> Result<(), Forbidden> {
        match self.key.record.reach {
            Reach::All => Ok(()),
            Reach::These(_) => Err(Forbidden::Reach),
        }
    }

    /// Whether the key may do this for `id`.
    pub(crate) fn may_for(&self, verb: Verb, id: &InstallationId) -> Result<(), Forbidden> {
        self.may(verb)?;
        match self.key.record.reach.covers(id) {
            true => Ok(()),
            false => Err(Forbidden::Reach),
        }
    }
}

/// The key that was good on a connection before, and whose it was. Most connections bring one key only.
#[derive(Default)]
pub(crate) struct Before(Option<(Zeroizing<Vec<u8>>, Arc<KnownKey>)>);

/// The keys as they were last read.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    known: ArcSwap<HashMap<[u8; key::ID], Arc<KnownKey>, foldhash::fast::RandomState>>,
    wrong: WrongKeys,
}

impl Keys {
    /// Puts what was read in the place of what was known; what was noted of uses stays.
    pub(crate) fn replace(&self, records: Vec<KeyRecord>) {
        let before = self.known.load_full();
        let known = records.into_iter().filter_map(|record| {
            let id: [u8; key::ID] = record.id.0.as_bytes().try_into().ok()?;
            let (used_at, used_from) = match before.get(&id) {
                Some(known) => (known.used_at.load(Ordering::Relaxed), *held(&known.used_from)),
                None => (0, None),
            };
            let known = KnownKey {
                record,
                used_at: AtomicI64::new(used_at),
                used_from: Mutex::new(used_from),
                at_once: AtomicU32::default(),
            };
            Some((id, Arc::new(known)))
        });
        self.known.store(Arc::new(known.collect()));
    }

    /// The caller behind the value of an `Authorization` header. A wrong key is counted.
    pub(crate) fn caller(
        &self,
        authorization: Option<&[u8]>,
        source: Source,
        now: Timestamp,
    ) -> Result<Caller, Unknown> {
        let text = authorization.and_then(bearer).ok_or(Unknown::NoKey)?;
        let caller = self.holder(text).ok_or_else(|| self.wrong.count(source, now))?;
        caller.is_good(now)?;
        caller.note_use(source, now);
        Ok(caller)
    }

    /// The caller behind a key that is good. Nothing is counted or noted. A key that was good before is told
    /// by itself, as long as no key has changed, and not by its hash.
    pub(crate) fn good(&self, authorization: &[u8], before: &mut Before, now: Timestamp) -> Option<Caller> {
        let text = bearer(authorization)?;
        let known = self.known.load();
        let key = known.get(key::public_part(text)?);
        let caller = match (&before.0, key) {
            (Some((same, of)), Some(key)) if Arc::ptr_eq(of, key) && are_equal(same, text) => {
                Caller { key: key.clone() }
            }
            _ => {
                let caller = self.holder(text)?;
                before.0 = Some((Zeroizing::new(text.to_vec()), caller.key.clone()));
                caller
            }
        };
        caller.is_good(now).ok()?;
        Some(caller)
    }

    /// Whether a key of this public part is good for something everywhere.
    pub(crate) fn is_good(&self, id: &KeyId, verb: Verb, now: Timestamp) -> bool {
        let known = self.known.load();
        let key = <&[u8; key::ID]>::try_from(id.0.as_bytes()).ok().and_then(|id| known.get(id));
        key.is_some_and(|key| {
            let caller = Caller { key: key.clone() };
            caller.is_good(now).is_ok() && caller.may(verb).is_ok() && caller.reaches_all().is_ok()
        })
    }

    /// Whether it may be a key that was made a moment ago: it has a key's form and checksum, and is not
    /// known here. From where too many wrong keys come, nothing is looked up.
    pub(crate) fn may_be_new(&self, authorization: Option<&[u8]>, source: Source, now: Timestamp) -> bool {
        let text = authorization.and_then(bearer).unwrap_or_default();
        key::is_whole(text) && self.holder(text).is_none() && !self.wrong.are_too_many(source, now)
    }

    /// Whether the key is one of these, good or not.
    pub(crate) fn are_of(&self, authorization: &[u8]) -> bool {
        let Some(text) = bearer(authorization) else { return false };
        let is_called_so = key::public_part(text).is_some_and(|id| self.known.load().contains_key(id));
        is_called_so && self.holder(text).is_some()
    }

    /// Takes as long for a key of which nothing is known as for one that is half right.
    fn holder(&self, text: &[u8]) -> Option<Caller> {
        let known = self.known.load();
        let key = known.get(key::public_part(text)?);
        let expected = key.map_or(&[0; 32], |key| &key.record.hash);
        are_equal(&key::hash(text), expected).then_some(())?;
        key.map(|key| Caller { key: key.clone() })
    }

    /// The uses since `since`.
    pub(crate) fn uses(&self, since: Timestamp) -> Vec<(KeyId, KeyUse)> {
        let known = self.known.load();
        let used = known.values().filter_map(|key| {
            let at = Timestamp::from_millis(key.used_at.load(Ordering::Relaxed));
            let source = (*held(&key.used_from))?;
            (at >= since).then(|| (key.record.id.clone(), KeyUse { at, source: source.to_string() }))
        });
        used.collect()
    }
}

/// In a time that does not tell where they differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

/// What stands behind `Bearer `, whose case does not matter (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(rest)
}

/// Wrong keys by where they came from.
#[derive(Debug, Default)]
struct WrongKeys(Mutex<HashMap<Source, (Timestamp, u32)>>);

const WINDOW: Duration = Duration::from_secs(60);
const WRONG_IN_A_WINDOW: u32 = 20;
const MOST_SOURCES: usize = 10_000;

impl WrongKeys {
    fn are_too_many(&self, source: Source, now: Timestamp) -> bool {
        let sources = held(&self.0);
        let counted = sources.get(&source).filter(|(since, _)| now.since(*since) < WINDOW && *since <= now);
        counted.is_some_and(|(_, count)| *count >= WRONG_IN_A_WINDOW)
    }

    /// Counts one more. A right key never comes here, so nobody is locked out.
    fn count(&self, source: Source, now: Timestamp) -> Unknown {
        let mut sources = held(&self.0);
        if sources.len() >= MOST_SOURCES {
            sources.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        if sources.len() >= MOST_SOURCES {
            sources.clear();
        }
        let (since, count) = sources.entry(source).or_insert((now, 0));
        if now.since(*since) >= WINDOW || now < *since {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        match *count > WRONG_IN_A_WINDOW {
            true => Unknown::TooMany { retry_after: now.until(*since + WINDOW) },
            false => Unknown::WrongKey,
        }
    }
}

pub(crate) fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ApiKey;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn record(key: &ApiKey, reach: Reach) -> KeyRecord {
        KeyRecord {
            id: key.id(),
            name: "test".into(),
            hash: key.hash(),
            verbs: BTreeSet::from([Verb::Token]),
            reach,
            lane: tokens::Lane::default(),
            allowed: Vec::new(),
            created_at: at(0),
            expires_at: Some(at(1000)),
            revoked_at: None,
            last_use: None,
        }
    }

    fn header(key: &str) -> Vec<u8> {
        format!("Bearer {key}").into_bytes()
    }

    #[test]
    fn only_the_whole_key_in_time_is_a_caller() {
        let key = ApiKey::generate();
        let keys = Keys::default();
        keys.replace(vec![record(&key, Reach::All)]);
        let ask = |value: &[u8], now| keys.caller(Some(value), Source::Unix, now).map(drop);
        assert_eq!(ask(&header(key.expose()), at(1)), Ok(()));
        assert_eq!(ask(format!("bEARER {}", key.expose()).as_bytes(), at(1)), Ok(()));
        assert_eq!(ask(&header(key.expose()), at(1000)), Err(Unknown::Expired));
        let mut other = key.expose().to_owned();
        other.replace_range(20..21, if &other[20..21] == "A" { "B" } else { "A" });
        assert_eq!(ask(&header(&other), at(1)), Err(Unknown::WrongKey));
        assert_eq!(ask(&header(""), at(1)), Err(Unknown::WrongKey));
        assert_eq!(ask(b"Basic abc", at(1)), Err(Unknown::NoKey));
        keys.replace(vec![KeyRecord { revoked_at: Some(at(2)), ..record(&key, Reach::All) }]);
        assert_eq!(ask(&header(key.expose()), at(3)), Err(Unknown::Revoked));
        keys.replace(Vec::new());
        assert_eq!(ask(&header(key.expose()), at(3)), Err(Unknown::WrongKey));
    }

    #[test]
    fn a_key_that_was_good_before_is_good_until_it_ends_or_changes() {
        let key = ApiKey::generate();
        let keys = Keys::default();
        let ask = |before: &mut Before, value: &[u8], now| keys.good(value, before, now).is_some();
        keys.replace(vec![record(&key, Reach::All)]);
        let before = &mut Before::default();
        let value = header(key.expose());
        let mut other = value.clone();
        let last = other.last_mut().expect("a key");
        *last = if *last == b'A' { b'B' } else { b'A' };
        assert!(ask(before, &value, at(1)) && ask(before, &value, at(2)));
        assert!(!ask(before, &other, at(3)), "whatever was good before");
        assert!(ask(before, &value, at(4)));
        assert!(!ask(before, &value, at(1000)), "its life has ended");
        keys.replace(vec![KeyRecord { revoked_at: Some(at(5)), ..record(&key, Reach::All) }]);
        assert!(!ask(before, &value, at(6)), "it was revoked");
        keys.replace(vec![KeyRecord { hash: [7; 32], ..record(&key, Reach::All) }]);
        assert!(!ask(before, &value, at(6)), "another has its name");
        keys.replace(Vec::new());
        assert!(!ask(before, &value, at(6)), "it is known no more");
    }

    #[test]
    fn after_twenty_wrong_keys_a_source_waits_and_a_right_key_is_let_in() {
        let key = ApiKey::generate();
        let keys = Keys::default();
        keys.replace(vec![record(&key, Reach::All)]);
        let from = |last: u8| Source::Ip(IpAddr::from([127, 0, 0, last]));
        let ask = |value: &str, source, now| keys.caller(Some(&header(value)), source, now).map(drop);
        for _ in 0..20 {
            assert_eq!(ask("ghlk_wrong", from(1), at(1)), Err(Unknown::WrongKey));
        }
        let retry_after = Duration::from_secs(58);
        assert_eq!(ask("ghlk_wrong", from(1), at(3)), Err(Unknown::TooMany { retry_after }));
        assert_eq!(ask(key.expose(), from(1), at(3)), Ok(()));
        assert_eq!(ask("ghlk_wrong", from(2), at(3)), Err(Unknown::WrongKey));
        assert_eq!(ask("ghlk_wrong", from(1), at(61)), Err(Unknown::WrongKey));
    }

    /// As many times as `GHL_AUTH_TIMINGS` says. Without it not at all: on a busy machine it says nothing.
    #[test]
    fn what_is_wrong_with_a_key_does_not_show_in_the_time_it_takes() {
        let Ok(times) = std::env::var("GHL_AUTH_TIMINGS") else { return };
        let times: usize = times.parse().expect("a number");
        let right = ApiKey::generate();
        let keys = Keys::default();
        let others = (0..1000).map(|_| record(&ApiKey::generate(), Reach::All));
        keys.replace(others.chain([record(&right, Reach::All)]).collect());
        let altered = |place: usize| {
            let mut text = right.expose().as_bytes().to_vec();
            text[place] = if text[place] == b'A' { b'B' } else { b'A' };
            text
        };
        // The beginning of the secret, its end, and the checksum.
        let wrong = [13, 55, 61].map(altered);
        let mut took: [Vec<f64>; 3] = Default::default();
        // Any order will do that nobody can foresee from the last few.
        let mut order = 1_u64;
        for _ in 0..times * wrong.len() {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let which = (order >> 33) as usize % wrong.len();
            let began = std::time::Instant::now();
            let found = std::hint::black_box(&keys).holder(std::hint::black_box(&wrong[which]));
            took[which].push(began.elapsed().as_nanos() as f64);
            assert!(found.is_none());
        }
        // What took longer than most was held up by something else.
        let mut all: Vec<f64> = took.iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        let most = all[all.len() * 9 / 10];
        let of = |class: &[f64]| {
            let kept: Vec<f64> = class.iter().copied().filter(|nanos| *nanos <= most).collect();
            let mean = kept.iter().sum::<f64>() / kept.len() as f64;
            let spread = kept.iter().map(|nanos| (nanos - mean).powi(2)).sum::<f64>() / kept.len() as f64;
            (mean, spread / kept.len() as f64)
        };
        for one in 0..wrong.len() {
            for other in one + 1..wrong.len() {
                let ((mean, error), (mean_of_other, error_of_other)) = (of(&took[one]), of(&took[other]));
                // Welch's t, as dudect has it.
                let t = (mean - mean_of_other) / (error + error_of_other).sqrt();
                assert!(t.abs() < 4.5, "{one} and {other}: {mean} and {mean_of_other} ns, t = {t}");
            }
        }
    }

    #[test]
    fn a_million_sources_take_no_more_room_than_ten_thousand() {
        let wrong = WrongKeys::default();
        for number in 0..100_000_u32 {
            wrong.count(Source::Ip(IpAddr::from(number.to_be_bytes())), at(1));
        }
        assert!(held(&wrong.0).len() <= MOST_SOURCES);
    }

    #[test]
    fn reach_is_by_whole_ids_of_the_same_kind() {
        let location = |id: &str| InstallationId::Location(id.parse().expect("an id"));
        let company = |id: &str| InstallationId::Company(id.parse().expect("an id"));
        let key = ApiKey::generate();
        let keys = Keys::default();
        keys.replace(vec![record(&key, Reach::These([location("Abc")].into()))]);
        let caller = keys.caller(Some(&header(key.expose())), Source::Unix, at(1)).expect("a caller");
        assert_eq!(caller.may_for(Verb::Token, &location("Abc")), Ok(()));
        for other in ["Ab", "Abcd", "abc", "xAbc", "A-bc"] {
            assert_eq!(caller.may_for(Verb::Token, &location(other)), Err(Forbidden::Reach), "{other}");
        }
        assert_eq!(caller.may_for(Verb::Token, &company("Abc")), Err(Forbidden::Reach));
        assert_eq!(caller.may_for(Verb::Admin, &location("Abc")), Err(Forbidden::Verb));
    }
}
