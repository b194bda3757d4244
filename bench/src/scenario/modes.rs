//! The same 1 KB in other modes of the proxy: HTTP/2, two workers.

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{SMALL, json_shot};
use crate::outcome::Outcome;
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, Rendered, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;

use super::{client, course};

/// Runs it.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let shape = Shape::plain(upstream.tcp()?);
    let rendered = Rendered::new(
        lab,
        lab.folder("modes")?,
        &shape.to_json(),
        &upstream.socket,
    )?;
    let filters = rendered.filters()?;
    for (id, title, http, workers) in [
        ("http2", "1 KB of JSON over HTTP/2", Http::Two, 1),
        ("two-workers", "1 KB of JSON, two workers", Http::One, 2),
    ] {
        report.section(title, if workers > 1 {
            "Both workers share two cores with the load: CPU a request is comparable, latency is not."
        } else {
            "Four connections with one stream at a time on each."
        });
        let to = || Upstream::Unix(&upstream.socket);
        let bare = proxy::start_with(lab, "bare", Filters::None, to(), workers).await?;
        let gate = proxy::start_with(lab, "gate", Filters::Json(filters), to(), workers).await?;
        let plain = json_shot(SMALL)?;
        let keyed = plain.clone().with("x-api-key", &key(0))?;
        let contender = |name: &str, envoy: &Envoy, shot| Contender {
            name: name.to_owned(),
            client: client(&envoy.address, http, Expect::Status(200)),
            shots: vec![shot],
            pid: envoy.process.pid(),
            beside: None,
        };
        let mut contenders = [
            contender("bare Envoy", &bare, plain),
            contender("gate, API key", &gate, keyed),
        ];
        let results = race(&mut contenders, course(lab, 9, 3000)).await?;
        report.race(&results, 0);
        if let [bare, gate] = results.as_slice() {
            report.reached(id, gate.over(bare));
        }
    }
    Ok(())
}
