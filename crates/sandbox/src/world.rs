//! Everything that lives in the sandbox, behind one lock, at one time.

use std::sync::Arc;

use crate::chance::Chance;
use crate::clock::Millis;
use crate::crm::Crm;
use crate::grants::Grants;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::settings::Settings;
use crate::webhooks::{Facts, Webhooks};

pub(crate) struct World {
    pub(crate) settings: Arc<Settings>,
    /// The sandbox's time, set once for each request.
    pub(crate) now: Millis,
    pub(crate) grants: Grants,
    pub(crate) crm: Crm,
    pub(crate) limits: Limits,
    /// Of requests for tokens, of all grants together; HighLevel is not known to have one.
    pub(crate) token_limits: Option<Limits>,
    /// Whether resource calls are answered in chunks.
    pub(crate) chunked_answers: bool,
    /// Whether the ledger notes the headers of each request.
    pub(crate) headers_noted: bool,
    pub(crate) ledger: Ledger,
    /// Where a browser was sent last.
    pub(crate) redirect_uri: Option<String>,
    pub(crate) chance: Chance,
    pub(crate) webhooks: Arc<Webhooks>,
}

impl World {
    pub(crate) fn new(settings: Arc<Settings>, webhooks: Arc<Webhooks>, now: Millis) -> Self {
        let mut chance = Chance::seeded(settings.seed ^ 0x5eed);
        let crm = Crm::new(&settings, &mut chance, now);
        let location_ids = crm.locations().iter().map(|location| location.id.clone()).collect();
        let grants = Grants::new(Arc::clone(&settings), location_ids, Chance::seeded(chance.number()));
        let limits = Limits::new(settings.rate_limit, settings.rate_window);
        let (token_limits, ledger) = (None, Ledger::default());
        let (chunked_answers, headers_noted) = (settings.chunked_answers, false);
        Self {
            settings,
            now,
            grants,
            crm,
            limits,
            token_limits,
            chunked_answers,
            headers_noted,
            ledger,
            redirect_uri: None,
            chance,
            webhooks,
        }
    }

    /// Tells the app of an install on a location, or on the agency and all its locations.
    pub(crate) fn tell_of_install(&mut self, location_id: Option<&str>) {
        self.tell_of("INSTALL", location_id);
        if location_id.is_none() {
            let ids: Vec<String> = self.crm.locations().iter().map(|location| location.id.clone()).collect();
            ids.iter().for_each(|id| self.tell_of("INSTALL", Some(id)));
        }
    }

    /// Tells the app of an install or an update.
    pub(crate) fn tell_of(&mut self, kind: &str, location_id: Option<&str>) {
        let id = self.chance.uuid();
        self.webhooks.tell(self.facts().install(kind, location_id, id));
    }

    pub(crate) fn tell_of_location(&mut self, location_id: &str) {
        let id = self.chance.uuid();
        self.webhooks.tell(self.facts().location_created(location_id, id));
    }

    /// Removes the app from a location, or from the agency and all its locations, and tells it.
    pub(crate) fn uninstall(&mut self, class_id: &str) {
        self.grants.uninstall(class_id);
        let id = self.chance.uuid();
        self.webhooks.tell(self.facts().uninstall(class_id, id));
    }

    fn facts(&self) -> Facts<'_> {
        Facts { settings: &self.settings, user_id: self.grants.user_id(), now: self.now }
    }
}
