//! One refresh, from the lease to the saved tokens.
//!
//! HighLevel's refresh token works once. From the moment it is sent, the only copy of the next one
//! is in an answer that may be lost on the way, arrive twice, or come to a process that is about to
//! die; for 30 seconds, the same request gets the same answer again. The steps below are ordered so
//! that whatever fails between two of them, either nothing was sent, or a copy is on disk, or the
//! intent to send is, and whoever finds it sends the same token again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::clock::Timestamp;
use crate::error::KeeperError;
use crate::installation::{Broken, Connection, Installation, InstallationId};
use crate::issuer::{RawAnswer, Reading, Refusal, Unanswered};
use crate::keeper::Parts;
use crate::lifecycle::{RETRY_AFTER_SUSPENSION, retry_after_silence};
use crate::rules::{Rule, holds};
use crate::secret::RefreshToken;
use crate::store::{Claim, ClaimRequest, Commit, Committed, Fingerprint, FlightId, IntentThen, Landing};
use crate::token_set::{Grant, RefreshBy};

/// How long each part of a flight may take. The defaults follow from HighLevel's 30 seconds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// A request without an answer is sent again after this long.
    pub send_again_after: Duration,
    /// How often one refresh token is sent in one flight, unless more is at stake: one that may have
    /// arrived is sent until the window closes.
    pub sends: u32,
    /// Every send leaves within this time of the first: the 30 seconds, less a margin.
    pub window: Duration,
    /// An answer counts until this long after the first send.
    pub answers_count_for: Duration,
    /// From this age on, another process's flight is helped along instead of waited for.
    pub help_after: Duration,
    /// How often a lease is renewed.
    pub renew_every: Duration,
    /// How often a waiting process looks whether the other one has landed.
    pub look_every: Duration,
    /// How long a caller waits for a newer token when the present one would do.
    pub serve_present_after: Duration,
    /// How long a store that is down is tried for new tokens; `None` is for ever.
    pub commit_patience: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            send_again_after: Duration::from_secs(4),
            sends: 6,
            window: Duration::from_secs(27),
            answers_count_for: Duration::from_secs(60),
            help_after: Duration::from_secs(5),
            renew_every: Duration::from_secs(1),
            look_every: Duration::from_millis(25),
            serve_present_after: Duration::from_secs(3),
            commit_patience: None,
        }
    }
}

impl Timing {
    /// How long to wait after `sends` requests that failed before the time was up: a sixteenth of
    /// `send_again_after` at first, then twice as long each time.
    fn pause_after(&self, sends: u32) -> Duration {
        let first = self.send_again_after / 16;
        (first * 2_u32.saturating_pow(sends.saturating_sub(1))).min(self.send_again_after)
    }
}

/// A refresh of one installation.
pub(crate) struct Flight {
    pub(crate) parts: Arc<Parts>,
    pub(crate) name: FlightId,
    pub(crate) id: InstallationId,
    /// Whether an answer rests in the reserved room.
    pub(crate) landed: AtomicBool,
    /// The place among those that may be in the air at once.
    pub(crate) room: Mutex<Option<OwnedSemaphorePermit>>,
}

/// How a claim ended.
enum TakeOff {
    /// We fly, since this instant, alone or helping another process along. `taken_over` says that
    /// another flight has begun to send this token.
    Flying { since: Timestamp, taken_over: bool },
    /// Someone has landed: this is what they brought.
    Landed(Box<Installation>),
}

/// What the sends brought.
enum Asked {
    Granted(Box<Grant>),
    Refused {
        why: Refusal,
        /// Whether the answer that we did not get can still be had.
        at_stake: bool,
    },
    Silence(String),
}

impl Flight {
    /// Replaces the tokens of `seen` with newer ones and gives back what rests in the store then.
    pub(crate) async fn fly(self, seen: Installation) -> Result<Installation, KeeperError> {
        let token = match &seen.tokens.refresh_by {
            RefreshBy::Own(_) if seen.is_broken() && self.parts.can_mint(&seen).await => {
                return self.fly_by_company(seen).await;
            }
            RefreshBy::Own(token) => token.clone(),
            RefreshBy::Company(_) => return self.fly_by_company(seen).await,
        };
        self.parts.store.reserve(&self.name).await?;
        let landed = self.fly_with_room(seen, &token).await;
        let answer_waits_in_its_room = matches!(landed, Err(KeeperError::Spooled(_)));
        if !answer_waits_in_its_room && let Err(error) = self.parts.store.free(&self.name).await {
            warn!(%error, id = %self.id, "could not give the spool's room back");
        }
        landed
    }

    /// Gets a location's token from its company's grant. Nothing is used up, so nothing has to be kept
    /// from being lost: the lease only spares HighLevel the asking twice.
    async fn fly_by_company(self, seen: Installation) -> Result<Installation, KeeperError> {
        let claim = ClaimRequest {
            flight: self.name.clone(),
            id: self.id.clone(),
            seen: seen.version,
            now: self.parts.clock.now(),
        };
        if let TakeOff::Landed(installation) = self.take_off(&claim).await? {
            return Ok(*installation);
        }
        match self.mint(&seen).await {
            Ok(grant) => self.commit(&claim, &seen, grant).await,
            Err(error) => self.not_minted(&claim, &seen, error).await,
        }
    }

    /// What the company's grant brings. The room in the air is for the company's own refresh then.
    async fn mint(&self, seen: &Installation) -> Result<Grant, KeeperError> {
        drop(self.room.lock().unwrap_or_else(PoisonError::into_inner).take());
        let InstallationId::Location(location) = &self.id else {
            return Err(KeeperError::NotConnected(self.id.clone()));
        };
        let Some(company) = seen.tokens.parent() else {
            return Err(KeeperError::NotConnected(self.id.clone()));
        };
        self.parts.mint(company, location).await
    }

    /// Notes why there is no token from the company: the location waits for the next try, or for
    /// HighLevel to call it active.
    async fn not_minted(
        &self,
        claim: &ClaimRequest,
        seen: &Installation,
        error: KeeperError,
    ) -> Result<Installation, KeeperError> {
        if let KeeperError::Suspended { said, .. } = error {
            return self.suspended(claim, seen, said, IntentThen::Ended).await;
        }
        if let (Connection::Broken(broken), KeeperError::NotMinted { .. }) = (&seen.connection, &error) {
            self.settle(claim, &seen.connection, IntentThen::Ended).await;
            return Err(KeeperError::NeedsPerson { id: self.id.clone(), broken: broken.clone() });
        }
        // The error says more than what is noted.
        let _ = self.silence(claim, seen, error.to_string()).await;
        Err(error)
    }

    async fn fly_with_room(
        &self,
        seen: Installation,
        token: &RefreshToken,
    ) -> Result<Installation, KeeperError> {
        let claim = ClaimRequest {
            flight: self.name.clone(),
            id: self.id.clone(),
            seen: seen.version,
            now: self.parts.clock.now(),
        };
        let (since, taken_over) = match self.take_off(&claim).await? {
            TakeOff::Landed(installation) => return Ok(*installation),
            TakeOff::Flying { since, taken_over } => (since, taken_over),
        };
        let taken_over = taken_over || seen.intent.is_some_and(|intent| intent.since == since);
        if taken_over && let Some(installation) = self.landed_before(&claim, &seen).await {
            return Ok(installation);
        }
        match self.ask(&claim, &seen, token, since, taken_over).await {
            Asked::Granted(grant) => self.commit(&claim, &seen, *grant).await,
            Asked::Refused { why, at_stake } => self.refused(&claim, seen, why, at_stake).await,
            Asked::Silence(said) => self.silence(&claim, &seen, said).await,
        }
    }

    /// What the flight that we take over from has left beside the store, saved now: then its token
    /// is used up, and must not be sent again.
    async fn landed_before(&self, claim: &ClaimRequest, seen: &Installation) -> Option<Installation> {
        let saved = match self.parts.replay_landings(Some(&self.id)).await {
            Ok(saved) => saved?,
            Err(error) => {
                warn!(%error, id = %self.id, "could not look for answers beside the store");
                return None;
            }
        };
        // The row has moved on, so this only lets the lease go.
        self.settle(claim, &seen.connection, IntentThen::StaysOpen).await;
        Some(saved)
    }

    /// Takes the lease, or waits for whoever holds it, or helps them when they are slow.
    async fn take_off(&self, claim: &ClaimRequest) -> Result<TakeOff, KeeperError> {
        let began = Instant::now();
        let mut claim = claim.clone();
        loop {
            claim.now = self.parts.clock.now();
            let since = match self.parts.store.claim(&claim).await? {
                Claim::Ours { since } => {
                    return Ok(TakeOff::Flying { since, taken_over: since < claim.now });
                }
                Claim::Moved(newer) if holds(Rule::LookAgain) => return Ok(TakeOff::Landed(newer)),
                Claim::Moved(newer) => {
                    claim.seen = newer.version;
                    continue;
                }
                Claim::Taken { since } if !holds(Rule::Lease) => {
                    return Ok(TakeOff::Flying { since, taken_over: true });
                }
                Claim::Gone => return Err(KeeperError::NotConnected(self.id.clone())),
                Claim::Taken { since } => since,
            };
            let timing = &self.parts.timing;
            let slow = began.elapsed() >= timing.help_after;
            if slow && claim.now.since(since) < timing.window {
                info!(id = %self.id, "helping a slow refresh of another process along");
                return Ok(TakeOff::Flying { since, taken_over: true });
            }
            if began.elapsed() >= timing.answers_count_for {
                let said = "another process has been refreshing for too long".to_owned();
                return Err(KeeperError::Unanswered { said });
            }
            // Seldom enough that many who wait for long don't keep a database busy with their looking.
            sleep((began.elapsed() / 4).clamp(timing.look_every, timing.look_every * 8)).await;
        }
    }

    /// Sends the token, again and again while no answer comes, and takes the first good one.
    ///
    /// While HighLevel may have used the token up, it is sent until the 30 seconds are over, however
    /// quickly each try fails: they are the only time in which the answer can be had again.
    async fn ask(
        &self,
        claim: &ClaimRequest,
        seen: &Installation,
        token: &RefreshToken,
        since: Timestamp,
        taken_over: bool,
    ) -> Asked {
        let timing = &self.parts.timing;
        let began = Instant::now();
        let left = timing.window.saturating_sub(self.parts.clock.now().since(since));
        // Where the 30 seconds are over, if they ever began, this send may be the first to arrive.
        let window_ends = began + if left.is_zero() { timing.window } else { left };
        let mut may_be_used_up = taken_over && !left.is_zero();
        let mut in_the_air = JoinSet::new();
        let mut sent = 0;
        let mut next_send = Some(began);
        let mut renewal = began + timing.renew_every;
        let mut give_up = began + timing.answers_count_for;
        let mut looked_once_more = false;
        let mut said = String::from("no answer");
        let mut refusal = None;
        loop {
            tokio::select! {
                biased;
                Some(joined) = in_the_air.join_next() => {
                    let unsent = matches!(joined, Ok(Err(Unanswered::NotSent(_))));
                    match self.understand(seen, joined).await {
                        Reading::Granted(grant) => return Asked::Granted(grant),
                        Reading::Refused(why) => {
                            // An answer still in the air may be the good one: it was asked for first.
                            refusal = Some(why);
                            next_send = None;
                            give_up = give_up.min(Instant::now() + timing.send_again_after);
                        }
                        Reading::Unclear(why) => {
                            said = why;
                            may_be_used_up |= !unsent;
                            let soon = Instant::now() + timing.pause_after(sent);
                            let more = holds(Rule::SendAgain) && refusal.is_none() && soon < window_ends;
                            next_send = match next_send {
                                Some(at) => Some(at.min(soon)),
                                None => (more && may_be_used_up).then_some(soon),
                            };
                        }
                    }
                }
                () = at(next_send) => {
                    let now = Instant::now();
                    if sent > 0 && now >= window_ends {
                        // Frozen in between: another send would only burn the token that we wait for.
                        next_send = None;
                        continue;
                    }
                    in_the_air.spawn(self.send(token.clone()));
                    sent += 1;
                    let next = now + timing.send_again_after;
                    let more = holds(Rule::SendAgain) && sent < timing.sends && next < window_ends;
                    next_send = more.then_some(next);
                }
                () = sleep_until(renewal) => {
                    renewal = Instant::now() + timing.renew_every;
                    let now = self.parts.clock.now();
                    if let Err(error) = self.parts.store.renew(&ClaimRequest { now, ..claim.clone() }).await {
                        warn!(%error, id = %self.id, "could not renew the lease; the flight goes on");
                    }
                }
                () = sleep_until(give_up) => {
                    if looked_once_more {
                        break;
                    }
                    // A process that was frozen finds its time up and the answer in the socket.
                    looked_once_more = true;
                    give_up = Instant::now() + timing.renew_every;
                }
            }
            if in_the_air.is_empty() && next_send.is_none() {
                break;
            }
        }
        let at_stake = may_be_used_up && Instant::now() < window_ends;
        match refusal {
            Some(why) => Asked::Refused { why, at_stake },
            None => Asked::Silence(said),
        }
    }

    /// One request in a task of its own, so that a later one does not end it.
    fn send(&self, token: RefreshToken) -> impl Future<Output = Result<RawAnswer, Unanswered>> + use<> {
        let parts = self.parts.clone();
        let id = self.id.clone();
        async move { parts.issuer.refresh(&id, &token).await }
    }

    /// Puts an answer that may hold tokens where a crash can't reach it, and only then reads it.
    async fn understand(
        &self,
        seen: &Installation,
        joined: Result<Result<RawAnswer, Unanswered>, tokio::task::JoinError>,
    ) -> Reading {
        let answer = match joined {
            Ok(Ok(answer)) => answer,
            Ok(Err(unanswered)) => return Reading::Unclear(unanswered.to_string()),
            Err(_) => return Reading::Unclear("the request broke off inside this program".into()),
        };
        let received_at = self.parts.clock.now();
        if answer.is_success() && holds(Rule::Land) {
            let landing = Landing {
                id: Some(self.id.clone()),
                version: seen.version,
                replaces: seen.tokens.refresh_token().map(|token| self.parts.store.fingerprint(token)),
                unasked: false,
                received_at,
                status: answer.status,
                body: answer.body.clone(),
            };
            match self.parts.store.land(&self.name, &landing).await {
                Ok(()) => self.landed.store(true, Ordering::SeqCst),
                Err(error) => {
                    warn!(%error, id = %self.id, "the answer could not be put beside the store; saving it at once");
                }
            }
        }
        self.parts.issuer.read(&answer, received_at)
    }

    /// Saves new tokens over those of `seen`, for as long as it takes.
    async fn commit(
        &self,
        claim: &ClaimRequest,
        seen: &Installation,
        grant: Grant,
    ) -> Result<Installation, KeeperError> {
        let mut commit = Commit {
            flight: self.name.clone(),
            id: self.id.clone(),
            version: seen.version,
            replaces: self.fingerprint(seen),
            tokens: grant.tokens,
            now: self.parts.clock.now(),
        };
        if !holds(Rule::SaveFirst) {
            return Ok(unsaved(seen, commit.tokens));
        }
        if !holds(Rule::CompareAndSwap)
            && let Some(current) = self.parts.store.load(&self.id).await?
        {
            commit.version = current.version;
            commit.replaces =
                current.tokens.refresh_token().map_or(commit.replaces, |t| self.parts.store.fingerprint(t));
        }
        let error = match self.parts.patiently(|| self.parts.store.commit(&commit)).await {
            Ok(Committed::Saved(now)) => {
                self.parts.note_saved(&now);
                return Ok(*now);
            }
            Ok(Committed::Superseded(now)) => return Ok(*now),
            Ok(Committed::Gone) => return Err(KeeperError::NotConnected(self.id.clone())),
            Err(error) => error,
        };
        // The intent stays, and the lease goes: whoever comes next takes over at once.
        self.settle(claim, &seen.connection, IntentThen::StaysOpen).await;
        match self.landed.load(Ordering::SeqCst) {
            true => Err(KeeperError::Spooled(error)),
            false => Err(KeeperError::Unsaved(error)),
        }
    }

    async fn refused(
        &self,
        claim: &ClaimRequest,
        seen: Installation,
        refusal: Refusal,
        at_stake: bool,
    ) -> Result<Installation, KeeperError> {
        let now = self.parts.clock.now();
        // Neither of these two says whether an earlier send has used the token up.
        let intent = if at_stake { IntentThen::StaysOpen } else { IntentThen::Ended };
        match refusal {
            Refusal::InvalidGrant(said) => self.heal(claim, seen, said).await,
            Refusal::NotActive(said) => self.suspended(claim, &seen, said, intent).await,
            Refusal::InvalidClient(said) => {
                self.parts.client_refused(now, &said);
                self.settle(claim, &seen.connection, intent).await;
                Err(KeeperError::InvalidClient { said })
            }
            Refusal::InvalidCode(said) | Refusal::InvalidToken(said) => {
                self.silence(claim, &seen, said).await
            }
        }
    }

    /// HighLevel calls the location inactive: the grant waits for it.
    async fn suspended(
        &self,
        claim: &ClaimRequest,
        seen: &Installation,
        said: String,
        intent: IntentThen,
    ) -> Result<Installation, KeeperError> {
        let now = self.parts.clock.now();
        let (since, attempts) = match &seen.connection {
            Connection::Suspended { since, attempts, .. } => (*since, attempts + 1),
            _ => (now, 1),
        };
        let retry_at = now + RETRY_AFTER_SUSPENSION;
        let connection = Connection::Suspended { since, attempts, retry_at, said: said.clone() };
        self.settle(claim, &connection, intent).await;
        Err(KeeperError::Suspended { id: self.id.clone(), since, said })
    }

    /// HighLevel calls the refresh token dead. Every other copy is tried, newest first, before a
    /// person is asked for.
    async fn heal(
        &self,
        claim: &ClaimRequest,
        seen: Installation,
        said: String,
    ) -> Result<Installation, KeeperError> {
        if holds(Rule::DoubtRefusals) {
            let moved = self.parts.store.load(&self.id).await?.filter(|now| now.version != seen.version);
            let newer = match moved {
                Some(newer) => Some(newer),
                None => self.parts.replay_landings(Some(&self.id)).await?,
            };
            if let Some(newer) = newer {
                // It has moved on, so this only lets the lease go.
                self.settle(claim, &newer.connection, IntentThen::Ended).await;
                return Ok(newer);
            }
            if let Some(grant) = self.ask_with_previous(&seen).await {
                return self.commit(claim, &seen, grant).await;
            }
            if self.parts.can_mint(&seen).await {
                info!(id = %self.id, "HighLevel calls the refresh token dead; asking with the company's grant");
                match self.mint(&seen).await {
                    Ok(grant) => return self.commit(claim, &seen, grant).await,
                    // HighLevel has said no to both: the app is gone from there.
                    Err(KeeperError::NotMinted { .. }) => {}
                    Err(error) => return self.not_minted(claim, &seen, error).await,
                }
            }
        }
        let broken = Broken { since: self.parts.clock.now(), said };
        self.settle(claim, &Connection::Broken(broken.clone()), IntentThen::Ended).await;
        Err(KeeperError::NeedsPerson { id: self.id.clone(), broken })
    }

    /// Asks once with the refresh token before, in case HighLevel handed out a bad pair after it.
    async fn ask_with_previous(&self, seen: &Installation) -> Option<Grant> {
        let token = seen.previous.as_ref()?.tokens.refresh_token()?.clone();
        let answer = self.send(token).await;
        match self.understand(seen, Ok(answer)).await {
            Reading::Granted(grant) => Some(*grant),
            Reading::Refused(_) | Reading::Unclear(_) => None,
        }
    }

    /// No usable answer came: the grant stays for the next try. The 30 seconds are over or never
    /// began, so no intent is left open; one that is found later is of a flight that broke off.
    async fn silence(
        &self,
        claim: &ClaimRequest,
        seen: &Installation,
        said: String,
    ) -> Result<Installation, KeeperError> {
        let now = self.parts.clock.now();
        let (since, attempts) = match &seen.connection {
            Connection::Uncertain { since, attempts, .. } => (*since, attempts + 1),
            _ => (now, 1),
        };
        let retry_at = now + retry_after_silence(attempts);
        let connection = Connection::Uncertain { since, attempts, retry_at, said: said.clone() };
        self.settle(claim, &connection, IntentThen::Ended).await;
        Err(KeeperError::Unanswered { said })
    }

    /// Of the refresh token that an answer replaces; a set without one is told by its version alone.
    fn fingerprint(&self, seen: &Installation) -> Fingerprint {
        let token = seen.tokens.refresh_token();
        token.map_or(Fingerprint([0; 16]), |token| self.parts.store.fingerprint(token))
    }

    async fn settle(&self, claim: &ClaimRequest, connection: &Connection, intent: IntentThen) {
        if let Err(error) = self.parts.store.settle(claim, connection, intent).await {
            warn!(%error, id = %self.id, "could not note how the refresh ended");
        }
    }
}

/// Waits until `instant`, or for ever when there is none.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What a careless keeper would hand out: tokens that are at rest nowhere.
fn unsaved(seen: &Installation, tokens: crate::token_set::TokenSet) -> Installation {
    let mut installation = seen.clone();
    installation.version.generation += 1;
    installation.tokens = tokens;
    installation
}
