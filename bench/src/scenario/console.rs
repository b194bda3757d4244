//! Cost of the console: a request in what it keeps, and the host while readers ask for its page.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tensorgate_audit::RecordListener as _;
use tensorgate_audit::record::Event;
use tensorgate_console::Recorder;
use tokio::task::JoinSet;

use super::path::{GateWithHost, race_hosts};
use super::sandbox::micros;
use super::watch::record;
use crate::admin::ask;
use crate::cores::CoreSet;
use crate::figures::median;
use crate::lab::{Lab, Server};
use crate::outcome::Outcome;
use crate::policy::Shape;
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
    let hosts = [
        ("host without readers", &without),
        ("host with 64 readers of the console", &with_readers),
    ];
    race_hosts(lab, report, "console", hosts).await
}
