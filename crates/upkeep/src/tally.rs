//! What the rounds have done so far, in numbers, for whoever scrapes them.

use highlevel::RateLimits;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokens::{CheckRecord, Health};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    health: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Told {
    way: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    step: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

/// Counts that only grow.
#[derive(Debug)]
pub(crate) struct Tally {
    rounds: Counter,
    checks: Family<Found, Counter>,
    durations: Histogram,
    steps: Family<Step, Histogram, fn() -> Histogram>,
    notices: Family<Told, Counter>,
    anomalies: Family<Kind, Counter>,
}

fn durations() -> Histogram {
    Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
}

impl Tally {
    /// Nothing yet, by ways of these names. What can happen is told from the start: of a count that
    /// comes into being as 1, an alert rule sees no increase.
    pub(crate) fn of_ways(names: impl Iterator<Item = &'static str>) -> Self {
        let (checks, notices, anomalies) = (Family::default(), Family::default(), Family::default());
        for health in Health::ALL {
            let _: &Counter = &checks.get_or_create(&Found { health: health.as_str() });
        }
        for name in names {
            for outcome in ["arrived", "failed"] {
                let _: &Counter = &notices.get_or_create(&Told { way: name.to_owned(), outcome });
            }
        }
        let (durations, steps) = (durations(), Family::new_with_constructor(durations as fn() -> Histogram));
        Self { rounds: Counter::default(), checks, durations, steps, notices, anomalies }
    }

    /// Puts everything into a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("rounds", "Rounds that were made", self.rounds.clone());
        registry.register("checks", "Checks by the health they found", self.checks.clone());
        registry.register("notices", "Tries to deliver notices and heartbeats", self.notices.clone());
        registry.register("key_anomalies", "Keys used as they never were before", self.anomalies.clone());
        registry.register_with_unit(
            "check_duration",
            "How long checks took",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register_with_unit(
            "check_step_duration",
            "How long the steps of checks took, retries included",
            Unit::Seconds,
            self.steps.clone(),
        );
    }

    /// Puts what HighLevel's answers say of its rate limits into a registry, as far as they say it.
    pub(crate) fn register_rates(registry: &mut Registry, rates: RateLimits) {
        let mut gauge = |name: &str, help: &str, value: Option<u64>| {
            if let Some(value) = value {
                let gauge = Gauge::<i64>::default();
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                registry.register(name, help, gauge);
            }
        };
        gauge(
            "highlevel_rate_remaining",
            "Calls that HighLevel left in its short interval, the least of any installation of late",
            rates.remaining,
        );
        gauge("highlevel_rate_limit", "Calls that there are in HighLevel's short interval", rates.limit);
        gauge(
            "highlevel_daily_remaining",
            "Calls that HighLevel left of the day, the least of any installation of late",
            rates.daily_remaining,
        );
        gauge("highlevel_daily_limit", "Calls that there are in a day at HighLevel", rates.daily_limit);
    }

    pub(crate) fn round(&self) {
        self.rounds.inc();
    }

    pub(crate) fn anomaly(&self, kind: &'static str) {
        self.anomalies.get_or_create(&Kind { kind }).inc();
    }

    pub(crate) fn notice(&self, way: &str, arrived: bool) {
        let outcome = if arrived { "arrived" } else { "failed" };
        self.notices.get_or_create(&Told { way: way.to_owned(), outcome }).inc();
    }

    pub(crate) fn check(&self, check: &CheckRecord) {
        self.checks.get_or_create(&Found { health: check.health.as_str() }).inc();
        self.durations.observe(check.took.as_secs_f64());
        for step in &check.steps {
            let outcome = if step.ok { "good" } else { "failed" };
            let label = Step { step: step.name.clone(), outcome };
            self.steps.get_or_create(&label).observe(step.took.as_secs_f64());
        }
    }
}
