//! The scopes of a marketplace app: what a token may do, and what makes it 5 KB long.

use serde_json::json;

/// A granted set of scopes, in the three forms that replies need.
#[derive(Debug)]
pub(crate) struct Scopes {
    names: Vec<String>,
    joined: String,
    array: String,
}

impl Scopes {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let joined = names.join(" ");
        let array = json!(names).to_string();
        Self { names, joined, array }
    }

    /// The app's scopes plus `oauth.readonly oauth.write`: what a minted location token holds (measured 2026-08).
    pub(crate) fn for_minting(names: &[String]) -> Self {
        let mut names = names.to_vec();
        for added in ["oauth.readonly", "oauth.write"] {
            if !names.iter().any(|name| name == added) {
                names.push(added.to_owned());
            }
        }
        Self::new(names)
    }

    pub(crate) fn allow(&self, scope: &str) -> bool {
        self.names.iter().any(|name| name == scope)
    }

    /// Space-separated, as the `scope` member of a token reply.
    pub(crate) fn joined(&self) -> &str {
        &self.joined
    }

    /// A JSON array, as `oauthMeta.scopes` of a token.
    pub(crate) fn array(&self) -> &str {
        &self.array
    }
}

/// The scopes of a sub-account app that ticked nearly everything, from HighLevel's `Scopes.md`.
pub(crate) fn everything() -> Vec<String> {
    ALL.iter().map(ToString::to_string).collect()
}

/// The scopes that an authentication service with a health check asks for.
pub(crate) const NEEDED: &str = "contacts.readonly contacts.write locations.readonly";

/// What one of an agency needs besides, to list its locations and to get their tokens.
pub(crate) const NEEDED_BY_AGENCY: &str = "oauth.readonly oauth.write";

const ALL: &[&str] = &[
    "businesses.readonly",
    "businesses.write",
    "calendars.readonly",
    "calendars.write",
    "calendars/events.readonly",
    "calendars/events.write",
    "calendars/groups.readonly",
    "calendars/groups.write",
    "calendars/resources.readonly",
    "calendars/resources.write",
    "campaigns.readonly",
    "contacts.readonly",
    "contacts.write",
    "conversations.readonly",
    "conversations.write",
    "conversations/message.readonly",
    "conversations/message.write",
    "conversations/reports.readonly",
    "conversations/livechat.write",
    "courses.readonly",
    "courses.write",
    "forms.readonly",
    "forms.write",
    "invoices.readonly",
    "invoices.write",
    "invoices/estimate.readonly",
    "invoices/estimate.write",
    "invoices/schedule.readonly",
    "invoices/schedule.write",
    "invoices/template.readonly",
    "invoices/template.write",
    "links.readonly",
    "links.write",
    "locations.readonly",
    "locations/customFields.readonly",
    "locations/customFields.write",
    "locations/customValues.readonly",
    "locations/customValues.write",
    "locations/tags.readonly",
    "locations/tags.write",
    "locations/tasks.readonly",
    "locations/tasks.write",
    "locations/templates.readonly",
    "lc-email.readonly",
    "marketplace-installer-details.readonly",
    "medias.readonly",
    "medias.write",
    "oauth.readonly",
    "oauth.write",
    "objects/record.readonly",
    "objects/record.write",
    "objects/schema.readonly",
    "objects/schema.write",
    "associations.readonly",
    "associations.write",
    "associations/relation.readonly",
    "associations/relation.write",
    "opportunities.readonly",
    "opportunities.write",
    "payments/coupons.readonly",
    "payments/coupons.write",
    "payments/custom-provider.readonly",
    "payments/custom-provider.write",
    "payments/integration.readonly",
    "payments/integration.write",
    "payments/orders.collectPayment",
    "payments/orders.readonly",
    "payments/orders.write",
    "payments/subscriptions.readonly",
    "payments/transactions.readonly",
    "phonenumbers.read",
    "numberpools.read",
    "products.readonly",
    "products.write",
    "products/collection.readonly",
    "products/collection.write",
    "products/prices.readonly",
    "products/prices.write",
    "recurring-tasks.readonly",
    "recurring-tasks.write",
    "saas/company.read",
    "saas/company.write",
    "saas/location.read",
    "saas/location.write",
    "snapshots.readonly",
    "snapshots.write",
    "socialplanner/account.readonly",
    "socialplanner/account.write",
    "socialplanner/category.readonly",
    "socialplanner/category.write",
    "socialplanner/csv.readonly",
    "socialplanner/csv.write",
    "socialplanner/oauth.readonly",
    "socialplanner/oauth.write",
    "socialplanner/post.readonly",
    "socialplanner/post.write",
    "socialplanner/statistics.readonly",
    "socialplanner/tag.readonly",
    "socialplanner/tag.write",
    "store/setting.readonly",
    "store/setting.write",
    "store/shipping.readonly",
    "store/shipping.write",
    "surveys.readonly",
    "users.readonly",
    "users.write",
    "workflows.readonly",
    "wordpress.site.readonly",
    "emails/builder.readonly",
    "emails/builder.write",
    "emails/schedule.readonly",
    "blogs/author.readonly",
    "blogs/category.readonly",
    "blogs/check-slug.readonly",
    "blogs/list.readonly",
    "blogs/post-update.write",
    "blogs/post.write",
    "blogs/posts.readonly",
    "funnels/funnel.readonly",
    "funnels/page.readonly",
    "funnels/pagecount.readonly",
    "funnels/redirect.readonly",
    "funnels/redirect.write",
    "charges.readonly",
    "charges.write",
    "companies.readonly",
    "voice-ai-agents.readonly",
];
