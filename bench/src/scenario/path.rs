//! The host's part of a request. A model without a handler is compared with a bare proxy hop, and a
//! model with a handler with Python servers that do the same task.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::host::Host;
use crate::lab::{Envoy, Lab, Server};
use crate::load::{Address, Client, Expect, Http};
use crate::models::{LARGE, PHOTO, SMALL, THUMB, grpc_shot, grpc_shot_as};
use crate::outcome::{Failure, Outcome};
use crate::peers::{self, Peer};
use crate::policy::{Component, Shape, key};
use crate::proxy::{self, Filters, Rendered, Upstream};
use crate::race::{Contender, Result, race};
use crate::report::Report;

use super::{client, course, python};

/// A gate with its host.
pub struct GateWithHost {
    /// Envoy, as rendered.
    pub envoy: Envoy,
    /// The host.
    pub host: Host,
}

impl GateWithHost {
    /// Starts both. The policy includes the handler.
    pub async fn start(lab: &Lab, upstream: SocketAddr, more_handlers: usize) -> Outcome<Self> {
        let mut shape = Shape::plain(upstream);
        shape.more_handlers = more_handlers;
        Self::of(lab, shape).await
    }

    /// Starts both with this many further models, each with a component of its own.
    pub async fn with_components(lab: &Lab, upstream: SocketAddr, count: u16) -> Outcome<Self> {
        let mut shape = Shape::plain(upstream);
        shape.more_handlers = usize::from(count);
        Self::made(lab, shape, count).await
    }

    /// Starts both with a policy of another shape.
    pub async fn of(lab: &Lab, shape: Shape) -> Outcome<Self> {
        Self::made(lab, shape, 0).await
    }

    async fn made(lab: &Lab, mut shape: Shape, own: u16) -> Outcome<Self> {
        let folder = lab.folder("whole")?;
        let component = lab.components.join("normalise.wasm");
        shape.handler = Some(Component::copy(&component, &folder)?);
        for number in 0..own {
            let other = Component::other(&component, &folder, number)?;
            shape.own_components.push(other);
        }
        Self::launch(lab, folder, &shape.to_json()).await
    }

    /// Starts both with a handler in Python.
    async fn in_python(lab: &Lab, upstream: SocketAddr, component: &[u8]) -> Outcome<Self> {
        let folder = lab.folder("whole")?;
        let mut shape = Shape::plain(upstream);
        shape.handler = Some(Component::in_python(component, &folder)?);
        let rendered = Rendered::with_host(lab, folder, &shape.to_json())?;
        let host = Host::with_runtimes(lab, &rendered, "host").await?;
        let envoy = rendered.start(lab, "gate", 1).await?;
        Ok(Self { envoy, host })
    }

    /// Starts both with a policy, whose components are in the folder.
    pub async fn launch(lab: &Lab, folder: PathBuf, policy: &Value) -> Outcome<Self> {
        let rendered = Rendered::with_host(lab, folder, policy)?;
        let host = Host::start(lab, &rendered, "host").await?;
        let envoy = rendered.start(lab, "gate", 1).await?;
        Ok(Self { envoy, host })
    }
}

/// Compares two hosts behind their gates by the CPU time of 1 KB over gRPC. The target's figure is
/// the first one's time divided by the second one's.
pub async fn race_hosts(
    lab: &Lab,
    report: &mut Report,
    target: &'static str,
    hosts: [(&str, &GateWithHost); 2],
) -> Outcome<()> {
    let shot = grpc_shot(SMALL)?.with("x-api-key", &key(0))?;
    let mut contenders = hosts.map(|(name, gate)| Contender {
        name: name.to_owned(),
        client: client(&gate.envoy.address, Http::Two, Expect::Grpc),
        shots: vec![shot.clone()],
        pid: gate.host.process.pid(),
        beside: Some(("Envoy with the gate", gate.envoy.process.pid())),
    });
    let results = race(&mut contenders, course(lab, 15, 3000)).await?;
    report.race(&results, 0);
    if let [first, second] = results.as_slice() {
        report.reached(target, first.over(second));
    }
    Ok(())
}

/// Models without a handler.
pub async fn pass_through(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section("A model without a handler: the host's own cost", "gRPC from client to backend. The figure is the host's CPU time. The CPU time of Envoy in front of it is in the next column. The baseline is a bare Envoy hop to the same backend. The row for the backend itself has no proxy in front: its figure is the backend's own CPU time, on the load's core, and its latencies are those without the path.");
    let upstream = Server::start(lab, "upstream").await?;
    let whole = GateWithHost::start(lab, upstream.tcp()?, 0).await?;
    let bare = proxy::start(lab, "bare", Filters::None, Upstream::Tcp(upstream.tcp()?)).await?;
    for (id, model, requests) in [("pass-1k", SMALL, 3000), ("pass-600k", LARGE, 250)] {
        let shot = grpc_shot(model)?;
        let mut contenders = [
            Contender {
                name: format!("bare Envoy hop, {model}"),
                client: client(&bare.address, Http::Two, Expect::Grpc),
                shots: vec![shot.clone()],
                pid: bare.process.pid(),
                beside: None,
            },
            Contender {
                name: format!("sandbox host, {model}"),
                client: client(&whole.envoy.address, Http::Two, Expect::Grpc),
                shots: vec![shot.clone().with("x-api-key", &key(0))?],
                pid: whole.host.process.pid(),
                beside: Some(("Envoy with the gate", whole.envoy.process.pid())),
            },
            Contender {
                name: format!("the backend, directly, {model}"),
                client: client(&Address::Tcp(upstream.tcp()?), Http::Two, Expect::Grpc),
                shots: vec![shot],
                pid: upstream.process.pid(),
                beside: None,
            },
        ];
        let results = race(&mut contenders, course(lab, 9, requests)).await?;
        report.race(&results, 0);
        if let [bare, host, _] = results.as_slice() {
            report.reached(id, host.over(bare));
        }
    }
    Ok(())
}

/// A peer in Python: its name, its memory target, its name in tables.
type Named = (&'static str, &'static str, &'static str);

/// All peers.
const PEERS: [Named; 3] = [
    ("kserve", "host-memory-kserve", "KServe transformer"),
    (
        "triton",
        "host-memory-triton",
        "Triton ensemble, Python backend",
    ),
    (
        "mlserver",
        "host-memory-mlserver",
        "MLServer, a runtime in Python",
    ),
];

/// The target of a handler in Python, compared with the KServe transformer.
const IN_PYTHON: &str = "kserve-python";

/// A handler compared with Python.
pub async fn handler(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section("A photograph, 224×224×3 bytes to FP32 NCHW, then forwarded", "gRPC in, gRPC out. The figure is the CPU time of the process that transforms. It is the sandbox host, a KServe transformer, a Triton whose Python backend transforms and calls a second model, or an MLServer whose runtime transforms and does not forward. The CPU time of Envoy with the gate is shown beside the host's; the peers have no proxy in front.");
    let upstream = Server::start(lab, "upstream").await?;
    let whole = GateWithHost::start(lab, upstream.tcp()?, 0).await?;
    let mut contenders = vec![Contender {
        name: "sandbox host with the handler".to_owned(),
        client: client(&whole.envoy.address, Http::Two, Expect::Grpc),
        shots: vec![grpc_shot(PHOTO)?.with("x-api-key", &key(0))?],
        pid: whole.host.process.pid(),
        beside: Some(("Envoy with the gate", whole.envoy.process.pid())),
    }];
    let mut running: Vec<(Named, Peer)> = Vec::new();
    for named in PEERS {
        let (id, memory_id, name) = named;
        match peers::start(lab, id, upstream.tcp()?).await? {
            Ok(peer) => {
                contenders.push(Contender {
                    name: name.to_owned(),
                    client: client(&peer.address, Http::Two, Expect::Grpc),
                    shots: vec![grpc_shot(PHOTO)?],
                    pid: peer.process.pid(),
                    beside: None,
                });
                running.push((named, peer));
            }
            Err(why) => {
                report.line(&format!("{name}: {why}."));
                report.absent(id, &why);
                report.absent(memory_id, &why);
                if id == "kserve" {
                    report.absent(IN_PYTHON, &why);
                }
            }
        }
    }
    let results = race(&mut contenders, course(lab, 7, 200)).await?;
    report.race(&results, 0);
    let host = results.first().ok_or_else(|| Failure::from("no result"))?;
    for (((id, ..), _), peer) in running.iter().zip(results.iter().skip(1)) {
        report.reached(id, host.over(peer));
    }
    let kserve = running.iter().find(|((id, ..), _)| *id == "kserve");
    in_python(lab, report, upstream.tcp()?, kserve.map(|(_, peer)| peer)).await?;
    small(lab, report, &mut contenders).await?;
    memory(lab, report, &mut contenders, &running).await
}

/// The same with a handler in Python.
async fn in_python(
    lab: &Lab,
    report: &mut Report,
    upstream: SocketAddr,
    kserve: Option<&Peer>,
) -> Outcome<()> {
    report.section(
        "The same photograph with a handler in Python",
        "The same task with numpy in Python (`handlers/python/nchw.py`), as `tensorgate handler build` makes it, and the same KServe transformer, which computes it by the same lines.",
    );
    let component = match python::nchw_component(lab)? {
        Ok(component) => component,
        Err(why) => {
            report.line(&format!("Python: {why}."));
            report.absent(IN_PYTHON, &why);
            return Ok(());
        }
    };
    let gate = GateWithHost::in_python(lab, upstream, &component).await?;
    let mut contenders = vec![Contender {
        name: "sandbox host with the handler in Python".to_owned(),
        client: client(&gate.envoy.address, Http::Two, Expect::Grpc),
        shots: vec![grpc_shot(PHOTO)?.with("x-api-key", &key(0))?],
        pid: gate.host.process.pid(),
        beside: Some(("Envoy with the gate", gate.envoy.process.pid())),
    }];
    if let Some(kserve) = kserve {
        contenders.push(Contender {
            name: "KServe transformer".to_owned(),
            client: client(&kserve.address, Http::Two, Expect::Grpc),
            shots: vec![grpc_shot(PHOTO)?],
            pid: kserve.process.pid(),
            beside: None,
        });
    }
    let results = race(&mut contenders, course(lab, 7, 200)).await?;
    report.race(&results, 0);
    if let [host, kserve] = results.as_slice() {
        report.reached(IN_PYTHON, host.over(kserve));
    }
    Ok(())
}

/// The same with 1 KB: the cost of a request apart from its content.
async fn small(lab: &Lab, report: &mut Report, contenders: &mut [Contender]) -> Outcome<()> {
    report.section(
        "The same task on 1 KB",
        "A picture of 16×16, 768 bytes, by the same processes.",
    );
    for (at, contender) in contenders.iter_mut().enumerate() {
        contender.shots = if at == 0 {
            vec![grpc_shot(THUMB)?.with("x-api-key", &key(0))?]
        } else {
            vec![grpc_shot_as(PHOTO, THUMB)?]
        };
    }
    let results = race(contenders, course(lab, 7, 400)).await?;
    report.race(&results, 0);
    for (at, contender) in contenders.iter_mut().enumerate() {
        let shot = grpc_shot(PHOTO)?;
        contender.shots = vec![if at == 0 {
            shot.with("x-api-key", &key(0))?
        } else {
            shot
        }];
    }
    Ok(())
}

/// Concurrent requests while memory is measured.
const AT_ONCE: usize = 64;

async fn memory(
    lab: &Lab,
    report: &mut Report,
    contenders: &mut [Contender],
    running: &[(Named, Peer)],
) -> Outcome<()> {
    report.section(
        "Memory with 64 concurrent requests",
        "The same work; resident memory after it.",
    );
    for contender in contenders.iter_mut() {
        let address = contender.client.address().clone();
        contender.client = Client::new(address, Http::Two, Expect::Grpc, AT_ONCE);
    }
    let results: Vec<Result> = race(contenders, course(lab, 2, 400)).await?;
    let mut rows = Vec::new();
    for result in &results {
        rows.push(vec![
            result.name.clone(),
            format!("{:.0}", result.rss_mib),
            format!("{:.1}", result.p50_us / 1000.0),
            format!("{:.1}", result.p99_us / 1000.0),
        ]);
    }
    report.table(&["", "RSS MiB", "p50 ms", "p99 ms"], &rows);
    let Some(host) = results.first() else {
        return Ok(());
    };
    for (((_, memory_id, _), _), peer) in running.iter().zip(results.iter().skip(1)) {
        report.reached(memory_id, host.rss_mib / peer.rss_mib);
    }
    Ok(())
}
