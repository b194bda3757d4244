//! Cost of forwarding request headers before the body is judged, as a mesh requires, compared with
//! holding them. Both use the same filter and policy, in one race.

use serde_json::Value;

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http, Shot};
use crate::models::{LARGE, SMALL, binary_shot, grpc_shot, json_shot};
use crate::outcome::{Failure, Outcome};
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, Rendered, Upstream};
use crate::race::{Contender, Course, race};
use crate::report::Report;

use super::{client, course};

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
    let mut bundle: Value = serde_json::from_str(text.as_str().ok_or_else(missing)?)?;
    bundle
        .as_object_mut()
        .ok_or_else(missing)?
        .insert("headers".to_owned(), "forward".into());
    *text = bundle.to_string().into();
    Ok(filters)
}

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let shape = Shape::plain(upstream.tcp()?);
    let folder = lab.folder("headers")?;
    let rendered = Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)?;
    let held = rendered.filters()?;
    let forwarded = forwarding(held)?;
    let to = || Upstream::Unix(&upstream.socket);
    let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
    let hold = proxy::start(lab, "hold", Filters::Json(held), to()).await?;
    let forward = proxy::start(lab, "forward", Filters::Json(&forwarded), to()).await?;
    let race_of = async |report: &mut Report, http, shot: Shot, course: Course| {
        let expect = match http {
            Http::One => Expect::Status(200),
            Http::Two => Expect::Grpc,
        };
        let contender = |name: &str, envoy: &Envoy, shot| Contender {
            name: name.to_owned(),
            client: client(&envoy.address, http, expect),
            shots: vec![shot],
            pid: envoy.process.pid(),
            beside: None,
        };
        let keyed = shot.clone().with("x-api-key", &key(0))?;
        let mut contenders = [
            contender("bare Envoy", &bare, shot),
            contender("gate, headers: hold", &hold, keyed.clone()),
            contender("gate, headers: forward", &forward, keyed),
        ];
        let results = race(&mut contenders, course).await?;
        report.race(&results, 0);
        Outcome::Ok(())
    };
    let note = "Four connections with one request at a time on each.";
    report.section("Headers forwarded or held: 1 KB of JSON", note);
    race_of(report, Http::One, json_shot(SMALL)?, course(lab, 9, 3000)).await?;
    report.section(
        "Headers forwarded or held: 600 KB of FP32",
        "Over REST with the binary extension, then over gRPC with raw contents.",
    );
    race_of(report, Http::One, binary_shot(LARGE)?, course(lab, 9, 300)).await?;
    race_of(report, Http::Two, grpc_shot(LARGE)?, course(lab, 9, 300)).await
}
