//! Interleaved rounds of several contenders: A B C, A B C, … Drift of the machine affects all
//! contenders alike. A ratio is computed within each round; the result is the median over the
//! rounds.

use crate::figures::{interval, median, number};
use crate::kernel;
use crate::load::{Client, Shot};
use crate::outcome::Outcome;

/// One configuration that is measured.
pub struct Contender {
    /// Its name in tables.
    pub name: String,
    /// Its client.
    pub client: Client,
    /// Its requests, which are sent in turn.
    pub shots: Vec<Shot>,
    /// The process whose CPU time is measured (Envoy, the host or a peer), with its children.
    pub pid: u32,
    /// Another process whose CPU time is shown beside it.
    pub beside: Option<(&'static str, u32)>,
}

/// The length of a race.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Rounds that are measured.
    pub rounds: usize,
    /// Requests of each contender in a round.
    pub requests: usize,
    /// Requests of each contender before the first round.
    pub warm_up: usize,
}

/// The result of one contender.
#[derive(Clone, Debug)]
pub struct Result {
    /// Its name.
    pub name: String,
    /// CPU microseconds a request, one value for each round.
    pub cpu_us: Vec<f64>,
    /// CPU microseconds a request of the second process.
    pub beside_us: Option<(&'static str, f64)>,
    /// Median latency, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Resident memory after the last round, MiB.
    pub rss_mib: f64,
}

impl Result {
    /// CPU microseconds a request, the median round.
    pub fn cpu(&self) -> f64 {
        median(&self.cpu_us)
    }

    /// The CPU time relative to another contender's: the median of the rounds' ratios.
    pub fn over(&self, other: &Self) -> f64 {
        median(&self.ratios(other))
    }

    /// An interval of the ratio over rounds like those of this run.
    pub fn interval_over(&self, other: &Self) -> (f64, f64) {
        interval(&self.ratios(other))
    }

    /// The ratio to another contender in each round.
    fn ratios(&self, other: &Self) -> Vec<f64> {
        let rounds = self.cpu_us.iter().zip(&other.cpu_us);
        rounds.map(|(own, other)| own / other).collect()
    }

    /// The CPU time in excess of another contender's.
    pub fn added_to(&self, other: &Self) -> f64 {
        let added: Vec<f64> = self
            .cpu_us
            .iter()
            .zip(&other.cpu_us)
            .map(|(mine, theirs)| mine - theirs)
            .collect();
        median(&added)
    }
}

fn family_ns(pid: u32) -> Outcome<f64> {
    let mut sum = 0.0;
    for pid in kernel::family(pid) {
        let ns = u32::try_from(kernel::cpu_ns(pid)? / 1000).unwrap_or(u32::MAX);
        sum += f64::from(ns);
    }
    Ok(sum)
}

/// Runs a race.
pub async fn race(contenders: &mut [Contender], course: Course) -> Outcome<Vec<Result>> {
    let mut rounds: Vec<Rounds> = Vec::new();
    for contender in contenders.iter_mut() {
        let Contender {
            name,
            client,
            shots,
            ..
        } = contender;
        client
            .volley(shots, 0, course.warm_up.max(1))
            .await
            .map_err(|error| format!("{name}: {error}"))?;
        rounds.push(Rounds::default());
    }
    for round in 0..course.rounds {
        let first = course
            .warm_up
            .saturating_add(round.saturating_mul(course.requests));
        for (contender, into) in contenders.iter_mut().zip(&mut rounds) {
            let before = family_ns(contender.pid)?;
            let beside_before = contender
                .beside
                .map(|(_, pid)| family_ns(pid))
                .transpose()?;
            let volley = contender
                .client
                .volley(&contender.shots, first, course.requests)
                .await
                .map_err(|error| format!("{}: {error}", contender.name))?;
            let requests = number(course.requests);
            into.cpu_us
                .push((family_ns(contender.pid)? - before) / requests);
            if let (Some((_, pid)), Some(before)) = (contender.beside, beside_before) {
                into.beside_us.push((family_ns(pid)? - before) / requests);
            }
            into.p50_us.push(volley.quantile(0.5));
            into.p99_us.push(volley.quantile(0.99));
        }
    }
    contenders
        .iter()
        .zip(rounds)
        .map(|(contender, rounds)| {
            let mut rss_mib = 0.0;
            for pid in kernel::family(contender.pid) {
                rss_mib += kernel::rss_mib(pid)?;
            }
            Ok(Result {
                name: contender.name.clone(),
                beside_us: contender
                    .beside
                    .map(|(name, _)| (name, median(&rounds.beside_us))),
                p50_us: median(&rounds.p50_us),
                p99_us: median(&rounds.p99_us),
                cpu_us: rounds.cpu_us,
                rss_mib,
            })
        })
        .collect()
}

#[derive(Default)]
struct Rounds {
    cpu_us: Vec<f64>,
    beside_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let result = |cpu_us: &[f64]| Result {
            name: String::new(),
            cpu_us: cpu_us.to_vec(),
            beside_us: None,
            p50_us: 0.0,
            p99_us: 0.0,
            rss_mib: 0.0,
        };
        // The machine was half as fast in the second round.
        let (bare, gate) = (result(&[10.0, 20.0, 10.0]), result(&[12.0, 24.0, 12.0]));
        assert!((gate.over(&bare) - 1.2).abs() < 1e-9);
        assert!((gate.added_to(&bare) - 2.0).abs() < 1e-9);
    }
}
