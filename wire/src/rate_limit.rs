//! Envoy's rate limit protocol, `envoy.service.ratelimit.v3`: requests and responses with the
//! fields that are used here, as of Envoy 1.40. Unknown fields are skipped; counts and lengths are
//! limited.
//!
//! A descriptor names a limit and a client, has the amount, and carries the limit itself for
//! servers that accept limits from callers. [`RateLimitResponse::outcome`] interprets a response. A
//! contradictory response, or one for an unknown or looser limit, is invalid.

mod message;

use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::{Allowance, Limit, RemainingQuota, Wait};
use tensorgate_policy::{Charge, ChargeOutcome};

pub use message::MessageFault;

/// Name of the service.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Its method.
pub const METHOD: &str = "ShouldRateLimit";
/// Descriptor entry with the name of the limit.
pub const LIMIT_KEY: &str = "limit";
/// Descriptor entry with the client.
pub const CLIENT_KEY: &str = "client";
/// Maximum length of a reservation id.
pub const MAX_RESERVATION_BYTES: usize = 64;
/// Maximum size of a message.
pub const MAX_MESSAGE_BYTES: usize = 16 << 10;
/// Maximum descriptors of a message: a grant has six content limits.
pub const MAX_DESCRIPTORS: usize = 16;
/// Maximum entries of a descriptor.
pub const MAX_ENTRIES: usize = 8;
/// Maximum length of a key, value or domain.
pub const MAX_TEXT_BYTES: usize = 256;
/// Wait for a rejected caller if the response has none, in ns.
const DEFAULT_WAIT_NS: u64 = 1_000_000_000;

/// `RateLimitRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitRequest {
    /// Domain of the limits.
    pub domain: String,
    /// The limits to charge.
    pub descriptors: Vec<Descriptor>,
    /// Default amount of descriptors; 0 means 1.
    pub hits: u64,
}

/// `RateLimitDescriptor`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Keys and values, in order.
    pub entries: Vec<(String, String)>,
    /// The limit, for servers that accept it.
    pub limit: Option<LimitOverride>,
    /// The amount.
    pub hits: Option<u64>,
}

/// `RateLimitOverride`, and `RateLimit` of a response: units per time unit or a multiple of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitOverride {
    /// Units.
    pub quota: u32,
    /// Time unit.
    pub unit: TimeUnit,
    /// Number of time units; 0 means 1.
    pub multiplier: u32,
}

/// `RateLimitUnit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeUnit {
    /// Unknown unit.
    #[default]
    Unknown,
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
}

/// Result code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    /// Unknown code.
    #[default]
    Unknown,
    /// Charged.
    Ok,
    /// Limit exceeded.
    OverLimit,
}

/// `RateLimitResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimitResponse {
    /// Overall code.
    pub code: Code,
    /// Status of each descriptor in order; some servers omit them.
    pub statuses: Vec<Status>,
}

/// `DescriptorStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Code of the descriptor.
    pub code: Code,
    /// The applied limit; absent if the server does not report it.
    pub limit: Option<LimitOverride>,
    /// Remaining units, within the protocol's range.
    pub left: u32,
    /// Time until more units are available, in ns.
    pub reset_ns: Option<u64>,
}

impl TimeUnit {
    /// Time units with their seconds, longest first.
    const LENGTHS: [(Self, u64); 4] = [
        (Self::Day, 86_400),
        (Self::Hour, 3_600),
        (Self::Minute, 60),
        (Self::Second, 1),
    ];
}

impl LimitOverride {
    /// Units per window, if the protocol can represent them.
    pub fn of(quota: u64, window_s: u64) -> Option<Self> {
        let (unit, length) = TimeUnit::LENGTHS
            .into_iter()
            .find(|(_, length)| window_s.checked_rem(*length) == Some(0))?;
        Some(Self {
            quota: u32::try_from(quota).ok()?,
            unit,
            multiplier: u32::try_from(window_s.checked_div(length)?).ok()?,
        })
    }

    /// The window in seconds; `None` for an unknown unit.
    fn window_s(&self) -> Option<u64> {
        let known = |(unit, _): &(TimeUnit, u64)| *unit == self.unit;
        let (_, length) = TimeUnit::LENGTHS.into_iter().find(known)?;
        Some(length.saturating_mul(u64::from(self.multiplier.max(1))))
    }

    /// Whether it is at most as permissive as the policy's limit, per window and in the long run. A
    /// server that ignores the multiplier would count in seconds instead of minutes.
    fn is_within(&self, limit_charge: &LimitCharge) -> bool {
        let (quota, allowance) = (u64::from(self.quota), &limit_charge.allowance);
        let most = (allowance.quota(), allowance.window_s());
        self.window_s()
            .is_some_and(|window_s| no_looser((quota, window_s), most))
    }
}

/// Whether one limit is at most as permissive as another, per window and in the long run.
fn no_looser((quota, window_s): (u64, u64), (most, most_window_s): (u64, u64)) -> bool {
    let pace = |quota: u64, window_s: u64| u128::from(quota).saturating_mul(u128::from(window_s));
    quota <= most && pace(quota, most_window_s) <= pace(most, window_s)
}

impl Descriptor {
    /// A charge to a limit, for a client.
    fn of(charge: &Charge, limit_charge: &LimitCharge) -> Self {
        let allowance = &limit_charge.allowance;
        let entry = |key: &str, value: String| (key.to_owned(), value);
        Self {
            entries: vec![
                entry(LIMIT_KEY, allowance.public_name(&charge.grant)),
                entry(CLIENT_KEY, charge.client.to_string()),
            ],
            limit: LimitOverride::of(allowance.quota(), allowance.window_s()),
            hits: Some(limit_charge.amount),
        }
    }

    /// Whether a response for the policy's limit is usable by its requester: it reports its limit,
    /// which is not more permissive. A descriptor without a limit, or with an unknown unit, accepts
    /// any.
    pub fn takes(&self, allowance: &Allowance) -> bool {
        let reported = self
            .limit
            .and_then(|limit| Some((u64::from(limit.quota), limit.window_s()?)));
        reported
            .is_none_or(|reported| no_looser((allowance.quota(), allowance.window_s()), reported))
    }
}

impl RateLimitRequest {
    /// The request for a charge.
    pub fn of(domain: &str, charge: &Charge) -> Self {
        let descriptor = |limit_charge: &LimitCharge| Descriptor::of(charge, limit_charge);
        Self {
            domain: domain.to_owned(),
            descriptors: charge.limit_charges.iter().map(descriptor).collect(),
            // A server without per-descriptor amounts charges the largest to each.
            hits: charge
                .limit_charges
                .iter()
                .map(|limit_charge| limit_charge.amount)
                .max()
                .unwrap_or(0),
        }
    }
}

/// Whether a text is a valid reservation id, which becomes part of a Redis key.
pub fn is_reservation(text: &str) -> bool {
    (1..=MAX_RESERVATION_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl RateLimitResponse {
    /// The response of tensorgate's own service.
    pub fn of(limit_charges: &[LimitCharge], outcome: &ChargeOutcome) -> Option<Self> {
        let (code, quotas) = match outcome {
            ChargeOutcome::Charged(quotas) => (Code::Ok, quotas),
            ChargeOutcome::Exceeded(quotas) => (Code::OverLimit, quotas),
            ChargeOutcome::Failed => return None,
        };
        let status = |(limit_charge, quota): (&LimitCharge, &RemainingQuota)| Status {
            code: if quota.wait == Wait::None {
                Code::Ok
            } else {
                Code::OverLimit
            },
            limit: Some(reported_limit(limit_charge)),
            left: u32::try_from(quota.left).unwrap_or(u32::MAX),
            reset_ns: Some(match quota.wait {
                Wait::None => quota.full_after_ns,
                Wait::Ns(wait) => wait,
                Wait::Forever => u64::MAX,
            }),
        };
        (quotas.len() == limit_charges.len()).then(|| Self {
            code,
            statuses: limit_charges.iter().zip(quotas).map(status).collect(),
        })
    }

    /// The outcome of a charge, or why the response is invalid.
    ///
    /// # Errors
    /// It does not match the request.
    pub fn outcome(&self, limit_charges: &[LimitCharge]) -> Result<ChargeOutcome, &'static str> {
        let over = |status: &Status| status.code == Code::OverLimit;
        let has_statuses = !self.statuses.is_empty();
        if has_statuses && self.statuses.len() != limit_charges.len() {
            return Err("it answers for another number of limits than were requested");
        }
        let refused = match self.code {
            Code::Ok if self.statuses.iter().any(over) => {
                return Err("it allows what one of its limits rejects");
            }
            Code::OverLimit if has_statuses && !self.statuses.iter().any(over) => {
                return Err("it rejects what each of its limits allows");
            }
            Code::Ok => false,
            Code::OverLimit => true,
            Code::Unknown => return Err("its answer has no verdict"),
        };
        match (has_statuses, refused) {
            (false, true) => {
                return Ok(ChargeOutcome::Exceeded(vec![
                    UNKNOWN_QUOTA;
                    limit_charges.len()
                ]));
            }
            (false, false) => return Err("it does not name the limits that it counted"),
            (true, _) => {}
        }
        for (status, limit_charge) in self.statuses.iter().zip(limit_charges) {
            let limit = status.limit.ok_or("it knows no such limit")?;
            if !limit.is_within(limit_charge) {
                return Err("it counts by another limit, which allows more");
            }
        }
        let quotas = self
            .statuses
            .iter()
            .zip(limit_charges)
            .map(|(status, limit_charge)| quota(status, limit_charge))
            .collect();
        Ok(if refused {
            ChargeOutcome::Exceeded(quotas)
        } else {
            ChargeOutcome::Charged(quotas)
        })
    }
}

/// Quota of an exceeded limit without details.
const UNKNOWN_QUOTA: RemainingQuota = RemainingQuota {
    left: 0,
    full_after_ns: DEFAULT_WAIT_NS,
    wait: Wait::Ns(DEFAULT_WAIT_NS),
};

fn quota(status: &Status, limit_charge: &LimitCharge) -> RemainingQuota {
    let over = status.code == Code::OverLimit;
    let reset_ns = status.reset_ns.unwrap_or(DEFAULT_WAIT_NS);
    RemainingQuota {
        left: u64::from(status.left).min(limit_charge.allowance.quota()),
        full_after_ns: reset_ns,
        wait: if over {
            Wait::Ns(reset_ns.max(1))
        } else {
            Wait::None
        },
    }
}

/// A limit for responses, capped to the protocol's range.
fn reported_limit(limit_charge: &LimitCharge) -> LimitOverride {
    let allowance = &limit_charge.allowance;
    let quota = allowance.quota().min(u64::from(u32::MAX));
    let window_s = match allowance.limit {
        Limit::Window(rate) => rate.window_s(),
        Limit::Day(_) => allowance.window_s(),
    };
    LimitOverride::of(quota, window_s).unwrap_or_default()
}
