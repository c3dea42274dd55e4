//! The check: a valid token, one harmless read with it, and the tag whose workflow tells people
//! that the service is alive.
//!
//! Everything that happens is told as an [`Event`] when it happens, and stands in the [`Report`] at
//! the end. Words are the business of whoever listens.

use std::time::Duration;

use highlevel::{Api, Client, Contact, Failure, FailureKind, Reply};
use tokens::{
    AccessToken, Clock, CompanyId, ContactId, Drift, Health, Installation, InstallationId, Keeper,
    KeeperError, LocationId, Served, Timestamp,
};
use tokio::time::{Instant, sleep};

/// How often the read is tried, as people know it from the template: "1/2", "2/2".
const ATTEMPTS: u32 = 2;

/// One attempt waits for an overloaded or silent HighLevel for as long as this.
const PATIENCE: Duration = Duration::from_secs(15);

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often the contact is looked at while the workflow is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the token comes from.
#[derive(Clone, Debug)]
pub enum Access {
    /// A grant that the Keeper keeps, of this installation, to last for this long.
    Kept {
        /// Who keeps it.
        keeper: Keeper,
        /// Whose it is.
        id: InstallationId,
        /// Until the next run and a margin.
        to_last: Duration,
    },
    /// A Private Integration Token, which never changes.
    Private(AccessToken),
}

/// What is read, and what is tagged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A contact is read, and gets the tag if there is one.
    Contact {
        /// The contact.
        id: ContactId,
        /// The tag's name.
        tag: Option<String>,
    },
    /// A location is read, because no contact was named.
    Location(LocationId),
    /// A company's locations are read.
    Company(CompanyId),
}

/// One check, ready to run.
#[derive(Debug)]
pub struct Check<'a> {
    /// HighLevel.
    pub client: Client,
    /// The token.
    pub access: Access,
    /// The read and the tag.
    pub target: Target,
    /// How long to watch for the workflow to remove the tag again.
    pub wait_for_workflow: Option<Duration>,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// Something that happens during a check.
#[derive(Debug)]
pub enum Event<'a> {
    /// The token at hand is good.
    TokenIsGood,
    /// The token is too old, and a newer one is being fetched.
    Refreshing,
    /// A newer token is at rest.
    Refreshed,
    /// This is the grant that is used.
    Using(&'a Installation),
    /// A warning, for later too.
    Warning(&'a Warning),
    /// The read begins.
    Reading,
    /// One attempt at it.
    Attempt {
        /// Counts from 1.
        number: u32,
        /// How many there can be.
        of: u32,
    },
    /// A call failed and is tried again.
    TryingAgain(&'a Failure),
    /// HighLevel answered the read as it should.
    Read,
    /// The left-over tag is off the contact.
    TagRemoved,
    /// The tag is on the contact.
    TagAdded {
        /// Its name.
        tag: &'a str,
        /// The contact.
        contact: &'a ContactId,
    },
    /// The workflow is being waited for.
    WaitingForWorkflow(Duration),
    /// The workflow removed the tag.
    WorkflowRan(Duration),
}

/// Something that works still, or well enough, and needs attention.
#[derive(Clone, Debug)]
pub enum Warning {
    /// The refresh failed behind a token that still lives.
    RefreshFailed {
        /// Why.
        error: KeeperError,
        /// Until when the token lives.
        expires_at: Timestamp,
    },
    /// The tag was on the contact before it was added: the workflow did not run, or did not remove it.
    TagWasStillThere,
    /// The grant lacks scopes that this check needs. Whether HighLevel minds, the calls show.
    ScopesMissing(Vec<&'static str>),
    /// No contact or no tag is configured, so nobody is told that the service is alive.
    NobodyIsTold,
}

impl Warning {
    /// Whether it will stop working if nobody attends to it. A scope that was not needed after all is
    /// nobody's trouble.
    fn degrades(&self) -> bool {
        match self {
            Self::RefreshFailed { .. } | Self::TagWasStillThere => true,
            Self::ScopesMissing(_) | Self::NobodyIsTold => false,
        }
    }
}

/// A step of the check, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// Have a valid token.
    Token,
    /// Read.
    Read,
    /// Take a left-over tag away.
    RemoveTag,
    /// Add the tag.
    AddTag,
    /// See the workflow take it away.
    Workflow,
}

impl StepName {
    /// The word for it in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Read => "read",
            Self::RemoveTag => "remove_tag",
            Self::AddTag => "add_tag",
            Self::Workflow => "workflow",
        }
    }
}

/// How a step went.
#[derive(Clone, Debug)]
pub struct StepReport {
    /// Which.
    pub step: StepName,
    /// How long it took, retries included.
    pub took: Duration,
    /// HighLevel's `traceId` of its last call.
    pub trace_id: Option<String>,
    /// Whether it went well.
    pub ok: bool,
}

/// Why a check failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// There is no token to check with.
    #[error(transparent)]
    Token(#[from] KeeperError),
    /// HighLevel refused a call, or did not answer it.
    #[error("{failure}")]
    Call {
        /// Which call.
        step: StepName,
        /// What came instead.
        failure: Failure,
    },
    /// The tag was added and nothing took it away.
    #[error("the workflow did not remove the tag within {} seconds", waited.as_secs())]
    WorkflowSilent {
        /// How long it was waited for.
        waited: Duration,
    },
}

/// What a check found.
#[derive(Debug)]
pub struct Report {
    /// When it ended.
    pub at: Timestamp,
    /// The grant that was used, unless it was a Private Integration Token or there was none.
    pub installation: Option<Installation>,
    /// Whether the check brought a newer token.
    pub refreshed: bool,
    /// The steps that were taken, the last one being the one that failed if any did.
    pub steps: Vec<StepReport>,
    /// What needs attention though it works.
    pub warnings: Vec<Warning>,
    /// What failed.
    pub error: Option<CheckError>,
}

impl Report {
    /// What the check says of the installation's health.
    pub fn health(&self) -> Health {
        match &self.error {
            None if self.warnings.iter().any(Warning::degrades) => Health::Degraded,
            None => Health::Operational,
            Some(CheckError::Token(KeeperError::NeedsPerson { .. } | KeeperError::NotConnected(_))) => {
                Health::NeedsPerson
            }
            Some(CheckError::Token(KeeperError::Suspended { .. })) => Health::Suspended,
            Some(CheckError::Call { failure, .. }) if failure.kind == FailureKind::NotActive => {
                Health::Suspended
            }
            Some(_) => Health::Down,
        }
    }
}

impl Check<'_> {
    /// Runs the check from the token to the tag and tells `listener` what happens.
    pub async fn run(self, listener: &mut (dyn FnMut(&Event<'_>) + Send)) -> Report {
        let mut run = Run {
            check: &self,
            tell: listener,
            api: Api::new(self.client.clone(), AccessToken::new("")),
            installation: None,
            refreshed: false,
            steps: Vec::new(),
            warnings: Vec::new(),
        };
        let error = run.all_steps().await.err();
        Report {
            at: self.clock.now(),
            installation: run.installation,
            refreshed: run.refreshed,
            steps: run.steps,
            warnings: run.warnings,
            error,
        }
    }
}

struct Run<'a> {
    check: &'a Check<'a>,
    tell: &'a mut (dyn FnMut(&Event<'_>) + Send),
    api: Api,
    installation: Option<Installation>,
    refreshed: bool,
    steps: Vec<StepReport>,
    warnings: Vec<Warning>,
}

impl Run<'_> {
    async fn all_steps(&mut self) -> Result<(), CheckError> {
        let began = Instant::now();
        let token = self.token().await;
        self.step_ended(StepName::Token, began, None, token.is_ok());
        token?;
        (self.tell)(&Event::Reading);
        let seen = self.make(StepName::Read, &self.check.target.read()).await?;
        (self.tell)(&Event::Read);
        let Target::Contact { id, tag: Some(tag) } = &self.check.target else {
            self.warn(Warning::NobodyIsTold);
            return Ok(());
        };
        if seen.is_some_and(|contact| contact.has_tag(tag)) {
            self.warn(Warning::TagWasStillThere);
            self.make(StepName::RemoveTag, &Call::RemoveTag(id, tag)).await?;
            (self.tell)(&Event::TagRemoved);
        }
        self.make(StepName::AddTag, &Call::AddTag(id, tag)).await?;
        (self.tell)(&Event::TagAdded { tag, contact: id });
        match self.check.wait_for_workflow {
            Some(patience) => self.watch_workflow(id, tag, patience).await,
            None => Ok(()),
        }
    }

    async fn token(&mut self) -> Result<(), CheckError> {
        let check = self.check;
        let (keeper, id, to_last) = match &check.access {
            Access::Kept { keeper, id, to_last } => (keeper, id, *to_last),
            Access::Private(token) => {
                self.api = Api::new(check.client.clone(), token.clone());
                return Ok(());
            }
        };
        let mut good = true;
        let refreshing = || {
            good = false;
            (self.tell)(&Event::Refreshing);
        };
        let served = keeper.fresh_token(id, to_last, refreshing).await?;
        if good {
            (self.tell)(&Event::TokenIsGood);
        }
        self.go_on_with(served);
        if let Some(installation) = &self.installation {
            (self.tell)(&Event::Using(installation));
            let missing = check.target.lacks(installation);
            if !missing.is_empty() {
                self.warn(Warning::ScopesMissing(missing));
            }
        }
        Ok(())
    }

    fn go_on_with(&mut self, served: Served) {
        if served.refreshed {
            self.refreshed = true;
            (self.tell)(&Event::Refreshed);
        }
        if let Some(error) = served.warning {
            self.warn(Warning::RefreshFailed { error, expires_at: served.installation.tokens.expires_at });
        }
        self.api = Api::new(self.check.client.clone(), served.installation.tokens.access.clone());
        self.installation = Some(served.installation);
    }

    /// Makes one call, as often as makes sense, and notes how it went.
    async fn make(&mut self, step: StepName, call: &Call<'_>) -> Result<Option<Contact>, CheckError> {
        let began = Instant::now();
        let mut number = 1;
        let outcome = loop {
            if step == StepName::Read {
                (self.tell)(&Event::Attempt { number, of: ATTEMPTS });
            }
            match self.attempt(call).await {
                Err(failure) if number < ATTEMPTS && self.is_worth_another(&failure).await? => {
                    (self.tell)(&Event::TryingAgain(&failure));
                    number += 1;
                }
                outcome => break outcome,
            }
        };
        let trace_id = match &outcome {
            Ok(reply) => reply.trace_id.clone(),
            Err(failure) => failure.trace_id.clone(),
        };
        self.step_ended(step, began, trace_id, outcome.is_ok());
        outcome.map(|reply| reply.value).map_err(|failure| CheckError::Call { step, failure })
    }

    /// Waits out an overload or an outage for a while.
    async fn attempt(&mut self, call: &Call<'_>) -> Result<Reply<Option<Contact>>, Failure> {
        let until = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match call.make(&self.api).await {
                Err(failure) if failure.kind.is_transient() => failure,
                outcome => return outcome,
            };
            let wait = match failure.kind {
                FailureKind::RateLimited { wait: Some(advised) } => advised.min(LONGEST_PAUSE),
                _ => pause,
            };
            if Instant::now() + wait > until {
                return Err(failure);
            }
            (self.tell)(&Event::TryingAgain(&failure));
            sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether the next attempt may go better: after a refresh, where that can cure it, or because
    /// HighLevel may be back.
    async fn is_worth_another(&mut self, failure: &Failure) -> Result<bool, CheckError> {
        match (&failure.kind, &self.check.access, &self.installation) {
            (FailureKind::TokenRefused, Access::Kept { keeper, id, .. }, Some(used)) => {
                (self.tell)(&Event::Refreshing);
                match keeper.refused(id, used.version.generation).await {
                    Ok(installation) => {
                        self.go_on_with(Served { installation, refreshed: true, warning: None });
                        Ok(true)
                    }
                    Err(KeeperError::FreshTokenRefused) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            (kind, _, _) => Ok(kind.is_transient()),
        }
    }

    async fn watch_workflow(
        &mut self,
        id: &ContactId,
        tag: &str,
        patience: Duration,
    ) -> Result<(), CheckError> {
        (self.tell)(&Event::WaitingForWorkflow(patience));
        let began = Instant::now();
        let mut trace_id = None;
        let ran = loop {
            sleep(LOOK_EVERY.min(patience)).await;
            match self.attempt(&Call::ReadContact(id)).await {
                Ok(Reply { value: Some(contact), trace_id: seen }) if !contact.has_tag(tag) => {
                    trace_id = seen;
                    break Ok(());
                }
                Ok(reply) => trace_id = reply.trace_id,
                Err(failure) => break Err(CheckError::Call { step: StepName::Workflow, failure }),
            }
            if began.elapsed() >= patience {
                break Err(CheckError::WorkflowSilent { waited: patience });
            }
        };
        self.step_ended(StepName::Workflow, began, trace_id, ran.is_ok());
        if ran.is_ok() {
            (self.tell)(&Event::WorkflowRan(began.elapsed()));
        }
        ran
    }

    fn warn(&mut self, warning: Warning) {
        (self.tell)(&Event::Warning(&warning));
        self.warnings.push(warning);
    }

    fn step_ended(&mut self, step: StepName, began: Instant, trace_id: Option<String>, ok: bool) {
        self.steps.push(StepReport { step, took: began.elapsed(), trace_id, ok });
    }
}

/// A call of the check.
enum Call<'a> {
    ReadContact(&'a ContactId),
    ReadLocation(&'a LocationId),
    ReadCompany(&'a CompanyId),
    AddTag(&'a ContactId, &'a str),
    RemoveTag(&'a ContactId, &'a str),
}

impl Call<'_> {
    async fn make(&self, api: &Api) -> Result<Reply<Option<Contact>>, Failure> {
        match self {
            Self::ReadContact(id) => api.contact(id).await.map(|reply| reply.map(Some)),
            Self::ReadLocation(id) => api.location(id).await.map(|reply| reply.map(|_| None)),
            Self::ReadCompany(id) => api.locations_of(id).await.map(|reply| reply.map(|()| None)),
            Self::AddTag(id, tag) => api.add_tag(id, tag).await.map(|reply| reply.map(|()| None)),
            Self::RemoveTag(id, tag) => api.remove_tag(id, tag).await.map(|reply| reply.map(|()| None)),
        }
    }
}

impl Target {
    /// The scopes of its calls, as HighLevel's `Scopes.md` has them.
    fn scopes(&self) -> &'static [&'static str] {
        match self {
            Self::Contact { tag: Some(_), .. } => &["contacts.readonly", "contacts.write"],
            Self::Contact { tag: None, .. } => &["contacts.readonly"],
            Self::Location(_) | Self::Company(_) => &["locations.readonly"],
        }
    }

    /// Those of them that a grant is without; none where its scopes are not known.
    fn lacks(&self, installation: &Installation) -> Vec<&'static str> {
        let needed = self.scopes();
        let missing = Drift::of(&installation.id, &installation.tokens.scopes, &needed.join(" ")).missing;
        needed.iter().copied().filter(|scope| missing.iter().any(|name| name == scope)).collect()
    }

    fn read(&self) -> Call<'_> {
        match self {
            Self::Contact { id, .. } => Call::ReadContact(id),
            Self::Location(id) => Call::ReadLocation(id),
            Self::Company(id) => Call::ReadCompany(id),
        }
    }
}
