//! Other forms of a small request: OpenAI's API and compressed bodies.

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{FLOATS, JSON_100K_ELEMENTS, SMALL, chat_shot, json_floats_shot, json_shot};
use crate::outcome::Outcome;
use crate::policy::{Shape, key};
use crate::proxy::{self, Filters, Rendered, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;

use super::{client, course};

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.chat = true;
    let folder = lab.folder("forms")?;
    let rendered = Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)?;
    let to = || Upstream::Unix(&upstream.socket);
    let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
    let gate = proxy::start(lab, "gate", Filters::Json(rendered.filters()?), to()).await?;
    let large = json_floats_shot(FLOATS, JSON_100K_ELEMENTS)?;
    for (title, about, shot, requests) in [
        (
            "1 KB of a conversation in OpenAI's API",
            "Every member is read and checked against its rule. The model's name is in the body.",
            chat_shot()?,
            2000,
        ),
        (
            "1 KB of JSON, compressed",
            "gzip. A bare Envoy does not decompress it.",
            json_shot(SMALL)?.compressed()?,
            2000,
        ),
        (
            "100 KB of JSON, compressed",
            "The same with 11,650 numbers.",
            large.compressed()?,
            300,
        ),
    ] {
        report.section(title, about);
        let keyed = shot.clone().with("x-api-key", &key(0))?;
        let contender = |name: &str, envoy: &Envoy, shot| Contender {
            name: name.to_owned(),
            client: client(&envoy.address, Http::One, Expect::Status(200)),
            shots: vec![shot],
            pid: envoy.process.pid(),
            beside: None,
        };
        let mut contenders = [
            contender("bare Envoy", &bare, shot),
            contender("gate, API key", &gate, keyed),
        ];
        let results = race(&mut contenders, course(lab, 7, requests)).await?;
        report.race(&results, 0);
    }
    Ok(())
}
