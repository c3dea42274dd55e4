//! What happened to a grant: a line for each set of tokens, and for each time that it stood otherwise.

use crate::clock::Timestamp;
use crate::installation::{Connection, InstallationId, Overview, Version};
use crate::store::Stand;

/// A line of an installation's history. Whoever notes the same twice notes it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Whose.
    pub id: InstallationId,
    /// When it began.
    pub at: Timestamp,
    /// The tokens then.
    pub version: Version,
    /// Until when the access token was to live.
    pub expires_at: Timestamp,
    /// How it stood.
    pub stand: Stand,
    /// Why, where it did not stand well: HighLevel's words, without secrets.
    pub said: Option<String>,
}

impl Episode {
    /// The one that goes on now.
    pub fn of(it: &Overview) -> Self {
        let (at, said) = match &it.connection {
            Connection::Connected => (it.issued_at, None),
            Connection::Uncertain { since, said, .. } | Connection::Suspended { since, said, .. } => {
                (*since, Some(said.clone()))
            }
            Connection::Broken(broken) => (broken.since, Some(broken.said.clone())),
        };
        let Overview { id, version, expires_at, .. } = it;
        Self { id: id.clone(), at, version: *version, expires_at: *expires_at, stand: Stand::of(it), said }
    }
}

/// What an episode is, beside the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A person authorised.
    Authorized,
    /// A new set of tokens came.
    Refreshed,
    /// It stands otherwise.
    Stands(Stand),
}

impl Turn {
    /// Of `episode`, which came after `before`, if that is known.
    pub fn of(episode: &Episode, before: Option<&Episode>) -> Self {
        match episode.stand {
            Stand::Connected if before.is_some_and(|before| before.version.epoch < episode.version.epoch) => {
                Self::Authorized
            }
            Stand::Connected => Self::Refreshed,
            stand => Self::Stands(stand),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::installation::Broken;
    use crate::sample;

    #[test]
    fn an_episode_begins_when_its_tokens_came_or_when_it_went_wrong() {
        let mut it = sample::installation().overview();
        let first = Episode::of(&it);
        assert_eq!((first.at, first.stand, &first.said), (it.issued_at, Stand::Connected, &None));
        assert_eq!(Turn::of(&first, None), Turn::Refreshed);

        let since = it.issued_at + it.life();
        it.connection = Connection::Broken(Broken { since, said: "invalid_grant".to_owned() });
        let broken = Episode::of(&it);
        assert_eq!((broken.at, broken.said.as_deref()), (since, Some("invalid_grant")));
        assert_eq!(Turn::of(&broken, Some(&first)), Turn::Stands(Stand::Broken));

        it.version = Version { epoch: it.version.epoch + 1, generation: it.version.generation + 1 };
        it.connection = Connection::Connected;
        assert_eq!(Turn::of(&Episode::of(&it), Some(&broken)), Turn::Authorized);
        assert_eq!(Turn::of(&Episode::of(&it), Some(&Episode::of(&it))), Turn::Refreshed);
    }
}
