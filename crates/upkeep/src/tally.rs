//! What the rounds have done so far, in numbers, for whoever scrapes them.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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

/// Counts that only grow.
#[derive(Debug)]
pub struct Tally {
    rounds: Counter,
    checks: Family<Found, Counter>,
    durations: Histogram,
    notices: Family<Told, Counter>,
}

impl Tally {
    /// Nothing yet, by ways of these names. What can happen is told from the start: of a count that
    /// comes into being as 1, an alert rule sees no increase.
    pub(crate) fn of_ways(names: impl Iterator<Item = &'static str>) -> Self {
        let durations = Histogram::new([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]);
        let (checks, notices) = (Family::default(), Family::default());
        for health in Health::ALL {
            let _: &Counter = &checks.get_or_create(&Found { health: health.as_str() });
        }
        for name in names {
            for outcome in ["arrived", "failed"] {
                let _: &Counter = &notices.get_or_create(&Told { way: name.to_owned(), outcome });
            }
        }
        Self { rounds: Counter::default(), checks, durations, notices }
    }

    /// Puts everything into a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("rounds", "Rounds that were made", self.rounds.clone());
        registry.register("checks", "Checks by the health they found", self.checks.clone());
        registry.register("notices", "Tries to deliver notices and heartbeats", self.notices.clone());
        registry.register_with_unit(
            "check_duration",
            "How long checks took",
            Unit::Seconds,
            self.durations.clone(),
        );
    }

    pub(crate) fn round(&self) {
        self.rounds.inc();
    }

    pub(crate) fn notice(&self, way: &str, arrived: bool) {
        let outcome = if arrived { "arrived" } else { "failed" };
        self.notices.get_or_create(&Told { way: way.to_owned(), outcome }).inc();
    }

    pub(crate) fn check(&self, check: &CheckRecord) {
        self.checks.get_or_create(&Found { health: check.health.as_str() }).inc();
        self.durations.observe(check.took.as_secs_f64());
    }
}
