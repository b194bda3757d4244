//! Cost of the console: a request in what it keeps, and the host while readers ask for its page.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tensorgate_audit::RecordListener as _;
use tensorgate_audit::record::Event;
use tensorgate_console::Recorder;
use tokio::task::JoinSet;

use super::path::GateWithHost;
use super::sandbox::micros;
use super::watch::record;
use super::{client, course};
use crate::admin::ask;
use crate::cores::CoreSet;
use crate::figures::median;
use crate::lab::{Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{SMALL, grpc_shot};
use crate::outcome::Outcome;
use crate::policy::{Shape, key};
use crate::race::{Contender, race};
use crate::report::Report;

/// The records of a round, and of one write of the log.
const RECORDS: u32 = 20_000;
const BATCH: usize = 64;
/// The readers and the pause of each: together 64 browsers, whose script asks every five seconds.
const READERS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(600);

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "Console",
        "The cost of a record is that on the thread that writes the audit log, with 1,000 clients and 20 models, in writes of 64 records. The throughput is that of the host's CPU time while 64 browsers show the console.",
    );
    lab.cores.enter(CoreSet::Subject)?;
    let cost_us = cost(lab.quick);
    lab.cores.enter(CoreSet::Load)?;
    let row = vec!["a record, µs".to_owned(), format!("{cost_us:.2}")];
    report.table(&["", "figure"], &[row]);
    report.reached("console-cost", cost_us);
    throughput(lab, report).await
}

/// The median cost of a record in microseconds.
fn cost(is_quick: bool) -> f64 {
    let (records, rounds) = if is_quick { (100, 1) } else { (RECORDS, 21) };
    let events: Vec<(SystemTime, Event)> = (0..records)
        .map(|number| (UNIX_EPOCH, record(number)))
        .collect();
    let recorder = Recorder::default();
    let mut costs_us = Vec::new();
    // The first round creates the state.
    for round in 0..=rounds {
        let began = Instant::now();
        for batch in events.chunks(BATCH) {
            recorder.written(black_box(batch));
        }
        if round > 0 {
            costs_us.push(micros(began.elapsed()) / f64::from(records));
        }
    }
    median(&costs_us)
}

/// The host with readers of the console against the host without.
async fn throughput(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let shape = Shape::plain(upstream.tcp()?);
    let with_readers = GateWithHost::of(lab, shape.clone()).await?;
    let without = GateWithHost::of(lab, shape).await?;
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let address = with_readers.host.admin.clone();
        readers.spawn(async move {
            loop {
                drop(ask(&address, http::Method::GET, "/console/sections").await);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    let shot = grpc_shot(SMALL)?.with("x-api-key", &key(0))?;
    let contender = |name: &str, gate: &GateWithHost| Contender {
        name: name.to_owned(),
        client: client(&gate.envoy.address, Http::Two, Expect::Grpc),
        shots: vec![shot.clone()],
        pid: gate.host.process.pid(),
        beside: Some(("Envoy with the gate", gate.envoy.process.pid())),
    };
    let mut contenders = [
        contender("host without readers", &without),
        contender("host with 64 readers of the console", &with_readers),
    ];
    let results = race(&mut contenders, course(lab, 15, 3000)).await?;
    report.race(&results, 0);
    if let [without, with_readers] = results.as_slice() {
        report.reached("console", without.over(with_readers));
    }
    Ok(())
}
