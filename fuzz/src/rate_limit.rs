//! Fuzz target: Envoy's rate-limit protocol, compared with prost. prost must read an accepted
//! message with the same fields, and a message written again must be read as before. A response may
//! allow a charge only if it allows each limit, with a limit that is at most the policy's.

use std::sync::LazyLock;

use prost::Message;
use tensorgate_policy::ChargeOutcome;
use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::Wait;
use tensorgate_wire::rate_limit::{
    Code, LimitOverride, RateLimitRequest, RateLimitResponse, Status, TimeUnit,
};

use crate::support::{COSTS, RATES, policy};

#[derive(Clone, PartialEq, Message)]
struct ProstRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<RateLimitDescriptor>,
    #[prost(uint32, tag = "3")]
    hits_addend: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RateLimitDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Entry>,
    #[prost(message, optional, tag = "2")]
    limit: Option<RateLimitOverride>,
    #[prost(message, optional, tag = "3")]
    hits_addend: Option<u64>,
    #[prost(bool, tag = "4")]
    is_negative_hits: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

// Enums are numbers, so that unknown values are kept.
#[derive(Clone, PartialEq, Message)]
struct RateLimitOverride {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(uint64, tag = "2")]
    unit: u64,
    #[prost(message, optional, tag = "3")]
    unit_multiplier: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct ProstResponse {
    #[prost(uint64, tag = "1")]
    overall_code: u64,
    #[prost(message, repeated, tag = "2")]
    statuses: Vec<DescriptorStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct DescriptorStatus {
    #[prost(uint64, tag = "1")]
    code: u64,
    #[prost(message, optional, tag = "2")]
    current_limit: Option<RateLimit>,
    #[prost(uint32, tag = "3")]
    limit_remaining: u32,
    #[prost(message, optional, tag = "4")]
    duration_until_reset: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct RateLimit {
    #[prost(uint32, tag = "1")]
    requests_per_unit: u32,
    #[prost(uint64, tag = "2")]
    unit: u64,
    #[prost(message, optional, tag = "4")]
    unit_multiplier: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Charges of one limit, and of several.
static DEBITS: LazyLock<[Vec<LimitCharge>; 2]> = LazyLock::new(|| {
    [RATES, COSTS].map(|text| {
        let policy = policy(text);
        let grant = policy.grants().first().expect("a grant");
        let limits = grant.per_request().chain(grant.per_content());
        let limit_charge = |allowance| LimitCharge {
            allowance,
            amount: 1,
        };
        limits.map(limit_charge).collect()
    })
});

/// Runs one input: whether it is a request or a response, and its bytes.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((kind, bytes)) if kind & 1 == 0 => question(bytes),
        Some((_, bytes)) => answer(bytes),
        None => {}
    }
}

fn question(bytes: &[u8]) {
    let Ok(ours) = RateLimitRequest::from_bytes(bytes) else {
        return;
    };
    let theirs = ProstRequest::decode(bytes)
        .unwrap_or_else(|error| panic!("accepted a message that prost rejects: {error}"));
    compare(&ours, &theirs);
    let written = ours.to_bytes();
    assert_eq!(RateLimitRequest::from_bytes(&written).as_ref(), Ok(&ours));
    let again = ProstRequest::decode(&*written).expect("prost reads what is written here");
    compare(&ours, &again);
    let canonical = theirs.encode_to_vec();
    assert_eq!(RateLimitRequest::from_bytes(&canonical).as_ref(), Ok(&ours));
}

fn compare(ours: &RateLimitRequest, theirs: &ProstRequest) {
    assert_eq!(
        (&ours.domain, ours.hits),
        (&theirs.domain, u64::from(theirs.hits_addend))
    );
    assert_eq!(ours.descriptors.len(), theirs.descriptors.len());
    for (ours, theirs) in ours.descriptors.iter().zip(&theirs.descriptors) {
        let entries = theirs.entries.iter();
        let entries: Vec<_> = entries
            .map(|entry| (entry.key.clone(), entry.value.clone()))
            .collect();
        assert_eq!(ours.entries, entries);
        let limit = theirs.limit.as_ref();
        let limit = limit.map(|limit| {
            limit_override(limit.requests_per_unit, limit.unit, limit.unit_multiplier)
        });
        assert_eq!((ours.limit, ours.hits), (limit, theirs.hits_addend));
        assert!(!theirs.is_negative_hits, "nothing is given back");
    }
}

fn limit_override(quota: u32, unit: u64, multiplier: Option<u32>) -> LimitOverride {
    let units = [
        TimeUnit::Unknown,
        TimeUnit::Second,
        TimeUnit::Minute,
        TimeUnit::Hour,
        TimeUnit::Day,
    ];
    let unit = usize::try_from(unit).ok().and_then(|unit| units.get(unit));
    LimitOverride {
        quota,
        unit: unit.copied().unwrap_or_default(),
        multiplier: multiplier.unwrap_or(1).max(1),
    }
}

fn code(number: u64) -> Code {
    match number {
        1 => Code::Ok,
        2 => Code::OverLimit,
        _ => Code::Unknown,
    }
}

fn answer(bytes: &[u8]) {
    let Ok(ours) = RateLimitResponse::from_bytes(bytes) else {
        return;
    };
    let theirs = ProstResponse::decode(bytes)
        .unwrap_or_else(|error| panic!("accepted a message that prost rejects: {error}"));
    let status = |status: &DescriptorStatus| {
        let limit = status.current_limit.as_ref();
        let reset = status.duration_until_reset.as_ref();
        Status {
            code: code(status.code),
            limit: limit.map(|limit| {
                limit_override(limit.requests_per_unit, limit.unit, limit.unit_multiplier)
            }),
            left: status.limit_remaining,
            reset_ns: reset.map(|reset| {
                let number = |number: i64| u64::try_from(number).expect("a time to come");
                let (seconds, nanos) = (number(reset.seconds), number(reset.nanos.into()));
                seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
            }),
        }
    };
    let same = RateLimitResponse {
        code: code(theirs.overall_code),
        statuses: theirs.statuses.iter().map(status).collect(),
    };
    assert_eq!(ours, same);
    let again = RateLimitResponse::from_bytes(&ours.to_bytes());
    assert_eq!(again.as_ref(), Ok(&ours));
    for limit_charges in &*DEBITS {
        means(&ours, limit_charges);
    }
}

/// Checks that the result of a response follows from its fields.
fn means(answer: &RateLimitResponse, limit_charges: &[LimitCharge]) {
    let Ok(outcome) = answer.outcome(limit_charges) else {
        return;
    };
    let levels = match &outcome {
        ChargeOutcome::Charged(levels) => {
            assert_eq!(answer.code, Code::Ok);
            assert!(levels.iter().all(|level| level.wait == Wait::None));
            let passes = |status: &Status| status.code != Code::OverLimit && status.limit.is_some();
            assert!(answer.statuses.iter().all(passes), "of every limit");
            levels
        }
        ChargeOutcome::Exceeded(levels) => {
            assert_eq!(answer.code, Code::OverLimit);
            assert!(levels.iter().any(|level| level.wait != Wait::None));
            levels
        }
        ChargeOutcome::Failed => panic!("an answer is an answer"),
    };
    assert_eq!(levels.len(), limit_charges.len());
    for (level, limit_charge) in levels.iter().zip(limit_charges) {
        assert!(level.left <= limit_charge.allowance.quota(), "{level:?}");
    }
}
