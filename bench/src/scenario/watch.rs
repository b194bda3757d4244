//! Cost of the anomaly rules on the audit stream: a request in all rules, their memory for a
//! client, and the host with and without them.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Instant, UNIX_EPOCH};

use tensorgate_audit::record::{Decision, Event, Verdict};
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::release::TopClass;
use tensorgate_watch::time::Time;
use tensorgate_watch::{Monitor, Observation};

use super::path::{GateWithHost, race_hosts};
use super::sandbox::micros;
use crate::cores::CoreSet;
use crate::figures::median;
use crate::kernel;
use crate::lab::{Lab, Server};
use crate::outcome::Outcome;
use crate::policy::Shape;
use crate::report::Report;

/// The clients whose requests are timed.
const CLIENTS: u32 = 1_000;
/// Their models.
const MODELS: u32 = 20;
/// The records of a round.
const RECORDS: u32 = 20_000;
/// The clients whose memory is measured: as many as a rule keeps state for.
const CLIENTS_IN_MEMORY: u32 = 4_096;
/// The networks, credentials and requests of each: as many as a rule remembers.
const THINGS: u32 = 32;
/// The models of each that have state of their own.
const MODELS_IN_MEMORY: u32 = 8;
/// The first address of clients: 10.0.0.0.
const FIRST_ADDRESS: u32 = 0x0a00_0000;
/// Addresses of a /24.
const ADDRESSES_OF_NETWORK: u32 = 256;

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "Anomaly rules",
        "Records of 1,000 clients and 20 models, one in fifty of them rejected, a millisecond apart. The summary of a record is made on the thread that writes the audit log, and the rules run on a thread of their own. The memory is resident memory that 4,096 clients add, each with 32 networks, 32 credentials and 8 models, divided by their number.",
    );
    lab.cores.enter(CoreSet::Subject)?;
    let measured = measure(lab, report);
    lab.cores.enter(CoreSet::Load)?;
    measured?;
    throughput(lab, report).await
}

/// The cost and the memory of the rules in this process.
fn measure(lab: &Lab, report: &mut Report) -> Outcome<()> {
    // First, because later allocations reuse what earlier ones have left.
    let kib = client_kib(if lab.quick { 64 } else { CLIENTS_IN_MEMORY })?;
    let (summary_us, rules_us) = costs(lab.quick);
    let both_us = summary_us + rules_us;
    let rows = [
        ("the summary of a record, µs", summary_us),
        ("all rules, µs a request", rules_us),
        ("memory, KiB a client", kib),
    ];
    let rows = rows.map(|(name, figure)| vec![name.to_owned(), format!("{figure:.2}")]);
    report.table(&["", "figure"], &rows);
    report.reached("watch-cost", both_us);
    report.reached("watch-memory", kib);
    Ok(())
}

/// The median cost of a summary, and of all rules for a request.
fn costs(is_quick: bool) -> (f64, f64) {
    let (records, rounds) = if is_quick { (100, 1) } else { (RECORDS, 21) };
    let events: Vec<Event> = (0..records).map(record).collect();
    let mut monitor = Monitor::default();
    let (mut summary_us, mut rules_us) = (Vec::new(), Vec::new());
    let mut now_ms = 0_u64;
    // The first round creates the state.
    for round in 0..=rounds {
        let began = Instant::now();
        let seen: Vec<_> = (events.iter().filter_map(Observation::from_event)).collect();
        let summarised = began.elapsed();
        let began = Instant::now();
        for seen in &seen {
            now_ms = now_ms.saturating_add(1);
            black_box(monitor.observe(seen, Time::from_ms(now_ms), UNIX_EPOCH));
        }
        let observed = began.elapsed();
        if round > 0 {
            summary_us.push(micros(summarised) / f64::from(records));
            rules_us.push(micros(observed) / f64::from(records));
        }
    }
    (median(&summary_us), median(&rules_us))
}

/// A record, which varies with its number.
pub(super) fn record(number: u32) -> Event {
    let client = number.rem_euclid(CLIENTS);
    let turn = number.div_euclid(CLIENTS);
    let is_rejected = number.saturating_add(turn).is_multiple_of(50);
    let (verdict, reason, status) = if is_rejected {
        (Verdict::Deny, "shape", 400)
    } else {
        (Verdict::Allow, "ok", 200)
    };
    let address = client.saturating_mul(4).saturating_add(turn.rem_euclid(4));
    let top_class = TopClass {
        class: usize::try_from(turn.rem_euclid(10)).unwrap_or_default(),
        confidence: 900_000_u32.saturating_add(client),
    };
    Event::Decision(Box::new(Decision {
        request_id: Some(format!("{number:032x}")),
        verdict,
        reason: reason.to_owned(),
        client: Some(format!("client-{client}")),
        credential: Some(format!("key-{client}")),
        source: Some(Ipv4Addr::from_bits(FIRST_ADDRESS.saturating_add(address)).to_string()),
        method: Some("POST".to_owned()),
        path: Some("/v2/models/small/infer".to_owned()),
        model: Some(format!("model-{}", client.rem_euclid(MODELS))),
        operation: Some("infer".to_owned()),
        status,
        total_us: u64::from(turn).saturating_mul(10).saturating_add(5_000),
        top_class: Some(top_class),
        near_bounds: Some(NearBounds { inputs: 1, near: 0 }),
        ..Decision::default()
    }))
}

/// The memory of all rules for a client in KiB.
fn client_kib(clients: u32) -> Outcome<f64> {
    let pid = std::process::id();
    let before = kernel::rss_mib(pid)?;
    let mut monitor = Monitor::default();
    for client in 0..clients {
        for thing in 0..THINGS {
            let network = thing.saturating_mul(ADDRESSES_OF_NETWORK);
            let address = FIRST_ADDRESS.saturating_add(network).saturating_add(client);
            let seen = Observation {
                client: Some(format!("client-{client}")),
                credential: Some(format!("key-{thing}")),
                source: Some(Ipv4Addr::from_bits(address).into()),
                model: Some(format!("model-{}", thing.rem_euclid(MODELS_IN_MEMORY))),
                management: Some("Triton"),
                near_bounds: Some(NearBounds::default()),
                ..Observation::default()
            };
            black_box(monitor.observe(&seen, Time::from_s(1), UNIX_EPOCH));
        }
    }
    let added_kib = (kernel::rss_mib(pid)? - before) * 1_024.0;
    black_box(&monitor);
    Ok(added_kib / f64::from(clients))
}

/// The host with all rules and with an export of the audit log against the host without both.
async fn throughput(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.line("The host with a model without a handler, 1 KB over gRPC, whose input has a range and whose output has class scores. The figure is the host's CPU time, which includes the threads of the rules and of the export. The export is to standard output, which is a file here.");
    let upstream = Server::start(lab, "upstream").await?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.has_export = true;
    // Otherwise the host would not look for the most likely class.
    shape.has_scores = true;
    let with_all = GateWithHost::of(lab, shape.clone()).await?;
    (shape.has_watch, shape.has_export) = (false, false);
    let without_all = GateWithHost::of(lab, shape).await?;
    let hosts = [
        ("host without both", &without_all),
        ("host with all rules and an export", &with_all),
    ];
    race_hosts(lab, report, "watch", hosts).await
}
