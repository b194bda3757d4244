//! Refunds for token reservations: the arguments of the script, and the check of its answer.

use std::time::Duration;

use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::global::{Change, CounterTransition, Span};

use super::counter::{Counter, CounterCharge, CounterFault, LimitArgs, key, reserved_key, text};
use super::redis::Script;

/// The timeout. No request waits for a refund, so it may be as long as Redis may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A reservation of one client under one limit, and the amount that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenReservation<'a> {
    /// The grant's name.
    pub grant: &'a str,
    /// The client's name.
    pub client: &'a str,
    /// The limit and the reserved amount.
    pub debit: LimitCharge,
    /// The ID of the reservation.
    pub reservation: &'a str,
    /// The amount that was used.
    pub used: u64,
}

impl Counter {
    /// Settles all reservations that are known and not settled yet. Returns their number.
    ///
    /// # Errors
    /// Returns an error if Redis failed, timed out, or gave an impossible answer.
    pub async fn settle(&self, reserved: &[TokenReservation<'_>]) -> Result<usize, CounterFault> {
        let (mut keys, mut records, mut numbers, mut changes) = (vec![], vec![], vec![], vec![]);
        for one in reserved {
            let line = CounterCharge {
                grant: one.grant,
                client: one.client,
                debit: one.debit,
                reservation: None,
            };
            // A reservation that was used exactly needs no change and expires.
            let Some(change) = Change::of(&one.debit, one.used) else {
                continue;
            };
            let key = key(&self.domain, &line);
            records.push(reserved_key(&key, one.reservation));
            keys.push(key);
            let sign = if change.back { b"-" } else { b"+" };
            let words = LimitArgs::new(&change.terms, one.debit.allowance.unit);
            numbers.extend(words.to_args([text(one.debit.amount), sign.to_vec()]));
            changes.push(change);
        }
        if changes.is_empty() {
            return Ok(0);
        }
        keys.append(&mut records);
        let answer = self.run(Script::Settle, &keys, numbers, TIMEOUT).await?;
        parse_changes(&answer, &changes).ok_or(CounterFault::Inconsistent(answer))
    }
}

/// Reads one word for each change. Returns the number of changes, or `None` if the answer is
/// impossible.
fn parse_changes(answer: &str, changes: &[Change]) -> Option<usize> {
    let words: Vec<&str> = answer.split(' ').collect();
    if words.len() != changes.len() {
        return None;
    }
    let mut settled: usize = 0;
    for (word, change) in words.into_iter().zip(changes) {
        if word == "u" {
            continue;
        }
        let (kind, numbers) = word.split_once(',')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten()
        };
        let numbers = numbers
            .split(',')
            .map(number)
            .collect::<Option<Vec<u64>>>()?;
        let stands = match (kind, numbers.as_slice()) {
            ("b", &[us, part, least_us, after_us, after_part]) => CounterTransition::Owes {
                before: Span { us, part },
                least_us,
                after: Span {
                    us: after_us,
                    part: after_part,
                },
            },
            ("d", &[_, before, after]) => CounterTransition::Spent { before, after },
            _ => return None,
        };
        if !change.fits(&stands) {
            return None;
        }
        settled = settled.saturating_add(1);
    }
    Some(settled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use tensorgate_policy::policy::{Allowance, Holder, Limit, Unit};
    use tensorgate_policy::values::Scope;

    use super::*;

    #[test]
    fn an_answer_that_does_not_fit_together_is_none() {
        let allowance = Allowance {
            unit: Unit::Tokens,
            limit: Limit::Day(100),
            scope: Scope::Global,
            holder: Holder::Client,
        };
        let debit = LimitCharge {
            allowance,
            amount: 50,
        };
        let changes = [10, 60].map(|used| Change::of(&debit, used).unwrap());
        for (answer, expected) in [
            ("d,20000,80,40 d,20000,40,50", Some(2)),
            ("u d,20000,40,50", Some(1)),
            ("u u", Some(0)),
            ("", None),
            ("u", None),
            ("u u u", None),
            ("OK u", None),
            ("d u", None),
            ("d,20000,80 u", None),
            ("d,20000,80,40,1 u", None),
            ("d,20000,80,-40 u", None),
            ("d,20000,80,4e1 u", None),
            ("d,20000,80,39 u", None),
            ("b,80,0,80,40,0 u", None),
            ("u d,20000,40,40", None),
        ] {
            assert_eq!(parse_changes(answer, &changes), expected, "{answer:?}");
        }
    }
}
