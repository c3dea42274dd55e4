//! The gateway: HighLevel's API with the token filled in.
//!
//! A caller sends what it would send to HighLevel, to `/gateway` and with our key. What is decided about it
//! stands here and is the same for all: who asks, for whom, whether they may, whose turn it is, and what a
//! refusal of HighLevel's calls for. Two carriers bring it there: `plain` takes what is short and has
//! nothing odd about it, which is nearly everything, at the least cost; `stream` takes the rest.
//!
//! A caller's request goes to HighLevel's origin and nowhere else, and each at most once to be acted on:
//! again only what HighLevel has refused before it did anything, or what may be repeated by its nature.

mod budget;
mod headers;
mod pace;
mod plain;
mod refusals;
mod stream;
mod target;
mod turns;
mod whom;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use highlevel::{Client, Protocol, Told, is_field};
use http::{HeaderName, HeaderValue, StatusCode};
use papaya::HashMap;
use tokens::records::Verb;
use tokens::store::Listing;
use tokens::{AccessToken, InstallationId, KeeperError, Served, Timestamp};
use tokio::time::Instant;

use crate::api::tokens::{copy_for, keep_copy};
use crate::auth::{Caller, KnownKey, Unknown, held};
use crate::copies::{AsOf, Copy};
use crate::error::Problem;
use crate::front::{Front, RequestId};

pub(crate) use budget::Forecast;
pub use budget::Limits;
pub(crate) use plain::{Carriage, Ended, Errand, Plain};
use refusals::{Hint, Refusal, refusal};
pub(crate) use stream::Carrier;
use target::Target;
pub(crate) use turns::Known;
use turns::{NoTurn, Shared, Turn, Turns};
use whom::{Unclear, Whom, whom};

/// What stands before HighLevel's paths.
pub(crate) const PREFIX: &str = "/gateway";

/// How long a caller waits for a turn who does not say, and the longest that one may.
const WAITS_FOR: Duration = Duration::from_secs(30);
const WAITS_AT_MOST: Duration = Duration::from_secs(300);

/// HighLevel begins its answer within this time.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Bodies up to this size are at hand whole before a connection to HighLevel is taken, and can be sent again.
const KEPT_BODY: usize = 64 * 1024;

/// A request is sent so many times at most: what HighLevel refuses again and again is passed back.
const MOST_TRIES: u32 = 4;

/// In how many installations a caller is told to choose.
const MOST_CHOICES: usize = 20;

/// How the gateway works.
pub struct GatewaySettings {
    /// Speaks to HighLevel.
    pub client: Client,
    /// In which version of HTTP.
    pub protocol: Protocol,
    /// Whether the rate budget holds anybody back.
    pub budget: BudgetMode,
    /// What is taken for HighLevel's limits until it tells them.
    pub limits: Limits,
    /// The longest body that a caller may send, in bytes.
    pub longest_body: Option<u64>,
    /// So many requests of one key at once.
    pub at_once: u32,
    /// The token in the place of all grants, and whose it is, if that is known.
    pub private: Option<(AccessToken, Option<InstallationId>)>,
}

/// Whether the rate budget holds anybody back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetMode {
    /// It counts, and says what it would have done.
    #[default]
    Observe,
    /// Callers wait for their turns.
    Enforce,
}

/// What the gateway of one app knows.
#[derive(Default)]
pub(crate) struct Gateway {
    turns: HashMap<InstallationId, Arc<Turns>, foldhash::fast::RandomState>,
    /// Those of a token that is nobody's in particular.
    turns_of_nobody: OnceLock<Arc<Turns>>,
    /// The only installation there is, as of when the copies were last looked through.
    only: Mutex<Option<(AsOf, Arc<[InstallationId]>)>>,
    jitter: RandomState,
}

/// What a request asks, before anything is known of whoever asks.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// Behind the prefix.
    pub(crate) target: &'a str,
    pub(crate) named: whom::Headers<'a>,
    pub(crate) prefer: Option<&'a [u8]>,
}

impl<'a> Asked<'a> {
    pub(crate) fn new(method: &'a str, target: &'a str) -> Self {
        Self { method, target, named: whom::Headers::default(), prefer: None }
    }

    /// Takes in what a header says of it.
    pub(crate) fn note(&mut self, name: &str, value: &'a [u8]) {
        match name.len() {
            13 if is_field(name, "x-location-id") => self.named.location = self.named.location.and(value),
            12 if is_field(name, "x-company-id") => self.named.company = self.named.company.and(value),
            6 if is_field(name, "prefer") => self.prefer = Some(value),
            _ => {}
        }
    }
}

/// A request that may pass, and what it takes.
pub(crate) struct Admitted {
    caller: Caller,
    _place: Place,
    id: Option<InstallationId>,
    bearer: Bearer,
    turns: Arc<Turns>,
    turn: Option<Turn>,
    /// When it came to that turn.
    turn_at: Instant,
    deadline: Instant,
    tries: u32,
    was_renewed: bool,
    request_id: RequestId,
}

/// What stands behind `Bearer `.
enum Bearer {
    Kept(Arc<Copy>),
    Private(AccessToken),
}

impl Admitted {
    /// The token to send.
    pub(crate) fn token(&self) -> &[u8] {
        match &self.bearer {
            Bearer::Kept(copy) => copy.token(),
            Bearer::Private(token) => token.expose().as_bytes(),
        }
    }

    /// HighLevel answered, and told this of its limits.
    fn answered(&mut self, told: &Told, at: Instant) -> Option<Forecast> {
        self.turn.take().and_then(|turn| turn.answered(told, at))
    }
}

/// What becomes of an answer.
pub(crate) enum Verdict {
    /// It goes back.
    Pass(Option<Hint>),
    /// The request is sent again.
    Again,
}

/// A place among the requests of a key that are under way at once.
struct Place(Arc<KnownKey>);

impl Place {
    fn take(key: &Arc<KnownKey>, most: u32) -> Option<Self> {
        let place = Self(key.clone());
        let before = place.count().fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(place)
    }

    fn count(&self) -> &AtomicU32 {
        &self.0.at_once
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
    }
}

/// What all budgets together are about, for metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outlook {
    pub(crate) least_remaining: Option<u32>,
    pub(crate) least_daily_remaining: Option<u64>,
    pub(crate) soonest_spent: Option<Duration>,
    pub(crate) waiting: usize,
}

impl Gateway {
    /// What is known of all budgets.
    pub(crate) fn outlook(&self) -> Outlook {
        let mut outlook = Outlook::default();
        let least = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        for turns in self.turns.pin().values().chain(self.turns_of_nobody.get()) {
            let Known { remaining, daily_remaining, forecast, waiting } = turns.known();
            outlook.least_remaining = outlook.least_remaining.into_iter().chain([remaining]).min();
            outlook.least_daily_remaining = least(outlook.least_daily_remaining, daily_remaining);
            let spent_in = forecast.map(|forecast| forecast.spent_in);
            outlook.soonest_spent = outlook.soonest_spent.into_iter().chain(spent_in).min();
            outlook.waiting += waiting;
        }
        outlook
    }

    /// What is known of one's budget: nothing where nobody asked for it of late.
    pub(crate) fn known(&self, id: &InstallationId) -> Option<Known> {
        self.turns.pin().get(id).map(|turns| turns.known())
    }

    /// Whose day's calls will be used up before they are renewed, and when.
    pub(crate) fn forecasts(&self) -> Vec<(InstallationId, Forecast)> {
        let all = self.turns.pin();
        all.iter().filter_map(|(id, turns)| Some((id.clone(), turns.known().forecast?))).collect()
    }

    /// Forgets the budgets of those of whom nobody asked for long.
    pub(crate) fn forget(&self) {
        self.turns.pin().retain(|_, turns| !turns.is_idle());
    }

    fn jitter(&self, request_id: &RequestId, tries: u32) -> Duration {
        let hash = self.jitter.hash_one((request_id.as_bytes(), tries));
        Duration::from_millis(hash % 1000)
    }
}

impl Front {
    /// Whether a path is one that passes through.
    pub(crate) fn is_of_gateway(path: &str) -> bool {
        path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    }

    /// Finds out whether a request of a known caller may pass, and waits for its turn.
    pub(crate) async fn admit_errand(
        &self,
        caller: Caller,
        asked: &Asked<'_>,
        request_id: &RequestId,
        now: Timestamp,
    ) -> Result<Admitted, Problem> {
        let began = Instant::now();
        let speech = self.house.speech.as_ref();
        let problem = |status, code| Problem::new(speech, status, code);
        caller.may(Verb::Gateway).map_err(|forbidden| Problem::forbidden(speech, forbidden))?;
        // HighLevel's are; what begins otherwise is the end of something else, mostly.
        if !asked.method.bytes().all(|c| c.is_ascii_uppercase()) {
            return Err(problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"));
        }
        let target =
            Target::parse(asked.target).ok_or_else(|| problem(StatusCode::BAD_REQUEST, "bad_target"))?;
        if target.query().is_some_and(is_exposed) {
            return Err(Problem::unknown(speech, Unknown::Exposed));
        }
        let allowed = &caller.key.record.allowed;
        let is_allowed = allowed.is_empty() || allowed.iter().any(|one| one.has(asked.method, target.path()));
        if !is_allowed {
            return Err(problem(StatusCode::FORBIDDEN, "not_allowed"));
        }
        if brings_tokens(asked.method, target.path()) {
            return Err(problem(StatusCode::FORBIDDEN, "tokens_stay"));
        }
        let id = self.meant(&caller, asked, target).await?;
        let may = match &id {
            Some(id) => caller.may_for(Verb::Gateway, id),
            None => caller.reaches_all(),
        };
        may.map_err(|forbidden| Problem::forbidden(speech, forbidden))?;
        let settings = &self.house.gateway;
        let place = Place::take(&caller.key, settings.at_once)
            .ok_or_else(|| problem(StatusCode::SERVICE_UNAVAILABLE, "too_many_at_once").later(1))?;
        let bearer = match (&settings.private, &id) {
            (Some((token, _)), _) => Bearer::Private(token.clone()),
            (None, Some(id)) => Bearer::Kept(copy_for(self, id, now).await?),
            (None, None) => return Err(problem(StatusCode::NOT_FOUND, "not_found")),
        };
        if let Bearer::Kept(copy) = &bearer {
            let (how, records) = (self.house.audit, self.house.records.as_ref());
            let noted = self.audit.note(how, records, &caller, copy, request_id.as_str(), now).await;
            noted.map_err(|error| Problem::store(speech, &error))?;
        }
        let waits_for = asked.prefer.and_then(headers::wait_preferred);
        let waits_for = waits_for.map_or(WAITS_FOR, |seconds| Duration::from_secs(seconds.into()));
        let mut admitted = Admitted {
            caller,
            _place: place,
            turns: self.turns_of(id.as_ref()),
            id,
            bearer,
            turn: None,
            turn_at: began,
            deadline: began + waits_for.min(WAITS_AT_MOST),
            tries: 0,
            was_renewed: false,
            request_id: request_id.clone(),
        };
        self.take_turn(&mut admitted, began).await?;
        Ok(admitted)
    }

    /// Whose token it is to be. None is only where there is a token that is nobody's in particular.
    async fn meant(
        &self,
        caller: &Caller,
        asked: &Asked<'_>,
        target: Target<'_>,
    ) -> Result<Option<InstallationId>, Problem> {
        let found = whom(asked.named, target, &caller.key.record.reach);
        let private = self.house.gateway.private.as_ref();
        match (found, private) {
            (Ok(Whom::This(id)), _) => Ok(Some(id)),
            (Ok(Whom::TheOnlyOne), Some((_, id))) => Ok(id.clone()),
            (Ok(Whom::TheOnlyOne), None) => {
                let ids = self.installations().await?;
                match &*ids {
                    [only] => Ok(Some(only.clone())),
                    several => Err(self.unclear(several)),
                }
            }
            (Err(Unclear::NoId), _) => {
                Err(Problem::new(self.house.speech.as_ref(), StatusCode::BAD_REQUEST, "bad_id"))
            }
            (Err(Unclear::Several(ids)), _) => Err(self.unclear(&ids)),
        }
    }

    fn unclear(&self, ids: &[InstallationId]) -> Problem {
        let speech = self.house.speech.as_ref();
        let problem = Problem::new(speech, StatusCode::BAD_REQUEST, "which_installation");
        problem.with_choices(ids.iter().take(MOST_CHOICES))
    }

    /// The first few installations there are, from memory as long as none has changed.
    async fn installations(&self) -> Result<Arc<[InstallationId]>, Problem> {
        let as_of = self.copies.as_of();
        if let Some((of, ids)) = &*held(&self.gateway.only)
            && *of == as_of
        {
            return Ok(ids.clone());
        }
        let overview = self.house.keeper.store().overview(&Listing::first(MOST_CHOICES)).await;
        let overview = overview.map_err(|error| Problem::store(self.house.speech.as_ref(), &error))?;
        let ids: Arc<[InstallationId]> = overview.into_iter().map(|one| one.id).collect();
        *held(&self.gateway.only) = Some((as_of, ids.clone()));
        Ok(ids)
    }

    fn turns_of(&self, id: Option<&InstallationId>) -> Arc<Turns> {
        let all = self.gateway.turns.pin();
        match id {
            None => self.gateway.turns_of_nobody.get_or_init(|| self.new_turns("private".to_owned())).clone(),
            Some(id) => match all.get(id) {
                Some(turns) => turns.clone(),
                None => all.get_or_insert_with(id.clone(), || self.new_turns(id.to_string())).clone(),
            },
        }
    }

    fn new_turns(&self, name: String) -> Arc<Turns> {
        let is_shared = self.house.keeper.store().is_remote();
        let shared = is_shared.then(|| Shared { records: self.house.records.clone(), name });
        Turns::new(self.house.gateway.limits, shared)
    }

    /// Takes the next turn, or waits for it.
    async fn take_turn(&self, admitted: &mut Admitted, now: Instant) -> Result<(), Problem> {
        let turns = &admitted.turns;
        (admitted.tries, admitted.turn_at) = (admitted.tries + 1, now);
        let turn = match self.house.gateway.budget {
            BudgetMode::Observe => {
                let (turn, would_wait) = turns.without_waiting(now);
                if would_wait {
                    self.metrics.gateway.would_wait();
                }
                turn
            }
            BudgetMode::Enforce => match turns.at_once(now) {
                Some(turn) => turn,
                None => {
                    let key = &admitted.caller.key.record;
                    let waited = turns.wait(key.lane, &key.id, admitted.deadline).await;
                    admitted.turn_at = Instant::now();
                    self.metrics.gateway.waited(admitted.turn_at - now);
                    waited.map_err(|no_turn| self.no_turn(no_turn))?
                }
            },
        };
        admitted.turn = Some(turn);
        Ok(())
    }

    fn no_turn(&self, no_turn: NoTurn) -> Problem {
        let (code, later) = match no_turn {
            NoTurn::TooLate(wait) => ("rate_budget_spent", wait),
            NoTurn::DayIsSpent(wait) => ("daily_quota_spent", wait.unwrap_or(Duration::from_secs(3600))),
        };
        let seconds = later.as_millis().div_ceil(1000).max(1);
        Problem::new(self.house.speech.as_ref(), StatusCode::TOO_MANY_REQUESTS, code)
            .later(u64::try_from(seconds).unwrap_or(u64::MAX))
    }

    /// What a refusal of HighLevel's calls for. `can_repeat` says whether the request is still at hand.
    pub(crate) async fn consider(
        &self,
        admitted: &mut Admitted,
        status: StatusCode,
        body: &[u8],
        told: &Told,
        can_repeat: bool,
    ) -> Verdict {
        match refusal(status, body) {
            Refusal::Token => match self.renew(admitted).await {
                Err(hint) => Verdict::Pass(Some(hint)),
                Ok(()) if !can_repeat => Verdict::Pass(Some(Hint::NotSentAgain)),
                Ok(()) => match self.take_turn(admitted, Instant::now()).await {
                    Ok(()) => Verdict::Again,
                    Err(_) => Verdict::Pass(Some(Hint::NotSentAgain)),
                },
            },
            Refusal::TooMany => {
                let jitter = self.gateway.jitter(&admitted.request_id, admitted.tries);
                admitted.turns.close(told, jitter);
                let waits = self.house.gateway.budget == BudgetMode::Enforce;
                let may_wait = waits && can_repeat && admitted.tries < MOST_TRIES;
                match may_wait && self.take_turn(admitted, Instant::now()).await.is_ok() {
                    true => Verdict::Again,
                    false => Verdict::Pass(Some(Hint::RateLimited)),
                }
            }
            Refusal::Final(hint) => Verdict::Pass(hint),
        }
    }

    /// Gets another token in the place of one that HighLevel refused, once for a request; one refresh
    /// serves all whom it befell.
    async fn renew(&self, admitted: &mut Admitted) -> Result<(), Hint> {
        let (Bearer::Kept(copy), Some(id)) = (&admitted.bearer, &admitted.id) else {
            return Err(Hint::PrivateTokenRefused);
        };
        if admitted.was_renewed {
            return Err(Hint::TokenRefused);
        }
        let as_of = self.copies.as_of();
        let renewed = self.house.keeper.refused(id, copy.generation()).await;
        let installation = renewed.map_err(|error| {
            note_unrenewed(id, &error);
            Hint::TokenRefused
        })?;
        if installation.version.generation == copy.generation() {
            return Err(Hint::TokenRefused);
        }
        let served = Served { installation, refreshed: false, warning: None };
        admitted.bearer = Bearer::Kept(keep_copy(self, &served, as_of));
        admitted.was_renewed = true;
        Ok(())
    }

    /// What HighLevel tells of the day's calls, where it is worth a header.
    pub(crate) fn quota(&self, forecast: Option<Forecast>) -> Option<HeaderValue> {
        let Forecast { remaining, limit, spent_in } = forecast?;
        let spent_at = crate::copies::rfc3339(self.house.clock.now() + spent_in);
        HeaderValue::try_from(format!("remaining={remaining}; limit={limit}; spent-at={spent_at}")).ok()
    }
}

/// Where it stands that the day's calls will be used up.
pub(crate) const QUOTA: HeaderName = HeaderName::from_static("ghl-auth-quota");

fn note_unrenewed(id: &InstallationId, error: &KeeperError) {
    tracing::warn!(%id, %error, "HighLevel refused a token and no other could be had");
}

/// Whether a key stands in the query, where proxies keep it. HighLevel takes none there.
fn is_exposed(query: &str) -> bool {
    if !query.bytes().any(|c| matches!(c, b'k' | b'K' | b'%')) {
        return false;
    }
    form_urlencoded::parse(query.as_bytes()).any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        matches!(name.as_str(), "access_token" | "api_key" | "apikey" | "authorization")
            || value.contains("ghlk_")
    })
}

/// Whether HighLevel's answer would be a token: those are had from us, for keys that may have them, and one that
/// is exchanged behind the Keeper's back is lost to it.
fn brings_tokens(method: &str, path: &str) -> bool {
    if method == "GET" {
        return false;
    }
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let first = decoded.split('/').find(|part| !part.is_empty());
    first.is_some_and(|part| part.eq_ignore_ascii_case("oauth"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_query_are_seen_however_they_are_written() {
        for exposed in [
            "access_token=x",
            "a=b&API_KEY=x",
            "authorizatio%6e=Bearer%20x&k",
            "x=ghlk_abc",
            "x=%67hlk_abc",
            "apikey",
        ] {
            assert!(is_exposed(exposed), "{exposed}");
        }
        for plain in ["", "limit=20&key=x", "pageToken=abc", "k=v&token=x", "query=authorize"] {
            assert!(!is_exposed(plain), "{plain}");
        }
    }

    #[test]
    fn no_token_is_minted_behind_the_keepers_back() {
        for path in
            ["/oauth/token", "/oauth/locationToken", "/OAuth/location-token", "/%6fauth/reconnect", "/oauth"]
        {
            assert!(brings_tokens("POST", path), "{path}");
        }
        assert!(!brings_tokens("GET", "/oauth/installedLocations"));
        assert!(!brings_tokens("POST", "/contacts/oauth"));
    }
}
