//! The whole path under heavy load: twice the load that it can serve, and a thousand handlers and
//! models.

use std::time::{Duration, Instant};

use crate::figures::{median, number};
use crate::kernel::{peak_rss_mib, rss_mib};
use crate::lab::{Lab, Server};
use crate::load::open_loop::crowd;
use crate::load::{Address, Client, Expect, Http, Shot};
use crate::models::{PHOTO, STREAMED, binary_shot, grpc_shot};
use crate::outcome::{Outcome, failure};
use crate::policy::{Shape, key};
use crate::race::{Contender, race};
use crate::report::Report;

use super::path::GateWithHost;
use super::{client, course};

/// How long a client waits for a response.
const PATIENCE: Duration = Duration::from_secs(1);
/// Share of the closed loop's throughput that counts as full load without overload.
const FULL_LOAD: f64 = 0.9;

/// Rounds of both loads in turn for each protocol, so that noise of the machine meets both.
const ROUNDS: usize = 3;

/// Twice the full load.
pub async fn overload(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section("Twice the full load", "Photographs through gate, host and handler. Full load is nine tenths of the throughput of four connections. An open-loop client then sends at that rate and at twice that rate, in turn, without waiting for responses. Good responses are those that arrive within one second. REST requests have binary tensors. The figures are those of the worse protocol, each the median of its rounds.");
    let upstream = Server::start(lab, "upstream").await?;
    let whole = GateWithHost::start(lab, upstream.tcp()?, 0).await?;
    let mut rows = Vec::new();
    let (mut ratios, mut given_up) = (Vec::new(), Vec::new());
    for (protocol, expect, shot) in [
        ("gRPC", Expect::Grpc, grpc_shot(PHOTO)?),
        ("REST", Expect::Status(200), binary_shot(PHOTO)?),
    ] {
        let shot = shot.with("x-api-key", &key(0))?;
        let address = &whole.envoy.address;
        let (ratio, late) = twice(lab, address, (protocol, expect, &shot), &mut rows).await?;
        ratios.push(ratio);
        given_up.push(late);
    }
    report.table(
        &[
            "",
            "sent a second",
            "good answers a second",
            "refused a second",
            "given up a second",
        ],
        &rows,
    );
    report.reached("overload", ratios.into_iter().fold(f64::MAX, f64::min));
    report.reached(
        "overload-given-up",
        given_up.into_iter().fold(0.0, f64::max),
    );
    Ok(())
}

/// One protocol: the part of full load's good responses that twice the load gets, and the requests
/// a second without a response in time.
async fn twice(
    lab: &Lab,
    address: &Address,
    (protocol, expect, shot): (&str, Expect, &Shot),
    rows: &mut Vec<Vec<String>>,
) -> Outcome<(f64, f64)> {
    let mut closed = client(address, Http::Two, expect);
    let count = if lab.quick { 20 } else { 1_500 };
    let volley = closed.volley(std::slice::from_ref(shot), 0, count).await?;
    let rate = number(count) / volley.wall.as_secs_f64() * FULL_LOAD;
    let length = Duration::from_millis(if lab.quick { 200 } else { 4_000 });
    let (mut ratios, mut given_up) = (Vec::new(), Vec::new());
    for _ in 0..if lab.quick { 1 } else { ROUNDS } {
        let mut goodput = Vec::new();
        for (name, times) in [("at full load", 1.0), ("twice the full load", 2.0)] {
            let counts = crowd(address, expect, shot, rate * times, length, PATIENCE).await?;
            rows.push(vec![
                format!("{protocol}, {name}"),
                format!("{:.0}", counts.rate(counts.sent)),
                format!("{:.0}", counts.goodput()),
                format!("{:.0}", counts.rate(counts.refused)),
                format!("{:.0}", counts.rate(counts.given_up)),
            ]);
            goodput.push((counts.goodput(), counts.rate(counts.given_up)));
        }
        if let [(full, _), (twice, late)] = goodput.as_slice() {
            ratios.push(twice / full);
            given_up.push(*late);
        }
    }
    Ok((median(&ratios), median(&given_up)))
}

/// The host's `buffered_bytes`: room for one body of the largest size, as received and as decoded.
const BUFFERED: (&str, f64) = ("520MiB", 520.0);
/// Number of such bodies that are sent concurrently.
const AT_ONCE: usize = 4;

/// Concurrent bodies that together exceed the host's memory budget.
pub async fn buffering(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "More bodies than the memory budget allows",
        "Four concurrent bodies of 256 MiB over gRPC through gate and host. `limits.buffered_bytes: 520MiB` allows one body as received and as decoded; the others are rejected. Memory is the host's before, and its peak.",
    );
    let upstream = Server::start(lab, "upstream").await?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.buffered_bytes = BUFFERED.0;
    let whole = GateWithHost::of(lab, shape).await?;
    let pid = whole.host.process.pid();
    let before = rss_mib(pid)?;
    let shot = [grpc_shot(STREAMED)?.with("x-api-key", &key(0))?];
    let address = whole.envoy.address.clone();
    let mut client = Client::new(address, Http::Two, Expect::Grpc, AT_ONCE);
    let count = if lab.quick { 2 * AT_ONCE } else { 40 };
    let came = client.volley_with_failures(&shot, 0, count).await?;
    let (peak, good) = (peak_rss_mib(pid)?, came.latencies_us.len());
    let rows = [vec![
        good.to_string(),
        came.failed.to_string(),
        format!("{before:.0}"),
        format!("{peak:.0}"),
    ]];
    report.table(
        &["answered", "refused", "RSS before, MiB", "peak RSS, MiB"],
        &rows,
    );
    if good == 0 {
        let first = came.first_failure.unwrap_or_default();
        return failure(format!(
            "every request was rejected; the first rejection: {first}"
        ));
    }
    report.reached("host-buffering", (peak - before) / BUFFERED.1);
    Ok(())
}

/// Handlers with a component of their own, to measure compilation and the size of compiled code.
const OWN: u16 = 64;

/// One handler compared with a thousand.
pub async fn many(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let many = if lab.quick { 5 } else { 1_000 };
    report.section(
        "1 to 1,000 models with one handler each",
        "The same photograph. The figure is the host's CPU time. A component is compiled once, however many handlers use it. In the last row each handler has its own component, compiled at the start without a cache.",
    );
    let upstream = Server::start(lab, "upstream").await?;
    let mut rows = Vec::new();
    let mut started = Vec::new();
    for more in [0, many] {
        let began = Instant::now();
        let whole = GateWithHost::start(lab, upstream.tcp()?, more).await?;
        rows.push(vec![
            format!("{}", more.saturating_add(1)),
            format!("{:.1} s", began.elapsed().as_secs_f64()),
            format!("{:.0} MiB", rss_mib(whole.host.process.pid())?),
        ]);
        started.push(whole);
    }
    let own = if lab.quick { 2 } else { OWN };
    let began = Instant::now();
    let whole = GateWithHost::with_components(lab, upstream.tcp()?, own).await?;
    rows.push(vec![
        format!("{}, one component each", own.saturating_add(1)),
        format!("{:.1} s", began.elapsed().as_secs_f64()),
        format!("{:.0} MiB", rss_mib(whole.host.process.pid())?),
    ]);
    drop(whole);
    report.table(
        &[
            "handlers",
            "render and start of host and Envoy",
            "host's RSS then",
        ],
        &rows,
    );
    let shot = grpc_shot(PHOTO)?.with("x-api-key", &key(0))?;
    let mut contenders: Vec<Contender> = started
        .iter()
        .zip(&rows)
        .map(|(whole, row)| Contender {
            name: format!("{} handlers", row.first().map_or("", String::as_str)),
            client: client(&whole.envoy.address, Http::Two, Expect::Grpc),
            shots: vec![shot.clone()],
            pid: whole.host.process.pid(),
            beside: Some(("Envoy with the gate", whole.envoy.process.pid())),
        })
        .collect();
    let results = race(&mut contenders, course(lab, 7, 200)).await?;
    report.race(&results, 0);
    if let [one, thousand] = results.as_slice() {
        report.reached("many-models", thousand.over(one));
    }
    Ok(())
}
