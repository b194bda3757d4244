//! Counts in a Redis: what a charge is there, and what its answer comes to. The script charges; here its answer is computed a second time
//! from what it says that it found, so that a Redis that answers something else is found out.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tensorgate_policy::ChargeOutcome;
use tensorgate_policy::decision::Debit;
use tensorgate_policy::global::{self, Found, Span, Terms};
use tensorgate_policy::hex;
use tensorgate_policy::policy::{Allowance, Limit, Unit};

use super::redis::{Redis, RedisFault, Script};

mod settle;

pub use settle::Reserved;

/// Before every key. The number changes with what is stored there.
const KEY_PREFIX: &str = "tensorgate:1:";
/// Bytes of the digest that names a grant and a client.
const NAME_BYTES: usize = 16;
/// Words that a script takes for each limit; see there.
const WORDS: usize = 9;

/// Why a charge was not counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CounterFault {
    #[error(transparent)]
    Redis(#[from] RedisFault),
    #[error("redis holds something else under {0:?}")]
    State(String),
    #[error("redis answered what cannot be: {0:?}")]
    Lies(String),
    #[error("a limit beyond what can be counted there")]
    Beyond,
}

/// One limit of one client, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The grant's name.
    pub grant: &'a str,
    /// The client's.
    pub client: &'a str,
    /// The limit, and how much.
    pub debit: Debit,
    /// What the amount is known by until it is settled; nothing for one that is spent for good.
    pub reservation: Option<&'a str>,
}

/// Limits of one domain in a Redis.
#[derive(Clone, Debug)]
pub struct Counter {
    redis: Arc<Redis>,
    domain: String,
    within: Duration,
    keeps: Duration,
}

impl Counter {
    /// Counts for a domain, and takes no longer than so long. Reservations are known for as long as `keeps`.
    pub const fn new(redis: Arc<Redis>, domain: String, within: Duration, keeps: Duration) -> Self {
        Self {
            redis,
            domain,
            within,
            keeps,
        }
    }

    /// Spends from all of them or from none.
    ///
    /// # Errors
    /// Redis failed or was late, or its answer cannot be believed.
    pub async fn charge(&self, lines: &[Line<'_>]) -> Result<ChargeOutcome, CounterFault> {
        let debits: Vec<Debit> = lines.iter().map(|line| line.debit).collect();
        if let Some(never) = global::never(&debits) {
            return Ok(never);
        }
        let terms: Vec<Terms> = debits
            .iter()
            .map(Terms::of)
            .collect::<Option<_>>()
            .ok_or(CounterFault::Beyond)?;
        let mut keys: Vec<String> = lines.iter().map(|line| key(&self.domain, line)).collect();
        let reserved = keys.iter().zip(lines);
        let reserved =
            reserved.filter_map(|(key, line)| Some(reserved_key(key, line.reservation?)));
        let reserved: Vec<String> = reserved.collect();
        keys.extend(reserved);
        let keeps_ms = u64::try_from(self.keeps.as_millis()).unwrap_or(u64::MAX);
        let numbers = terms.iter().zip(lines).flat_map(|(terms, line)| {
            let reserves = line.reservation.map(|_| (line.debit.amount, keeps_ms));
            let (units, keeps_ms) = reserves.unwrap_or_default();
            Numbers::of(terms, line.debit.allowance.unit).words([text(units), text(keeps_ms)])
        });
        let numbers = numbers.collect();
        let answer = self
            .run(Script::Charge, &keys, numbers, self.within)
            .await?;
        read(&answer, &debits, &terms).ok_or(CounterFault::Lies(answer))
    }

    /// Runs a script on keys; its answer, unless it is that one of them holds something else.
    async fn run(
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

/// The key of what was reserved of a limit: on the same node of a cluster, and no limit's own.
fn reserved_key(limit: &str, reservation: &str) -> String {
    format!("{limit}:reserved:{reservation}")
}

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A limit's key: which limit it is in the open, whose it is as a digest, so that no name, whatever it holds, is another's. What stands in
/// braces puts one client's limits under one grant onto one node of a cluster.
fn key(domain: &str, line: &Line<'_>) -> String {
    let mut digest = Sha256::new();
    for part in [domain, line.grant, line.client] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part.as_bytes());
    }
    let digest = digest.finalize();
    let whose = hex(digest.get(..NAME_BYTES).unwrap_or_default());
    let Allowance { unit, limit, .. } = line.debit.allowance;
    let what = match (limit, unit) {
        (Limit::Window(_), Unit::Requests) => "rate".to_owned(),
        // Of these more is stored than of others.
        (Limit::Window(_), Unit::Tokens) => "tokens".to_owned(),
        (Limit::Window(_), unit) => format!("cost:{}", unit.name()),
        (Limit::Day(_), unit) => format!("budget:{}", unit.name()),
    };
    format!("{KEY_PREFIX}{{{whose}}}:{what}")
}

/// A limit's numbers, by the names that the script gives them.
struct Numbers {
    kind: &'static str,
    interval: u64,
    per: u64,
    cost: Span,
    room: Span,
}

impl Numbers {
    fn of(terms: &Terms, unit: Unit) -> Self {
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

    /// In the order in which the scripts take them, and two more.
    fn words(&self, more: [Vec<u8>; 2]) -> [Vec<u8>; WORDS] {
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

/// `passes now_us found…`; `None` if it does not fit together.
fn read(answer: &str, debits: &[Debit], terms: &[Terms]) -> Option<ChargeOutcome> {
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
                Terms::Bucket { .. } => Found::Owed(Span {
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
    (passes == matches!(outcome, ChargeOutcome::Spent(_))).then_some(outcome)
}

#[cfg(test)]
mod agrees;
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
    use tensorgate_policy::validate::validate;

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

    fn debits() -> Vec<Debit> {
        let policy = policy();
        let debit = |allowance| Debit {
            allowance,
            amount: 1,
        };
        policy.grants()[0].per_request().map(debit).collect()
    }

    #[test]
    fn every_limit_of_everybody_has_a_key_of_its_own() {
        let debits = debits();
        let mut keys = BTreeSet::new();
        let names = ["", "a", "ab", "a:b", "}", "a}{b", "\0", "a\0b"];
        let mut count = 0;
        for domain in names {
            for grant in names {
                for client in names {
                    for debit in &debits {
                        let line = Line {
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
        let read = |answer: &str| read(answer, &debits, &terms);
        let Some(ChargeOutcome::Spent(levels)) = read(&format!("1 {NOON_US} 0 0 20000 0")) else {
            panic!("it passes")
        };
        assert_eq!((levels[0].left, levels[1].left), (1, 9));
        let Some(ChargeOutcome::Refused(levels)) = read(&format!("0 {NOON_US} 1500000 0 20000 3"))
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
            // It says that it passes, and what it found says that it does not; and the other way about.
            "1 1728043200000000 1500000 0 20000 0",
            "0 1728043200000000 0 0 20000 0",
            "1 1728043200000000 0 0 20000 10",
            // What it cannot have found: more than the bucket, another day.
            "0 1728043200000000 2000001 0 20000 0",
            "1 1728043200000000 0 0 19990 0",
            "1 18446744073709551616 0 0 20000 0",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
