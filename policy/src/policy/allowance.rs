//! Limits of clients, of their users and sources, and of models: units per window or per day, and
//! the arithmetic of charges. Pure: the caller reads the clocks and stores the state.

use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};
use smol_str::format_smolstr;
use tensorgate_values::time::{DAY_S, Now, SECOND_NS};
use tensorgate_values::{Scope, getters};

use super::holder::Holder;
use crate::limits::budget::{self, DailyUsage};
use crate::limits::gcra::{self, Bucket};
use crate::limits::{StateBytes, Unit};

/// Units per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub quota: u64,
    pub window_s: u64,
    pub bucket: Bucket,
    pub scope: Scope,
}

getters! { Rate {
    /// Units per window.
    quota: u64,
    /// The window, seconds.
    window_s: u64,
    /// The bucket that enforces the rate.
    bucket: Bucket,
} }

/// Limits on the cost of inferences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Elements.
    pub elements: Option<Rate>,
    /// Bytes.
    pub bytes: Option<Rate>,
    /// Tokens.
    pub tokens: Option<Rate>,
}

/// Limits per calendar day (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Requests.
    pub requests: Option<u64>,
    /// Elements.
    pub elements: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Where they are counted.
    pub scope: Scope,
}

/// One limit on one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// The counted unit.
    pub unit: Unit,
    /// Amount and period.
    pub limit: Limit,
    /// Where it is counted.
    pub scope: Scope,
    /// Whose limit it is.
    pub holder: Holder,
}

/// Amount and period of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// A bucket that refills steadily.
    Window(Rate),
    /// Units between two midnights, UTC.
    Day(u64),
}

/// Quota of a limit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemainingQuota {
    /// Remaining units.
    pub left: u64,
    /// Time until all units are available, in ns.
    pub full_after_ns: u64,
    /// Whether the requested amount is allowed.
    pub wait: Wait,
}

/// When an amount is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Now.
    None,
    /// After this many nanoseconds.
    Ns(u64),
    /// Never: the amount exceeds the limit's maximum.
    Forever,
}

/// Result of a charge that is not stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargePreview {
    /// Quota before the charge.
    pub before: RemainingQuota,
    /// Quota after the charge, and the state to store; `None` if rejected.
    pub after: Option<(RemainingQuota, StateBytes)>,
    /// If rejected: a state to store anyway, after a reload that changed the limit.
    pub rebased: Option<StateBytes>,
}

impl Allowance {
    /// Units per window or per day.
    pub const fn quota(&self) -> u64 {
        match self.limit {
            Limit::Window(rate) => rate.quota,
            Limit::Day(units) => units,
        }
    }

    /// Whether a host makes its charges where one is behind the filters: limits on contents, shared
    /// limits, and those that only hosts count.
    pub fn is_of_host(&self) -> bool {
        self.unit != Unit::Requests || !self.scope.is_local() || self.holder.is_of_host()
    }

    /// Whether charges are reservations that are settled by the response.
    pub fn is_reserved(&self) -> bool {
        self.unit == Unit::Tokens
    }

    /// The window, seconds.
    pub const fn window_s(&self) -> u64 {
        match self.limit {
            Limit::Window(rate) => rate.window_s,
            Limit::Day(_) => DAY_S,
        }
    }

    /// Maximum amount of one request.
    pub const fn most(&self) -> u64 {
        match self.limit {
            Limit::Window(rate) => rate.bucket.burst,
            Limit::Day(units) => units,
        }
    }

    /// Key of the state of a client's limit, the same in every worker, policy version and driver.
    /// Names are length-prefixed, so keys are unique. The limit is not part of the key, so usage
    /// survives a change of the limit. [`crate::Charge::key`] has the keys of other holders.
    pub fn key(&self, grant: &str, client: &str) -> String {
        self.key_with_prefix("", grant, client)
    }

    /// The same with a prefix.
    pub fn key_with_prefix(&self, prefix: &str, grant: &str, client: &str) -> String {
        let (kind, unit) = match (self.limit, self.unit) {
            (Limit::Window(_), Unit::Requests) => ("rate:", None),
            (Limit::Window(_), unit) => ("cost:", Some(unit.name())),
            (Limit::Day(_), unit) => ("budget:", Some(unit.name())),
        };
        let (unit, behind) = unit.map_or(("", ""), |unit| (unit, ":"));
        let length = format_smolstr!("{}", grant.len());
        // Built for each request, so in one allocation.
        let parts = [prefix, kind, unit, behind, &length, ":", grant, ":", client];
        parts.concat()
    }

    /// Public name in responses. Names of grants contain no colon.
    pub fn public_name(&self, grant: &str) -> String {
        let holder = match self.holder {
            Holder::Client => "",
            Holder::User { .. } => ":user",
            Holder::Source { .. } => ":source",
            Holder::Model => ":model",
        };
        match (self.limit, self.unit) {
            (Limit::Window(_), Unit::Requests) => [grant, holder].concat(),
            (Limit::Window(_), unit) => format!("{grant}{holder}:{}", unit.name()),
            (Limit::Day(_), unit) => format!("{grant}{holder}:{}:day", unit.name()),
        }
    }

    /// The initial state.
    pub fn fresh(&self) -> StateBytes {
        match self.limit {
            Limit::Window(_) => gcra::State::default().to_bytes(),
            Limit::Day(_) => DailyUsage::default().to_bytes(),
        }
    }

    /// Computes a charge of `amount` on the stored state; `None` if that is invalid.
    pub fn consume(&self, stored: &[u8], now: Now, amount: u64) -> Option<ChargePreview> {
        match self.limit {
            Limit::Window(rate) => {
                let (bucket, now_ns) = (rate.bucket, now.monotonic_ns);
                let state = gcra::State::from_bytes(stored)?;
                let level = |state: &gcra::State, wait| {
                    let (left, full_after_ns) = bucket.level(state, now_ns);
                    RemainingQuota {
                        left,
                        full_after_ns,
                        wait,
                    }
                };
                // Only tokens are settled later.
                let spend = match self.unit {
                    Unit::Tokens => bucket.reserve(&state, now_ns, amount),
                    Unit::Requests | Unit::Elements | Unit::Bytes => {
                        bucket.consume(&state, now_ns, amount)
                    }
                };
                Some(match spend {
                    gcra::ConsumeResult::Allowed(after) => ChargePreview {
                        before: level(&state, Wait::None),
                        after: Some((level(&after, Wait::None), after.to_bytes())),
                        rebased: None,
                    },
                    gcra::ConsumeResult::Refused { retry_after_ns } => ChargePreview {
                        before: level(&state, retry_after_ns.map_or(Wait::Forever, Wait::Ns)),
                        after: None,
                        rebased: bucket.rebased(&state, now_ns).map(|state| state.to_bytes()),
                    },
                })
            }
            Limit::Day(units) => {
                let spent = DailyUsage::from_bytes(stored)?;
                let level = |spent: &DailyUsage, wait| {
                    let (left, full_after_s) = spent.level(units, now.unix_s);
                    RemainingQuota {
                        left,
                        full_after_ns: full_after_s.saturating_mul(SECOND_NS),
                        wait,
                    }
                };
                let ns = |wait_s: u64| Wait::Ns(wait_s.saturating_mul(SECOND_NS));
                Some(match spent.consume(units, now.unix_s, amount) {
                    budget::ConsumeResult::Allowed(after) => ChargePreview {
                        before: level(&spent, Wait::None),
                        after: Some((level(&after, Wait::None), after.to_bytes())),
                        rebased: None,
                    },
                    budget::ConsumeResult::Refused { retry_after_s } => ChargePreview {
                        before: level(&spent, retry_after_s.map_or(Wait::Forever, ns)),
                        after: None,
                        rebased: None,
                    },
                })
            }
        }
    }

    /// Settles a reserved amount once its usage is known. `reserved` is the state after the
    /// reservation, `stored` the current state. `None`: nothing changes.
    pub fn settle(
        &self,
        stored: &[u8],
        reserved: &[u8],
        now: Now,
        (amount, used): (u64, u64),
    ) -> Option<StateBytes> {
        let (unused, more) = (amount.saturating_sub(used), used.saturating_sub(amount));
        if (unused, more) == (0, 0) {
            return None;
        }
        match self.limit {
            Limit::Window(rate) => {
                let (bucket, now_ns) = (rate.bucket, now.monotonic_ns);
                let state = gcra::State::from_bytes(stored)?;
                let reserved = gcra::State::from_bytes(reserved)?;
                let settled = if more > 0 {
                    bucket.force_consume(&state, now_ns, more)
                } else {
                    bucket.refund(&state, &reserved, now_ns, unused)
                };
                Some(settled?.to_bytes())
            }
            Limit::Day(_) => {
                let (spent, reserved) = (
                    DailyUsage::from_bytes(stored)?,
                    DailyUsage::from_bytes(reserved)?,
                );
                let settled = if more > 0 {
                    Some(spent.force_consume(now.unix_s, more))
                } else {
                    spent.refund(&reserved, unused)
                };
                Some(settled?.to_bytes())
            }
        }
    }
}
