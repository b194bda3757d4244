//! Validated settings of the anomaly rules: which run, what their alerts do and where they go, and
//! which alerts are not raised.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};
use tensorgate_values::time::DAY_S;
use tensorgate_values::{AlertAction, WatchRule, getters};

use super::{Network, Webhook};

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 1_440;
/// Seconds of a minute.
const MINUTE_S: u64 = 60;
/// Days of a week.
const WEEK_DAYS: u64 = 7;
/// The day of the week of 1970-01-01, a Thursday, where Monday is 0.
const FIRST_DAY: u64 = 3;

/// Which anomaly rules run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    pub enabled: bool,
    pub off: Vec<WatchRule>,
    pub name: Option<String>,
    /// `webhook` first, then `webhooks`.
    pub webhooks: Vec<Webhook>,
    pub has_first_webhook: bool,
    pub on_alert: Vec<(WatchRule, AlertAction)>,
    pub response_s: u64,
    pub rules: Vec<(WatchRule, RuleSettings)>,
}

getters! { Watch {
    /// The name of the gateway in alerts, if the policy has one.
    name: Option<&str>,
    /// Where alerts are sent.
    webhooks: &[Webhook],
    /// What alerts do, by rule; `notify` for all others.
    on_alert: &[(WatchRule, AlertAction)],
    /// How long a block or throttle by a rule lasts, in seconds.
    response_s: u64,
    /// Thresholds and exceptions, by rule.
    rules: &[(WatchRule, RuleSettings)],
} }

impl Watch {
    /// The policy's path of the webhook with this index.
    pub fn webhook_path(&self, index: usize) -> String {
        let listed = index.checked_sub(usize::from(self.has_first_webhook));
        listed.map_or_else(
            || "watch.webhook".to_string(),
            |index| format!("watch.webhooks[{index}]"),
        )
    }

    /// Whether a rule runs.
    pub fn runs(&self, rule: WatchRule) -> bool {
        self.enabled && !self.off.contains(&rule)
    }

    /// Whether a rule runs that reads the most likely class of responses.
    pub fn reads_classes(&self) -> bool {
        let rules = [
            WatchRule::Confidence,
            WatchRule::ClassDominance,
            WatchRule::PredictionDrift,
        ];
        rules.iter().any(|rule| self.runs(*rule))
    }
}

/// Thresholds and exceptions of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSettings {
    pub at_least: Option<u32>,
    pub times: Option<f64>,
    pub clients: Vec<String>,
    pub models: Vec<String>,
    pub sources: Vec<Network>,
    pub quiet: Vec<QuietWindow>,
}

getters! { RuleSettings {
    /// Smallest number that the rule reports.
    at_least: Option<u32>,
    /// How many times the usual number it reports.
    times: Option<f64>,
} }

impl RuleSettings {
    /// Whether alerts about a client are not raised.
    pub fn excepts_client(&self, name: &str) -> bool {
        self.clients.iter().any(|it| it == name)
    }

    /// Whether alerts about a model are not raised.
    pub fn excepts_model(&self, name: &str) -> bool {
        self.models.iter().any(|it| it == name)
    }

    /// Whether alerts about requests from an address are not raised.
    pub fn excepts_source(&self, address: IpAddr) -> bool {
        self.sources.iter().any(|it| it.contains(address))
    }

    /// Whether no alert is raised at a time, in seconds since 1970.
    pub fn is_quiet(&self, unix_s: u64) -> bool {
        self.quiet.iter().any(|window| window.contains(unix_s))
    }
}

/// A time of some days of the week, in UTC. One that ends at or before its start ends on the next
/// day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietWindow {
    /// A bit for each day on which it starts, the lowest for Monday.
    pub days: u8,
    /// The first minute of the day.
    pub from: u16,
    /// The minute at which it ends, 1 to 1440.
    pub to: u16,
}

impl QuietWindow {
    /// Whether a time is in it, in seconds since 1970.
    pub fn contains(&self, unix_s: u64) -> bool {
        let days = unix_s.checked_div(DAY_S).unwrap_or_default();
        let second = unix_s.checked_rem(DAY_S).unwrap_or_default();
        let minute = second.checked_div(MINUTE_S).unwrap_or_default();
        let minute = u16::try_from(minute).unwrap_or(DAY_MINUTES);
        let weekday = days.saturating_add(FIRST_DAY).checked_rem(WEEK_DAYS);
        let weekday = weekday.unwrap_or_default();
        let day_before = weekday
            .checked_sub(1)
            .unwrap_or(WEEK_DAYS.saturating_sub(1));
        if self.from < self.to {
            return self.starts_on(weekday) && (self.from..self.to).contains(&minute);
        }
        (self.starts_on(weekday) && minute >= self.from)
            || (self.starts_on(day_before) && minute < self.to)
    }

    fn starts_on(&self, weekday: u64) -> bool {
        let bit = u32::try_from(weekday)
            .ok()
            .and_then(|weekday| 1_u8.checked_shl(weekday));
        bit.is_some_and(|bit| self.days & bit != 0)
    }
}

/// Whether windows together are all of a week.
pub fn are_always(windows: &[QuietWindow]) -> bool {
    let week_minutes = u64::from(DAY_MINUTES).saturating_mul(WEEK_DAYS);
    (0..week_minutes).all(|minute| {
        let unix_s = minute.saturating_mul(MINUTE_S);
        windows.iter().any(|window| window.contains(unix_s))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    /// Midnight of Monday, 2026-11-23.
    const MONDAY: u64 = 1_795_392_000;

    #[test]
    fn a_quiet_window_is_of_its_days_and_may_pass_midnight() {
        let at = |day: u64, minute: u64| MONDAY + day * DAY_S + minute * MINUTE_S;
        let early = QuietWindow {
            days: 0b1_1111,
            from: 120,
            to: 240,
        };
        for (time, expected) in [
            (at(0, 119), false),
            (at(0, 120), true),
            (at(4, 239), true),
            (at(4, 240), false),
            (at(5, 120), false),
            (at(6, 120), false),
        ] {
            assert_eq!(early.contains(time), expected, "{time}");
        }
        let over_midnight = QuietWindow {
            days: 0b100_0000,
            from: 1_320,
            to: 60,
        };
        for (time, expected) in [
            (at(6, 1_319), false),
            (at(6, 1_320), true),
            (at(7, 59), true),
            (at(7, 60), false),
            (at(0, 59), true),
            (at(1, 59), false),
        ] {
            assert_eq!(over_midnight.contains(time), expected, "{time}");
        }
        assert!(!are_always(&[early, over_midnight]));
        let full_day = |days| QuietWindow {
            days,
            from: 0,
            to: DAY_MINUTES,
        };
        assert!(are_always(&[full_day(0b1_1111), full_day(0b110_0000)]));
        assert!(!are_always(&[full_day(0b11_1111)]));
    }
}
