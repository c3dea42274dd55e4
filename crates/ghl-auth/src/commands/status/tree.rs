//! Which installations are shown, and in which order: a company, then its locations below it.

use tokens::store::{Listing, Order};
use tokens::{CompanyId, InstallationId, LocationId, Overview, Store, StoreError};

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An installation that stands for itself.
    Alone(Overview),
    /// A location of the company above it.
    Below(Overview),
    /// The locations from here on have no company that is kept.
    NoCompany,
}

impl Line {
    /// The installation, if it is one's.
    pub(super) fn installation(&self) -> Option<&Overview> {
        match self {
            Self::Alone(it) | Self::Below(it) => Some(it),
            Self::NoCompany => None,
        }
    }
}

/// What is shown, and whether there is more.
pub(super) struct Shown {
    pub(super) lines: Vec<Line>,
    pub(super) goes_on: bool,
}

/// What a listing asks for: as a tree where it is by id, else one below the other as they come.
pub(super) async fn shown(store: &dyn Store, listing: Listing) -> Result<Shown, StoreError> {
    let limit = listing.limit;
    let one_more = limit.saturating_add(1);
    if listing.order != Order::Id {
        let mut found = store.overview(&Listing { limit: one_more, ..listing }).await?;
        let goes_on = found.len() > limit;
        found.truncate(limit);
        return Ok(Shown { lines: found.into_iter().map(Line::Alone).collect(), goes_on });
    }
    let behind_locations = Some(behind_all_locations());
    let companies =
        store.overview(&Listing { after: behind_locations, limit: one_more, ..listing.clone() }).await?;
    let room = one_more.saturating_sub(companies.len());
    let mut locations = store.overview(&Listing { limit: room, ..listing }).await?;
    locations.retain(|it| matches!(it.id, InstallationId::Location(_)));
    let mut found = companies;
    found.extend(locations);
    let goes_on = found.len() > limit;
    found.truncate(limit);
    let parents = missing_parents(store, &found).await?;
    Ok(Shown { lines: tree(found, parents), goes_on })
}

/// In the order of the ids, companies come behind it.
fn behind_all_locations() -> Overview {
    let last: LocationId = "z".repeat(64).parse().expect("64 letters are an id");
    Listing::place(Order::Id, None, InstallationId::Location(last))
}

/// Companies that are kept, were not asked for, and have locations that were.
async fn missing_parents(store: &dyn Store, found: &[Overview]) -> Result<Vec<Overview>, StoreError> {
    let mut wanted: Vec<&CompanyId> = found.iter().filter_map(|it| it.company.as_ref()).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut parents = Vec::new();
    for company in wanted {
        if found.iter().any(|it| it.id == InstallationId::Company(company.clone())) {
            continue;
        }
        let after = Some(behind_all_locations());
        let listing = Listing { company: Some(company.clone()), after, ..Listing::first(1) };
        parents.extend(store.overview(&listing).await?);
    }
    Ok(parents)
}

/// Each company with its locations below it, and those without one at the end.
fn tree(found: Vec<Overview>, parents: Vec<Overview>) -> Vec<Line> {
    let is_company = |it: &Overview| matches!(it.id, InstallationId::Company(_));
    let (mut companies, mut locations): (Vec<_>, Vec<_>) = found.into_iter().partition(is_company);
    companies.extend(parents);
    companies.sort_by(|one, other| one.id.cmp(&other.id));
    let is_a_tree = !companies.is_empty();
    let mut lines = Vec::new();
    for company in companies {
        let of_it = |it: &Overview| match (&it.company, &company.id) {
            (Some(theirs), InstallationId::Company(id)) => theirs == id,
            _ => false,
        };
        let below: Vec<Overview>;
        (below, locations) = locations.into_iter().partition(of_it);
        lines.push(Line::Alone(company));
        lines.extend(below.into_iter().map(Line::Below));
    }
    if is_a_tree && !locations.is_empty() {
        lines.push(Line::NoCompany);
        lines.extend(locations.into_iter().map(Line::Below));
    } else {
        lines.extend(locations.into_iter().map(Line::Alone));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(kind: &str, id: &str, company: Option<&str>) -> Overview {
        let id = InstallationId::from_parts(kind, id).expect("an id");
        let company = company.map(|id| id.parse().expect("an id"));
        Overview { company, ..Listing::place(Order::Id, None, id) }
    }

    #[test]
    fn a_company_comes_before_its_locations_and_who_has_none_at_the_end() {
        let (c1, c2) = (one("company", "C1", Some("C1")), one("company", "C2", None));
        let (a, b) = (one("location", "a", Some("C2")), one("location", "b", Some("C1")));
        let (c, d) = (one("location", "c", Some("gone")), one("location", "d", None));
        let found = [&c2, &a, &b, &c, &d].map(Clone::clone).to_vec();
        let expected = vec![
            Line::Alone(c1.clone()),
            Line::Below(b),
            Line::Alone(c2),
            Line::Below(a),
            Line::NoCompany,
            Line::Below(c.clone()),
            Line::Below(d.clone()),
        ];
        assert_eq!(tree(found, vec![c1]), expected);
        let alone = vec![Line::Alone(c.clone()), Line::Alone(d.clone())];
        assert_eq!(tree(vec![c, d], Vec::new()), alone, "where there is no company, nobody asks for one");
    }
}
