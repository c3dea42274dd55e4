//! Long lists, a page at a time.
//!
//! Where the next page begins is a place in the list, not a number: what comes or goes meanwhile moves
//! nothing. To callers it is a text without meaning.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokens::store::{Listing, Order};
use tokens::{InstallationId, Overview, Timestamp};

use super::bad;
use crate::error::Problem;
use crate::front::Front;

/// So many are on a page at most.
pub(crate) const MOST: usize = 1000;

/// So many are on a page of which nobody said how long it is to be.
const USUAL: usize = 100;

/// How long a page is to be.
pub(crate) fn limit(front: &Front, text: Option<&str>) -> Result<usize, Problem> {
    match text.map(str::parse) {
        None => Ok(USUAL),
        Some(Ok(limit @ 1..=MOST)) => Ok(limit),
        Some(_) => Err(bad(front, "bad_query")),
    }
}

/// The place of `it` in an order.
pub(crate) fn cursor(order: Order, it: &Overview) -> String {
    let at = order.instant(it).map(|at| at.as_millis().to_string()).unwrap_or_default();
    let place = format!("{}/{at}/{}/{}", order.as_str(), it.id.kind(), it.id.as_str());
    URL_SAFE_NO_PAD.encode(place)
}

/// The inverse of `cursor`; none where it is of another order, or none of ours.
pub(crate) fn place(order: Order, cursor: &str) -> Option<Overview> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let mut parts = text.splitn(4, '/');
    let mut next = || parts.next();
    let (of, at, kind, id) = (next()?, next()?, next()?, next()?);
    let at = match at {
        "" => None,
        millis => Some(Timestamp::from_millis(millis.parse().ok()?)),
    };
    let id = InstallationId::from_parts(kind, id).ok()?;
    (of == order.as_str()).then(|| Listing::place(order, at, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_again_and_only_in_its_order() {
        let id = InstallationId::from_parts("company", "a-b_C").expect("an id");
        for (order, at) in [
            (Order::Id, None),
            (Order::CheckedAt, None),
            (Order::CheckedAt, Some(Timestamp::from_millis(-5))),
            (Order::ExpiresAt, Some(Timestamp::from_millis(1_790_000_000_123))),
        ] {
            let there = Listing::place(order, at, id.clone());
            let cursor = cursor(order, &there);
            assert_eq!(place(order, &cursor), Some(there));
            let other = if order == Order::Id { Order::ExpiresAt } else { Order::Id };
            assert_eq!(place(other, &cursor), None);
        }
        for nonsense in ["", "a", "?", "aWQ", "aWQvL2xvY2F0aW9uL2EvYg", "aWQveC9sb2NhdGlvbi9h"] {
            assert_eq!(place(Order::Id, nonsense), None, "{nonsense}");
        }
    }
}
