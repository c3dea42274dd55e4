//! A grant as it rests, and many of them.

use std::time::Duration;

use tokens::store::Counts;
use tokens::{Connection, Drift, Overview, Timestamp};

use super::super::finding::{Area, Finding};
use crate::exit::Exit;
use crate::output::{moment, span};

/// No flight lasts longer than this; whoever began it is gone.
const LONGEST_FLIGHT: Duration = Duration::from_secs(60);

/// An unused refresh token lives for a year. One that is refused earlier was used, or withdrawn.
const REFRESH_TOKEN_LIFE: Duration = Duration::from_secs(360 * 86_400);

/// A token that says that it ends so much sooner than is noted would be used when it is dead. What it says
/// and what the reply said differ by a second.
const SAME_END: Duration = Duration::from_secs(15 * 60);

/// What a token says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    pub(crate) class: Option<String>,
    pub(crate) class_id: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) ends_at: Option<Timestamp>,
}

/// A grant as it rests, and what it is compared with.
#[derive(Clone, Debug)]
pub(crate) struct GrantFacts {
    pub(crate) overview: Overview,
    pub(crate) claims: Claims,
    /// The app of `GHL_CLIENT_ID`.
    pub(crate) app: Option<String>,
    pub(crate) wanted_scopes: String,
    pub(crate) needed_scopes: Vec<&'static str>,
    /// Whether the template, or something like it, wrote the file after us.
    pub(crate) written_elsewhere: bool,
    pub(crate) link: Option<String>,
}

/// What can be said of a grant beyond the state that it is in, which is explained elsewhere.
pub(crate) fn grant(facts: &GrantFacts, now: Timestamp) -> Vec<Finding> {
    let area = Area::Grant;
    let GrantFacts { overview, claims, .. } = facts;
    let fail = |code, exit, said| Finding::failure(area, code, exit, said);
    let mut found = Vec::new();
    if let Connection::Broken(broken) = &overview.connection
        && is_used_by_another(&broken.said, overview.issued_at.until(broken.since))
    {
        let age = span(overview.issued_at.until(broken.since));
        let said = vec![("since", moment(broken.since)), ("age", age)];
        found.push(fail("another_program", Exit::Person, said).with_link(facts.link.clone()));
    }
    if facts.written_elsewhere {
        found.push(Finding::warning(area, "written_elsewhere", vec![]));
    }
    if let Some(intent) = overview.intent
        && now.since(intent.since) > LONGEST_FLIGHT
    {
        found.push(Finding::warning(area, "flight_left", vec![("since", moment(intent.since))]));
    }
    let (class, id) = (overview.id.user_type(), overview.id.as_str());
    let other = |claim: &Option<String>, ours: &str| {
        claim.as_deref().filter(|claim| !claim.is_empty() && *claim != ours).map(str::to_owned)
    };
    if let Some(says) = other(&claims.class, class) {
        found.push(fail("claims_class", Exit::Usage, vec![("says", says), ("class", class.to_owned())]));
    } else if let Some(says) = other(&claims.class_id, id) {
        found.push(fail("claims_id", Exit::Usage, vec![("says", says), ("id", id.to_owned())]));
    }
    if let Some((says, app)) =
        facts.app.as_ref().and_then(|app| Some((other(&claims.app, app)?, app.clone())))
    {
        found.push(fail("claims_app", Exit::Usage, vec![("says", says), ("app", app)]));
    }
    let ends_at = claims.ends_at.unwrap_or(overview.expires_at);
    if ends_at.until(overview.expires_at) > SAME_END {
        let said = vec![("says", moment(ends_at)), ("noted", moment(overview.expires_at))];
        found.push(Finding::warning(area, "claims_end", said));
    }
    let is_connected = matches!(overview.connection, Connection::Connected);
    if is_connected && overview.remaining(now).is_zero() {
        found.push(fail("token_ended", Exit::Failed, vec![("at", moment(overview.expires_at))]));
    }
    found.extend(scopes(facts));
    if found.is_empty() && is_connected {
        let left = ("left", span(overview.remaining(now)));
        let generation = ("generation", overview.version.generation.to_string());
        found.push(Finding::good(area, "grant_good", vec![left, generation]));
    }
    found
}

/// Many grants, none of which is meant more than the others.
pub(crate) fn crowd(counts: &Counts) -> Finding {
    let all = counts.locations + counts.companies;
    let troubled = counts.broken + counts.suspended + counts.uncertain;
    let said = vec![("all", all.to_string()), ("troubled", troubled.to_string())];
    match (counts.broken, troubled) {
        (0, 0) => Finding::good(Area::Grant, "crowd_good", said),
        (0, _) => Finding::warning(Area::Grant, "crowd_troubled", said),
        (_, _) => Finding::failure(Area::Grant, "crowd_troubled", Exit::Person, said),
    }
}

/// Whether a refused refresh token was in its first year: nobody but someone who used it, or took the
/// app away, can have ended it.
fn is_used_by_another(said: &str, age: Duration) -> bool {
    said.to_ascii_lowercase().contains("refresh token") && age < REFRESH_TOKEN_LIFE
}

fn scopes(facts: &GrantFacts) -> Option<Finding> {
    let GrantFacts { overview: Overview { id, scopes, .. }, wanted_scopes, needed_scopes, link, .. } = facts;
    let needed = Drift::of(id, scopes, &needed_scopes.join(" ")).missing;
    let wanted = Drift::of(id, scopes, wanted_scopes).missing;
    let (code, missing) = match (needed.is_empty(), wanted.is_empty()) {
        (true, true) => return None,
        (false, _) => ("scopes_needed", needed),
        (true, false) => ("scopes_wanted", wanted),
    };
    let missing = vec![("scopes", missing.join(" "))];
    Some(Finding::warning(Area::Grant, code, missing).with_link(link.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOUR, NOW, codes};
    use tokens::store::{Listing, Order};
    use tokens::{Broken, InstallationId, Intent};

    use super::*;

    fn grant_facts() -> GrantFacts {
        let id = InstallationId::from_parts("location", "L1").expect("an id");
        let overview = Overview {
            issued_at: NOW - HOUR,
            expires_at: NOW + HOUR,
            connected_at: NOW - HOUR,
            scopes: "contacts.readonly contacts.write".into(),
            ..Listing::place(Order::Id, None, id)
        };
        GrantFacts {
            overview,
            claims: Claims {
                class: Some("Location".into()),
                class_id: Some("L1".into()),
                app: Some("app1".into()),
                ends_at: Some(NOW + HOUR),
            },
            app: Some("app1".into()),
            wanted_scopes: String::new(),
            needed_scopes: vec!["contacts.readonly", "contacts.write"],
            written_elsewhere: false,
            link: None,
        }
    }

    #[track_caller]
    fn check_grant(change: impl FnOnce(&mut GrantFacts), expected: &[&str]) {
        let mut facts = grant_facts();
        change(&mut facts);
        assert_eq!(codes(&grant(&facts, NOW)), expected);
    }

    #[test]
    fn a_grant_is_held_against_what_its_token_says() {
        check_grant(|_| {}, &["grant_good"]);
        check_grant(|it| it.claims = Claims::default(), &["grant_good"]);
        check_grant(|it| it.claims.class = Some("Company".into()), &["claims_class"]);
        check_grant(|it| it.claims.class_id = Some("L2".into()), &["claims_id"]);
        check_grant(|it| it.claims.app = Some("app2".into()), &["claims_app"]);
        check_grant(|it| it.app = None, &["grant_good"]);
        check_grant(|it| it.claims.ends_at = Some(NOW + HOUR + SAME_END), &["grant_good"]);
        check_grant(|it| it.claims.ends_at = Some(NOW + HOUR - SAME_END), &["grant_good"]);
        // One that lives longer than is noted is refreshed a little early, and that is all.
        check_grant(|it| it.claims.ends_at = Some(NOW + HOUR * 9), &["grant_good"]);
        check_grant(|it| it.claims.ends_at = Some(NOW), &["claims_end"]);
    }

    #[test]
    fn a_grants_life_its_flight_and_its_scopes_are_looked_at() {
        check_grant(|it| it.overview.expires_at = NOW, &["token_ended"]);
        let intent = |before| {
            move |it: &mut GrantFacts| {
                it.overview.intent = Some(Intent { since: NOW - before });
            }
        };
        check_grant(intent(LONGEST_FLIGHT), &["grant_good"]);
        check_grant(intent(LONGEST_FLIGHT + Duration::from_secs(1)), &["flight_left"]);
        check_grant(|it| it.wanted_scopes = "calendars.readonly".into(), &["scopes_wanted"]);
        check_grant(|it| it.overview.scopes = "contacts.readonly".into(), &["scopes_needed"]);
        check_grant(|it| it.overview.scopes = String::new(), &["grant_good"]);
        check_grant(|it| it.written_elsewhere = true, &["written_elsewhere"]);
    }

    #[test]
    fn a_young_refresh_token_that_is_refused_was_used_by_another() {
        let broken = |said: &str, after: Duration| {
            let broken = Broken { since: NOW - HOUR + after, said: said.to_owned() };
            move |it: &mut GrantFacts| it.overview.connection = Connection::Broken(broken)
        };
        const REFUSED: &str = "Invalid grant: refresh token is invalid";
        check_grant(broken(REFUSED, HOUR), &["another_program"]);
        check_grant(broken(REFUSED, REFRESH_TOKEN_LIFE), &[]);
        check_grant(broken("uninstalled", HOUR), &[]);
    }

    #[test]
    fn many_grants_are_told_of_by_their_number() {
        use crate::commands::doctor::finding::Level;
        let check = |broken, suspended, expected: (&str, Level)| {
            let counts = Counts { locations: 9, broken, suspended, ..Counts::default() };
            let found = crowd(&counts);
            assert_eq!((found.code, found.level), expected);
        };
        check(0, 0, ("crowd_good", Level::Good));
        check(0, 1, ("crowd_troubled", Level::Warning));
        check(1, 0, ("crowd_troubled", Level::Failure));
    }
}
