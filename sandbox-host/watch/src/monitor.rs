//! Runs all rules over observations, and bounds the alerts of each rule that are logged.
//!
//! Anyone can send from many sources. So alerts about sources are bounded separately, and take
//! nothing from those about clients and models.
//!
//! A rule that panics is switched off until the host starts again, and the others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use tensorgate_policy::policy::Watch;
use tensorgate_policy::raw::WatchRule;

use crate::alert::Alert;
use crate::learned_file::{load_block, save_block};
use crate::observation::Observation;
use crate::rules::{self, Rule};
use crate::saved::Saved as _;
use crate::time::Time;

/// The most alerts of one rule about sources that are logged in an hour, and the most of its other
/// alerts. More are counted. So a flood of one alert does not silence another.
const LOGGED_ALERTS: u64 = 20;
/// An hour in seconds.
const HOUR_S: u64 = 3_600;

/// All rules with their state.
pub struct Monitor {
    rules: Vec<Watched>,
    running: RuleSet,
    latest: Time,
    /// Rules that have panicked and are not reported yet.
    failed: Vec<WatchRule>,
}

/// The rules that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleSet(pub(super) u64);

impl RuleSet {
    /// The rules that a policy lets run.
    pub fn from_policy(policy: &Watch) -> Self {
        let running = WatchRule::ALL.iter().filter(|rule| policy.runs(**rule));
        Self(running.fold(0, |set, rule| set | Self::bit(*rule)))
    }

    /// Whether none runs.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn contains(self, rule: WatchRule) -> bool {
        self.0 & Self::bit(rule) != 0
    }

    fn bit(rule: WatchRule) -> u64 {
        1_u64.checked_shl(rule as u32).unwrap_or_default()
    }
}

struct Watched {
    rule: Box<dyn Rule>,
    has_failed: bool,
    of_sources: AlertBudget,
    of_others: AlertBudget,
}

impl Default for Monitor {
    fn default() -> Self {
        Self::new(rules::all())
    }
}

impl Monitor {
    /// A monitor that runs these rules.
    pub(super) fn new(rules: Vec<Box<dyn Rule>>) -> Self {
        let watched = |rule| Watched {
            rule,
            has_failed: false,
            of_sources: AlertBudget::default(),
            of_others: AlertBudget::default(),
        };
        Self {
            rules: rules.into_iter().map(watched).collect(),
            running: RuleSet(u64::MAX),
            latest: Time::default(),
            failed: Vec::new(),
        }
    }

    /// Shows an observation to each rule. `now` never goes back, and `clock` is the time of day,
    /// which is only for texts.
    pub fn observe(&mut self, seen: &Observation, now: Time, clock: SystemTime) -> Vec<Alert> {
        self.latest = self.latest.max(now);
        let now = self.latest;
        let mut alerts = Vec::new();
        for watched in &mut self.rules {
            let id = watched.rule.id();
            let runs = !watched.has_failed && self.running.contains(id);
            if !runs || !watched.rule.reads(&seen.kind) {
                continue;
            }
            // A rule is never called again after a panic, so no partial state is seen.
            let observed = catch_unwind(AssertUnwindSafe(|| watched.rule.observe(seen, now)));
            if observed.is_err() {
                watched.has_failed = true;
                self.failed.push(id);
            }
            let Ok(Some(finding)) = observed else {
                continue;
            };
            let budget = if finding.subject.is_source() {
                &mut watched.of_sources
            } else {
                &mut watched.of_others
            };
            let (is_logged, withheld) = budget.count(now);
            let since = clock.checked_sub(now.since(finding.since));
            alerts.push(Alert {
                rule: id.name(),
                finding,
                since: since.unwrap_or(clock),
                is_logged,
                withheld,
                response: None,
            });
        }
        alerts
    }

    /// Shows the clients of a policy to each rule.
    pub(crate) fn set_clients(&mut self, names: &[String], now: Time) {
        self.latest = self.latest.max(now);
        for watched in self.rules.iter_mut().filter(|watched| !watched.has_failed) {
            watched.rule.set_clients(names, self.latest);
        }
    }

    /// What rules have learned, with the time of the last observation.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.latest.save(&mut out);
        for watched in self.rules.iter().filter(|watched| !watched.has_failed) {
            let mut block = Vec::new();
            Rule::save(&*watched.rule, &mut block);
            save_block(watched.rule.id().name(), &block, &mut out);
        }
        out
    }

    /// A monitor that goes on with what was saved. `None` if that is damaged. A rule that another
    /// release has added or changed learns anew.
    pub(crate) fn load(mut learned: &[u8]) -> Option<Self> {
        let input = &mut learned;
        let mut monitor = Self {
            latest: Time::load(input)?,
            ..Self::default()
        };
        while !input.is_empty() {
            let (name, mut block) = load_block(input)?;
            let mut rules = monitor.rules.iter_mut();
            let found = rules.find(|watched| watched.rule.id().name().as_bytes() == name);
            let Some(watched) = found else {
                continue;
            };
            watched.rule.load(&mut block)?;
            if !block.is_empty() {
                return None;
            }
        }
        Some(monitor)
    }

    /// The time of the last observation.
    pub(crate) const fn latest(&self) -> Time {
        self.latest
    }

    /// Sets which rules run. The others see nothing, and keep their state.
    pub const fn set_rules(&mut self, rules: RuleSet) {
        self.running = rules;
    }

    /// The rules that have panicked since the last call, and do not run any more.
    pub(crate) fn take_failed(&mut self) -> Vec<WatchRule> {
        std::mem::take(&mut self.failed)
    }

    /// How often a rule had no own state for a client, source or model, in all rules together.
    pub fn shared_uses(&self) -> u64 {
        let uses = self.rules.iter().map(|watched| watched.rule.shared_uses());
        uses.fold(0, u64::saturating_add)
    }
}

/// The alerts of a rule in the current hour.
#[derive(Default)]
struct AlertBudget {
    hour: u64,
    logged: u64,
    withheld: u64,
}

impl AlertBudget {
    /// Counts an alert. Returns whether it is logged, and how many before it were not.
    fn count(&mut self, now: Time) -> (bool, u64) {
        let hour = now.window(HOUR_S);
        if hour != self.hour {
            *self = Self {
                hour,
                logged: 0,
                withheld: self.withheld,
            };
        }
        if self.logged >= LOGGED_ALERTS {
            self.withheld = self.withheld.saturating_add(1);
            return (false, 0);
        }
        self.logged = self.logged.saturating_add(1);
        (true, std::mem::take(&mut self.withheld))
    }
}
