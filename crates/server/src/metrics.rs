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

/// Everything there is to measure, in OpenMetrics' text.
pub(crate) fn text(front: &Front) -> String {
    let mut registry = Registry::with_prefix("ghl_auth");
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
    let store = Gauge::<i64>::default();
    store.set(metrics.is_ready().into());
    registry.register("store_up", "Whether the store answered when it was last asked", store);
    tokens_at_hand(front, &mut registry);
    refreshes(front, &mut registry);
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
