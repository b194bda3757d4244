//! A generated busy day of a gateway, the same for the same seed: services with daily curves,
//! batches, bursts, faulty clients, health checks, background noise, restarts and slow minutes.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod clients;

use std::f64::consts::PI;
use std::net::{IpAddr, Ipv4Addr};

use tensorgate_audit::record::Verdict;
use tensorgate_policy::Reason;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::release::TopClass;

use crate::observation::Observation;
use crate::time::Time;

pub(super) use clients::days;

/// The minutes of a day.
const MINUTES: u64 = 1_440;
/// The milliseconds of a minute.
const MINUTE_MS: u64 = 60_000;

/// A request of a day.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) ms: u64,
    pub(super) seen: Observation,
}

impl Request {
    pub(super) fn time(&self) -> Time {
        Time::from_ms(self.ms)
    }
}

/// A small generator of random numbers (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// A number of the normal distribution (Box-Muller).
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit(), self.unit());
        (-2.0 * radius.ln()).sqrt() * (2.0 * PI * angle).cos()
    }

    /// A number of the Poisson distribution.
    fn poisson(&mut self, mean: f64) -> u64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (bound, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > bound {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

/// How many requests a client sends over the day.
enum Shape {
    /// Most of them in office hours.
    Office,
    /// The same at each hour.
    Steady,
    /// Only in these minutes.
    Batch(u64, u64),
    /// Office hours, with a burst of some minutes now and then.
    Bursty,
}

struct Client {
    name: &'static str,
    model: &'static str,
    /// The first three bytes of its addresses.
    network: [u8; 3],
    /// The number of its addresses.
    hosts: u64,
    per_minute: f64,
    shape: Shape,
    /// The share of its requests that are rejected.
    rejected: f64,
    reasons: &'static [Reason],
}

const FORM: &[Reason] = &[
    Reason::Shape,
    Reason::Datatype,
    Reason::Malformed,
    Reason::UnknownInput,
    Reason::OutOfRange,
];

/// The clients of a day: names, models, networks, volumes and faults.
const CLIENTS: [Client; 10] = [
    client(
        "web",
        "resnet",
        ([10, 0, 1], 6),
        8.0,
        Shape::Office,
        (0.01, &[Reason::OutOfRange]),
    ),
    client(
        "mobile",
        "resnet",
        ([10, 0, 2], 4),
        6.0,
        Shape::Bursty,
        (0.03, FORM),
    ),
    client(
        "search",
        "ranker",
        ([10, 0, 3], 3),
        4.0,
        Shape::Steady,
        (0.0, FORM),
    ),
    client(
        "ads",
        "ranker",
        ([10, 0, 4], 3),
        3.0,
        Shape::Office,
        (0.005, &[Reason::Shape]),
    ),
    client(
        "nightly",
        "ranker",
        ([10, 0, 5], 1),
        60.0,
        Shape::Batch(120, 40),
        (0.0, FORM),
    ),
    client(
        "reports",
        "tabular",
        ([10, 0, 9], 1),
        1.0,
        Shape::Office,
        (0.02, FORM),
    ),
    client(
        "analysts",
        "tabular",
        ([10, 0, 9], 1),
        1.5,
        Shape::Bursty,
        (0.05, FORM),
    ),
    client(
        "ci",
        "resnet",
        ([10, 0, 9], 1),
        1.0,
        Shape::Bursty,
        (0.3, FORM),
    ),
    client(
        "limited",
        "tabular",
        ([10, 0, 6], 2),
        2.0,
        Shape::Bursty,
        (0.2, &[Reason::RateLimited]),
    ),
    client(
        "partner",
        "resnet",
        ([198, 51, 100], 2),
        2.0,
        Shape::Office,
        (0.01, FORM),
    ),
];

const fn client(
    name: &'static str,
    model: &'static str,
    (network, hosts): ([u8; 3], u64),
    per_minute: f64,
    shape: Shape,
    (rejected, reasons): (f64, &'static [Reason]),
) -> Client {
    Client {
        name,
        model,
        network,
        hosts,
        per_minute,
        shape,
        rejected,
        reasons,
    }
}

/// The usual latency of a model in microseconds.
fn latency_us(model: &str) -> f64 {
    match model {
        "resnet" => 20_000.0,
        "ranker" => 5_000.0,
        _ => 2_000.0,
    }
}

/// Two minutes in which a model's backend restarts, and four in which it is slow.
struct Incidents {
    model: &'static str,
    restart: u64,
    slow: u64,
}

/// The requests of a busy day without an attack, in order.
pub(super) fn busy(seed: u64) -> Vec<Request> {
    let mut random = Random(seed);
    let incidents = ["resnet", "ranker", "tabular"].map(|model| Incidents {
        model,
        restart: 60 + random.below(MINUTES - 120),
        slow: 60 + random.below(MINUTES - 120),
    });
    let mut bursts = [0_u64; CLIENTS.len()];
    let mut requests = Vec::new();
    for minute in 0..MINUTES {
        let first = requests.len();
        for (client, burst) in CLIENTS.iter().zip(&mut bursts) {
            let volume = client.per_minute * factor(&client.shape, minute, burst, &mut random);
            for _ in 0..random.poisson(volume) {
                let seen = request(client, minute, &incidents, &mut random);
                requests.push(at(minute, seen, &mut random));
            }
        }
        background(minute, &mut requests, &mut random);
        requests[first..].sort_by_key(|request| request.ms);
    }
    requests
}

/// How much of its usual volume a client sends in a minute.
fn factor(shape: &Shape, minute: u64, burst: &mut u64, random: &mut Random) -> f64 {
    // The peak is at 15:00, the quietest time at 03:00.
    let angle = 2.0 * PI * (minute as f64 - 900.0) / MINUTES as f64;
    let office = 0.55 + 0.45 * angle.cos();
    match shape {
        Shape::Office => office,
        Shape::Steady => 1.0,
        Shape::Batch(start, length) => f64::from((*start..start + length).contains(&minute)),
        Shape::Bursty => {
            if *burst > 0 {
                *burst -= 1;
                return 8.0 * office;
            }
            if random.unit() < 0.01 {
                *burst = 1 + random.below(5);
            }
            office
        }
    }
}

fn request(
    client: &Client,
    minute: u64,
    incidents: &[Incidents],
    random: &mut Random,
) -> Observation {
    let mut seen = inference(client.name, client.model, random);
    let host = random.below(client.hosts) as u8;
    seen.source = Some(address(client.network, host));
    let dice = random.unit();
    if dice < client.rejected {
        let reason = client.reasons[random.below(client.reasons.len() as u64) as usize];
        deny(&mut seen, reason);
        return seen;
    }
    if random.unit() < 0.002 {
        deny(&mut seen, Reason::HandlerFault);
    }
    for incident in incidents.iter().filter(|it| it.model == client.model) {
        if (incident.restart..incident.restart + 2).contains(&minute) && random.unit() < 0.6 {
            deny(&mut seen, Reason::BackendUnavailable);
        }
        if (incident.slow..incident.slow + 4).contains(&minute) {
            seen.total_us *= 4;
        }
    }
    seen
}

/// An answered inference of a client.
pub(super) fn inference(name: &str, model: &str, random: &mut Random) -> Observation {
    let latency = latency_us(model) * (0.4 * random.normal()).exp();
    let total_us = latency as u64;
    Observation {
        client: Some(name.to_owned()),
        credential: Some(format!("{name}-key")),
        model: Some(model.to_owned()),
        is_inference: true,
        verdict: Verdict::Allow,
        status: 200,
        total_us,
        near_bounds: near_bounds(model, total_us),
        top_class: (model != "ranker").then(|| prediction(model, random)),
        ..Observation::default()
    }
}

/// A prediction: one of ten classes, or for `tabular` one of two, of which one is rare.
fn prediction(model: &str, random: &mut Random) -> TopClass {
    let (class, doubt) = (random.unit(), random.unit());
    let class = if model == "resnet" {
        10.0 * class * class
    } else {
        f64::from(class > 0.9)
    };
    let confidence = 1_000_000.0 * (1.0 - 0.6 * doubt * doubt * doubt);
    TopClass {
        class: class as usize,
        confidence: confidence as u32,
    }
}

/// The inputs near their bounds: those of `tabular` rarely are, and `ranker` has no ranges. They
/// follow from the latency, which is as good as random.
fn near_bounds(model: &str, total_us: u64) -> Option<NearBounds> {
    let mut random = Random(total_us);
    let (inputs, share) = match model {
        "resnet" => (1, 0.1),
        "tabular" => (4, 0.02),
        _ => return None,
    };
    let near = (0..inputs).filter(|_| random.unit() < share).count() as u32;
    Some(NearBounds { inputs, near })
}

/// Makes a request one that was denied.
pub(super) fn deny(seen: &mut Observation, reason: Reason) {
    seen.verdict = Verdict::Deny;
    seen.reason = Some(reason);
    seen.status = reason.http_status();
    seen.top_class = None;
    let is_beyond = reason == Reason::OutOfRange;
    seen.near_bounds = is_beyond.then_some(NearBounds { inputs: 1, near: 1 });
}

pub(super) fn address([a, b, c]: [u8; 3], host: u8) -> IpAddr {
    Ipv4Addr::new(a, b, c, host).into()
}

/// A request at some time of a minute.
fn at(minute: u64, seen: Observation, random: &mut Random) -> Request {
    let ms = minute * MINUTE_MS + random.below(MINUTE_MS);
    Request { ms, seen }
}

/// Health checks without a credential, and the noise of a network: wrong credentials from anywhere.
fn background(minute: u64, requests: &mut Vec<Request>, random: &mut Random) {
    let denied = |source, reason| {
        let mut seen = Observation {
            source: Some(source),
            ..Observation::default()
        };
        deny(&mut seen, reason);
        seen
    };
    for _ in 0..6 {
        let seen = denied(address([10, 0, 0], 1), Reason::Unauthenticated);
        requests.push(at(minute, seen, random));
    }
    for _ in 0..random.poisson(0.5) {
        let [a, b, c, d, ..] = random.draw().to_le_bytes();
        for _ in 0..=random.below(4) {
            let reason = if random.unit() < 0.1 {
                Reason::AmbiguousRequest
            } else {
                Reason::Unauthenticated
            };
            let seen = denied(address([a, b, c], d), reason);
            requests.push(at(minute, seen, random));
        }
    }
}
