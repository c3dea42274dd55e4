//! The book of grants: who may have which token, and what becomes of a refresh token that was used.
//!
//! A grant is one installation's chain of tokens. The rules are HighLevel's: a refresh token works once, and repeats
//! of the very same request within 30 seconds of the first get the same new refresh token ("Smarter Refresh Token
//! Handling for Distributed Systems", HighLevel's changelog). No HTTP and no JSON in here.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use crate::chance::Chance;
use crate::clock::{Millis, millis};
use crate::jwt::{Bearer, Fingerprint, Purpose, Token};
use crate::scopes::Scopes;
use crate::settings::{Settings, UserType};

const SECOND: Millis = 1000;

/// What a person agreed to on the consent page.
#[derive(Clone, Debug)]
pub(crate) struct Approval {
    pub(crate) redirect_uri: String,
    /// `None`: the whole agency, in bulk.
    pub(crate) location_id: Option<String>,
}

struct Code {
    approval: Approval,
    issued_at: Millis,
}

/// Who asks for a token: the credentials in the body.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Why no token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    UnknownCode,
    OtherRedirectUri,
    WrongClient,
    InvalidGrant,
    /// As `InvalidGrant`, for a refresh token that was good once.
    Reused,
    NotActive,
    NotInstalled,
}

/// A pair of tokens, and the place in its grant.
pub(crate) struct Issued {
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) grant: usize,
    pub(crate) generation: u64,
    pub(crate) expires_in: u64,
    /// Whether this is a repeat inside the window and nothing new was issued.
    pub(crate) repeated: bool,
}

/// The use of one refresh token, kept as long as it may be repeated.
struct Rotation {
    used_at: Millis,
    client: Client,
    access: Token,
    refresh: Token,
}

pub(crate) struct Grant {
    pub(crate) class: UserType,
    pub(crate) location_id: Option<String>,
    pub(crate) company_id: String,
    pub(crate) user_id: String,
    pub(crate) refresh_token_id: String,
    pub(crate) bulk: bool,
    pub(crate) minted: bool,
    alive: bool,
    generation: u64,
    /// The last generation whose access tokens were ended before their time.
    access_ended_to: u64,
    access: Token,
    refresh: Token,
    /// The last uses, oldest first; the last one led to `generation`.
    rotations: VecDeque<Rotation>,
}

impl Grant {
    pub(crate) fn class_id(&self) -> &str {
        self.location_id.as_deref().unwrap_or(&self.company_id)
    }

    pub(crate) fn scopes(&self) -> &str {
        self.refresh.scopes.joined()
    }
}

/// What has become of a pair of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Until when the access token is taken, if it still is.
    pub(crate) access_ends_at: Option<Millis>,
    pub(crate) refresh: RefreshFate,
}

/// What has become of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshFate {
    Alive,
    /// It was used; until then repeats are answered with the same new one.
    UsedUp {
        repeated_until: Option<Millis>,
    },
    /// Its grant has ended.
    Dead,
}

pub(crate) struct Grants {
    settings: Arc<Settings>,
    client: Client,
    /// A second secret that is good beside the client's own, while it is being changed.
    second_secret: Option<String>,
    app_id: String,
    chance: Chance,
    serial: u64,
    user_id: String,
    scopes: Arc<Scopes>,
    minted_scopes: Arc<Scopes>,
    codes: HashMap<String, Code>,
    grants: Vec<Grant>,
    /// The newest grant of a location or a company.
    newest: HashMap<String, usize>,
    tokens: HashMap<Fingerprint, Token>,
    suspended: HashSet<String>,
    installed: BTreeMap<String, Millis>,
    location_ids: Vec<String>,
}

impl Grants {
    pub(crate) fn new(settings: Arc<Settings>, location_ids: Vec<String>, mut chance: Chance) -> Self {
        Self {
            client: Client { id: settings.client_id.clone(), secret: settings.client_secret.clone() },
            second_secret: None,
            app_id: settings.app_id().to_owned(),
            user_id: chance.id(),
            chance,
            serial: 0,
            scopes: Arc::new(Scopes::new(settings.scopes.clone())),
            minted_scopes: Arc::new(Scopes::for_minting(&settings.scopes)),
            settings,
            codes: HashMap::new(),
            grants: Vec::new(),
            newest: HashMap::new(),
            tokens: HashMap::new(),
            suspended: HashSet::new(),
            installed: BTreeMap::new(),
            location_ids,
        }
    }

    /// Installs the app and gives the code that the callback carries.
    pub(crate) fn approve(&mut self, approval: Approval, now: Millis) -> String {
        match &approval.location_id {
            Some(location_id) => drop(self.installed.insert(location_id.clone(), now)),
            None => self.installed.extend(self.location_ids.iter().map(|id| (id.clone(), now))),
        }
        let code = self.chance.hex(40);
        self.codes.insert(code.clone(), Code { approval, issued_at: now });
        code
    }

    /// Exchanges a code. The code is looked at before the client, as was measured (2026-08).
    pub(crate) fn exchange(
        &mut self,
        client: &Client,
        code: &str,
        redirect_uri: Option<&str>,
        asked: Option<UserType>,
        now: Millis,
    ) -> Result<Issued, Refused> {
        let known = self.codes.get(code).ok_or(Refused::UnknownCode)?;
        if now >= known.issued_at + millis(self.settings.code_life) {
            return Err(Refused::UnknownCode);
        }
        if !self.knows(client) {
            return Err(Refused::WrongClient);
        }
        if redirect_uri.is_some_and(|uri| uri != known.approval.redirect_uri) {
            return Err(Refused::OtherRedirectUri);
        }
        let chosen = known.approval.location_id.clone();
        let bulk = chosen.is_none();
        let location_id = chosen.filter(|_| self.class_for(asked) == UserType::Location);
        if !self.is_active(location_id.as_deref()) {
            return Err(Refused::NotActive);
        }
        self.codes.remove(code);
        let grant = self.open(location_id, bulk, false, now);
        Ok(self.issued(grant, false))
    }

    /// The class of token for a location's code: what was asked for, if the app may have it. Without being asked,
    /// an app that may have both gets a company's (measured 2026-07).
    fn class_for(&self, asked: Option<UserType>) -> UserType {
        let wanted = asked.unwrap_or(UserType::Company);
        let allowed = &self.settings.user_types;
        match allowed.contains(&wanted) {
            true => wanted,
            false => allowed.first().copied().unwrap_or_default(),
        }
    }

    /// Refreshes, and says which grant and generation were presented.
    pub(crate) fn refresh(
        &mut self,
        client: &Client,
        presented: &str,
        now: Millis,
    ) -> (Option<(usize, u64)>, Result<Issued, Refused>) {
        let token =
            self.tokens.get(&Fingerprint::of(presented)).filter(|token| token.purpose == Purpose::Refresh);
        let place = token.map(|token| (token.grant, token.generation));
        let usable = token.filter(|token| now < token.ends_at).is_some();
        if !self.knows(client) {
            return (place, Err(Refused::WrongClient));
        }
        let outcome = match place.filter(|_| usable) {
            Some((grant, generation)) => self.rotate(client, grant, generation, now),
            None => Err(Refused::InvalidGrant),
        };
        (place, outcome)
    }

    fn rotate(
        &mut self,
        client: &Client,
        index: usize,
        generation: u64,
        now: Millis,
    ) -> Result<Issued, Refused> {
        let grant = &self.grants[index];
        if !grant.alive {
            return Err(Refused::InvalidGrant);
        }
        if generation < grant.generation && self.repeatable(client, index, generation, now).is_none() {
            self.grants[index].alive &= !self.settings.reuse_ends_grant;
            return Err(Refused::Reused);
        }
        if !self.is_active(grant.location_id.as_deref()) {
            return Err(Refused::NotActive);
        }
        match self.repeatable(client, index, generation, now) {
            Some(rotation) => Ok(self.repeat(index, generation, rotation, now)),
            None => Ok(self.step(client, index, now)),
        }
    }

    /// Where the use of `generation` is kept, if this client may repeat it now.
    fn repeatable(&self, client: &Client, grant: usize, generation: u64, now: Millis) -> Option<usize> {
        let grant = &self.grants[grant];
        let from_the_end = usize::try_from(grant.generation.checked_sub(generation)?).ok()?;
        let index = grant.rotations.len().checked_sub(from_the_end)?;
        let rotation = grant.rotations.get(index)?;
        let open = now <= rotation.used_at + millis(self.settings.grace);
        (open && rotation.client == *client).then_some(index)
    }

    fn repeat(&mut self, index: usize, generation: u64, rotation: usize, now: Millis) -> Issued {
        if !self.settings.same_access_token_in_grace {
            let fresh = self.token(Purpose::Access, index, generation + 1, now);
            self.remember(&fresh);
            self.grants[index].rotations[rotation].access = fresh;
        }
        let rotation = &self.grants[index].rotations[rotation];
        Issued {
            access: self.text(&rotation.access),
            refresh: self.text(&rotation.refresh),
            grant: index,
            generation: generation + 1,
            expires_in: (rotation.access.ends_at - rotation.access.issued_at) / SECOND,
            repeated: true,
        }
    }

    fn step(&mut self, client: &Client, index: usize, now: Millis) -> Issued {
        let generation = self.grants[index].generation + 1;
        let access = self.token(Purpose::Access, index, generation, now);
        let refresh = self.token(Purpose::Refresh, index, generation, now);
        self.remember(&access);
        self.remember(&refresh);
        let grace = millis(self.settings.grace);
        let grant = &mut self.grants[index];
        while grant.rotations.front().is_some_and(|oldest| now > oldest.used_at + grace) {
            grant.rotations.pop_front();
        }
        grant.rotations.push_back(Rotation {
            used_at: now,
            client: client.clone(),
            access: access.clone(),
            refresh: refresh.clone(),
        });
        grant.generation = generation;
        grant.access = access;
        grant.refresh = refresh;
        self.issued(index, false)
    }

    /// Mints a location's tokens for whoever holds its company's.
    pub(crate) fn mint(&mut self, location_id: &str, now: Millis) -> Result<Issued, Refused> {
        if !self.is_active(Some(location_id)) {
            return Err(Refused::NotActive);
        }
        if !self.installed.contains_key(location_id) {
            return Err(Refused::NotInstalled);
        }
        let grant = self.open(Some(location_id.to_owned()), false, true, now);
        Ok(self.issued(grant, false))
    }

    fn open(&mut self, location_id: Option<String>, bulk: bool, minted: bool, now: Millis) -> usize {
        let index = self.grants.len();
        let class_id = location_id.clone().unwrap_or_else(|| self.settings.company_id.clone());
        if let Some(&before) = self.newest.get(&class_id)
            && self.settings.reinstall_ends_grant
            && !minted
        {
            self.grants[before].alive = false;
        }
        let scopes = if minted { &self.minted_scopes } else { &self.scopes };
        let [access, refresh] = [Purpose::Access, Purpose::Refresh].map(|purpose| Token {
            purpose,
            serial: 0,
            grant: index,
            generation: 1,
            issued_at: now,
            ends_at: now + self.life(purpose, minted),
            scopes: Arc::clone(scopes),
        });
        self.grants.push(Grant {
            class: if location_id.is_some() { UserType::Location } else { UserType::Company },
            location_id,
            company_id: self.settings.company_id.clone(),
            user_id: self.user_id.clone(),
            refresh_token_id: self.chance.hex(24),
            bulk,
            minted,
            alive: true,
            generation: 1,
            access_ended_to: 0,
            access,
            refresh,
            rotations: VecDeque::new(),
        });
        let [access, refresh] = [self.next_serial(), self.next_serial()];
        self.grants[index].access.serial = access;
        self.grants[index].refresh.serial = refresh;
        self.remember(&self.grants[index].access.clone());
        self.remember(&self.grants[index].refresh.clone());
        self.newest.insert(class_id, index);
        index
    }

    fn token(&mut self, purpose: Purpose, grant: usize, generation: u64, now: Millis) -> Token {
        let minted = self.grants[grant].minted;
        let scopes = if minted { &self.minted_scopes } else { &self.scopes };
        Token {
            purpose,
            grant,
            generation,
            issued_at: now,
            ends_at: now + self.life(purpose, minted),
            scopes: Arc::clone(scopes),
            serial: self.next_serial(),
        }
    }

    /// Directly issued access tokens say 86,399, minted ones 86,400 (both seen).
    fn life(&self, purpose: Purpose, minted: bool) -> Millis {
        match purpose {
            Purpose::Refresh => millis(self.settings.refresh_token_life),
            Purpose::Access => millis(self.settings.access_token_life) + if minted { SECOND } else { 0 },
        }
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn remember(&mut self, token: &Token) {
        self.tokens.insert(Fingerprint::of(&self.text(token)), token.clone());
    }

    fn text(&self, token: &Token) -> String {
        let grant = &self.grants[token.grant];
        let bearer = Bearer {
            class: grant.class,
            class_id: grant.class_id(),
            client_id: &self.client.id,
            app_id: &self.app_id,
            version_id: &self.app_id,
            minted: grant.minted,
        };
        token.text(&bearer, self.settings.seed)
    }

    fn issued(&self, index: usize, repeated: bool) -> Issued {
        let grant = &self.grants[index];
        Issued {
            access: self.text(&grant.access),
            refresh: self.text(&grant.refresh),
            grant: index,
            generation: grant.generation,
            expires_in: (grant.access.ends_at - grant.access.issued_at) / SECOND,
            repeated,
        }
    }

    fn is_active(&self, location_id: Option<&str>) -> bool {
        !self.suspended.contains(&self.settings.company_id)
            && !location_id.is_some_and(|id| self.suspended.contains(id))
    }

    pub(crate) fn user_id(&self) -> &str {
        &self.user_id
    }

    pub(crate) fn has(&self, index: usize) -> bool {
        index < self.grants.len()
    }

    pub(crate) fn grant(&self, index: usize) -> &Grant {
        &self.grants[index]
    }

    /// The grant and the token behind an access token that works at `now`.
    pub(crate) fn holder(&self, access: &str, now: Millis) -> Option<(&Grant, &Token)> {
        let token = self.tokens.get(&Fingerprint::of(access))?;
        let grant = &self.grants[token.grant];
        let survives = self.settings.old_access_tokens_survive || token.generation == grant.generation;
        let works = token.purpose == Purpose::Access && now < token.ends_at && grant.alive && survives;
        works.then_some((grant, token))
    }

    /// What has become of the pair of tokens with this place, as far as is remembered.
    pub(crate) fn fate(&self, grant: usize, generation: u64, issued_at: Millis, now: Millis) -> Option<Fate> {
        let grant = self.grants.get(grant)?;
        let newest = generation >= grant.generation;
        let survives =
            (self.settings.old_access_tokens_survive || newest) && generation > grant.access_ended_to;
        let access_ends_at = issued_at + self.life(Purpose::Access, grant.minted);
        let repeated_until = grant
            .generation
            .checked_sub(generation + 1)
            .and_then(|later| grant.rotations.len().checked_sub(usize::try_from(later).ok()? + 1))
            .and_then(|index| grant.rotations.get(index))
            .map(|rotation| rotation.used_at + millis(self.settings.grace));
        Some(Fate {
            access_ends_at: (grant.alive && survives && now < access_ends_at).then_some(access_ends_at),
            refresh: match (grant.alive, newest) {
                (false, _) => RefreshFate::Dead,
                (true, true) => RefreshFate::Alive,
                (true, false) => {
                    RefreshFate::UsedUp { repeated_until: repeated_until.filter(|at| now <= *at) }
                }
            },
        })
    }

    /// What a private integration token may do.
    pub(crate) fn scopes_now(&self) -> Arc<Scopes> {
        Arc::clone(&self.scopes)
    }

    /// Whether a refresh with this token, right now and for the first time, would be good.
    pub(crate) fn is_current(&self, refresh: &str, now: Millis) -> bool {
        self.tokens.get(&Fingerprint::of(refresh)).is_some_and(|token| {
            let grant = &self.grants[token.grant];
            let newest = self.newest.get(grant.class_id()) == Some(&token.grant);
            token.purpose == Purpose::Refresh
                && token.generation == grant.generation
                && grant.alive
                && newest
                && now < token.ends_at
        })
    }

    /// The newest pair of a location or a company, if its grant is alive: access, refresh.
    pub(crate) fn current(&self, class_id: &str) -> Option<(String, String)> {
        let grant = &self.grants[*self.newest.get(class_id)?];
        grant.alive.then(|| (self.text(&grant.access), self.text(&grant.refresh)))
    }

    /// Ends every grant of a location, or of a company and all its locations.
    pub(crate) fn revoke(&mut self, class_id: &str) {
        for grant in &mut self.grants {
            if grant.class_id() == class_id || grant.company_id == class_id {
                grant.alive = false;
            }
        }
    }

    /// Ends the access tokens that a location or a company has now. Refresh tokens live on.
    pub(crate) fn revoke_access_tokens(&mut self, class_id: &str) {
        let Self { tokens, grants, .. } = self;
        for grant in grants.iter_mut().filter(|grant| grant.class_id() == class_id) {
            grant.access_ended_to = grant.generation;
        }
        tokens.retain(|_, token| {
            token.purpose != Purpose::Access || grants[token.grant].class_id() != class_id
        });
    }

    /// Installs the app on a location from the agency's own pages: nobody gets a code.
    pub(crate) fn install(&mut self, location_id: &str, now: Millis) {
        self.installed.insert(location_id.to_owned(), now);
    }

    /// Removes the app: as `revoke`, and nothing can be minted any more.
    pub(crate) fn uninstall(&mut self, class_id: &str) {
        self.revoke(class_id);
        match class_id == self.settings.company_id {
            true => self.installed.clear(),
            false => drop(self.installed.remove(class_id)),
        }
    }

    pub(crate) fn suspend(&mut self, class_id: &str) {
        self.suspended.insert(class_id.to_owned());
    }

    pub(crate) fn resume(&mut self, class_id: &str) {
        self.suspended.remove(class_id);
    }

    pub(crate) fn suspended(&self) -> impl Iterator<Item = &str> {
        self.suspended.iter().map(String::as_str)
    }

    pub(crate) fn resume_all(&mut self) {
        self.suspended.clear();
    }

    pub(crate) fn is_suspended(&self, class_id: &str) -> bool {
        self.suspended.contains(class_id)
    }

    pub(crate) fn installed_at(&self, location_id: &str) -> Option<Millis> {
        self.installed.get(location_id).copied()
    }

    /// Changes what every token issued from now on may do; those already out keep their scopes.
    pub(crate) fn set_scopes(&mut self, names: Vec<String>) {
        self.minted_scopes = Arc::new(Scopes::for_minting(&names));
        self.scopes = Arc::new(Scopes::new(names));
    }

    /// Replaces the secret, and whichever was good beside it.
    pub(crate) fn set_client_secret(&mut self, secret: String) {
        self.client.secret = secret;
        self.second_secret = None;
    }

    pub(crate) fn add_client_secret(&mut self, secret: String) {
        self.second_secret = Some(secret);
    }

    fn knows(&self, client: &Client) -> bool {
        let known = [Some(&self.client.secret), self.second_secret.as_ref()];
        client.id == self.client.id && known.contains(&Some(&client.secret))
    }
}
