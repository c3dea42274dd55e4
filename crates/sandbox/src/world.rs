//! Everything that lives in the sandbox, behind one lock, at one time.

use std::sync::Arc;

use crate::chance::Chance;
use crate::clock::Millis;
use crate::crm::Crm;
use crate::grants::Grants;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::settings::Settings;

pub(crate) struct World {
    pub(crate) settings: Arc<Settings>,
    /// The sandbox's time, set once for each request.
    pub(crate) now: Millis,
    pub(crate) grants: Grants,
    pub(crate) crm: Crm,
    pub(crate) limits: Limits,
    /// Of requests for tokens, of all grants together; HighLevel is not known to have one.
    pub(crate) token_limits: Option<Limits>,
    pub(crate) ledger: Ledger,
    pub(crate) chance: Chance,
}

impl World {
    pub(crate) fn new(settings: Arc<Settings>, now: Millis) -> Self {
        let mut chance = Chance::seeded(settings.seed ^ 0x5eed);
        let crm = Crm::new(&settings, &mut chance, now);
        let location_ids = crm.locations().iter().map(|location| location.id.clone()).collect();
        let grants = Grants::new(Arc::clone(&settings), location_ids, Chance::seeded(chance.number()));
        let limits = Limits::new(settings.rate_limit);
        Self { settings, now, grants, crm, limits, token_limits: None, ledger: Ledger::default(), chance }
    }
}
