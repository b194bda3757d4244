//! How many alerts of a rule are logged in an hour. More are counted, so a flood of one alert does
//! not silence another.

use crate::time::{HOUR_S, Time};

/// The most alerts that are logged in an hour.
const LOGGED_ALERTS: u64 = 20;

/// The alerts of a rule in the current hour.
#[derive(Debug, Default)]
pub(super) struct AlertBudget {
    hour: u64,
    logged: u64,
    withheld: u64,
}

impl AlertBudget {
    /// Whether an alert would be logged.
    pub(super) fn has_room(&self, now: Time) -> bool {
        self.logged < LOGGED_ALERTS || now.window(HOUR_S) != self.hour
    }

    /// Counts an alert. Returns whether it is logged, and how many before it were not.
    pub(super) fn count(&mut self, now: Time) -> (bool, u64) {
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
