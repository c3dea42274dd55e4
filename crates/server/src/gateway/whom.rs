//! Who is meant by a request that passes through: read from its headers, its query and its key, never
//! from a body.

use std::collections::BTreeSet;

use tokens::records::Reach;
use tokens::{CompanyId, InstallationId, LocationId};

use super::target::Target;

/// Whose token a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// This one's.
    This(InstallationId),
    /// That of the only installation there is, if there is only one.
    TheOnlyOne,
}

/// Why it is not clear who is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// An id that is none.
    NoId,
    /// Several are named, or could be.
    Several(Vec<InstallationId>),
}

/// The headers that name someone, each as often as it came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Headers<'a> {
    pub(crate) location: Named<'a>,
    pub(crate) company: Named<'a>,
}

/// What one header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    /// It is not there.
    #[default]
    Nobody,
    /// It is there once.
    One(&'a [u8]),
    /// It is there more than once.
    Several,
}

impl<'a> Named<'a> {
    /// The same after one more of it came.
    pub(crate) fn and(self, value: &'a [u8]) -> Self {
        match self {
            Self::Nobody => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

/// What names someone, wherever it stands: the ids as they are written.
#[derive(Default)]
struct Names {
    locations: BTreeSet<String>,
    companies: BTreeSet<String>,
}

/// Finds out. A company that is asked for something of a location's gets that location's token, as
/// HighLevel refuses its own there.
pub(crate) fn whom(headers: Headers<'_>, target: Target<'_>, reach: &Reach) -> Result<Whom, Unclear> {
    if let Some(id) = by_header(headers.location)? {
        return location(id).map(Whom::This);
    }
    let company_by_header = by_header(headers.company)?.map(str::to_owned);
    let names = target.query().filter(|query| may_name(query)).map(names).unwrap_or_default();
    let company_named = match company_by_header {
        Some(company) => Some(company),
        None if names.locations.is_empty() => one(&names.companies, company)?,
        None => None,
    };
    if let Some(id) = one(&names.locations, location)? {
        return location(&id).map(Whom::This);
    }
    if let Some(id) = company_named {
        return match location_in(target.path()) {
            Some(of_company) => location(of_company).map(Whom::This),
            None => company(&id).map(Whom::This),
        };
    }
    match reach {
        Reach::All => Ok(Whom::TheOnlyOne),
        Reach::These(ids) => match ids.first() {
            Some(only) if ids.len() == 1 => Ok(Whom::This(only.clone())),
            _ => Err(Unclear::Several(ids.iter().cloned().collect())),
        },
    }
}

fn by_header(named: Named<'_>) -> Result<Option<&str>, Unclear> {
    match named {
        Named::Nobody => Ok(None),
        Named::One(value) => std::str::from_utf8(value).map(Some).map_err(|_| Unclear::NoId),
        Named::Several => Err(Unclear::NoId),
    }
}

/// Most queries name nobody, and need no decoding to see that.
fn may_name(query: &str) -> bool {
    query.bytes().any(|c| matches!(c, b'I' | b'i' | b'%'))
}

fn names(query: &str) -> Names {
    let mut names = Names::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "locationId" | "location_id" => names.locations.insert(value.into_owned()),
            "companyId" | "company_id" => names.companies.insert(value.into_owned()),
            _ => continue,
        };
    }
    names
}

/// The only one of them, if there is any.
fn one(
    named: &BTreeSet<String>,
    id: fn(&str) -> Result<InstallationId, Unclear>,
) -> Result<Option<String>, Unclear> {
    match named.first() {
        Some(only) if named.len() == 1 => Ok(Some(only.clone())),
        Some(_) => Err(Unclear::Several(named.iter().filter_map(|text| id(text).ok()).collect())),
        None => Ok(None),
    }
}

/// The location whose own things a path is about: `/locations/{id}/tags`, and not `/locations/{id}`, which a
/// company's token opens, too.
fn location_in(path: &str) -> Option<&str> {
    let (id, rest) = path.strip_prefix("/locations/")?.split_once('/')?;
    (!rest.is_empty() && id != "search").then_some(id)
}

fn location(id: &str) -> Result<InstallationId, Unclear> {
    id.parse::<LocationId>().map(InstallationId::Location).map_err(|_| Unclear::NoId)
}

fn company(id: &str) -> Result<InstallationId, Unclear> {
    id.parse::<CompanyId>().map(InstallationId::Company).map_err(|_| Unclear::NoId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a>(location: Option<&'a str>, company: Option<&'a str>) -> Headers<'a> {
        let named = |id: Option<&'a str>| id.map_or(Named::Nobody, |id| Named::One(id.as_bytes()));
        Headers { location: named(location), company: named(company) }
    }

    fn check(found: (Headers<'_>, &str, &Reach), expected: Result<Whom, Unclear>) {
        let (headers, target, reach) = found;
        let target = Target::parse(target).expect("a target");
        assert_eq!(whom(headers, target, reach), expected, "{headers:?} {target:?}");
    }

    fn these(ids: &[InstallationId]) -> Reach {
        Reach::These(ids.iter().cloned().collect())
    }

    #[test]
    fn who_is_meant_is_said_by_header_then_query_then_key() {
        let (l, m, c) =
            (location("L").expect("an id"), location("M").expect("an id"), company("C").expect("an id"));
        let this = |id: &InstallationId| Ok(Whom::This(id.clone()));
        let (none, all, of_m) = (headers(None, None), Reach::All, these(std::slice::from_ref(&m)));
        check((headers(Some("L"), None), "/contacts/?locationId=M", &of_m), this(&l));
        check((headers(Some("L"), Some("C")), "/contacts/", &all), this(&l));
        check((headers(None, Some("C")), "/locations/search", &all), this(&c));
        check((none, "/contacts/?locationId=L", &of_m), this(&l));
        check((none, "/contacts/?location_id=L&locationId=L", &all), this(&l));
        check((none, "/contacts/?location%49d=L", &all), this(&l));
        check((none, "/locations/search?companyId=C&limit=1", &all), this(&c));
        check((none, "/x?companyId=C&locationId=L", &all), this(&l));
        check((none, "/contacts/abc?limit=1", &of_m), this(&m));
        check((none, "/contacts/abc", &all), Ok(Whom::TheOnlyOne));
    }

    #[test]
    fn a_company_asked_for_what_is_a_locations_gets_that_locations_token() {
        let (l, c) = (location("L").expect("an id"), company("C").expect("an id"));
        let this = |id: &InstallationId| Ok(Whom::This(id.clone()));
        let of_company = headers(None, Some("C"));
        check((of_company, "/locations/L/tags", &Reach::All), this(&l));
        check((of_company, "/contacts/?locationId=L", &Reach::All), this(&l));
        check((of_company, "/locations/L", &Reach::All), this(&c));
        check((of_company, "/locations/L/", &Reach::All), this(&c));
        check((of_company, "/locations/search/x", &Reach::All), this(&c));
        check((headers(None, None), "/locations/L/tags?companyId=C", &Reach::All), this(&l));
        // Without a company, a path names nobody.
        check((headers(None, None), "/locations/L/tags", &Reach::All), Ok(Whom::TheOnlyOne));
    }

    #[test]
    fn what_is_not_clear_is_not_guessed() {
        let (l, m) = (location("L").expect("an id"), location("M").expect("an id"));
        let none = headers(None, None);
        let several = Err(Unclear::Several(vec![l.clone(), m.clone()]));
        check((none, "/x?locationId=L&location_id=M", &Reach::All), several.clone());
        check((none, "/x", &these(&[l, m])), several);
        check((none, "/x", &these(&[])), Err(Unclear::Several(Vec::new())));
        check((headers(Some("L/../M"), None), "/x", &Reach::All), Err(Unclear::NoId));
        check((headers(Some(""), None), "/x", &Reach::All), Err(Unclear::NoId));
        check((none, "/x?locationId=", &Reach::All), Err(Unclear::NoId));
        let twice = Headers { location: Named::One(b"L").and(b"L"), company: Named::Nobody };
        check((twice, "/x", &Reach::All), Err(Unclear::NoId));
        check((headers(None, Some("C")), "/locations/%41/tags", &Reach::All), Err(Unclear::NoId));
    }
}
