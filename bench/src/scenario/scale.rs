//! Large policies: the cost of a request, memory and start-up time with more clients, keys, grants
//! and models.

use std::time::Instant;

use crate::figures::number;
use crate::kernel::rss_mib;
use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{SMALL, json_shot, small_json_shot};
use crate::outcome::Outcome;
use crate::policy::{GRANTS_A_CLIENT, Shape, further_grant, key};
use crate::proxy::{self, Filters, Mode, Rendered, Upstream};
use crate::race::{Contender, Result, race};
use crate::report::Report;

use super::{client, course};

/// Models in each policy that requests are sent to.
const ASKED_MODELS: usize = 5;

/// A policy of some size.
struct Size {
    name: String,
    clients: usize,
    keys_each: usize,
    more_models: usize,
    more_grants: usize,
}

impl Size {
    fn of_clients(clients: usize) -> Self {
        Self {
            name: format!("{clients} clients, 5 models"),
            clients,
            keys_each: 1,
            more_models: 0,
            more_grants: 0,
        }
    }

    fn of_keys(keys_each: usize) -> Self {
        Self {
            name: format!("10 clients, {keys_each} keys each"),
            keys_each,
            ..Self::of_clients(10)
        }
    }

    fn of_models(models: usize) -> Self {
        Self {
            name: format!("10 clients, {models} models"),
            more_models: models.saturating_sub(ASKED_MODELS),
            ..Self::of_clients(10)
        }
    }

    /// A policy with this many further grants. Clients and models are the same whatever the number
    /// of grants.
    fn of_grants(more_grants: usize, most: usize) -> Self {
        let clients = most.div_ceil(GRANTS_A_CLIENT);
        Self {
            name: format!("{more_grants} grants, {clients} clients"),
            more_models: GRANTS_A_CLIENT,
            more_grants,
            ..Self::of_clients(clients)
        }
    }

    /// The key and the model of a request: the last of each.
    fn last(&self) -> (usize, String) {
        match self.more_grants.checked_sub(1) {
            Some(last) => further_grant(last),
            None => {
                let last = self.clients.saturating_mul(self.keys_each);
                (last.saturating_sub(1), SMALL.to_owned())
            }
        }
    }
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let many = if lab.quick { 1_000 } else { 100_000 };
    report.section("10 to 100,000 clients with one key each", "One worker. The last client sends the requests. The start is rendering the policy and then Envoy's start until it listens. bundle.bin is the host's; a filter gets its part of it.");
    let sizes = [10, 100, many].map(Size::of_clients);
    let results = grown(lab, report, &sizes).await?;
    if let [bare, few, hundred, most] = results.as_slice() {
        report.reached("clients", most.over(few));
        report.reached("memory", hundred.rss_mib - bare.rss_mib);
    }
    memory(lab, report, many).await?;

    report.section(
        "10 to 100,000 keys",
        "Ten clients share them. Requests carry the last key.",
    );
    let sizes = [1, many.div_euclid(10)].map(Size::of_keys);
    let results = grown(lab, report, &sizes).await?;
    if let [_, few, most] = results.as_slice() {
        report.reached("keys", most.over(few));
    }

    report.section(
        "10 to 100,000 grants",
        "Both have the same number of clients and models. Each grant is for one client and one model. The request uses the last grant.",
    );
    let sizes = [10, many].map(|grants| Size::of_grants(grants, many));
    let results = grown(lab, report, &sizes).await?;
    if let [_, few, most] = results.as_slice() {
        report.reached("grants", most.over(few));
    }

    report.section(
        "10 to 100,000 models",
        "Ten clients with a grant for every model. All models but five share one contract by an alias, which the bundle writes once.",
    );
    let sizes = [10, many].map(Size::of_models);
    let results = grown(lab, report, &sizes).await?;
    if let [_, few, most] = results.as_slice() {
        report.reached("models", most.over(few));
    }
    Ok(())
}

/// Starts a gate with a policy of this size in the bare listener.
async fn gate(
    lab: &Lab,
    upstream: &Server,
    size: &Size,
    workers: usize,
) -> Outcome<(Envoy, Vec<String>)> {
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.clients = size.clients;
    shape.keys_each = size.keys_each;
    shape.more_models = size.more_models;
    shape.more_grants = size.more_grants;
    let folder = lab.folder("scale")?;
    let started = Instant::now();
    let rendered = Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)?;
    let rendering = started.elapsed();
    let started = Instant::now();
    let mode = Mode { workers, tls: None };
    let filters = Filters::Json(rendered.filters()?);
    let to = Upstream::Unix(&upstream.socket);
    let envoy = proxy::start_with(lab, "scale", filters, to, &mode).await?;
    let starting = started.elapsed();
    let bundle = std::fs::metadata(&rendered.bundle)?.len();
    let row = vec![
        size.name.clone(),
        format!("{} KiB", bundle >> 10),
        format!("{:.2} s", rendering.as_secs_f64()),
        format!("{:.2} s", starting.as_secs_f64()),
        format!("{:.0} MiB", rss_mib(envoy.process.pid())?),
    ];
    Ok((envoy, row))
}

/// Races gates of these sizes after a bare Envoy.
async fn grown(lab: &Lab, report: &mut Report, sizes: &[Size]) -> Outcome<Vec<Result>> {
    let upstream = Server::start(lab, "upstream").await?;
    let to = Upstream::Unix(&upstream.socket);
    let bare = proxy::start(lab, "bare", Filters::None, to).await?;
    let contender = |name: String, envoy: &Envoy, shot| Contender {
        name,
        client: client(&envoy.address, Http::One, Expect::Status(200)),
        shots: vec![shot],
        pid: envoy.process.pid(),
        beside: None,
    };
    let mut contenders = vec![contender("bare Envoy".to_owned(), &bare, json_shot(SMALL)?)];
    let mut envoys = Vec::new();
    let mut rows = Vec::new();
    for size in sizes {
        let (envoy, row) = gate(lab, &upstream, size, 1).await?;
        let (last, model) = size.last();
        let shot = small_json_shot(&model)?.with("x-api-key", &key(last))?;
        contenders.push(contender(size.name.clone(), &envoy, shot));
        envoys.push(envoy);
        rows.push(row);
    }
    report.table(
        &[
            "policy",
            "bundle.bin",
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

/// Additional workers of the larger of two Envoys. The difference in memory divided by this number
/// is the cost of one worker.
const MORE_WORKERS: usize = 3;

/// Memory that a client takes: in each further worker, and in the process with its first worker.
async fn memory(lab: &Lab, report: &mut Report, many: usize) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let mut rss = Vec::new();
    let mut rows = Vec::new();
    for workers in [1, MORE_WORKERS] {
        let mut row = vec![workers.to_string()];
        for clients in [10, many] {
            let (envoy, _) = gate(lab, &upstream, &Size::of_clients(clients), workers).await?;
            let mib = rss_mib(envoy.process.pid())?;
            row.push(format!("{mib:.0} MiB"));
            rss.push(mib);
        }
        rows.push(row);
    }
    let most = format!("{many} clients");
    report.table(&["workers", "10 clients", &most], &rows);
    if let [few_one, many_one, few_more, many_more] = rss.as_slice() {
        let bytes = |mib: f64| mib * 1_048_576.0 / (number(many) - 10.0);
        let further = number(MORE_WORKERS) - 1.0;
        let each = bytes((many_more - few_more) - (many_one - few_one)) / further;
        let process = bytes(many_one - few_one);
        report.line(&format!(
            "A client takes {each:.0} bytes in each further worker, and {process:.0} in a process with one worker. The latter includes Envoy's own copies of the configuration, the slot of the client's rate and the main thread's VM.",
        ));
        report.reached("client-bytes", each);
    }
    Ok(())
}
