//! Cost of each stage of the gate: Envoys that differ by one stage each, and the differences
//! between them.

use std::path::PathBuf;

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http, Shot};
use crate::models::{SMALL, json_shot};
use crate::outcome::{Failure, Outcome};
use crate::policy::{Limits, Shape, key};
use crate::proxy::{self, Filters, GATE, Rendered, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;
use crate::tokens::{Algorithm, policy};

use super::{client, course, tokens::KEYS_FILE};

/// A module that does nothing, in the text format.
const IDLE: &str = include_str!("../../envoy/idle.wat");

/// The authentication filter alone.
const AUTH: &[&str] = &["--chain", "auth"];

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "The cost of each stage, 1 KB of JSON",
        "One worker. Each row has one stage more than another row. The second table shows what each stage adds, as the difference of two rows within a round.",
    );
    let upstream = Server::start(lab, "upstream").await?;
    let to = || Upstream::Unix(&upstream.socket);
    let gate = |limits, options| gate(lab, &upstream, limits, options);
    let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
    let idle = proxy::start(
        lab,
        "idle",
        Filters::Module(&idle_module(lab, false)?),
        to(),
    )
    .await?;
    let holding = proxy::start(
        lab,
        "holding",
        Filters::Module(&idle_module(lab, true)?),
        to(),
    )
    .await?;
    let auth = gate(Limits::Rate, AUTH)?;
    let auth = proxy::start(lab, "auth", Filters::Json(auth.filters()?), to()).await?;
    let unlimited = gate(Limits::None, GATE)?;
    let unlimited = Filters::Json(unlimited.filters()?);
    let unlimited = proxy::start(lab, "unlimited", unlimited, to()).await?;
    let usual = gate(Limits::Rate, GATE)?;
    let rated = proxy::start(lab, "rated", Filters::Json(usual.filters()?), to()).await?;
    let limited = gate(Limits::All, GATE)?;
    let limited = proxy::start(lab, "limited", Filters::Json(limited.filters()?), to()).await?;
    let whole = usual.start(lab, "rendered", 1).await?;

    let plain = json_shot(SMALL)?;
    let keyed = plain.clone().with("x-api-key", &key(0))?;
    let token = Algorithm::Rs256.bearer(0)?;
    let token = plain.clone().with("authorization", &token)?;
    let contender = |name: &str, envoy: &Envoy, shot: &Shot| Contender {
        name: name.to_owned(),
        client: client(&envoy.address, Http::One, Expect::Status(200)),
        shots: vec![shot.clone()],
        pid: envoy.process.pid(),
        beside: None,
    };
    let mut contenders = [
        contender("bare Envoy", &bare, &plain),
        contender("a module that forwards everything", &idle, &plain),
        contender(
            "a module that buffers and copies the body",
            &holding,
            &plain,
        ),
        contender("auth alone, API key", &auth, &keyed),
        contender("gate, no limits", &unlimited, &keyed),
        contender("gate, a rate", &rated, &keyed),
        contender("gate, every limit", &limited, &keyed),
        contender("gate, a rate, cached token", &rated, &token),
        contender("gate as rendered, a rate", &whole, &keyed),
    ];
    let results = race(&mut contenders, course(lab, 9, 2000)).await?;
    report.race(&results, 0);
    let [
        bare,
        idle,
        holding,
        auth,
        unlimited,
        rated,
        limited,
        token,
        whole,
    ] = results.as_slice()
    else {
        return Err(Failure::from("a contender is missing"));
    };
    let held = holding.added_to(idle);
    let rows = [
        ("into a module and back", idle.added_to(bare)),
        ("buffering the body, and copying it into the module", held),
        (
            "the head: key, grant, forwarded fields, signed context, outcome for the access log",
            auth.added_to(idle),
        ),
        (
            "the body: JSON read, contract checked",
            unlimited.added_to(auth) - held,
        ),
        ("a rate", rated.added_to(unlimited)),
        (
            "cost, budget and concurrency limits of grant and model in addition",
            limited.added_to(rated),
        ),
        ("a cached token instead of a key", token.added_to(rated)),
        (
            "access log to the host, overload manager, local replies",
            whole.added_to(rated),
        ),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(stage, us)| vec![(*stage).to_owned(), format!("{us:+.1}")])
        .collect();
    report.table(&["stage", "added CPU µs a request"], &rows);
    Ok(())
}

/// The wasm module that does nothing, or only holds and copies bodies.
pub(super) fn idle_module(lab: &Lab, holds: bool) -> Outcome<PathBuf> {
    let text = IDLE.replace("HELD", if holds { "1" } else { "0" });
    let path = lab.path("idle.wasm");
    std::fs::write(&path, wat::parse_str(text)?)?;
    Ok(path)
}

/// Renders a gate with these limits.
fn gate(lab: &Lab, upstream: &Server, limits: Limits, options: &[&str]) -> Outcome<Rendered> {
    let folder = lab.folder("stages")?;
    std::fs::write(folder.join(KEYS_FILE), crate::tokens::public_keys())?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.issuers = Some(policy(KEYS_FILE));
    shape.limits = limits;
    Rendered::with_options(lab, folder, &shape.to_json(), &upstream.socket, options)
}
