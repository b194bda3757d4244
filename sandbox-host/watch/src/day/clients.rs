//! Many generated days, one at a time: quiet clients of the busy day, and jobs whose load an
//! operator knows well. A batch at night, one each hour, rows that a model rejects, slow rows,
//! restarts after which a queue is worked off, and clients whose networks and keys change.

use std::net::IpAddr;

use tensorgate_policy::Reason;
use tensorgate_policy::contract::NearBounds;

use super::{
    CLIENTS, Client, FORM, Incidents, MINUTES, Random, Request, Shape, address, at, client, deny,
    factor, request,
};
use crate::observation::Observation;

/// The days of a week. The first generated day is a Monday.
const WEEK: u64 = 7;
/// How much of their volume the clients of the busy day send on one of many days.
const QUIET: f64 = 0.2;
/// The days that a client uses a key.
const KEY_DAYS: u64 = 30;
/// The days between the new keys of two clients.
const DAYS_BETWEEN_KEYS: u64 = 3;

/// Clients of many days. Their volumes are those outside their jobs.
const JOBS: [Client; 8] = [
    job("nightly-scorer", "resnet", [10, 1, 1], 3.0, Shape::Steady),
    job("hourly-cron", "ranker", [10, 1, 2], 2.0, Shape::Steady),
    job("importer", "tabular", [10, 1, 3], 1.0, Shape::Steady),
    job("slow-batch", "tabular", [10, 1, 4], 1.0, Shape::Steady),
    job("restarted", "ranker", [10, 1, 5], 2.0, Shape::Office),
    job("ci-runner", "resnet", [20, 0, 0], 2.0, Shape::Office),
    job("carrier", "resnet", [100, 64, 0], 2.5, Shape::Steady),
    job("nightly-batch", "ranker", [10, 1, 6], 20.0, Shape::Office),
];

const fn job(
    name: &'static str,
    model: &'static str,
    network: [u8; 3],
    per_minute: f64,
    shape: Shape,
) -> Client {
    client(name, model, (network, 3), per_minute, shape, (0.005, FORM))
}

/// What the job of a client does in a minute.
struct Load {
    per_minute: f64,
    /// The share of its rows that the model rejects.
    rejected: f64,
    /// How much longer its requests take.
    slower: u64,
    /// The share of its inputs at a bound.
    at_bounds: f64,
}

const LOAD: Load = Load {
    per_minute: 0.0,
    rejected: 0.0,
    slower: 1,
    at_bounds: 0.0,
};

/// When the jobs of a day start, in minutes of the day. Jobs do not start at the same second.
struct Starts {
    nightly: u64,
    batch: u64,
    hourly: u64,
    import: u64,
    slow: u64,
    restart: u64,
}

/// The requests of some days without an attack, in order. The requests of one day exist at a time.
pub(crate) fn days(seed: u64, days: u64) -> impl Iterator<Item = Request> {
    (0..days).flat_map(move |day| requests(seed, day))
}

fn requests(seed: u64, day: u64) -> Vec<Request> {
    let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(day));
    let starts = Starts {
        nightly: 115 + random.below(15),
        batch: 240 + random.below(10),
        // What is usual is known by then, so that the job is not learned as a part of it.
        hourly: 45 + random.below(4),
        import: 180 + random.below(10),
        slow: 60 + random.below(10),
        restart: 660 + random.below(60),
    };
    let incidents = ["resnet", "ranker", "tabular"].map(|model| Incidents {
        model,
        restart: 60 + random.below(MINUTES - 120),
        slow: 60 + random.below(MINUTES - 120),
    });
    let is_weekend = day % WEEK >= 5;
    let mut bursts = [0_u64; CLIENTS.len() + JOBS.len()];
    let mut requests = Vec::new();
    for minute in 0..MINUTES {
        let first = requests.len();
        let of_day = day * MINUTES + minute;
        let busy = CLIENTS.iter().map(|client| (client, QUIET));
        let clients = busy.chain(JOBS.iter().map(|client| (client, 1.0)));
        for (index, ((client, share), burst)) in clients.zip(&mut bursts).enumerate() {
            let has_weekend = matches!(client.shape, Shape::Office | Shape::Bursty);
            let weekend = if is_weekend && has_weekend { 0.4 } else { 1.0 };
            let volume = client.per_minute * factor(&client.shape, minute, burst, &mut random);
            let key = (day + DAYS_BETWEEN_KEYS * index as u64) / KEY_DAYS;
            let mut add = |load: &Load, random: &mut Random| {
                let mut seen = request(client, minute, &incidents, random);
                change(&mut seen, load, random);
                seen.credential = Some(format!("{}-key-{key}", client.name));
                if let Some(source) = roaming_source(client.name, of_day / 60, random) {
                    seen.source = Some(source);
                }
                requests.push(at(of_day, seen, random));
            };
            for _ in 0..random.poisson(volume * share * weekend) {
                add(&LOAD, &mut random);
            }
            let load = load(client.name, minute, &starts);
            for _ in 0..random.poisson(load.per_minute) {
                add(&load, &mut random);
            }
        }
        noise(of_day, &mut requests, &mut random);
        requests[first..].sort_by_key(|request| request.ms);
    }
    requests
}

/// What the job of a client does in a minute of the day.
fn load(name: &str, minute: u64, starts: &Starts) -> Load {
    let runs = |start: u64, length: u64| (start..start + length).contains(&minute);
    match name {
        "nightly-scorer" if runs(starts.nightly, 30) => Load {
            per_minute: 150.0,
            ..LOAD
        },
        "nightly-batch" if runs(starts.batch, 15) => Load {
            per_minute: 400.0,
            ..LOAD
        },
        "hourly-cron" if (starts.hourly..starts.hourly + 4).contains(&(minute % 60)) => Load {
            per_minute: 125.0,
            ..LOAD
        },
        "importer" if runs(starts.import, 30) => Load {
            per_minute: 30.0,
            rejected: 0.6,
            ..LOAD
        },
        "slow-batch" if runs(starts.slow, 40) => Load {
            per_minute: 12.0,
            slower: 6,
            at_bounds: 0.7,
            ..LOAD
        },
        "restarted" if runs(starts.restart, 4) => Load {
            per_minute: 125.0,
            ..LOAD
        },
        _ => LOAD,
    }
}

/// Makes a request one of a job.
fn change(seen: &mut Observation, load: &Load, random: &mut Random) {
    seen.total_us = seen.total_us.saturating_mul(load.slower);
    if random.unit() < load.rejected {
        deny(seen, Reason::Shape);
    } else if random.unit() < load.at_bounds {
        seen.near_bounds = Some(NearBounds { inputs: 1, near: 1 });
    }
}

/// The source of a client with another network in each hour: runners of a cloud have addresses of
/// many ranges, and a carrier has one range.
fn roaming_source(name: &str, hour: u64, random: &mut Random) -> Option<IpAddr> {
    let mut of_hour = Random(hour.wrapping_mul(0x1_0001));
    let [second, third, ..] = of_hour.draw().to_le_bytes();
    let host = random.below(8) as u8;
    match name {
        "ci-runner" => Some(address([20, second, third], host)),
        "carrier" => Some(address([100, 64 + second % 4, third], host)),
        _ => None,
    }
}

/// A health check without a credential, and wrong credentials from anywhere.
fn noise(minute: u64, requests: &mut Vec<Request>, random: &mut Random) {
    let denied = |source| {
        let mut seen = Observation {
            source: Some(source),
            ..Observation::default()
        };
        deny(&mut seen, Reason::Unauthenticated);
        seen
    };
    requests.push(at(minute, denied(address([10, 0, 0], 1)), random));
    for _ in 0..random.poisson(0.3) {
        let [a, b, c, d, ..] = random.draw().to_le_bytes();
        requests.push(at(minute, denied(address([a, b, c], d)), random));
    }
}

#[test]
fn days_are_in_order_and_the_same_for_the_same_seed() {
    let times = |seed, count| {
        let requests = days(seed, 2).take(count);
        requests.map(|request| request.ms).collect::<Vec<_>>()
    };
    let both = times(1, usize::MAX);
    assert!(both.is_sorted() && (100_000..160_000).contains(&both.len()));
    assert!(both.starts_with(&times(1, 1_000)) && !both.starts_with(&times(2, 1_000)));
}
