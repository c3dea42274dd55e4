//! Tokens ready to be sent, so that most requests touch neither the store nor the Keeper.
//!
//! A copy is good until its installation calls for something else than its use, or the store says
//! that it has changed. There is room for so many bytes: beyond them, those that have lain there longest
//! go, whether or not they are asked for. To have one made anew costs a look into the store, and to note
//! each use would cost every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use papaya::HashMap;
use serde_json::{Value, json};
use tokens::{CompanyId, Connection, Installation, InstallationId, LocationId, Served, Timestamp};
use upkeep::{Said, Speech};

/// An installation's answer, all but the seconds that its token still lives.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    installation: InstallationId,
    generation: u64,
    expires_at: Timestamp,
    used_until: Timestamp,
    /// The token itself, mostly a part of `rest`.
    token: Bytes,
    rest: Bytes,
}

/// The room that copies have: some 30,000 of them with tokens of 5 KB, some 100,000 with tokens of 1 KB.
const ROOM: usize = 256 * 1024 * 1024;

/// What a copy takes beside its bytes: its own fields, its path, and its share of the map.
const BESIDE: usize = 600;

/// How each answer's body begins. The seconds that the token still lives follow, then the rest.
pub(crate) const OPENING: &str = "{\"expires_in\":";

impl Copy {
    /// The answer for what the Keeper gave.
    pub(crate) fn of(served: &Served, speech: &dyn Speech) -> Self {
        let installation = &served.installation;
        let mut rest = document(served, speech).to_string();
        rest.replace_range(..1, ",");
        let rest = Bytes::from(rest.into_bytes().into_boxed_slice());
        Self {
            installation: installation.id.clone(),
            generation: installation.version.generation,
            expires_at: installation.tokens.expires_at,
            // A trouble that the store does not know of is asked about anew each time.
            used_until: match (&served.warning, &installation.connection) {
                (Some(_), Connection::Connected) => Timestamp::from_millis(i64::MIN),
                _ => installation.used_until(),
            },
            token: token_in(&rest, installation.tokens.access.expose()),
            rest,
        }
    }

    /// The token itself.
    pub(crate) fn token(&self) -> &[u8] {
        &self.token
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> &InstallationId {
        &self.installation
    }

    /// Of which generation.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether it may be sent without a look at anything else.
    pub(crate) fn is_good(&self, now: Timestamp, minimum_life: Duration) -> bool {
        now < self.used_until && now + minimum_life < self.expires_at
    }

    /// For how many seconds the token still lives.
    pub(crate) fn seconds_left(&self, now: Timestamp) -> u64 {
        now.until(self.expires_at).as_secs()
    }

    /// Whether its token lives, whatever its installation calls for.
    pub(crate) fn lives(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    /// What follows the seconds.
    pub(crate) fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// The room that it takes.
    fn size(&self) -> usize {
        self.rest.len() + BESIDE
    }

    /// The whole answer's body at `now`.
    pub(crate) fn body(&self, now: Timestamp) -> Bytes {
        let beginning = format!("{OPENING}{}", self.seconds_left(now));
        Bytes::from([beginning.as_bytes(), &self.rest].concat())
    }

    /// The same with one more warning.
    pub(crate) fn with_warning(&self, warning: &Said) -> Self {
        let rest = self.rest.strip_suffix(CLOSING.as_bytes()).unwrap_or(&self.rest);
        let before = if rest.ends_with(b"[") { "" } else { "," };
        let one_more = warning_of(warning).to_string();
        let rest = [rest, before.as_bytes(), one_more.as_bytes(), CLOSING.as_bytes()].concat();
        Self { rest: Bytes::from(rest), ..self.clone() }
    }
}

/// How each answer's body ends: the warnings come last.
const CLOSING: &str = "]}";

/// The token where it stands in an answer, so that it takes no more room; one that JSON has to escape
/// does not stand there as it is.
fn token_in(rest: &Bytes, token: &str) -> Bytes {
    const BEFORE: usize = ",\"access_token\":\"".len();
    match rest.get(BEFORE..BEFORE + token.len()) {
        Some(there) if there == token.as_bytes() => rest.slice(BEFORE..BEFORE + token.len()),
        _ => Bytes::copy_from_slice(token.as_bytes()),
    }
}

fn warning_of(said: &Said) -> Value {
    json!({ "code": said.code, "detail": said.detail, "action": said.action })
}

fn document(served: &Served, speech: &dyn Speech) -> Value {
    let Installation { id, version, tokens, .. } = &served.installation;
    let (location, company) = match id {
        InstallationId::Location(id) => {
            (Some(LocationId::as_str(id)), tokens.company.as_ref().map(CompanyId::as_str))
        }
        InstallationId::Company(id) => (None, Some(id.as_str())),
    };
    let warnings: Vec<Value> =
        served.warning.iter().map(|error| warning_of(&speech.keeper_error(error))).collect();
    json!({
        "access_token": tokens.access.expose(),
        "token_type": "Bearer",
        "expires_at": rfc3339(tokens.expires_at),
        "scope": tokens.scopes,
        "user_type": id.user_type(),
        "location_id": location,
        "company_id": company,
        "generation": version.generation,
        "warnings": warnings,
    })
}

/// An instant as programs read it: RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    match jiff::Timestamp::from_second(at.as_millis().div_euclid(1000)) {
        Ok(at) => at.to_string(),
        Err(_) => at.as_millis().to_string(),
    }
}

/// The copies there are, by the path under which they are asked for.
pub(crate) struct Copies {
    by_path: HashMap<String, Kept, foldhash::fast::RandomState>,
    /// How often something was dropped.
    drops: AtomicU64,
    room: usize,
    /// How much of it is taken, about: it is reckoned anew whenever room is made.
    taken: AtomicUsize,
    puts: AtomicU64,
    is_making_room: AtomicBool,
}

/// A copy, and the how manieth it was to come.
struct Kept {
    copy: Arc<Copy>,
    number: u64,
}

impl Default for Copies {
    fn default() -> Self {
        Self::with_room(ROOM)
    }
}

/// A moment in the life of the copies: what is read from the store after it may be kept, unless
/// something was dropped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AsOf(u64);

/// The path of an installation's token.
pub(crate) fn path_of(id: &InstallationId) -> String {
    let (kind, id) = match id {
        InstallationId::Location(id) => ("/v1/locations/", id.as_str()),
        InstallationId::Company(id) => ("/v1/companies/", id.as_str()),
    };
    [kind, id, "/token"].concat()
}

impl Copies {
    fn with_room(room: usize) -> Self {
        Self {
            by_path: HashMap::default(),
            drops: AtomicU64::default(),
            room,
            taken: AtomicUsize::default(),
            puts: AtomicU64::default(),
            is_making_room: AtomicBool::default(),
        }
    }

    /// The copy behind a path.
    pub(crate) fn at(&self, path: &str) -> Option<Arc<Copy>> {
        self.by_path.pin().get(path).map(|kept| kept.copy.clone())
    }

    /// Now.
    pub(crate) fn as_of(&self) -> AsOf {
        AsOf(self.drops.load(Ordering::SeqCst))
    }

    /// Puts a copy of what was read after `as_of` in the place of the one before.
    pub(crate) fn put(&self, copy: Arc<Copy>, as_of: AsOf) {
        let copies = self.by_path.pin();
        let path = path_of(&copy.installation);
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        let taken = self.taken.fetch_add(copy.size(), Ordering::Relaxed) + copy.size();
        if let Some(before) = copies.insert(path.clone(), Kept { copy, number }) {
            self.give_back(before.copy.size());
        }
        // What was dropped before it came in may have been this very one.
        if self.as_of() != as_of
            && let Some(dropped) = copies.remove(&path)
        {
            self.give_back(dropped.copy.size());
        }
        drop(copies);
        if taken > self.room {
            self.make_room();
        }
    }

    fn give_back(&self, size: usize) {
        let less = |taken: usize| Some(taken.saturating_sub(size));
        let _ = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Drops those that have lain there longest, an eighth at a time: it takes a look at all of them.
    fn make_room(&self) {
        if self.is_making_room.swap(true, Ordering::Acquire) {
            return;
        }
        let copies = self.by_path.pin();
        let mut all: Vec<(u64, usize)> =
            copies.values().map(|kept| (kept.number, kept.copy.size())).collect();
        all.sort_unstable();
        let mut taken: usize = all.iter().map(|(_, size)| size).sum();
        let enough = self.room - self.room / 8;
        let mut first_to_stay = 0;
        for (number, size) in all {
            if taken <= enough {
                break;
            }
            taken -= size;
            first_to_stay = number + 1;
        }
        copies.retain(|_, kept| kept.number >= first_to_stay);
        self.taken.store(taken, Ordering::Relaxed);
        self.is_making_room.store(false, Ordering::Release);
    }

    /// Drops the copies of what has changed.
    pub(crate) fn drop_stale(&self, ids: &[InstallationId]) {
        if ids.is_empty() {
            return;
        }
        self.drops.fetch_add(1, Ordering::SeqCst);
        let copies = self.by_path.pin();
        for id in ids {
            if let Some(dropped) = copies.remove(&path_of(id)) {
                self.give_back(dropped.copy.size());
            }
        }
    }

    /// Drops them all.
    pub(crate) fn drop_all(&self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
        self.by_path.pin().clear();
        self.taken.store(0, Ordering::Relaxed);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_path.len()
    }

    /// For how long the tokens at hand still live.
    pub(crate) fn lives(&self, now: Timestamp) -> Vec<Duration> {
        self.by_path.pin().values().map(|kept| now.until(kept.copy.expires_at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(id: &str) -> Arc<Copy> {
        Arc::new(Copy {
            installation: InstallationId::Location(id.parse().expect("an id")),
            generation: 1,
            expires_at: Timestamp::from_millis(100_999),
            used_until: Timestamp::from_millis(50_000),
            token: Bytes::new(),
            rest: Bytes::from_static(b",\"scope\":\"\"}"),
        })
    }

    #[test]
    fn what_was_read_before_something_changed_is_not_kept() {
        let copies = Copies::default();
        let (path, ids) = ("/v1/locations/a/token", [copy("a").installation.clone()]);
        let as_of = copies.as_of();
        copies.put(copy("a"), as_of);
        assert!(copies.at(path).is_some());
        copies.drop_stale(&[]);
        copies.put(copy("a"), as_of);
        assert!(copies.at(path).is_some(), "nothing was dropped");
        copies.drop_stale(&ids);
        assert!(copies.at(path).is_none());
        copies.put(copy("a"), as_of);
        assert!(copies.at(path).is_none(), "it was read before");
        copies.put(copy("a"), copies.as_of());
        assert!(copies.at(path).is_some());
        copies.drop_all();
        copies.put(copy("a"), AsOf(1));
        assert_eq!((copies.at(path).is_some(), copies.count()), (false, 0));
    }

    #[test]
    fn the_token_is_a_part_of_the_answer_unless_it_is_written_otherwise_there() {
        let rest = Bytes::from_static(b",\"access_token\":\"abc\",\"x\":1}");
        let token = token_in(&rest, "abc");
        assert_eq!((&token[..], token.as_ptr()), (&b"abc"[..], rest[17..].as_ptr()));
        assert_eq!(&token_in(&rest, "a\"c")[..], b"a\"c");
        assert_eq!(&token_in(&rest, &"x".repeat(100))[..], "x".repeat(100).as_bytes());
    }

    #[test]
    fn a_warning_comes_behind_those_that_are_there() {
        let said = |code| Said { code, detail: "d".into(), action: "a".into(), needs_person: false };
        let mut copy = Arc::unwrap_or_clone(copy("a"));
        copy.rest = Bytes::from_static(b",\"warnings\":[]}");
        let one = copy.with_warning(&said("one"));
        let two = one.with_warning(&said("two"));
        let body: Value = serde_json::from_slice(&two.body(Timestamp::from_millis(0))).expect("JSON");
        let codes: Vec<_> =
            body["warnings"].as_array().expect("a list").iter().map(|it| &it["code"]).collect();
        assert_eq!(codes, ["one", "two"]);
    }

    #[test]
    fn beyond_the_room_there_is_what_has_lain_longest_goes() {
        let size = copy("x").size();
        let copies = Copies::with_room(size * 80);
        for number in 0..1000 {
            copies.put(copy(&format!("loc{number}")), copies.as_of());
            assert!(copies.count() <= 80, "{number}");
            assert!(copies.at(&format!("/v1/locations/loc{number}/token")).is_some(), "{number}");
        }
        assert!(copies.count() > 60);
        assert!((940..1000).all(|number| copies.at(&format!("/v1/locations/loc{number}/token")).is_some()));
        // The same again takes no room, and what is dropped gives it back.
        for _ in 0..1000 {
            copies.put(copy("loc999"), copies.as_of());
        }
        assert!(copies.count() > 60);
        let ids: Vec<_> =
            (0..1000).map(|number| copy(&format!("loc{number}")).installation.clone()).collect();
        copies.drop_stale(&ids);
        assert_eq!((copies.count(), copies.taken.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn the_seconds_are_those_of_now_and_the_copy_is_good_until_it_is_not() {
        let copy = copy("a");
        let at = Timestamp::from_millis;
        let body = |now| String::from_utf8(copy.body(at(now)).to_vec()).expect("text");
        assert_eq!(body(0), "{\"expires_in\":100,\"scope\":\"\"}");
        assert_eq!(body(92_000), "{\"expires_in\":8,\"scope\":\"\"}");
        assert!(copy.is_good(at(40_000), MINUTE) && copy.is_good(at(40_998), MINUTE));
        assert!(!copy.is_good(at(40_999), MINUTE), "it would not live for a minute");
        assert!(!copy.is_good(at(50_000), Duration::ZERO), "its installation calls for something else");
    }

    const MINUTE: Duration = Duration::from_secs(60);
}
