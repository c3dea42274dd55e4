//! What the console shows: read from the sandbox at one instant, a few rows of each thing, then written.

use std::time::Duration;

use askama::Template;
use serde_json::Value;

use super::Speech;
use super::deeds::Done;
use super::words::{MATCHERS, When, Words, name_of, span};
use crate::call::Answer;
use crate::clock::Millis;
use crate::desk::Desk;
use crate::faults::{Hold, Thrown};
use crate::grants::RefreshFate;
use crate::ledger::{Message, Outcome, RequestLine, TokenRequest};
use crate::outages::{Outage, single_faults};
use crate::settings::{RateLimit, Settings};
use crate::webhooks::{Manner, Sent, Signature};
use crate::world::World;

/// How many rows there are of each thing.
const REQUESTS: usize = 40;
const TOKENS: usize = 20;
const CONTACTS: usize = 8;
const MESSAGES: usize = 8;
const LOCATIONS: usize = 10;
const WEBHOOKS: usize = 12;
const SUSPENDED: usize = 10;

/// So far the clock can be moved at once: past the window of a used refresh token, past an access token, past a
/// refresh token.
const LEAPS: [u64; 6] = [31, 300, 3600, 43_200, 86_400, 31_536_000];

#[derive(Template)]
#[template(path = "console.html")]
struct Page<'a> {
    words: Words<'a>,
    settings: &'a Settings,
    done: Option<(String, &'static str)>,
    now: When,
    ahead: Option<String>,
    verdict: (String, &'static str),
    active: Vec<Active>,
    waiting: Option<String>,
    counts: Vec<(String, u64)>,
    outages: Vec<(&'static str, String)>,
    faults: Vec<String>,
    matchers: Vec<(&'static str, String)>,
    leaps: Vec<(u64, String)>,
    tokens: Vec<TokenRow>,
    requests: Vec<RequestRow>,
    contacts: Vec<ContactRow>,
    messages: Vec<(When, String, String)>,
    places: Vec<Place>,
    more_places: Option<String>,
    find: &'a str,
    redirect_uri: String,
    limit: RateLimit,
    webhooks: Webhooks,
    access_life: String,
    grace: String,
}

/// Something that goes wrong now, and how it is taken back.
struct Active {
    /// What its button is known by in the page.
    id: String,
    what: String,
    how_long: String,
    happened: u64,
    deed: &'static str,
    fields: Vec<(&'static str, String)>,
}

/// A request for tokens, and what has become of what it gave.
struct TokenRow {
    at: When,
    whose: Option<(String, String)>,
    how: String,
    outcome: String,
    class: &'static str,
    access: Option<Fate>,
    refresh: Option<Fate>,
}

struct Fate {
    ending: String,
    told: String,
    class: &'static str,
}

struct RequestRow {
    at: When,
    method: String,
    path: String,
    status: u16,
    class: &'static str,
    fault: Option<String>,
    millis: String,
    caller: Option<String>,
}

struct ContactRow {
    id: String,
    name: String,
    tags: Vec<(String, When)>,
    tag_goes_at: Option<When>,
}

/// The company, or a location of it.
struct Place {
    id: String,
    name: String,
    of_company: bool,
    installed: Option<When>,
    suspended: bool,
}

struct Webhooks {
    url: String,
    manner: Manner,
    signature: &'static str,
    held: usize,
    sent: Vec<SentRow>,
}

struct SentRow {
    kind: String,
    whose: String,
    answers: Vec<u16>,
    arrived: bool,
}

/// Writes the page as it is now.
pub(super) fn show(desk: &Desk, speech: &dyn Speech, find: &str, done: Option<Done>) -> Answer {
    match read(desk, speech, find, done).render() {
        Ok(html) => Answer::html(200, html),
        Err(error) => Answer::text(500, error.to_string()),
    }
}

fn read<'a>(desk: &'a Desk, speech: &'a dyn Speech, find: &'a str, done: Option<Done>) -> Page<'a> {
    let settings = &*desk.settings;
    let words = Words { speech, now: desk.clock.now() };
    let mut active = thrown(&words, desk.faults().waiting(words.now));
    active.extend(desk.holds.borrow().iter().map(|hold| held(&words, hold)));
    let waiting = *desk.held.borrow();
    let webhooks = Webhooks::read(&words, desk);
    let mut world = desk.world();
    active.extend(suspended(&words, &world));
    let counts = counts(&words, &world);
    let tokens = world.ledger.token_requests.iter().rev().take(TOKENS);
    let tokens = tokens.map(|request| TokenRow::new(&words, &world, request)).collect();
    let requests = world.ledger.requests.iter().rev().take(REQUESTS);
    let requests = requests.map(|line| RequestRow::new(&words, line)).collect();
    let messages = world.ledger.messages.iter().rev().take(MESSAGES);
    let messages = messages.map(|message| told(&words, &world, message)).collect();
    let contacts = contacts(&words, &mut world);
    let (places, more) = places(&words, &world, find);
    let redirect_uri = world.redirect_uri.clone().unwrap_or_else(|| settings.first_redirect_uri().to_owned());
    let limit = world.limits.limit();
    drop(world);
    let ahead = desk.clock.ahead();
    let verdict = match active.len() {
        0 => (words.say("console-verdict-good"), "good"),
        count => (words.say_of("console-verdict-trouble", "count", count), "bad"),
    };
    Page {
        settings,
        done: done.map(|done| {
            let class = if done == Done::Nothing { "problem" } else { "done" };
            (words.say(&format!("console-done-{}", done.name())), class)
        }),
        now: words.when(words.now),
        ahead: (!ahead.is_zero()).then(|| words.say_of("console-ahead", "span", span(ahead))),
        verdict,
        active,
        waiting: (waiting > 0).then(|| words.say_of("console-held", "count", waiting)),
        counts,
        outages: Outage::ALL
            .map(|outage| (outage.name(), words.say(&format!("console-outage-{}", outage.name()))))
            .into(),
        faults: single_faults().iter().map(|kind| words.fault(kind)).collect(),
        matchers: MATCHERS.iter().map(|on| (name_of(on), words.requests(on))).collect(),
        leaps: LEAPS.map(|leap| (leap, span(Duration::from_secs(leap)))).into(),
        tokens,
        requests,
        contacts,
        messages,
        places,
        more_places: (more > 0).then(|| words.say_of("console-more-locations", "count", more)),
        find,
        redirect_uri,
        limit,
        webhooks,
        access_life: span(settings.access_token_life),
        grace: span(settings.grace),
        words,
    }
}

/// Faults that were thrown together are one thing.
fn thrown(words: &Words<'_>, waiting: &[Thrown]) -> Vec<Active> {
    let together = waiting.chunk_by(|one, next| one.together == next.together);
    let active = together.filter_map(|together| {
        let first = together.first()?;
        let what = match first.outage {
            Some(outage) => words.say(&format!("console-outage-{}", outage.name())),
            None => {
                let each = together.iter().map(|one| {
                    format!("{} ({})", words.fault(&one.fault.kind), words.requests(&one.fault.on))
                });
                each.collect::<Vec<_>>().join(", ")
            }
        };
        let last = together.iter().max_by_key(|one| one.ends_at)?;
        // The parts of an outage may have chances of their own.
        let fault = match first.outage {
            Some(_) => last.fault.clone().percent(100),
            None => last.fault.clone(),
        };
        Some(Active {
            id: format!("thrown-{}", first.together),
            what,
            how_long: words.how_long(&fault, last.ends_at),
            happened: together.iter().map(|one| one.happened).sum(),
            deed: "take_back",
            fields: vec![("together", first.together.to_string())],
        })
    });
    active.collect()
}

fn held(words: &Words<'_>, hold: &Hold) -> Active {
    let key = if hold.processed { "console-fault-hold-answers" } else { "console-fault-hold" };
    let (name, path) = match &hold.on {
        crate::faults::Matcher::Path(path) => ("path", path.clone()),
        on => ("on", name_of(on).to_owned()),
    };
    let mut fields = vec![(name, path.clone())];
    fields.extend(hold.processed.then(|| ("processed", "yes".to_owned())));
    Active {
        id: format!("held-{path}-{}", hold.processed),
        what: format!("{} ({})", words.say(key), words.requests(&hold.on)),
        how_long: words.say("console-always"),
        happened: 0,
        deed: "release",
        fields,
    }
}

fn suspended(words: &Words<'_>, world: &World) -> Vec<Active> {
    let mut ids: Vec<&str> = world.grants.suspended().collect();
    ids.sort_unstable();
    let active = ids.iter().take(SUSPENDED).map(|id| Active {
        id: format!("suspended-{id}"),
        what: words.say_of("console-is-suspended", "name", name_of_place(words, world, id)),
        how_long: words.say("console-always"),
        happened: 0,
        deed: "resume",
        fields: vec![("id", (*id).to_owned())],
    });
    active.collect()
}

fn name_of_place(words: &Words<'_>, world: &World, id: &str) -> String {
    match world.crm.location(id) {
        Some(location) => location.name.clone(),
        None => words.say("console-company"),
    }
}

fn counts(words: &Words<'_>, world: &World) -> Vec<(String, u64)> {
    let counts = &world.ledger.counts;
    let all = [
        ("requests", counts.requests),
        ("refreshes", counts.refreshes),
        ("rotations", counts.rotations),
        ("repeats", counts.repeats),
        ("reuse", counts.reuse_after_window),
        ("limited", counts.rate_limited),
        ("messages", counts.messages),
    ];
    all.map(|(name, count)| (words.say(&format!("console-count-{name}")), count)).into()
}

impl TokenRow {
    fn new(words: &Words<'_>, world: &World, request: &TokenRequest) -> Self {
        let (outcome, class) = match &request.outcome {
            Outcome::Issued { generation } => {
                (words.say_of("console-issued", "generation", generation), "good")
            }
            Outcome::Repeated { generation } => {
                (words.say_of("console-repeated", "generation", generation), "late")
            }
            Outcome::Refused { status, message } => (format!("{status} {message}"), "bad"),
            Outcome::NotProcessed => (words.say("console-not-processed"), "bad"),
        };
        let given = match request.outcome {
            Outcome::Issued { generation } | Outcome::Repeated { generation } => {
                request.grant.zip(Some(generation))
            }
            _ => None,
        };
        let fate = given
            .and_then(|(grant, generation)| world.grants.fate(grant, generation, request.at, words.now))
            .zip(request.endings.as_ref());
        let access = fate.map(|(fate, [ending, _])| access_fate(words, fate.access_ends_at, ending));
        let refresh = fate.map(|(fate, [_, ending])| refresh_fate(words, fate.refresh, ending));
        Self {
            at: words.when(request.at),
            whose: request.grant.filter(|grant| world.grants.has(*grant)).map(|grant| {
                let id = world.grants.grant(grant).class_id();
                (name_of_place(words, world, id), id.to_owned())
            }),
            how: match request.grant_type.as_str() {
                "authorization_code" => words.say("console-by-code"),
                "refresh_token" => words.say("console-by-refresh"),
                "location_token" => words.say("console-by-minting"),
                other => other.to_owned(),
            },
            outcome,
            class,
            access,
            refresh,
        }
    }
}

fn access_fate(words: &Words<'_>, ends_at: Option<Millis>, ending: &str) -> Fate {
    let (told, class) = match ends_at {
        Some(at) => (words.say_of("console-alive-until", "at", words.when(at).told), "good"),
        None => (words.say("console-ended"), "unknown"),
    };
    Fate { ending: ending.to_owned(), told, class }
}

fn refresh_fate(words: &Words<'_>, fate: RefreshFate, ending: &str) -> Fate {
    let (told, class) = match fate {
        RefreshFate::Alive => (words.say("console-alive"), "good"),
        RefreshFate::UsedUp { repeated_until: Some(at) } => {
            (words.say_of("console-used-up-repeatable", "at", words.when(at).told), "late")
        }
        RefreshFate::UsedUp { repeated_until: None } => (words.say("console-used-up"), "unknown"),
        RefreshFate::Dead => (words.say("console-ended"), "unknown"),
    };
    Fate { ending: ending.to_owned(), told, class }
}

impl RequestRow {
    fn new(words: &Words<'_>, line: &RequestLine) -> Self {
        let class = match (line.status, &line.fault) {
            (_, Some(_)) | (500.., _) => "bad",
            (400..500, _) => "late",
            (0..400, _) => "good",
        };
        Self {
            at: words.when(line.at),
            method: line.method.clone(),
            path: line.path.clone(),
            status: line.status,
            class,
            fault: line.fault.clone(),
            millis: format!("{:.0}", line.millis.ceil()),
            caller: line.caller.clone().zip(line.generation).map(|(caller, generation)| {
                format!("{caller}, {}", words.say_of("console-generation", "generation", generation))
            }),
        }
    }
}

fn told(words: &Words<'_>, world: &World, message: &Message) -> (When, String, String) {
    let contact = world.crm.contacts.get(&message.contact_id);
    let name = contact.map(|contact| contact.text("name").to_owned()).filter(|name| !name.is_empty());
    (words.when(message.at), name.unwrap_or_else(|| message.contact_id.clone()), message.tag.clone())
}

/// The contact of the health check, and those that were added last.
fn contacts(words: &Words<'_>, world: &mut World) -> Vec<ContactRow> {
    let World { crm, settings, .. } = world;
    let mut ids: Vec<(bool, Millis, String)> = crm
        .contacts
        .iter()
        .map(|(id, contact)| (*id == settings.contact_id, contact.added_at, id.clone()))
        .collect();
    ids.sort_unstable_by(|one, other| other.cmp(one));
    let rows = ids.into_iter().take(CONTACTS).filter_map(|(_, _, id)| {
        let contact = crm.contact(&id, words.now)?;
        let name = match (contact.text("name"), contact.text("firstName")) {
            ("", "") => contact.text("email"),
            ("", first) => first,
            (name, _) => name,
        };
        Some(ContactRow {
            name: name.to_owned(),
            tags: contact.tags.iter().map(|tag| (tag.name.clone(), words.when(tag.added_at))).collect(),
            tag_goes_at: contact.workflow_ends_at.map(|at| words.when(at)),
            id,
        })
    });
    rows.collect()
}

/// The company and the locations that are looked for, and how many more there are.
fn places(words: &Words<'_>, world: &World, find: &str) -> (Vec<Place>, usize) {
    let wanted = find.trim().to_lowercase();
    let found: Vec<_> = world
        .crm
        .locations()
        .iter()
        .filter(|it| {
            wanted.is_empty()
                || it.name.to_lowercase().contains(&wanted)
                || it.id.to_lowercase().contains(&wanted)
        })
        .collect();
    let company_id = world.settings.company_id.clone();
    let company = Place {
        name: words.say("console-company"),
        of_company: true,
        installed: None,
        suspended: world.grants.is_suspended(&company_id),
        id: company_id,
    };
    let locations = found.iter().take(LOCATIONS).map(|location| Place {
        id: location.id.clone(),
        name: location.name.clone(),
        of_company: false,
        installed: world.grants.installed_at(&location.id).map(|at| words.when(at)),
        suspended: world.grants.is_suspended(&location.id),
    });
    (std::iter::once(company).chain(locations).collect(), found.len().saturating_sub(LOCATIONS))
}

impl Webhooks {
    /// What one can choose from, as in JSON.
    const SIGNATURES: [&'static str; 6] =
        ["present", "legacy", "both", "not_applicable", "wrong_key", "missing"];

    fn read(words: &Words<'_>, desk: &Desk) -> Self {
        let (url, manner) = desk.webhooks.way();
        Self {
            url: url.unwrap_or_default(),
            signature: match manner.signature {
                Signature::Present => "present",
                Signature::Legacy => "legacy",
                Signature::Both => "both",
                Signature::NotApplicable => "not_applicable",
                Signature::WrongKey => "wrong_key",
                Signature::Missing => "missing",
            },
            manner,
            held: desk.webhooks.held(),
            sent: desk.webhooks.last_sent(WEBHOOKS).iter().map(|sent| SentRow::new(words, sent)).collect(),
        }
    }

    fn signatures(&self) -> [&'static str; 6] {
        Self::SIGNATURES
    }

    fn is_signed(&self, name: &str) -> bool {
        self.signature == name
    }

    fn without(&self) -> String {
        self.manner.without.join(" ")
    }
}

impl SentRow {
    fn new(words: &Words<'_>, sent: &Sent) -> Self {
        let body: Value = serde_json::from_str(&sent.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            kind: text("type").unwrap_or_default(),
            whose: text("locationId").or_else(|| text("id")).unwrap_or_else(|| words.say("console-company")),
            answers: sent.answers.clone(),
            arrived: sent.answers.iter().any(|status| (200..300).contains(status)),
        }
    }
}
