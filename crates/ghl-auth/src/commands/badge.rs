//! `badge`: pictures that say in one word how the service or an installation is, for whoever has their
//! addresses.

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use server::StatusPage;
use tokens::records::Badge;
use tokens::{Clock as _, InstallationId, KeeperError, Records};

use super::dashboard;
use crate::cli::{BadgeAction, BadgeWanted};
use crate::exit::Exit;
use crate::explain::{self, Explained};
use crate::output::{self, moment, rfc3339};
use crate::text::Text;
use crate::wiring::{Context, SystemClock, random_text};

/// What stands before the word where nothing else is wanted.
const LABEL: &str = "ghl-auth";

const LONGEST_LABEL: usize = 64;

pub(crate) async fn run(action: BadgeAction, context: &Context) -> Result<Exit, Explained> {
    context.warn_of_source();
    match action {
        BadgeAction::Create(wanted) => create(wanted, context).await,
        BadgeAction::List(args) => list(args.json, context).await,
        BadgeAction::Revoke(args) => revoke(&args.badge, args.json, context).await,
    }
}

/// Where badges are found.
struct Place {
    /// The beginning of their addresses, as far as it is known.
    address: String,
    /// Whether only this machine reaches it.
    is_local: bool,
    page: StatusPage,
}

impl Place {
    fn read(context: &Context) -> Result<Self, Explained> {
        let (doors, page, app) = context.settings(|config| {
            let (doors, page) = (config.doors(true), config.status_page());
            Some((doors?, page?, config.app()))
        })?;
        // Behind the public listener the service is called by the name that browsers come back to.
        let redirect = app.and_then(|app| app.redirect_uri.parse::<axum::http::Uri>().ok());
        let public = redirect.filter(|_| doors.public.is_some()).and_then(|uri| {
            let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
            Some(format!("{scheme}://{authority}"))
        });
        let is_local = public.is_none();
        let address = public.or_else(|| dashboard::address(&doors)).unwrap_or_default();
        let prefix = context.source.app().name().map(|app| format!("/apps/{app}")).unwrap_or_default();
        Ok(Self { address: format!("{address}{prefix}"), is_local, page })
    }

    fn url(&self, badge: &Badge) -> String {
        format!("{}/badge/{}.svg", self.address, badge.name)
    }

    fn document(&self, badge: &Badge) -> Value {
        json!({
            "badge": badge.name,
            "url": self.url(badge),
            "kind": badge.about.as_ref().map(InstallationId::kind),
            "id": badge.about.as_ref().map(InstallationId::as_str),
            "label": badge.label,
            "created_at": rfc3339(badge.created_at),
        })
    }
}

async fn create(wanted: BadgeWanted, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let label = wanted.label.unwrap_or_else(|| LABEL.to_owned());
    if !(1..=LONGEST_LABEL).contains(&label.trim().chars().count()) {
        return Err(Explained::new(text, "badge_label", Exit::Usage, &[]));
    }
    let place = Place::read(context)?;
    let settings = context.settings(|config| config.store())?;
    let (store, records, _) = context.open_store_and_records(&settings, None).await?;
    let about = wanted.which.named();
    if let Some(id) = &about
        && store.load(id).await.map_err(|error| context.store_error(&error))?.is_none()
    {
        return Err(context.keeper_error(&KeeperError::NotConnected(id.clone())));
    }
    let label = label.trim().to_owned();
    let badge = Badge { name: random_text::<18>(), about, label, created_at: SystemClock.now() };
    records.add_badge(&badge).await.map_err(|error| context.store_error(&error))?;
    let url = place.url(&badge);
    let markdown = format!("![{}]({url})", in_markdown(&badge.label));
    let html = format!("<img src=\"{url}\" alt=\"{}\">", in_html(&badge.label));
    if wanted.json {
        let mut document = place.document(&badge);
        document["markdown"] = markdown.into();
        document["html"] = html.into();
        output::document(&document);
    } else {
        let said = [("label", badge.label.as_str().into()), ("word", text.say("state-up", &[]).into())];
        output::talk(&text.say("badge-made", &said));
        for line in [url, markdown, html] {
            output::answer(&line);
        }
        if place.is_local {
            output::talk(&text.say("badge-local", &[]));
        }
    }
    if place.page == StatusPage::Off {
        output::warning(text, &text.say("badge-page-off", &[]));
    }
    Ok(Exit::Good)
}

async fn all(records: &dyn Records, context: &Context) -> Result<Vec<Badge>, Explained> {
    records.badges().await.map_err(|error| context.store_error(&error))
}

async fn list(as_json: bool, context: &Context) -> Result<Exit, Explained> {
    let place = Place::read(context)?;
    let badges = all(context.open_records().await?.as_ref(), context).await?;
    if as_json {
        let badges: Vec<Value> = badges.iter().map(|badge| place.document(badge)).collect();
        output::document(&json!({ "badges": badges }));
    } else if badges.is_empty() {
        output::answer(&context.text.say("badges-none", &[]));
    } else {
        output::answer(&table(&badges, &place, &context.text).to_string());
    }
    Ok(Exit::Good)
}

fn table(badges: &[Badge], place: &Place, text: &Text) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    let heads = ["head-badge", "head-reach", "head-label", "head-created"];
    table.set_header(heads.map(|key| Cell::new(text.say(key, &[])).add_attribute(Attribute::Bold)));
    for badge in badges {
        let about = badge.about.as_ref().map(|id| explain::whose(text, id));
        let about = about.unwrap_or_else(|| text.say("badge-the-service", &[]));
        table.add_row([place.url(badge), about, badge.label.clone(), moment(badge.created_at)]);
    }
    table
}

/// Takes a badge back, by its name or by its address.
async fn revoke(named: &str, as_json: bool, context: &Context) -> Result<Exit, Explained> {
    let text = &context.text;
    let name = named.trim().rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".svg").unwrap_or(name);
    let place = Place::read(context)?;
    let records = context.open_records().await?;
    let badges = all(records.as_ref(), context).await?;
    let unknown = || {
        let shown = name.replace(char::is_control, " ");
        Explained::new(text, "badge_unknown", Exit::Usage, &[("name", shown.into())])
    };
    let badge = badges.iter().find(|badge| badge.name == name).ok_or_else(unknown)?;
    if !records.revoke_badge(name).await.map_err(|error| context.store_error(&error))? {
        return Err(unknown());
    }
    if as_json {
        output::document(&place.document(badge));
    } else {
        output::answer(&text.say("badge-revoked", &[("name", name.into())]));
    }
    Ok(Exit::Good)
}

/// A text that says the same in Markdown.
fn in_markdown(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '-' | '.' | ':') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A text that says the same in an attribute of HTML.
fn in_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_pasted_as_what_it_says() {
        assert_eq!(in_markdown("ghl-auth"), "ghl-auth");
        assert_eq!(in_markdown("a](http://x)"), "a\\]\\(http:\\/\\/x\\)");
        assert_eq!(in_html("\"><script>&"), "&quot;&gt;&lt;script&gt;&amp;");
    }
}
