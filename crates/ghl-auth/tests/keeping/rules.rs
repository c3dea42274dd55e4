//! Each rule of the refresh is there because a story fails without it.
//!
//! This test runs its own program again and again, each time with one rule switched off.

use std::process::Command;

use tokens::rules::Rule;

/// The story that does not end well without the rule.
fn guard(rule: Rule) -> &'static str {
    match rule {
        Rule::Lease => "callers::two_processes_cost_one_refresh",
        Rule::LookAgain => "callers::two_processes_cost_one_refresh",
        Rule::Intent => "healing::a_refresh_that_was_cut_off_is_taken_up_by_whoever_comes_next",
        Rule::SendAgain => "answers::a_lost_answer_is_asked_for_again",
        Rule::Land => "healing::tokens_that_cannot_be_saved_wait_beside_the_store_for_the_next_process",
        Rule::CompareAndSwap => "healing::a_new_login_wins_over_a_refresh_in_the_air",
        Rule::SaveFirst => "callers::tokens_are_handed_out_only_after_they_are_at_rest",
        Rule::ServeWhileItLives => "callers::a_failing_refresh_never_hides_a_living_token",
        Rule::DoubtRefusals => "healing::a_refusal_is_doubted_while_an_answer_lies_beside_the_store",
    }
}

/// Whether a story ends well, and what it said.
fn tell(story: &str, without: Option<Rule>) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", story]).env_remove("GHL_AUTH_BREAK_RULE");
    if let Some(rule) = without {
        command.env("GHL_AUTH_BREAK_RULE", format!("{rule:?}"));
    }
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("running 1 test"), "no such story: {story}");
    (output.status.success(), said)
}

#[test]
fn every_rule_is_guarded() {
    if std::env::var_os("GHL_AUTH_BREAK_RULE").is_some() {
        return;
    }
    for rule in Rule::ALL {
        let story = guard(rule);
        let (well, said) = tell(story, None);
        assert!(well, "with all rules in force, {story} ought to end well:\n{said}");
        let (well, said) = tell(story, Some(rule));
        assert!(!well, "without {rule:?}, {story} ought to fail:\n{said}");
        assert!(said.contains("panicked at"), "without {rule:?}, {story} failed oddly:\n{said}");
    }
}
