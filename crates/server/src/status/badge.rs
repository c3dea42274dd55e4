//! A badge: a label, and one word about how something is.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State as Of};
use axum::response::Response;
use http::HeaderMap;
use tokens::records::Badge;
use tokens::{InstallationId, StoreError};
use tokio::time::{Instant, timeout};

use super::whole::{Whole, overview, state_of};
use super::{FOUND_WITHIN, Picture, State, StatusPage, fresh, nothing_here};
use crate::browser::escape;
use crate::front::Front;
use crate::house::Face;

const POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// Shows the badge of this name.
pub(crate) async fn badge(
    Of(front): Of<Arc<Front>>,
    Extension(face): Extension<Face>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(name) = name.strip_suffix(".svg").filter(|_| front.house.status_page != StatusPage::Off) else {
        return nothing_here(&front, face, &headers);
    };
    // Whatever is asked for, it is looked for in the same list in memory.
    let badges = badges(&front).await;
    let Some(badge) = badges.iter().find(|badge| badge.name == name) else {
        return nothing_here(&front, face, &headers);
    };
    let mut kept = front.board.of_badges.lock().await;
    let picture = match fresh(kept.get(name)) {
        Some(picture) => picture,
        None => {
            let picture = drawn(&front, badge).await;
            // Of those that were revoked nothing is kept.
            kept.retain(|name, _| badges.iter().any(|badge| badge.name == *name));
            kept.insert(name.to_owned(), (Instant::now(), picture.clone()));
            picture
        }
    };
    drop(kept);
    picture.answer(&headers)
}

/// All badges, as they were a moment ago; those of before, where the records don't say.
async fn badges(front: &Front) -> Arc<[Badge]> {
    let mut kept = front.board.badges.lock().await;
    if let Some(badges) = fresh(kept.as_ref()) {
        return badges;
    }
    let found = timeout(FOUND_WITHIN, front.house.records.badges()).await;
    let badges = match (found, kept.as_ref()) {
        (Ok(Ok(badges)), _) => badges.into(),
        (_, Some((_, before))) => before.clone(),
        (_, None) => Arc::default(),
    };
    *kept = Some((Instant::now(), Arc::clone(&badges)));
    badges
}

async fn drawn(front: &Front, badge: &Badge) -> Picture {
    let state = match &badge.about {
        None => Whole::word(front).await,
        Some(id) => match timeout(FOUND_WITHIN, state_of_one(front, id)).await {
            Ok(Ok(state)) => state,
            // Nobody knows.
            _ => State::Unknown,
        },
    };
    let word = front.house.speech.say(&format!("state-{}", state.as_str()), &[]);
    Picture::badge(POLICY, svg(&badge.label, &word, state))
}

async fn state_of_one(front: &Front, id: &InstallationId) -> Result<State, StoreError> {
    let now = front.house.clock.now();
    if front.house.records.paused(now).await?.contains(id) {
        return Ok(State::Unknown);
    }
    let is_late = |at| front.house.upkeep.is_check_late(at, now);
    let kept = overview(front, id).await?;
    // One that was forgotten is neither up nor down.
    Ok(kept.map_or(State::Unknown, |it| state_of(&it, is_late, now)))
}

/// Draws it, without a style or a script, so that it may be shown anywhere.
fn svg(label: &str, word: &str, state: State) -> String {
    let color = match state {
        State::Up => "#187a3d",
        State::Late => "#8a5a00",
        State::Down => "#b3201f",
        State::Unknown => "#5a6068",
    };
    let [left, right] = [label, word].map(width);
    let (whole, middle) = (left + right, left + right / 2);
    let (of_label, of_word) = (left - 12, right - 12);
    let [label, word] = [label, word].map(escape);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {word}\"><title>{label}: {word}</title>\
         <rect width=\"{whole}\" height=\"20\" rx=\"3\" fill=\"{color}\"/>\
         <path d=\"M3 0h{straight}v20H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3z\" fill=\"#3a3f45\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"{left_middle}\" y=\"14\" textLength=\"{of_label}\">{label}</text>\
         <text x=\"{middle}\" y=\"14\" textLength=\"{of_word}\">{word}</text></g></svg>\n",
        straight = left - 3,
        left_middle = left / 2,
    )
}

/// How wide a word is drawn, with room at both sides.
fn width(word: &str) -> usize {
    let of = |c: char| match c {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | ' ' | '.' | ',' | ':' | '\'' | '|' | '-' => 5,
        'm' | 'w' | 'M' | 'W' => 10,
        c if c.is_uppercase() || !c.is_ascii() => 9,
        _ => 7,
    };
    word.chars().map(of).sum::<usize>().max(5) + 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_says_its_label_and_its_word_and_nothing_that_is_markup() {
        let svg = svg("my <script>alert(\"1\")</script> & 'co'\0", "up", State::Up);
        assert!(!svg.contains("<script") && !svg.contains('\0') && !svg.contains("style"), "{svg}");
        assert!(
            svg.contains("my &lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;co&#39; : up"),
            "{svg}"
        );
        assert!(svg.contains("#187a3d"), "{svg}");
        // Even an empty label and an odd one are drawn.
        for label in ["", "💚", "ação"] {
            assert!(super::svg(label, "late", State::Late).ends_with("</svg>\n"));
        }
    }
}
