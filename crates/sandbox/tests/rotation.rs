//! Refresh tokens: once, and again within thirty seconds.

mod common;

use std::thread;
use std::time::Duration;

use common::{FORM, connect, refresh, refresh_body, sandbox, send, until, with};
use sandbox::{Matcher, Outcome};
use serde_json::json;

const INVALID: &str = "Invalid grant: refresh token is invalid";

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_refresh_gives_a_new_pair_and_its_token_is_the_current_one() {
    let sandbox = sandbox();
    let (access, first) = connect(&sandbox);
    assert!(sandbox.is_current_refresh_token(&first));

    let answer = refresh(&sandbox, &first);
    let second = answer.text("refresh_token");
    assert_eq!(answer.status, 200);
    assert_ne!(second, first);
    assert_ne!(answer.text("access_token"), access);
    assert!(sandbox.is_current_refresh_token(&second));
    assert!(!sandbox.is_current_refresh_token(&first));
    let location_id = &sandbox.settings().location_id;
    assert_eq!(sandbox.current_refresh_token(location_id), Some(second));
    assert_eq!(sandbox.current_access_token(location_id), Some(answer.text("access_token")));
}

#[test]
fn repeats_within_thirty_seconds_get_the_same_answer_and_rotate_once() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    let answer = refresh(&sandbox, &first);
    sandbox.advance(seconds(29));
    let again = refresh(&sandbox, &first);
    assert_eq!(again.status, 200);
    assert_eq!(again.text("refresh_token"), answer.text("refresh_token"));
    assert_eq!(again.text("access_token"), answer.text("access_token"));

    let counts = sandbox.counts();
    assert_eq!((counts.refreshes, counts.rotations, counts.repeats), (2, 1, 1));
}

#[test]
fn a_used_token_is_refused_after_its_window_and_the_new_one_lives() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    let second = refresh(&sandbox, &first).text("refresh_token");
    sandbox.advance(seconds(31));
    let late = refresh(&sandbox, &first);
    let expected = json!({ "error": "invalid_grant", "error_description": INVALID });
    assert_eq!((late.status, late.untraced()), (400, expected));
    assert_eq!(sandbox.ledger().reuse_after_window(), 1);
    assert_eq!(refresh(&sandbox, &second).status, 200);
}

#[test]
fn the_window_is_counted_from_the_first_use_and_not_from_the_last() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    refresh(&sandbox, &first);
    sandbox.advance(seconds(20));
    assert_eq!(refresh(&sandbox, &first).status, 200);
    sandbox.advance(seconds(20));
    assert_eq!(refresh(&sandbox, &first).status, 400);
}

#[test]
fn a_window_stays_open_while_later_tokens_are_used() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    let second = refresh(&sandbox, &first).text("refresh_token");
    let third = refresh(&sandbox, &second).text("refresh_token");
    assert_eq!(refresh(&sandbox, &first).text("refresh_token"), second);
    assert_eq!(refresh(&sandbox, &second).text("refresh_token"), third);
    assert!(sandbox.is_current_refresh_token(&third));
}

#[test]
fn another_secret_makes_another_request_and_gets_no_repeat() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    refresh(&sandbox, &first);
    sandbox.set_client_secret("another");
    let with_the_old = refresh(&sandbox, &first);
    assert_eq!(with_the_old.text("error_description"), "Invalid client credentials!");
    let body = refresh_body(&sandbox, &first).replace(&sandbox.settings().client_secret, "another");
    let with_the_new = send(&sandbox, "POST", "/oauth/token", &[FORM], &body);
    assert_eq!(with_the_new.text("error"), "invalid_grant");
}

#[test]
fn an_access_token_is_no_refresh_token() {
    let sandbox = sandbox();
    let (access, first) = connect(&sandbox);
    assert_eq!(refresh(&sandbox, &access).text("error"), "invalid_grant");
    assert!(!sandbox.is_current_refresh_token(&access));
    assert!(sandbox.is_current_refresh_token(&first));
}

#[test]
fn the_access_token_of_a_repeat_is_fresh_when_the_knob_says_so() {
    let sandbox = with(|settings| settings.same_access_token_in_grace = false);
    let (_, first) = connect(&sandbox);
    let (one, two) = (refresh(&sandbox, &first), refresh(&sandbox, &first));
    assert_eq!(one.text("refresh_token"), two.text("refresh_token"));
    assert_ne!(one.text("access_token"), two.text("access_token"));
    assert!(sandbox.is_valid_access_token(&one.text("access_token")));
    assert!(sandbox.is_valid_access_token(&two.text("access_token")));
}

#[test]
fn eight_callers_at_once_get_one_new_refresh_token() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    sandbox.hold(Matcher::Refresh);
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (sandbox, first) = (sandbox.clone(), first.clone());
            thread::spawn(move || refresh(&sandbox, &first).text("refresh_token"))
        })
        .collect();
    until(|| sandbox.held() == 8);
    assert_eq!((sandbox.counts().refreshes, sandbox.counts().rotations), (8, 0));
    sandbox.release();
    let mut answers: Vec<String> =
        callers.into_iter().map(|caller| caller.join().expect("an answer")).collect();
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!((sandbox.counts().rotations, sandbox.counts().repeats), (1, 7));
}

#[test]
fn a_thousand_rotations_are_generations_two_to_a_thousand_and_one() {
    let sandbox = sandbox();
    let (_, mut token) = connect(&sandbox);
    for _ in 0..1000 {
        token = refresh(&sandbox, &token).text("refresh_token");
    }
    assert!(sandbox.is_current_refresh_token(&token));
    let ledger = sandbox.ledger();
    let generations =
        ledger.token_requests.iter().skip(1).map(|request| (request.presented, request.outcome.clone()));
    let expected =
        (1..=1000).map(|generation| (Some(generation), Outcome::Issued { generation: generation + 1 }));
    assert!(generations.eq(expected));
}

#[test]
fn an_unused_refresh_token_dies_after_a_year_and_an_access_token_after_a_day() {
    let sandbox = sandbox();
    let (access, first) = connect(&sandbox);
    sandbox.advance(seconds(86_390));
    assert!(sandbox.is_valid_access_token(&access));
    sandbox.advance(seconds(9));
    assert!(!sandbox.is_valid_access_token(&access));
    sandbox.advance(seconds(364 * 86_400 - 60));
    assert!(sandbox.is_current_refresh_token(&first));
    sandbox.advance(seconds(62));
    assert_eq!(refresh(&sandbox, &first).text("error"), "invalid_grant");
}

#[test]
fn a_paused_location_is_refused_and_its_token_is_not_used_up() {
    let sandbox = sandbox();
    let (_, first) = connect(&sandbox);
    let location_id = sandbox.settings().location_id.clone();
    sandbox.suspend(&location_id);
    let paused = refresh(&sandbox, &first);
    assert_eq!(paused.untraced(), json!({ "statusCode": 400, "message": "Location is not active" }));
    sandbox.advance(seconds(3 * 86_400));
    assert!(sandbox.is_current_refresh_token(&first));
    sandbox.resume(&location_id);
    assert_eq!(refresh(&sandbox, &first).status, 200);
}

#[test]
fn a_revoked_location_has_no_good_token_and_others_keep_theirs() {
    let sandbox = with(|settings| settings.extra_locations = 1);
    let (access, first) = connect(&sandbox);
    let other = sandbox.location_ids()[1].clone();
    let code = sandbox.approve_location(&other, common::CALLBACK);
    let others = common::exchange(&sandbox, &code).text("refresh_token");
    sandbox.revoke(&sandbox.settings().location_id.clone());
    assert_eq!(refresh(&sandbox, &first).text("error_description"), INVALID);
    assert!(!sandbox.is_valid_access_token(&access));
    assert_eq!(refresh(&sandbox, &others).status, 200);
}

#[test]
fn the_knobs_for_what_nobody_published_do_what_they_say() {
    let sandbox = with(|settings| settings.reuse_ends_grant = true);
    let (_, first) = connect(&sandbox);
    let second = refresh(&sandbox, &first).text("refresh_token");
    sandbox.advance(seconds(31));
    refresh(&sandbox, &first);
    assert_eq!(refresh(&sandbox, &second).status, 400);

    let sandbox = with(|settings| settings.old_access_tokens_survive = false);
    let (access, first) = connect(&sandbox);
    refresh(&sandbox, &first);
    assert!(!sandbox.is_valid_access_token(&access));

    let sandbox = with(|settings| settings.reinstall_ends_grant = true);
    let (_, first) = connect(&sandbox);
    connect(&sandbox);
    assert_eq!(refresh(&sandbox, &first).status, 400);
}

#[test]
fn the_ledger_never_shows_a_token() {
    let sandbox = sandbox();
    let (access, first) = connect(&sandbox);
    let second = refresh(&sandbox, &first).text("refresh_token");
    common::api(&sandbox, "GET", "/contacts/nobody", &access, None);
    let page = common::send(&sandbox, "GET", "/_sandbox/ledger", &[], "").body;
    for text in [format!("{:?}", sandbox.ledger()), page, format!("{sandbox:?}")] {
        for token in [&access, &first, &second] {
            let signature = token.rsplit('.').next().expect("a signature");
            assert!(!text.contains(signature));
        }
    }
}
