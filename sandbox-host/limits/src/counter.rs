//! Counts limits in Redis. A script charges the limits. The result is computed a second time here
//! from the values that the script found, so that a wrong answer of Redis is detected.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::global::{self, Found, Span, Terms};
use tensorgate_policy::policy::{Allowance, Limit, Unit};
use tensorgate_policy::{ChargeOutcome, hex};

use super::redis::{Redis, RedisFault, Script};

/// The prefix of every key. The number changes with the stored format.
pub(super) const KEY_PREFIX: &str = "tensorgate:1:";
/// The length of the digest that names a grant and a client, in bytes.
pub(super) const NAME_BYTES: usize = 16;
/// The number of arguments that a script takes for each limit.
const ARGS_PER_LIMIT: usize = 9;

/// Why a charge was not counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CounterFault {
    #[error(transparent)]
    Redis(#[from] RedisFault),
    #[error("the redis key {0:?} has a value of another type")]
    State(String),
    #[error("redis returned an invalid value: {0:?}")]
    Inconsistent(String),
    #[error("a limit that is too large for redis")]
    OutOfRange,
}

/// A charge to one limit of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterCharge<'a> {
    /// The grant's name.
    pub grant: &'a str,
    /// The client's name.
    pub client: &'a str,
    /// The limit and the amount.
    pub debit: LimitCharge,
    /// The ID under which the amount can be refunded later. `None` if it cannot be refunded.
    pub reservation: Option<&'a str>,
}

/// Counts the limits of one domain in Redis.
#[derive(Clone, Debug)]
pub struct Counter {
    redis: Arc<Redis>,
    pub(super) domain: String,
    timeout: Duration,
    reservation_ttl: Duration,
}

impl Counter {
    /// Creates a counter for a domain. A charge times out after `within`. Reservations are kept for
    /// `keeps`.
    pub const fn new(redis: Arc<Redis>, domain: String, within: Duration, keeps: Duration) -> Self {
        Self {
            redis,
            domain,
            timeout: within,
            reservation_ttl: keeps,
        }
    }

    /// Charges all limits or none.
    ///
    /// # Errors
    /// Returns an error if Redis failed, timed out, or gave an impossible answer.
    pub async fn charge(&self, lines: &[CounterCharge<'_>]) -> Result<ChargeOutcome, CounterFault> {
        let debits: Vec<LimitCharge> = lines.iter().map(|line| line.debit).collect();
        if let Some(never) = global::never(&debits) {
            return Ok(never);
        }
        let terms: Vec<Terms> = debits
            .iter()
            .map(Terms::of)
            .collect::<Option<_>>()
            .ok_or(CounterFault::OutOfRange)?;
        let mut keys: Vec<String> = lines.iter().map(|line| key(&self.domain, line)).collect();
        let reserved = keys.iter().zip(lines);
        let reserved =
            reserved.filter_map(|(key, line)| Some(reserved_key(key, line.reservation?)));
        let reserved: Vec<String> = reserved.collect();
        keys.extend(reserved);
        let keeps_ms = u64::try_from(self.reservation_ttl.as_millis()).unwrap_or(u64::MAX);
        let numbers = terms.iter().zip(lines).flat_map(|(terms, line)| {
            let reserves = line.reservation.map(|_| (line.debit.amount, keeps_ms));
            let (units, keeps_ms) = reserves.unwrap_or_default();
            LimitArgs::new(terms, line.debit.allowance.unit).to_args([text(units), text(keeps_ms)])
        });
        let numbers = numbers.collect();
        let answer = self
            .run(Script::Charge, &keys, numbers, self.timeout)
            .await?;
        parse_outcome(&answer, &debits, &terms).ok_or(CounterFault::Inconsistent(answer))
    }

    /// Runs a script on keys. Fails if a key holds another type of value.
    pub(super) async fn run(
        &self,
        script: Script,
        keys: &[String],
        numbers: Vec<Vec<u8>>,
        within: Duration,
    ) -> Result<String, CounterFault> {
        let words = keys.iter().map(|key| key.clone().into_bytes());
        let words = words.chain(numbers).collect();
        let answer = self.redis.call(script, words, keys.len(), within).await?;
        let answer = String::from_utf8_lossy(&answer);
        let Some(number) = answer.strip_prefix('!') else {
            return Ok(answer.into_owned());
        };
        let place = number.parse::<usize>().ok();
        let key = place
            .and_then(|at| at.checked_sub(1))
            .and_then(|place| keys.get(place));
        Err(CounterFault::State(key.cloned().unwrap_or_default()))
    }
}

/// The key of a reservation: on the same node of a cluster as the limit, and different from every
/// limit's key.
pub(super) fn reserved_key(limit: &str, reservation: &str) -> String {
    format!("{limit}:reserved:{reservation}")
}

pub(super) fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// The key of a limit. The kind of limit is readable; the client is a digest, so that no name can
/// collide with another. The part in braces puts one client's limits under one grant on one node of
/// a cluster.
pub(super) fn key(domain: &str, line: &CounterCharge<'_>) -> String {
    let mut digest = Sha256::new();
    for part in [domain, line.grant, line.client] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let digest = digest.finalize();
    let client_hash = hex(digest.get(..NAME_BYTES).unwrap_or_default());
    let Allowance { unit, limit, .. } = line.debit.allowance;
    let what = match (limit, unit) {
        (Limit::Window(_), Unit::Requests) => "rate".to_owned(),
        // Token limits store more than others.
        (Limit::Window(_), Unit::Tokens) => "tokens".to_owned(),
        (Limit::Window(_), unit) => format!("cost:{}", unit.name()),
        (Limit::Day(_), unit) => format!("budget:{}", unit.name()),
    };
    format!("{KEY_PREFIX}{{{client_hash}}}:{what}")
}

/// The numbers of a limit, with the names that the script uses.
pub(super) struct LimitArgs {
    kind: &'static str,
    interval: u64,
    per: u64,
    cost: Span,
    room: Span,
}

impl LimitArgs {
    pub(super) fn new(terms: &Terms, unit: Unit) -> Self {
        let whole = |us| Span { us, part: 0 };
        match *terms {
            Terms::Bucket {
                interval,
                per,
                cost,
                room,
            } => Self {
                kind: if unit == Unit::Tokens { "t" } else { "b" },
                interval,
                per,
                cost,
                room,
            },
            Terms::Day { cost, limit } => Self {
                kind: "d",
                interval: 0,
                per: 0,
                cost: whole(cost),
                room: whole(limit),
            },
        }
    }

    /// The arguments in the order of the scripts, and two more.
    pub(super) fn to_args(&self, more: [Vec<u8>; 2]) -> [Vec<u8>; ARGS_PER_LIMIT] {
        let Self {
            kind,
            interval,
            per,
            cost,
            room,
        } = *self;
        let [first, second] = more;
        [
            kind.as_bytes().to_vec(),
            text(interval),
            text(per),
            text(cost.us),
            text(cost.part),
            text(room.us),
            text(room.part),
            first,
            second,
        ]
    }
}

/// Reads `passes now_us found…`. Returns `None` if the values are inconsistent.
fn parse_outcome(answer: &str, debits: &[LimitCharge], terms: &[Terms]) -> Option<ChargeOutcome> {
    let mut words = answer.split(' ');
    let passes = match words.next()? {
        "1" => true,
        "0" => false,
        _ => return None,
    };
    let mut number = || {
        let word = words.next()?;
        let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse::<u64>().ok()).flatten()
    };
    let now_us = number()?;
    let found = terms
        .iter()
        .map(|terms| {
            let (first, second) = (number()?, number()?);
            Some(match terms {
                Terms::Bucket { .. } => Found::Debt(Span {
                    us: first,
                    part: second,
                }),
                Terms::Day { .. } => Found::Spent {
                    day: first,
                    units: second,
                },
            })
        })
        .collect::<Option<Vec<_>>>()?;
    if words.next().is_some() {
        return None;
    }
    let outcome = global::outcome(debits, &found, now_us)?;
    (passes == matches!(outcome, ChargeOutcome::Charged(_))).then_some(outcome)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests"
    )]

    use std::collections::BTreeSet;

    use serde_json::json;
    use tensorgate_policy::Policy;
    use tensorgate_policy::policy::Wait;
    use tensorgate_policy_compiler::validate::validate;

    use super::*;

    /// 20,000 days after the epoch, at noon.
    const NOON_US: u64 = 1_728_043_200_000_000;

    fn policy() -> Policy {
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
        let policy = json!({
            "version": 1,
            "clients": {"ocr": {"api_keys": [{"sha256": "01".repeat(32)}]}},
            "backends": {"gpu": {"kind": "embedded", "models": "models/"}},
            "models": {"m": {
                "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"], "inputs": [tensor], "outputs": [tensor]
            }},
            "rate_limit_service": {"redis": {"url": "redis://127.0.0.1"}},
            "grants": [{
                "name": "g", "clients": ["ocr"], "models": ["m"], "operations": ["infer"],
                "rate": {"quota": 2, "window_s": 2, "scope": "global"},
                "budget": {"requests": 10, "per": "day", "scope": "global"}
            }]
        });
        validate(&serde_json::from_value(policy).unwrap())
            .unwrap()
            .0
    }

    fn debits() -> Vec<LimitCharge> {
        let policy = policy();
        let debit = |allowance| LimitCharge {
            allowance,
            amount: 1,
        };
        policy.grants()[0].per_request().map(debit).collect()
    }

    #[test]
    fn every_limit_of_every_client_has_its_own_key() {
        let debits = debits();
        let mut keys = BTreeSet::new();
        let names = ["", "a", "ab", "a:b", "}", "a}{b", "\0", "a\0b"];
        let mut count = 0;
        for domain in names {
            for grant in names {
                for client in names {
                    for debit in &debits {
                        let line = CounterCharge {
                            grant,
                            client,
                            debit: *debit,
                            reservation: None,
                        };
                        keys.insert(key(domain, &line));
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(keys.len(), count);
        let plain = |key: &String| {
            let parts: Vec<_> = key.split([':', '{', '}']).collect();
            parts[0] == "tensorgate" && parts[3].len() == 2 * NAME_BYTES
        };
        assert!(keys.iter().all(plain), "{:?}", keys.first());
    }

    #[test]
    fn an_answer_that_does_not_fit_together_is_none() {
        let debits = debits();
        let terms: Vec<_> = debits
            .iter()
            .map(|debit| Terms::of(debit).unwrap())
            .collect();
        let read = |answer: &str| parse_outcome(answer, &debits, &terms);
        let Some(ChargeOutcome::Charged(levels)) = read(&format!("1 {NOON_US} 0 0 20000 0")) else {
            panic!("it passes")
        };
        assert_eq!((levels[0].left, levels[1].left), (1, 9));
        let Some(ChargeOutcome::Exceeded(levels)) = read(&format!("0 {NOON_US} 1500000 0 20000 3"))
        else {
            panic!("it is refused")
        };
        assert_eq!(levels[0].wait, Wait::Ns(500_000_000));
        for bad in [
            "",
            "1",
            "OK",
            "2 1728043200000000 0 0 20000 0",
            "1 1728043200000000 0 0 20000",
            "1 1728043200000000 0 0 20000 0 0",
            "1 1728043200000000 0 0 20000 -1",
            "1 1728043200000000 0 0 20000 1e3",
            "1 1728043200000000  0 0 20000 0",
            // The verdict contradicts the values, in both directions.
            "1 1728043200000000 1500000 0 20000 0",
            "0 1728043200000000 0 0 20000 0",
            "1 1728043200000000 0 0 20000 10",
            // Impossible values: more than the bucket holds, another day.
            "0 1728043200000000 2000001 0 20000 0",
            "1 1728043200000000 0 0 19990 0",
            "1 18446744073709551616 0 0 20000 0",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
