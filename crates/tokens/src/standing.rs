//! When a change of health is worth telling: pure, so that it can be read as a table.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::health::{Health, NoticeKind, Standing, Subject};

/// So many changes within an hour are one coming and going.
const FLAPPING: usize = 6;
const HOUR: Duration = Duration::from_secs(3600);

/// The same trouble is told of at most once within this time.
const NOT_AGAIN_WITHIN: Duration = Duration::from_secs(15 * 60);

/// What the operator wants to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertRules {
    /// Failures in a row before anybody is told.
    pub after: u32,
    /// From one reminder to the next.
    pub remind_every: Duration,
}

/// What was found of a subject's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The health.
    pub health: Health,
    /// The code of what was wrong.
    pub code: Option<String>,
    /// What was wrong and what to do, in words without secrets.
    pub said: Option<String>,
}

impl Standing {
    /// A subject of which nothing was found yet, and all is taken to be well.
    pub fn new(subject: Subject, now: Timestamp) -> Self {
        Self {
            subject,
            revision: 0,
            health: Health::Operational,
            since: now,
            failures: 0,
            code: None,
            said: None,
            told: Health::Operational,
            told_at: None,
            changes: Vec::new(),
        }
    }

    /// How the subject stands after a finding, and what there is to tell. While it is `silenced`, as
    /// in a maintenance, nothing is: what is still wrong afterwards is told then.
    pub fn after(
        &self,
        finding: &Finding,
        now: Timestamp,
        rules: AlertRules,
        silenced: bool,
    ) -> (Standing, Option<NoticeKind>) {
        let mut next = Self { revision: self.revision + 1, ..self.clone() };
        next.changes.retain(|at| now.apart(*at) < HOUR);
        if finding.health != self.health {
            next.since = now;
            next.changes.push(now);
        }
        next.health = finding.health;
        (next.code, next.said) = (finding.code.clone(), finding.said.clone());
        next.failures = match finding.health {
            Health::Operational => 0,
            _ => self.failures.saturating_add(1),
        };
        let kind = if silenced { None } else { next.worth_telling(now, rules) };
        if let Some(kind) = kind {
            next.note_told(kind, now);
        }
        (next, kind)
    }

    /// What has become worth telling since the last finding, and how the subject stands then: a time
    /// in which nobody was to be told is over, or what came and went has settled.
    pub fn later(&self, now: Timestamp, rules: AlertRules, silenced: bool) -> Option<(Standing, NoticeKind)> {
        let mut next = Self { revision: self.revision + 1, ..self.clone() };
        next.changes.retain(|at| now.apart(*at) < HOUR);
        let kind = next.worth_telling(now, rules).filter(|_| !silenced)?;
        next.note_told(kind, now);
        Some((next, kind))
    }

    fn note_told(&mut self, kind: NoticeKind, now: Timestamp) {
        self.told_at = Some(now);
        self.told = match (kind, self.health) {
            // Who hears that it comes and goes still has to hear that it has come to stay.
            (NoticeKind::Flapping, Health::Operational) => Health::Degraded,
            (_, health) => health,
        };
    }

    fn worth_telling(&self, now: Timestamp, rules: AlertRules) -> Option<NoticeKind> {
        // A clock that goes wrong a little, and right again, is no reason to say it again.
        let told_within = |span| self.told_at.is_some_and(|at| now.apart(at) < span);
        let flapping = self.changes.len() >= FLAPPING;
        let late = matches!(self.subject, Subject::Checks(_));
        let certain = match self.health {
            Health::Operational => false,
            _ if late => true,
            // What HighLevel says in so many words needs no second look.
            Health::NeedsPerson | Health::Suspended => true,
            Health::Degraded | Health::Down => self.failures >= rules.after,
        };
        match (self.told, self.health) {
            _ if flapping => (!told_within(HOUR)).then_some(NoticeKind::Flapping),
            (Health::Operational, Health::Operational) => None,
            (_, Health::Operational) => Some(NoticeKind::Recovered),
            (told, now_found) if told == now_found => {
                (!told_within(rules.remind_every)).then_some(NoticeKind::Reminder)
            }
            _ if !certain || told_within(NOT_AGAIN_WITHIN) => None,
            _ if late => Some(NoticeKind::Late),
            _ => Some(NoticeKind::Trouble),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: AlertRules = AlertRules { after: 2, remind_every: Duration::from_secs(24 * 3600) };

    /// Findings at these minutes, and what each has told.
    fn check(findings: &[(u64, Health)], expected: &[Option<NoticeKind>]) {
        let at = |minute: u64| Timestamp::from_millis(1_790_000_000_000) + Duration::from_secs(minute * 60);
        let mut standing = Standing::new(Subject::Service, at(0));
        let told: Vec<_> = findings
            .iter()
            .map(|(minute, health)| {
                let finding = Finding { health: *health, code: None, said: None };
                let (next, kind) = standing.after(&finding, at(*minute), RULES, false);
                standing = next;
                kind
            })
            .collect();
        assert_eq!(told, expected, "{findings:?}");
    }

    use Health::{Degraded, Down, NeedsPerson, Operational, Suspended};
    use NoticeKind::{Flapping, Recovered, Reminder, Trouble};

    #[test]
    fn trouble_is_told_once_after_two_failures_and_its_end_once() {
        check(
            &[(0, Operational), (5, Down), (10, Down), (15, Down), (20, Operational), (25, Operational)],
            &[None, None, Some(Trouble), None, Some(Recovered), None],
        );
        check(&[(0, Down), (5, Operational)], &[None, None]);
        check(&[(0, Degraded), (720, Degraded)], &[None, Some(Trouble)]);
    }

    #[test]
    fn what_is_certain_is_told_at_once_and_what_gets_worse_again() {
        check(&[(0, NeedsPerson)], &[Some(Trouble)]);
        check(&[(0, Suspended), (5, Suspended)], &[Some(Trouble), None]);
        check(&[(0, Down), (5, Down), (30, NeedsPerson)], &[None, Some(Trouble), Some(Trouble)]);
    }

    #[test]
    fn a_reminder_comes_when_it_is_time() {
        let day = 24 * 60;
        check(
            &[(0, NeedsPerson), (day - 1, NeedsPerson), (day, NeedsPerson), (day + 1, NeedsPerson)],
            &[Some(Trouble), None, Some(Reminder), None],
        );
    }

    #[test]
    fn what_comes_and_goes_a_thousand_times_is_told_a_few_times() {
        let at = |second: u64| Timestamp::from_millis(0) + Duration::from_secs(second);
        let mut standing = Standing::new(Subject::Service, at(0));
        let mut kinds = Vec::new();
        for number in 0..1000_u64 {
            let health = if number % 2 == 0 { NeedsPerson } else { Operational };
            let finding = Finding { health, code: None, said: None };
            let (next, kind) = standing.after(&finding, at(number * 10), RULES, false);
            standing = next;
            kinds.extend(kind);
        }
        // Under three hours: what began it, and an hourly word that it goes on.
        assert!(kinds.len() <= 8, "{kinds:?}");
        assert!(kinds.contains(&Flapping));
        // Once it is steady, its end is told, also when it was well when people heard that it flaps.
        let (steady, kind) = standing.later(at(10_000 + 3700), RULES, false).expect("its end");
        assert_eq!((kind, steady.later(at(20_000), RULES, false)), (Recovered, None));
        standing.told = Operational;
        standing.note_told(Flapping, at(10_000));
        assert_eq!(standing.health, Operational);
        assert_eq!(standing.later(at(10_000 + 3700), RULES, false).map(|(_, kind)| kind), Some(Recovered));
    }

    #[test]
    fn nobody_is_told_in_a_maintenance_and_what_is_still_wrong_is_told_after_it() {
        let now = Timestamp::from_millis(0);
        let finding = Finding { health: NeedsPerson, code: None, said: None };
        let (standing, kind) = Standing::new(Subject::Service, now).after(&finding, now, RULES, true);
        assert_eq!(kind, None);
        assert_eq!(standing.later(now, RULES, true), None);
        assert_eq!(standing.later(now, RULES, false).map(|(_, kind)| kind), Some(Trouble));
        assert_eq!(standing.after(&finding, now, RULES, false).1, Some(Trouble));
    }

    #[test]
    fn late_checks_are_told_at_once_and_when_they_come_again() {
        let now = Timestamp::from_millis(0);
        let late = Finding { health: Degraded, code: None, said: None };
        let (standing, kind) = Standing::new(Subject::Checks(None), now).after(&late, now, RULES, false);
        assert_eq!(kind, Some(NoticeKind::Late));
        let (standing, kind) = standing.after(&late, now + HOUR, RULES, false);
        assert_eq!(kind, None);
        let well = Finding { health: Operational, code: None, said: None };
        assert_eq!(standing.after(&well, now + HOUR, RULES, false).1, Some(Recovered));
    }
}
