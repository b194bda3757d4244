//! Where the time of a model's requests goes, and how it is distributed.

use std::collections::BTreeMap;

use tensorgate_audit::record::Decision;

/// The times of one model. All of them are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// The number of requests.
    pub count: u64,
    /// From their heads to their responses at the host.
    pub host_us: u64,
    /// In handlers, including the wait for a thread.
    pub handler_us: u64,
    /// At the backend, without the wait for a permit.
    pub backend_us: u64,
    /// Waiting for a permit.
    pub queue_us: u64,
    /// The number of requests that Envoy has reported.
    pub gate_count: u64,
    /// Their time in Envoy and its filter, and on the way to the client.
    pub gate_us: u64,
    /// How many requests took how long at the host: counts by [`step`].
    steps: BTreeMap<u8, u64>,
}

/// The mean times of a request in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// In Envoy and its filter. `None` if Envoy has reported no request.
    pub gate_us: Option<u64>,
    /// Waiting for a permit of the backend.
    pub queue_us: u64,
    /// In handlers.
    pub handler_us: u64,
    /// At the backend.
    pub backend_us: u64,
    /// The rest of the host's time: checks, decoding, encoding, the audit record.
    pub host_us: u64,
}

impl Latency {
    pub(crate) fn count(&mut self, decision: &Decision) {
        let queue_us = decision.queue_us.unwrap_or_default();
        let dispatch_us = decision.dispatch_us.unwrap_or_default();
        self.add(&Self {
            count: 1,
            host_us: decision.total_us,
            handler_us: decision.handler_us.unwrap_or_default(),
            backend_us: dispatch_us.saturating_sub(queue_us),
            queue_us,
            ..Self::default()
        });
        let count = self.steps.entry(step(decision.total_us)).or_default();
        *count = count.saturating_add(1);
    }

    pub(crate) fn add_gate_time(&mut self, gate_us: u64) {
        self.gate_count = self.gate_count.saturating_add(1);
        self.gate_us = self.gate_us.saturating_add(gate_us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.add(other);
        for (step, more) in &other.steps {
            let count = self.steps.entry(*step).or_default();
            *count = count.saturating_add(*more);
        }
    }

    fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.count, more.count),
            (&mut self.host_us, more.host_us),
            (&mut self.handler_us, more.handler_us),
            (&mut self.backend_us, more.backend_us),
            (&mut self.queue_us, more.queue_us),
            (&mut self.gate_count, more.gate_count),
            (&mut self.gate_us, more.gate_us),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// The mean times of a request.
    pub fn split(&self) -> Split {
        let mean = |sum: u64| sum.checked_div(self.count).unwrap_or_default();
        let parts_us = (self.handler_us)
            .saturating_add(self.backend_us)
            .saturating_add(self.queue_us);
        Split {
            gate_us: self.gate_us.checked_div(self.gate_count),
            queue_us: mean(self.queue_us),
            handler_us: mean(self.handler_us),
            backend_us: mean(self.backend_us),
            host_us: mean(self.host_us.saturating_sub(parts_us)),
        }
    }

    /// The time at the host in microseconds that this percentage of requests took at most, up to a
    /// quarter too high. `None` without a request.
    pub fn percentile_us(&self, percent: u64) -> Option<u64> {
        let all = self
            .steps
            .values()
            .fold(0, |sum: u64, it| sum.saturating_add(*it));
        let rank = all.saturating_mul(percent).div_ceil(100).max(1);
        let mut sum = 0_u64;
        for (step, count) in &self.steps {
            sum = sum.saturating_add(*count);
            if sum >= rank {
                return Some(end_us(*step));
            }
        }
        None
    }
}

/// The number of the step of a time: four for each doubling, from 4 µs on.
fn step(us: u64) -> u8 {
    let us = us.max(4);
    let doublings = us.ilog2();
    let quarter = us.checked_shr(doublings.saturating_sub(2)).unwrap_or(4) & 3;
    let number = u64::from(doublings)
        .saturating_mul(4)
        .saturating_add(quarter);
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The end of a step in microseconds.
fn end_us(step: u8) -> u64 {
    let (doublings, quarter) = (step.div_euclid(4), step.rem_euclid(4));
    let quarters = u64::from(quarter).saturating_add(5);
    let shift = u32::from(doublings).saturating_sub(2);
    quarters.checked_shl(shift).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    fn request(total_us: u64) -> Decision {
        Decision {
            total_us,
            handler_us: Some(200),
            dispatch_us: Some(500),
            queue_us: Some(100),
            ..Decision::default()
        }
    }

    #[test]
    fn a_request_is_split_into_its_parts() {
        let mut latency = Latency::default();
        latency.count(&request(1_000));
        latency.count(&request(2_000));
        let split = latency.split();
        let expected = Split {
            gate_us: None,
            queue_us: 100,
            handler_us: 200,
            backend_us: 400,
            host_us: 800,
        };
        assert_eq!(split, expected);
        latency.add_gate_time(300);
        assert_eq!(latency.split().gate_us, Some(300));
    }

    #[test]
    fn a_percentile_is_at_most_a_quarter_too_high() {
        assert_eq!(Latency::default().percentile_us(99), None);
        for us in [4, 5, 63, 64, 1_000, 999_999, 1 << 40] {
            let end = end_us(step(us));
            assert!(
                end > us && end <= us.saturating_add(us.div_ceil(4)),
                "{us} {end}"
            );
        }
        let mut latency = Latency::default();
        for _ in 0..98 {
            latency.count(&request(1_000));
        }
        (0..2).for_each(|_| latency.count(&request(50_000)));
        let mut merged = Latency::default();
        merged.merge(&latency);
        for (percent, at_least) in [(50, 1_000), (98, 1_000), (99, 50_000), (100, 50_000)] {
            let found = merged.percentile_us(percent).unwrap_or_default();
            assert!(
                found >= at_least && found < at_least * 5 / 4 + 1,
                "{percent} {found}"
            );
        }
    }
}
