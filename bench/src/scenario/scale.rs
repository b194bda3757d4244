//! More clients, more models: what a request costs then, what it takes in memory, and how long a start is.

use std::time::Instant;

use crate::figures::number;
use crate::kernel::rss_mib;
use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{SMALL, json_shot};
use crate::outcome::Outcome;
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, Rendered, Upstream};
use crate::race::{Contender, Result, race};
use crate::report::Report;

use super::{client, course};

/// Runs it.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let many = if lab.quick { 1_000 } else { 100_000 };
    report.section("10 to 100,000 clients, a key each", "One worker. The client that asks is the last of them. Start: rendering the policy, then Envoy until it listens.");
    let results = grown(lab, report, &[(10, 0), (100, 0), (many, 0)]).await?;
    if let [bare, few, hundred, most] = results.as_slice() {
        report.reached("clients", most.over(few));
        report.reached("memory", hundred.rss_mib - bare.rss_mib);
        report.reached(
            "client-bytes",
            (most.rss_mib - few.rss_mib) * 1_048_576.0 / (number(many) - 10.0) / CONFIGURED_VMS,
        );
    }
    let many = if lab.quick { 100 } else { 10_000 };
    report.section(
        "10 to 10,000 models",
        "The same, ten clients with a grant for every model.",
    );
    let results = grown(lab, report, &[(10, 5), (10, many)]).await?;
    if let [_, few, most] = results.as_slice() {
        report.reached("models", most.over(few));
    }
    Ok(())
}

/// A filter is configured on the main thread and once on each worker.
const CONFIGURED_VMS: f64 = 2.0;

/// Races gates of so many clients and further models, after a bare Envoy.
async fn grown(lab: &Lab, report: &mut Report, sizes: &[(usize, usize)]) -> Outcome<Vec<Result>> {
    let upstream = Server::start(lab, "upstream").await?;
    let to = || Upstream::Unix(&upstream.socket);
    let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
    let plain = json_shot(SMALL)?;
    let contender = |name: String, envoy: &Envoy, shot| Contender {
        name,
        client: client(&envoy.address, Http::One, Expect::Status(200)),
        shots: vec![shot],
        pid: envoy.process.pid(),
        beside: None,
    };
    let mut contenders = vec![contender("bare Envoy".to_owned(), &bare, plain.clone())];
    let mut envoys = Vec::new();
    let mut rows = Vec::new();
    for (clients, more_models) in sizes.iter().copied() {
        let mut shape = Shape::plain(upstream.tcp()?);
        shape.clients = clients;
        shape.more_models = more_models;
        let name = format!(
            "{clients} clients, {} models",
            more_models.saturating_add(5)
        );
        let folder = lab.folder("scale")?;
        let started = Instant::now();
        let rendered = Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)?;
        let rendering = started.elapsed();
        let started = Instant::now();
        let envoy = proxy::start(lab, "scale", Filters::Json(rendered.filters()?), to()).await?;
        let starting = started.elapsed();
        let bundle = std::fs::metadata(&rendered.bundle)?.len();
        rows.push(vec![
            name.clone(),
            format!("{} KiB", bundle >> 10),
            format!("{:.2} s", rendering.as_secs_f64()),
            format!("{:.2} s", starting.as_secs_f64()),
            format!("{:.0} MiB", rss_mib(envoy.process.pid())?),
        ]);
        let last = clients.saturating_sub(1);
        contenders.push(contender(
            name,
            &envoy,
            plain.clone().with("x-api-key", &key(last))?,
        ));
        envoys.push(envoy);
    }
    report.table(
        &[
            "policy",
            "bundle",
            "check and render",
            "Envoy's start",
            "RSS then",
        ],
        &rows,
    );
    let results = race(&mut contenders, course(lab, 7, 3000)).await?;
    report.race(&results, 0);
    Ok(results)
}
