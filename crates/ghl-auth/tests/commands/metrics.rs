//! What watches the service asks for what the service gives.

use std::collections::BTreeSet;

use crate::service::{Service, home};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

/// The words of a text that begin so.
fn words<'a>(text: &'a str, beginning: &str) -> BTreeSet<&'a str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_word(letter)).filter(|word| word.starts_with(beginning)).collect()
}

/// The values of a label, as rules and metrics write them: `name="one"`, `name=~"one|two"`.
fn values<'a>(text: &'a str, name: &str) -> BTreeSet<&'a str> {
    let beginning = format!("{name}=");
    let pieces = text.split(&beginning).skip(1).filter_map(|rest| {
        let rest = rest.trim_start_matches('~').trim_start_matches('\\').strip_prefix('"')?;
        rest.split(['"', '\\']).next()
    });
    pieces.flat_map(|piece| piece.split('|')).collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let home = home().set("GHL_NOTIFY_ALLOW_PRIVATE", "true").set("GHL_HEARTBEAT_URL", "http://127.0.0.1:9/");
    let service = Service::start(home);
    let key = service.key(&["all", "--all"]);
    let path = format!("/v1/locations/{}/token", service.home.location());
    assert_eq!(service.get(&path, Some(&key)).status, 200);
    // Whoever guesses a key is counted.
    assert_eq!(service.get(&path, Some("ghlk_nonsense")).status, 401);
    // HighLevel says what it leaves when the first check has asked it something.
    service.until(|| service.get("/metrics", None).body.contains("ghl_auth_highlevel_daily_remaining "));
    let metrics = service.get("/metrics", None).body;
    assert!(metrics.contains("status=\"401\""), "{metrics}");
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let given: BTreeSet<_> = samples.flat_map(|line| words(line, "ghl_auth_")).collect();
    for file in ["grafana/ghl-auth.json", "prometheus/ghl-auth.rules.yml", "prometheus/ghl-auth.tests.yml"] {
        let text = std::fs::read_to_string(format!("{DEPLOY}/{file}")).expect(file);
        let asked = words(&text, "ghl_auth_");
        assert!(asked.len() >= 8, "{file}: {asked:?}");
        assert!(asked.is_subset(&given), "{file}: {:?}", asked.difference(&given));
        for label in ["outcome", "health"] {
            let (asked, given) = (values(&text, label), values(&metrics, label));
            assert!(asked.is_subset(&given), "{file}: {label}: {:?}", asked.difference(&given));
        }
    }
    service.stop();
}
