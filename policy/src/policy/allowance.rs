//! What a grant allows each of its clients: units in a window or a day, and what spending them comes to. Pure: the caller reads the clocks and
//! stores the state.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::budget::{self, DAY_S, Spent};
use crate::gcra::{self, Bucket};
use crate::raw::Scope;
use crate::time::{Now, SECOND_NS};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Requests, whatever they carry.
    Requests,
    /// Elements of a request's input tensors.
    Elements,
    /// Bytes of a request's input tensors in OIP's raw form, or of a raw body.
    Bytes,
    /// Tokens of a request's texts, and those that it lets be generated: reserved, whatever is generated then.
    Tokens,
}

impl Unit {
    /// The policy's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Elements => "elements",
            Self::Bytes => "bytes",
            Self::Tokens => "tokens",
        }
    }
}

/// So many units a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub(crate) quota: u64,
    pub(crate) window_s: u64,
    pub(crate) bucket: Bucket,
    pub(crate) scope: Scope,
}

impl Rate {
    /// Units a window.
    pub const fn quota(&self) -> u64 {
        self.quota
    }

    /// The window, seconds.
    pub const fn window_s(&self) -> u64 {
        self.window_s
    }

    /// The bucket that enforces it.
    pub const fn bucket(&self) -> Bucket {
        self.bucket
    }
}

/// What inferences may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Elements.
    pub elements: Option<Rate>,
    /// Bytes.
    pub bytes: Option<Rate>,
    /// Tokens.
    pub tokens: Option<Rate>,
}

/// What a calendar day has, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Requests.
    pub requests: Option<u64>,
    /// Elements.
    pub elements: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Who counts all of them.
    pub scope: Scope,
}

/// One limit of a grant on one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What is counted.
    pub unit: Unit,
    /// How much of it.
    pub limit: Limit,
    /// Who counts it.
    pub scope: Scope,
}

/// How much, in which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A bucket that fills steadily.
    Window(Rate),
    /// So many units between midnight and midnight, UTC.
    Day(u64),
}

/// What an allowance has at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Units left.
    pub left: u64,
    /// Until all of them are there again, ns.
    pub full_after_ns: u64,
    /// Whether the amount that was asked for passes.
    pub wait: Wait,
}

/// Whether and when an amount passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Now.
    None,
    /// After this many nanoseconds.
    Ns(u64),
    /// Never: it is more than there ever is.
    Forever,
}

/// What a spend comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// What the allowance has as long as nothing is spent.
    pub before: Level,
    /// What it has afterwards, and the state to store; `None` if it is refused.
    pub after: Option<(Level, Vec<u8>)>,
    /// If it is refused: what to store all the same, after a reload that changed the limit.
    pub rebased: Option<Vec<u8>>,
}

impl Allowance {
    /// Units of a window or a day.
    pub const fn quota(&self) -> u64 {
        match self.limit {
            Limit::Window(rate) => rate.quota,
            Limit::Day(units) => units,
        }
    }

    /// Whether what is spent of it is a reservation, of which an answer says what was used.
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

    /// The most that one request can ever have of it.
    pub const fn most(&self) -> u64 {
        match self.limit {
            Limit::Window(rate) => rate.bucket.burst,
            Limit::Day(units) => units,
        }
    }

    /// The state's key, the same in every worker, generation and driver. Names are length-prefixed, so that no two pairs share one; what
    /// the limit is does not matter, so that a reload that changes it goes on from what was spent.
    pub fn key(&self, grant: &str, client: &str) -> String {
        let (kind, unit) = match (self.limit, self.unit) {
            (Limit::Window(_), Unit::Requests) => ("rate:", None),
            (Limit::Window(_), unit) => ("cost:", Some(unit.name())),
            (Limit::Day(_), unit) => ("budget:", Some(unit.name())),
        };
        let (unit, behind) = unit.map_or(("", ""), |unit| (unit, ":"));
        let length = grant.len().to_string();
        // Made for each request: put together at once, without a formatter.
        [kind, unit, behind, &length, ":", grant, ":", client].concat()
    }

    /// The name that answers give it. Names of grants have no colon.
    pub fn public_name(&self, grant: &str) -> String {
        match (self.limit, self.unit) {
            (Limit::Window(_), Unit::Requests) => grant.into(),
            (Limit::Window(_), unit) => format!("{grant}:{}", unit.name()),
            (Limit::Day(_), unit) => format!("{grant}:{}:day", unit.name()),
        }
    }

    /// The state of which nothing was spent.
    pub fn fresh(&self) -> Vec<u8> {
        match self.limit {
            Limit::Window(_) => gcra::State::default().to_bytes(),
            Limit::Day(_) => Spent::default().to_bytes().to_vec(),
        }
    }

    /// Spends `amount` from what is stored; `None` if that is no state.
    pub fn spend(&self, stored: &[u8], now: Now, amount: u64) -> Option<Drawn> {
        match self.limit {
            Limit::Window(rate) => {
                let (bucket, now_ns) = (rate.bucket, now.monotonic_ns);
                let state = gcra::State::from_bytes(stored)?;
                let level = |state: &gcra::State, wait| {
                    let (left, full_after_ns) = bucket.level(state, now_ns);
                    Level {
                        left,
                        full_after_ns,
                        wait,
                    }
                };
                // Of nothing else is it known only later what was used.
                let spend = match self.unit {
                    Unit::Tokens => bucket.reserve(&state, now_ns, amount),
                    _ => bucket.spend(&state, now_ns, amount),
                };
                Some(match spend {
                    gcra::Spend::Allowed(after) => Drawn {
                        before: level(&state, Wait::None),
                        after: Some((level(&after, Wait::None), after.to_bytes())),
                        rebased: None,
                    },
                    gcra::Spend::Refused { retry_after_ns } => Drawn {
                        before: level(&state, retry_after_ns.map_or(Wait::Forever, Wait::Ns)),
                        after: None,
                        rebased: bucket.rebased(&state, now_ns).map(|state| state.to_bytes()),
                    },
                })
            }
            Limit::Day(units) => {
                let spent = Spent::from_bytes(stored)?;
                let level = |spent: &Spent, wait| {
                    let (left, full_after_s) = spent.level(units, now.unix_s);
                    Level {
                        left,
                        full_after_ns: full_after_s.saturating_mul(SECOND_NS),
                        wait,
                    }
                };
                let ns = |wait_s: u64| Wait::Ns(wait_s.saturating_mul(SECOND_NS));
                Some(match spent.spend(units, now.unix_s, amount) {
                    budget::Spend::Allowed(after) => Drawn {
                        before: level(&spent, Wait::None),
                        after: Some((level(&after, Wait::None), after.to_bytes().to_vec())),
                        rebased: None,
                    },
                    budget::Spend::Refused { retry_after_s } => Drawn {
                        before: level(&spent, retry_after_s.map_or(Wait::Forever, ns)),
                        after: None,
                        rebased: None,
                    },
                })
            }
        }
    }

    /// Settles an amount that was reserved, once it is known what was used of it. `reserved` is the state that its spending left, `stored` what is
    /// there now. `None`: that stays.
    pub fn settle(
        &self,
        stored: &[u8],
        reserved: &[u8],
        now: Now,
        (amount, used): (u64, u64),
    ) -> Option<Vec<u8>> {
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
                    bucket.take(&state, now_ns, more)
                } else {
                    bucket.give_back(&state, &reserved, now_ns, unused)
                };
                Some(settled?.to_bytes())
            }
            Limit::Day(_) => {
                let (spent, reserved) = (Spent::from_bytes(stored)?, Spent::from_bytes(reserved)?);
                let settled = if more > 0 {
                    Some(spent.take(now.unix_s, more))
                } else {
                    spent.give_back(&reserved, unused)
                };
                Some(settled?.to_bytes().to_vec())
            }
        }
    }
}
