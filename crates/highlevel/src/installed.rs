//! Which locations of a company have the app: HighLevel's own list, page by page to its end.

use http::Method;
use serde_json::Value;
use tokens::{CompanyId, LocationId, Timestamp, TokenSet};

use crate::client::{Api, Dialect, Reply};
use crate::error::Failure;

/// The longest page that v3's document allows; before v3 none is named, and 20 come unasked.
const PAGE: usize = 100;

/// A location in HighLevel's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledLocation {
    /// Which.
    pub id: LocationId,
    /// What people call it.
    pub name: Option<String>,
    /// Since when it has the app, where the list says so.
    pub installed_at: Option<Timestamp>,
}

/// A page of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledPage {
    /// Those on it that have the app.
    pub locations: Vec<InstalledLocation>,
    /// Where the next page begins; none after the last.
    pub next: Option<PageStart>,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageStart {
    /// After so many.
    Skip(usize),
    /// Where the page before said.
    Token(String),
}

impl Api {
    /// `GET /oauth/installedLocations`, in v3 `/oauth/installed-locations` (scope `oauth.readonly`, a
    /// company's token). The list is cut off at a page without a word, so a page that is not empty has
    /// one after it until `next` is none.
    pub async fn installed_locations(
        &self,
        company: &CompanyId,
        app_id: &str,
        from: Option<&PageStart>,
    ) -> Result<Reply<InstalledPage>, Failure> {
        let path = path(self.client.dialect(), company, app_id, from);
        let skipped = match from {
            Some(PageStart::Skip(skipped)) => *skipped,
            Some(PageStart::Token(_)) | None => 0,
        };
        let reply = self.call(Method::GET, &path, None).await?;
        Ok(reply.map(|value| page(&value, skipped)))
    }
}

fn path(dialect: Dialect, company: &CompanyId, app_id: &str, from: Option<&PageStart>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("companyId", company.as_str()).append_pair("appId", app_id);
    query.append_pair("isInstalled", "true");
    let (path, size) = match dialect {
        Dialect::Dated => ("/oauth/installedLocations", "limit"),
        Dialect::V3 => ("/oauth/installed-locations", "pageSize"),
    };
    query.append_pair(size, &PAGE.to_string());
    match from {
        Some(PageStart::Skip(skipped)) => query.append_pair("skip", &skipped.to_string()),
        Some(PageStart::Token(token)) => query.append_pair("pageToken", token),
        None => &mut query,
    };
    format!("{path}?{}", query.finish())
}

/// Understands a page in either dialect.
fn page(value: &Value, skipped: usize) -> InstalledPage {
    let items = ["locations", "items"].iter().find_map(|name| value.get(*name)?.as_array());
    let items = items.map(Vec::as_slice).unwrap_or_default();
    let next = match value.get("pagination") {
        Some(pagination) => {
            let token = pagination.get("nextPageToken").and_then(Value::as_str);
            let more = pagination.get("hasNextPage").and_then(Value::as_bool) != Some(false);
            token.filter(|_| more).map(|token| PageStart::Token(token.to_owned()))
        }
        None => (!items.is_empty()).then_some(PageStart::Skip(skipped + items.len())),
    };
    InstalledPage { locations: items.iter().filter_map(location).collect(), next }
}

fn location(item: &Value) -> Option<InstalledLocation> {
    let text = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if item.get("isInstalled").and_then(Value::as_bool) == Some(false) {
        return None;
    }
    // The key is `_id`, whatever the documents' prose says.
    let id = text("_id").or_else(|| text("id"))?.parse().ok()?;
    let installed_at = text("installedAt").and_then(|at| at.parse::<jiff::Timestamp>().ok());
    Some(InstalledLocation {
        id,
        name: text("name").map(|name| name.chars().filter(|c| !c.is_control()).take(200).collect()),
        installed_at: installed_at.map(|at| Timestamp::from_millis(at.as_millisecond())),
    })
}

/// The locations that a company's token reply names as approved, where it names any.
pub fn approved_locations(tokens: &TokenSet) -> Vec<LocationId> {
    let members: Value = serde_json::from_str(tokens.members.expose()).unwrap_or_default();
    let approved = members.get("approvedLocations").and_then(Value::as_array);
    let ids = approved.into_iter().flatten().filter_map(|id| id.as_str()?.parse().ok());
    ids.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_understood_in_either_dialect() {
        let item = json!({ "_id": "L1", "name": "One", "isInstalled": true,
            "installedAt": "2026-01-02T03:04:05.000Z" });
        let gone = json!({ "_id": "L2", "name": "Two", "isInstalled": false });
        let odd = json!({ "_id": "no/id" });
        let one = InstalledLocation {
            id: "L1".parse().expect("an id"),
            name: Some("One".to_owned()),
            installed_at: Some(Timestamp::from_millis(1_767_323_045_000)),
        };
        let dated = page(&json!({ "locations": [item, gone, odd], "count": 9 }), 20);
        assert_eq!(dated.locations, std::slice::from_ref(&one));
        assert_eq!(dated.next, Some(PageStart::Skip(23)), "whatever the count says");
        let v3 =
            page(&json!({ "items": [item], "pagination": { "hasNextPage": true, "nextPageToken": "t" } }), 0);
        assert_eq!(v3, InstalledPage { locations: vec![one], next: Some(PageStart::Token("t".into())) });
    }

    #[test]
    fn a_reply_names_the_approved_locations_or_none() {
        let check = |members: &str, expected: &[&str]| {
            let tokens = TokenSet {
                access: tokens::AccessToken::new("a"),
                refresh_by: tokens::RefreshBy::Own(tokens::RefreshToken::new("r")),
                issued_at: Timestamp::from_millis(0),
                expires_at: Timestamp::from_millis(1),
                scopes: String::new(),
                company: None,
                members: tokens::ReplyMembers::new(members),
            };
            let approved = approved_locations(&tokens);
            assert_eq!(approved.iter().map(LocationId::as_str).collect::<Vec<_>>(), expected, "{members}");
        };
        check(r#"{"approvedLocations":["L1","L2"]}"#, &["L1", "L2"]);
        check(r#"{"approvedLocations":["no/id",7,"L1"]}"#, &["L1"]);
        check(r#"{"approvedLocations":null}"#, &[]);
        check("{}", &[]);
        check("", &[]);
    }

    #[test]
    fn the_list_ends_with_an_empty_page_or_where_v3_says() {
        let check = |value: Value| assert_eq!(page(&value, 40).next, None, "{value}");
        check(json!({ "locations": [], "count": 40 }));
        check(json!({}));
        check(
            json!({ "items": [{ "_id": "L1" }], "pagination": { "hasNextPage": false, "nextPageToken": "t" } }),
        );
        check(
            json!({ "items": [{ "_id": "L1" }], "pagination": { "hasNextPage": false, "nextPageToken": null } }),
        );
    }
}
