//! The same 1 KB request with other settings of the proxy: HTTP/2, TLS, two workers.

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{SMALL, json_shot};
use crate::outcome::Outcome;
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, Mode, Rendered, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;
use crate::tls::Identity;

use super::{client, course};

/// Runs the scenario.
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
    let identity = Identity::new(lab)?;
    let one = "Four connections with one request at a time on each.";
    for (id, title, about, http, workers, tls) in [
        ("http2", "1 KB of JSON over HTTP/2", one, Http::Two, 1, None),
        (
            "tls",
            "1 KB of JSON over HTTP/1.1 and TLS",
            "TLS 1.3 with an ECDSA certificate, on connections that are kept open: the cost of records, not of handshakes.",
            Http::One,
            1,
            Some(&identity),
        ),
        (
            "two-workers",
            "1 KB of JSON, two workers",
            "Both workers share two cores with the load. CPU time a request is comparable; latency is not.",
            Http::One,
            2,
            None,
        ),
    ] {
        report.section(title, about);
        let to = || Upstream::Unix(&upstream.socket);
        let mode = Mode { workers, tls };
        let bare = proxy::start_with(lab, "bare", Filters::None, to(), &mode).await?;
        let gate = proxy::start_with(lab, "gate", Filters::Json(filters), to(), &mode).await?;
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
