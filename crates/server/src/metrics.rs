//! What Prometheus scrapes. Units stand in the names; no label holds an id.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::front::Front;
use crate::gateway::Outlook;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    method: String,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: String,
}

/// What is counted while requests are answered.
pub(crate) struct Metrics {
    tokens_from_memory: Counter,
    answered: Family<Answered, Counter>,
    duration: Histogram,
    store_answers: AtomicBool,
    pub(crate) gateway: OfGateway,
}

/// What is counted at the gateway: each a counter of its own, since it is counted with each request.
pub(crate) struct OfGateway {
    /// By the first digit of the status.
    answered: [Counter; 6],
    would_wait: Counter,
    waits: Histogram,
}

impl Default for OfGateway {
    fn default() -> Self {
        let buckets = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];
        let waits = Histogram::new(buckets);
        Self { answered: Default::default(), would_wait: Counter::default(), waits }
    }
}

impl OfGateway {
    /// A request was carried, or turned away.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self.answered.get(usize::from(status / 100)) {
            counter.inc();
        }
    }

    /// One was sent that would have had to wait, if anybody had.
    pub(crate) fn would_wait(&self) {
        self.would_wait.inc();
    }

    /// A caller waited for a turn.
    pub(crate) fn waited(&self, span: Duration) {
        self.waits.observe(span.as_secs_f64());
    }

    fn register(&self, registry: &mut Registry, outlook: Outlook) {
        let by_status = Family::<Status, Counter>::default();
        for (digit, counter) in self.answered.iter().enumerate().filter(|(_, counter)| counter.get() > 0) {
            by_status.get_or_create(&Status { status: format!("{digit}xx") }).inc_by(counter.get());
        }
        registry.register("gateway_requests", "Requests for HighLevel, carried or turned away", by_status);
        registry.register(
            "gateway_over_budget",
            "Requests that went though the rate budget had no room, as it is only observed",
            self.would_wait.clone(),
        );
        registry.register_with_unit(
            "gateway_wait",
            "How long callers waited for their turns",
            Unit::Seconds,
            self.waits.clone(),
        );
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            let Some(value) = value else { return };
            let gauge = Gauge::<i64>::default();
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            registry.register(name, help, gauge);
        };
        gauge("gateway_waiting", "Requests that wait for their turns", Some(outlook.waiting as u64));
        gauge(
            "gateway_budget_remaining",
            "Calls that the tightest rate budget has room for now",
            outlook.least_remaining.map(u64::from),
        );
        gauge(
            "gateway_daily_remaining",
            "Calls that are left of the day where the fewest are",
            outlook.least_daily_remaining,
        );
        let spent_in = outlook.soonest_spent.map(|span| span.as_secs());
        gauge(
            "gateway_daily_spent_in_seconds",
            "Until the first day's calls are used up, before they are renewed",
            spent_in,
        );
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets =
            [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        Self {
            tokens_from_memory: Counter::default(),
            answered: Family::default(),
            duration: Histogram::new(buckets),
            store_answers: AtomicBool::new(true),
            gateway: OfGateway::default(),
        }
    }
}

impl Metrics {
    /// A token left that was at hand.
    pub(crate) fn token_from_memory(&self) {
        self.tokens_from_memory.inc();
    }

    /// A request was answered by a route.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: u16, took: Duration) {
        // Anyone may send a method of their own; no label for that.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
            _ => "other",
        };
        let label = Answered { method: method.into(), route: route.into(), status };
        self.answered.get_or_create(&label).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Whether the store answered when it was last asked.
    pub(crate) fn store_answers(&self, answers: bool) {
        self.store_answers.store(answers, Ordering::Relaxed);
    }

    /// Whether the service can do its work.
    pub(crate) fn is_ready(&self) -> bool {
        self.store_answers.load(Ordering::Relaxed)
    }
}

/// Everything there is to measure of several apps, each family once, with the app's name as a label.
pub(crate) fn text_of_all<'a>(
    fronts: impl Iterator<Item = &'a Front>,
    closed: impl Iterator<Item = &'a str>,
) -> String {
    together(fronts.map(text).chain(closed.map(text_of_closed)))
}

/// Of an app whose store can't be opened only this is known; whoever watches it must not miss the line.
fn text_of_closed(app: &str) -> String {
    let labels = [("app".into(), app.to_owned().into())].into_iter();
    let mut registry = Registry::with_prefix_and_labels("ghl_auth", labels);
    register_store(&mut registry, false);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn register_store(registry: &mut Registry, answers: bool) {
    let store = Gauge::<i64>::default();
    store.set(answers.into());
    registry.register("store_up", "Whether the store answered when it was last asked", store);
}

/// Puts the lines of each family together, in the order in which families come up first.
fn together(texts: impl Iterator<Item = String>) -> String {
    let mut families: Vec<(String, String)> = Vec::new();
    for text in texts {
        let mut at = None;
        for line in text.lines().filter(|line| *line != "# EOF") {
            let (is_head, line) = (line.starts_with("# HELP "), format!("{line}\n"));
            if is_head {
                at = families.iter().position(|(head, _)| head.starts_with(&line));
                if at.is_none() {
                    families.push((line, String::new()));
                    at = Some(families.len() - 1);
                    continue;
                }
            }
            let Some((head, samples)) = at.and_then(|at| families.get_mut(at)) else { continue };
            match line.starts_with('#') {
                true if head.contains(&line) => {}
                true => head.push_str(&line),
                false => samples.push_str(&line),
            }
        }
    }
    let lines: String = families.into_iter().flat_map(|(head, samples)| [head, samples]).collect();
    lines + "# EOF\n"
}

/// Everything there is to measure, in OpenMetrics' text. Where the app is the only one and has no name,
/// nothing is labelled with it.
pub(crate) fn text(front: &Front) -> String {
    let app = (front.house.apps.len() > 1 || front.house.app.is_some()).then(|| front.name().to_owned());
    let labels = app.map(|app| ("app".into(), app.into())).into_iter();
    let mut registry = Registry::with_prefix_and_labels("ghl_auth", labels);
    let metrics = &front.metrics;
    registry.register(
        "tokens_from_memory",
        "Tokens that were answered from memory",
        metrics.tokens_from_memory.clone(),
    );
    registry.register("http_requests", "Requests answered by a route", metrics.answered.clone());
    registry.register_with_unit(
        "http_request_duration",
        "How long the answers of routes took",
        Unit::Seconds,
        metrics.duration.clone(),
    );
    register_store(&mut registry, metrics.is_ready());
    tokens_at_hand(front, &mut registry);
    refreshes(front, &mut registry);
    metrics.gateway.register(&mut registry, front.gateway.outlook());
    let build = Family::<Version, Gauge>::default();
    build.get_or_create(&Version { version: env!("CARGO_PKG_VERSION").into() }).set(1);
    registry.register("build_info", "The version of the program", build);
    front.house.upkeep.register(&mut registry);
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn tokens_at_hand(front: &Front, registry: &mut Registry) {
    let lives = front.copies.lives(front.house.clock.now());
    let count = Gauge::<i64>::default();
    count.set(i64::try_from(front.copies.count()).unwrap_or(i64::MAX));
    registry.register("tokens_in_memory", "Tokens that are ready to be answered from memory", count);
    if let Some(least) = lives.iter().min() {
        let shortest = Gauge::<i64>::default();
        shortest.set(i64::try_from(least.as_secs()).unwrap_or(i64::MAX));
        registry.register_with_unit(
            "token_life_shortest",
            "How long the token in memory that dies first still lives",
            Unit::Seconds,
            shortest,
        );
    }
}

fn refreshes(front: &Front, registry: &mut Registry) {
    let by_outcome = Family::<Outcome, Counter>::default();
    for outcome in tokens::OUTCOMES {
        let count = front.house.keeper.counters().ended(outcome);
        by_outcome.get_or_create(&Outcome { outcome: outcome.into() }).inc_by(count);
    }
    registry.register("refreshes", "Refreshes by how they ended", by_outcome);
    let flights = Gauge::<i64>::default();
    flights.set(i64::try_from(front.house.keeper.flights()).unwrap_or(i64::MAX));
    registry.register("flights", "Refreshes and exchanges in the air", flights);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_apps_count_is_one_text_with_each_family_once() {
        let one = |app: &str| {
            format!(
                "# HELP a_seconds A.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds{{app=\"{app}\"}} 1\n\
                 # HELP b B.\n# TYPE b counter\nb_total{{app=\"{app}\"}} 2\n# EOF\n"
            )
        };
        assert_eq!(together(std::iter::once(one("x"))), one("x"));
        assert_eq!(
            together([one("x"), one("y")].into_iter()),
            "# HELP a_seconds A.\n# TYPE a_seconds gauge\n# UNIT a_seconds seconds\n\
             a_seconds{app=\"x\"} 1\na_seconds{app=\"y\"} 1\n\
             # HELP b B.\n# TYPE b counter\nb_total{app=\"x\"} 2\nb_total{app=\"y\"} 2\n# EOF\n"
        );
    }
}
