//! A location's token from its company's grant.
//!
//! HighLevel gives it as often as it is asked, and nothing is used up by asking: a location whose own
//! refresh token has died is healed by it, and one that nobody has authorised by itself is begun.
//! The company's grant comes first, therefore: what ails it is what the location's error says.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::info;

use crate::clock::Timestamp;
use crate::error::KeeperError;
use crate::installation::{CompanyId, Installation, InstallationId, LocationId};
use crate::issuer::{Reading, Refusal};
use crate::keeper::{Air, Keeper, Parts, Served, landed};
use crate::token_set::Grant;

/// A company's token has to last for the asking.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// A location that nobody gave a token for is not asked for again within this time.
const NOT_AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// So many companies are asked about a location that none of them is known to have.
const ASKED_AT_MOST: usize = 8;

/// So many locations without a token are remembered.
const REMEMBERED_AT_MOST: usize = 10_000;

/// Which locations no company brought a token for, when, and in which words.
#[derive(Default)]
pub(crate) struct Unminted(HashMap<LocationId, (Timestamp, String)>);

impl Unminted {
    /// What HighLevel said a moment ago.
    fn said(&self, location: &LocationId, now: Timestamp) -> Option<String> {
        let (at, said) = self.0.get(location)?;
        (now.apart(*at) < NOT_AGAIN_WITHIN).then(|| said.clone())
    }

    fn remember(&mut self, location: &LocationId, now: Timestamp, said: String) {
        self.0.retain(|_, (at, _)| now.apart(*at) < NOT_AGAIN_WITHIN);
        if self.0.len() < REMEMBERED_AT_MOST {
            self.0.insert(location.clone(), (now, said));
        }
    }
}

impl Keeper {
    /// HighLevel says that the app is on a location, since `at`: its token is minted and kept, unless it
    /// was taken out of service later than that. Without `company`, each that is kept is asked.
    pub async fn installed(
        &self,
        location: &LocationId,
        company: Option<&CompanyId>,
        at: Timestamp,
    ) -> Result<Installation, KeeperError> {
        let id = InstallationId::Location(location.clone());
        let present = match self.load(&id).await {
            Err(KeeperError::NotConnected(_)) => None,
            Ok(present) if present.is_broken() && self.parts.can_mint(&present).await => {
                return self.fly(present).await;
            }
            present => Some(present?),
        };
        let companies = match company {
            Some(company) => vec![company.clone()],
            None => self.parts.store.companies().await?,
        };
        match present {
            None => self.begin(id, location.clone(), companies, at).await,
            // It was uninstalled and installed again, and we hear of the latter first: what is told of
            // the former must not end what begins now.
            Some(present) if present.connected_at < at => {
                match self.begin_anew(id, location.clone(), companies, at).await {
                    Err(KeeperError::NotMinted { .. } | KeeperError::Company { .. }) => Ok(present),
                    begun => begun,
                }
            }
            Some(present) => Ok(present),
        }
    }

    /// A new epoch of a location that is kept since before `at`.
    async fn begin_anew(
        &self,
        id: InstallationId,
        location: LocationId,
        companies: Vec<CompanyId>,
        at: Timestamp,
    ) -> Result<Installation, KeeperError> {
        let parts = self.parts.clone();
        let arrival = self.parts.launch(Air::Refresh(id.clone()), async move {
            let grant = parts.mint_from_any(&companies, &location).await?;
            let now = parts.clock.now();
            match parts.store.load(&id).await? {
                Some(kept) if kept.connected_at < at => {
                    Ok(parts.patiently(|| parts.store.connect(&id, &grant.tokens, now)).await?)
                }
                Some(kept) => Ok(kept),
                None => {
                    let adopted = parts.store.adopt(&id, &grant.tokens, at, now).await?;
                    adopted.ok_or(KeeperError::NotConnected(id))
                }
            }
        });
        landed(arrival).await
    }

    /// The installation of a location that is not kept, from a company that is. One that was taken out
    /// of service stays out.
    pub(crate) async fn mint_unknown(&self, id: &InstallationId) -> Result<Installation, KeeperError> {
        let not_connected = || KeeperError::NotConnected(id.clone());
        let InstallationId::Location(location) = id else { return Err(not_connected()) };
        // A file has room for its company alone.
        if !self.parts.store.can_park() {
            return Err(not_connected());
        }
        let companies = self.parts.store.companies().await?;
        if companies.is_empty() || self.parts.store.removed_at(id).await?.is_some() {
            return Err(not_connected());
        }
        if let Some(said) = self.parts.refused_a_moment_ago(location) {
            return Err(KeeperError::NotMinted { location: location.clone(), said });
        }
        let now = self.parts.clock.now();
        self.begin(id.clone(), location.clone(), companies, now).await
    }

    async fn begin(
        &self,
        id: InstallationId,
        location: LocationId,
        companies: Vec<CompanyId>,
        asked_at: Timestamp,
    ) -> Result<Installation, KeeperError> {
        let parts = self.parts.clone();
        let arrival = self.parts.launch(Air::Refresh(id.clone()), async move {
            // Someone may have begun it since it was looked for.
            if let Some(kept) = parts.store.load(&id).await? {
                return Ok(kept);
            }
            let grant = parts.mint_from_any(&companies, &location).await?;
            let now = parts.clock.now();
            let adopted = parts.patiently(|| parts.store.adopt(&id, &grant.tokens, asked_at, now)).await?;
            adopted.ok_or(KeeperError::NotConnected(id))
        });
        landed(arrival).await
    }
}

impl Parts {
    /// Whether a company is kept whose grant can bring this location's next token, as far as HighLevel
    /// has not said otherwise a moment ago.
    pub(crate) async fn can_mint(&self, installation: &Installation) -> bool {
        let (InstallationId::Location(location), Some(company)) =
            (&installation.id, installation.tokens.parent())
        else {
            return false;
        };
        if self.refused_a_moment_ago(location).is_some() {
            return false;
        }
        let company = self.store.load(&InstallationId::Company(company.clone())).await;
        // One that can't be read now may be well: better to ask again than to give up.
        company.map_or(true, |company| company.is_some_and(|company| !company.is_broken()))
    }

    /// Asks the companies in turn, until one's grant brings a token.
    async fn mint_from_any(
        self: &std::sync::Arc<Self>,
        companies: &[CompanyId],
        location: &LocationId,
    ) -> Result<Grant, KeeperError> {
        let mut refused = None;
        for company in companies.iter().take(ASKED_AT_MOST) {
            match self.mint(company, location).await {
                Ok(grant) => return Ok(grant),
                Err(error @ (KeeperError::NotMinted { .. } | KeeperError::Company { .. })) => {
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let said = "no company is kept".to_owned();
            KeeperError::NotMinted { location: location.clone(), said }
        }))
    }

    fn refused_a_moment_ago(&self, location: &LocationId) -> Option<String> {
        let unminted = self.unminted.lock().unwrap_or_else(PoisonError::into_inner);
        unminted.said(location, self.clock.now())
    }

    fn not_minted(&self, location: &LocationId, said: String) -> KeeperError {
        let mut unminted = self.unminted.lock().unwrap_or_else(PoisonError::into_inner);
        unminted.remember(location, self.clock.now(), said.clone());
        KeeperError::NotMinted { location: location.clone(), said }
    }

    /// Asks HighLevel for a location's token with its company's, which is refreshed if need be; once
    /// more with a newer one when HighLevel refuses that.
    pub(crate) async fn mint(
        self: &std::sync::Arc<Self>,
        company: &CompanyId,
        location: &LocationId,
    ) -> Result<Grant, KeeperError> {
        let trouble = |trouble: KeeperError| KeeperError::Company {
            location: location.clone(),
            company: company.clone(),
            trouble: Box::new(trouble),
        };
        let keeper = Keeper { parts: self.clone() };
        let id = InstallationId::Company(company.clone());
        let Served { installation, .. } = served(&keeper, &id).await.map_err(trouble)?;
        let (mut reading, mut is_plain_no) = self.ask_for(company, &installation, location).await;
        if let Reading::Refused(Refusal::InvalidToken(said)) = &reading {
            info!(%id, said, "HighLevel refuses the company's token; refreshing it");
            let generation = installation.version.generation;
            let renewed = keeper.refused(&id, generation).await.map_err(trouble)?;
            (reading, is_plain_no) = self.ask_for(company, &renewed, location).await;
        }
        match reading {
            Reading::Granted(grant) => {
                match &grant.id {
                    Some(InstallationId::Location(of)) if of != location => Err(self
                        .not_minted(location, format!("HighLevel answered with a token of location {of}"))),
                    _ => Ok(*grant),
                }
            }
            Reading::Refused(Refusal::NotActive(said)) => {
                let id = InstallationId::Location(location.clone());
                Err(KeeperError::Suspended { id, since: self.clock.now(), said })
            }
            Reading::Refused(refusal) => Err(self.not_minted(location, refusal.to_string())),
            Reading::Unclear(said) if is_plain_no => Err(self.not_minted(location, said)),
            Reading::Unclear(said) => Err(KeeperError::Unanswered { said }),
        }
    }

    /// What HighLevel answers, and whether it is one that asking again would not change.
    async fn ask_for(
        &self,
        company: &CompanyId,
        kept: &Installation,
        location: &LocationId,
    ) -> (Reading, bool) {
        match self.issuer.mint(company, &kept.tokens.access, location).await {
            Ok(answer) => {
                let reading = self.issuer.read_minted(&answer, company, self.clock.now());
                (reading, matches!(answer.status, 400..=499) && !matches!(answer.status, 408 | 429))
            }
            Err(unanswered) => (Reading::Unclear(unanswered.to_string()), false),
        }
    }
}

/// The company's own token. Boxed, because it may take a flight, and this is asked in one.
fn served<'a>(
    keeper: &'a Keeper,
    id: &'a InstallationId,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Served, KeeperError>> + Send + 'a>> {
    Box::pin(keeper.token(id, LONG_ENOUGH))
}
