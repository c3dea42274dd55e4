//! The location in HighLevel, once its tokens are there: what is looked up and made in it.

use std::time::Duration;

use highlevel::{Api, Failure, FailureKind};
use tokens::store::Listing;
use tokens::{ContactId, InstallationId, KeeperError, LocationId};

use crate::config::Meant;
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::text::Text;
use crate::wiring::Context;

/// Longer than anyone thinks about a question; HighLevel is asked anew by a later run.
const WHILE_ANSWERING: Duration = Duration::from_secs(3600);

/// What messages call the field with the service's name, in the template's example.
const FIELD: &str = "microservice_name";

/// What there is in the store.
pub(super) enum Made {
    /// Tokens of the location that is meant.
    Place(Box<Place>),
    /// Tokens of this other location only.
    Another(String),
    /// None that work.
    Nothing,
}

/// The location, seen with its token.
pub(super) struct Place {
    api: Api,
    location: LocationId,
}

/// Looks whether there are tokens that work.
pub(super) async fn connected(house: &Context) -> Result<Made, Explained> {
    let (api, app, settings, meant) = house.settings(|config| {
        let (api, app, store, meant) = (config.api(), config.app(), config.store(), config.meant());
        Some((api?, app?, store?, meant?))
    })?;
    let Meant::Installation(InstallationId::Location(location)) = meant.clone() else {
        return Err(Explained::new(&house.text, "which_one", Exit::Usage, &[]));
    };
    let client = house.client(api)?;
    let (store, _) = house.open_store(&settings, Some(&meant)).await?;
    let keeper = house.keeper(store.clone(), &client, app).await;
    let id = InstallationId::Location(location.clone());
    let served = crate::shutdown::landing_first(&keeper, keeper.token(&id, WHILE_ANSWERING)).await;
    match served {
        None => Err(Explained::new(&house.text, "stopped", Exit::Failed, &[])),
        Some(Ok(served)) => {
            let api = Api::new(client, served.installation.tokens.access.clone());
            Ok(Made::Place(Box::new(Place { api, location })))
        }
        Some(Err(KeeperError::NotConnected(_))) => {
            let all = store.overview(&Listing::first(1)).await.map_err(|error| house.store_error(&error))?;
            Ok(match all.into_iter().next().map(|other| other.id) {
                Some(InstallationId::Location(other)) => Made::Another(other.as_str().to_owned()),
                _ => Made::Nothing,
            })
        }
        Some(Err(KeeperError::NeedsPerson { .. })) => Ok(Made::Nothing),
        Some(Err(error)) => Err(house.keeper_error(&error)),
    }
}

impl Place {
    pub(super) fn location(&self) -> &str {
        self.location.as_str()
    }

    /// The location's name, where the app may read it.
    pub(super) async fn name(&self) -> Option<String> {
        self.api.location(&self.location).await.ok().and_then(|reply| reply.value.name)
    }

    pub(super) async fn look_at(&self, contact: &ContactId) -> Result<(), Failure> {
        self.api.contact(contact).await.map(drop)
    }

    pub(super) async fn find(&self, email: &str) -> Result<Option<ContactId>, Failure> {
        self.api.contact_by_email(&self.location, email).await.map(|reply| reply.value)
    }

    pub(super) async fn make(&self, name: &str, email: &str) -> Result<ContactId, Failure> {
        self.api.create_contact(&self.location, name, email).await.map(|reply| reply.value)
    }

    /// Makes the tag if it is not there, and says what came of it. Without the scopes it is made by hand.
    pub(super) async fn have_tag(&self, text: &Text, tag: &str) -> String {
        let is_there = match self.api.tags_of(&self.location).await {
            Ok(tags) => tags.value.iter().any(|known| known.to_lowercase() == tag.to_lowercase()),
            Err(failure) => return by_hand(text, tag, &failure, "locations/tags.readonly"),
        };
        let arguments = [("tag", tag.to_owned().into())];
        if is_there {
            return text.say("init-tag-there", &arguments);
        }
        match self.api.create_tag(&self.location, tag).await {
            Ok(_) => text.say("init-tag-made", &arguments),
            Err(failure) => by_hand(text, tag, &failure, "locations/tags.write"),
        }
    }

    /// Writes the service's name into the contact, where the location has a field for it.
    pub(super) async fn name_in(&self, text: &Text, contact: &ContactId, name: &str) -> String {
        let fields = match self.api.custom_fields(&self.location).await {
            Ok(fields) => fields.value,
            Err(failure) if lacks_scope(&failure) => {
                let scope = [("scope", "locations/customFields.readonly".into()), ("field", FIELD.into())];
                return text.say("init-field-scope", &scope);
            }
            Err(failure) => {
                return text.say("init-field-failed", &[("why", sentence(text, &failure).into())]);
            }
        };
        let is_it = |field: &&highlevel::CustomField| {
            let plain = field.name.trim().to_lowercase().replace([' ', '-'], "_");
            plain == FIELD || field.key.rsplit('.').next() == Some(FIELD)
        };
        let Some(field) = fields.iter().find(is_it) else {
            return text.say("init-field-none", &[("field", FIELD.into())]);
        };
        match self.api.set_custom_field(contact, &field.id, name).await {
            Ok(_) => {
                let key = if field.key.is_empty() { field.name.clone() } else { field.key.clone() };
                text.say("init-field-set", &[("field", key.into()), ("name", name.to_owned().into())])
            }
            Err(failure) => text.say("init-field-failed", &[("why", sentence(text, &failure).into())]),
        }
    }
}

fn by_hand(text: &Text, tag: &str, failure: &Failure, scope: &str) -> String {
    let why = match lacks_scope(failure) {
        true => text.say("init-scope-lacks", &[("scope", scope.to_owned().into())]),
        false => sentence(text, failure),
    };
    text.say("init-tag-by-hand", &[("tag", tag.to_owned().into()), ("why", why.into())])
}

pub(super) fn lacks_scope(failure: &Failure) -> bool {
    failure.kind == FailureKind::ScopeMissing
}

/// Which box is to be ticked.
pub(super) fn scope_sentence(text: &Text, scope: &str) -> String {
    text.say("init-scope", &[("scope", scope.to_owned().into())])
}

/// Why HighLevel did not do what it was asked.
pub(super) fn sentence(text: &Text, failure: &Failure) -> String {
    let key = match failure.kind {
        FailureKind::ContactNotFound => "init-contact-unknown",
        FailureKind::OtherLocation => "init-contact-elsewhere",
        _ => "init-refused",
    };
    text.say(key, &[("said", explain::reason(text, &failure.said).into())])
}
