//! Cost of forwarding request headers before the body is judged, as a mesh requires, compared with
//! holding them, for each setting of `listen.judge`. All contenders use the same filter and are in
//! one race.

use serde_json::Value;
use tensorgate_policy::{Compiled, FilterConfiguration, FilterTarget, HeaderMode, Target};

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Client, Expect, Http, Shot};
use crate::models::{FLOATS, LARGE, SMALL, STREAMED, binary_shot, grpc_shot, json_shot};
use crate::outcome::{Failure, Outcome};
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, Rendered, Upstream};
use crate::race::{Contender, Course, race};
use crate::report::Report;

use super::{CONNECTIONS, course};

/// The rendered filters with `headers: forward`, without the field that a mesh cannot set.
fn forwarding(filters: &Value) -> Outcome<Value> {
    let mut filters = filters.clone();
    let missing = || Failure::from("the rendered filter has no configuration");
    let config = filters
        .pointer_mut("/0/typed_config/config")
        .and_then(Value::as_object_mut)
        .ok_or_else(missing)?;
    config.remove("allow_on_headers_stop_iteration");
    let text = config
        .get_mut("configuration")
        .and_then(|configuration| configuration.get_mut("value"))
        .ok_or_else(missing)?;
    let encoded: FilterConfiguration<'_> =
        serde_json::from_str(text.as_str().ok_or_else(missing)?)?;
    let compiled = Compiled::load(&encoded.decode()?)?;
    let target = FilterTarget {
        headers: HeaderMode::Forward,
        ..compiled.target.filter()?
    };
    let compiled = Compiled {
        target: Target::Filter(target),
        ..compiled
    };
    let limit = FilterConfiguration::MAX_PLAIN_BYTES;
    let encoded = FilterConfiguration::new(&compiled.to_bytes(), limit)?;
    *text = serde_json::to_string(&encoded)?.into();
    Ok(filters)
}

/// An Envoy with the filter.
struct Gate {
    /// Its name in tables.
    name: String,
    envoy: Envoy,
}

/// The Envoys of this scenario.
struct Envoys {
    bare: Envoy,
    gates: Vec<Gate>,
    _upstream: Server,
}

impl Envoys {
    async fn start(lab: &Lab) -> Outcome<Self> {
        let upstream = Server::start(lab, "upstream").await?;
        let mut shape = Shape::plain(upstream.tcp()?);
        let to = || Upstream::Unix(&upstream.socket);
        let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
        let mut gates = Vec::new();
        for judge in [None, Some("envoy"), Some("host")] {
            shape.judge = judge;
            let judge = judge.unwrap_or("default");
            let folder = lab.folder(&format!("judge-{judge}"))?;
            let rendered = Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)?;
            let holding = rendered.filters()?;
            let forwarded = forwarding(holding)?;
            for (headers, filters) in [("hold", holding), ("forward", &forwarded)] {
                let name = format!("{headers}-{judge}");
                gates.push(Gate {
                    name: format!("gate, headers: {headers}, judge: {judge}"),
                    envoy: proxy::start(lab, &name, Filters::Json(filters), to()).await?,
                });
            }
        }
        Ok(Self {
            bare,
            gates,
            _upstream: upstream,
        })
    }

    /// Sends a request to all of them, over this many connections.
    async fn race(
        &self,
        report: &mut Report,
        (http, connections): (Http, usize),
        shot: Shot,
        course: Course,
    ) -> Outcome<()> {
        let expect = match http {
            Http::One => Expect::Status(200),
            Http::Two => Expect::Grpc,
        };
        let contender = |name: &str, envoy: &Envoy, shot: Shot| Contender {
            name: name.to_owned(),
            client: Client::new(envoy.address.clone(), http, expect, connections),
            shots: vec![shot],
            pid: envoy.process.pid(),
            beside: None,
        };
        let keyed = shot.clone().with("x-api-key", &key(0))?;
        let mut contenders = vec![contender("bare Envoy", &self.bare, shot)];
        for gate in &self.gates {
            contenders.push(contender(&gate.name, &gate.envoy, keyed.clone()));
        }
        let results = race(&mut contenders, course).await?;
        report.race(&results, 0);
        Ok(())
    }
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let envoys = Envoys::start(lab).await?;
    let (rest, grpc) = ((Http::One, CONNECTIONS), (Http::Two, CONNECTIONS));
    let note = "Four connections with one request at a time on each.";
    report.section("Headers forwarded or held: 1 KB of JSON", note);
    let shot = json_shot(SMALL)?;
    envoys
        .race(report, rest, shot, course(lab, 9, 3000))
        .await?;
    report.section("Headers forwarded or held: 524 KB of floats", "As JSON.");
    let shot = json_shot(FLOATS)?;
    envoys.race(report, rest, shot, course(lab, 9, 100)).await?;
    let note = "Over REST with the binary extension, then over gRPC with raw contents.";
    report.section("Headers forwarded or held: 600 KB of FP32", note);
    let shot = binary_shot(LARGE)?;
    envoys.race(report, rest, shot, course(lab, 9, 300)).await?;
    let shot = grpc_shot(LARGE)?;
    envoys.race(report, grpc, shot, course(lab, 9, 300)).await?;
    report.section(
        "Headers forwarded or held: 256 MiB of FP32",
        "One request at a time: over REST with the binary extension, then over gRPC.",
    );
    let few = Course {
        rounds: if lab.quick { 1 } else { 5 },
        requests: if lab.quick { 1 } else { 2 },
        warm_up: 1,
    };
    let shot = binary_shot(STREAMED)?;
    envoys.race(report, (Http::One, 1), shot, few).await?;
    let shot = grpc_shot(STREAMED)?;
    envoys.race(report, (Http::Two, 1), shot, few).await
}
