//! What a token costs that nobody has seen before, and what a flood of bad ones does.

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http, Shot};
use crate::models::{SMALL, json_shot};
use crate::outcome::Outcome;
use crate::policy::Shape;
use crate::proxy::{self, Filters, GATE, Rendered, Upstream};
use crate::race::{Contender, Course, race};
use crate::report::Report;
use crate::tokens::{Algorithm, policy, public_keys};

use super::{client, course};

/// The file of keys beside a policy.
pub const KEYS_FILE: &str = "issuer.jwks.json";

/// A gate of these filters whose policy has the bench's issuer.
pub fn render(lab: &Lab, upstream: &Server, chain: &str) -> Outcome<Rendered> {
    render_with(lab, upstream, chain, false)
}

fn render_with(lab: &Lab, upstream: &Server, chain: &str, lockout: bool) -> Outcome<Rendered> {
    let folder = lab.folder(if lockout { "lockout" } else { "tokens" })?;
    std::fs::write(folder.join(KEYS_FILE), public_keys())?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.issuers = Some(policy(KEYS_FILE));
    shape.lockout = lockout;
    Rendered::with_chain(lab, folder, &shape.to_json(), &upstream.socket, chain)
}

/// Runs it.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let rendered = render(lab, &upstream, GATE)?;
    let to = || Upstream::Unix(&upstream.socket);
    let gate = proxy::start(lab, "gate", Filters::Json(rendered.filters()?), to()).await?;
    let keys = public_keys();
    let native = Filters::Native { jwks: &keys };
    let native = proxy::start(lab, "native", native, to()).await?;
    let course = course(lab, 5, 300);
    let plain = json_shot(SMALL)?;
    let with = |value: String| plain.clone().with("authorization", &value);
    let all = course
        .warm_up
        .saturating_add(course.rounds.saturating_mul(course.requests));

    report.section("A token at first sight", "Each request has a token that was never sent before; beside it the same gate with one token for all, and jwt_authn + local_ratelimit + rbac with tokens never seen.");
    for (id, algorithm) in ["rs256", "es256", "eddsa"].into_iter().zip(Algorithm::ALL) {
        let fresh = (0..all)
            .map(|number| with(algorithm.bearer(number)?))
            .collect::<Outcome<Vec<Shot>>>()?;
        let contender = |name: String, envoy: &Envoy, shots| Contender {
            name,
            client: client(&envoy.address, Http::One, Expect::Status(200)),
            shots,
            pid: envoy.process.pid(),
            beside: None,
        };
        let name = algorithm.name();
        let cached = vec![with(algorithm.bearer(usize::MAX)?)?];
        let mut contenders = [
            contender(format!("gate, {name}, cached"), &gate, cached.clone()),
            contender(format!("gate, {name}, first sight"), &gate, fresh.clone()),
            contender(format!("native chain, {name}, cached"), &native, cached),
            contender(format!("native chain, {name}, first sight"), &native, fresh),
        ];
        let results = race(&mut contenders, course).await?;
        report.race(&results, 0);
        if let [cached, fresh, ..] = results.as_slice() {
            report.reached(id, fresh.added_to(cached));
        }
    }
    let bounded = render_with(lab, &upstream, GATE, true)?;
    let bounded = Filters::Json(bounded.filters()?);
    let bounded = proxy::start(lab, "bounded", bounded, to()).await?;
    flood(report, &bounded, &plain, course, all).await
}

async fn flood(
    report: &mut Report,
    gate: &Envoy,
    plain: &Shot,
    course: Course,
    all: usize,
) -> Outcome<()> {
    report.section("A flood of bad tokens", "Well-formed tokens of the right issuer whose signature is wrong; each is another one, so that nothing that was remembered helps; the policy has a `lockout`. Against requests without a credential. All get 401. Over HTTP/2: an HTTP/1.1 connection is closed with the answer, since the body is not read.");
    let contender = |name: String, shots| Contender {
        name,
        client: client(&gate.address, Http::Two, Expect::Status(401)),
        shots,
        pid: gate.process.pid(),
        beside: None,
    };
    let mut contenders = vec![contender("no credential".to_owned(), vec![plain.clone()])];
    for algorithm in Algorithm::ALL {
        let bad = |number| {
            plain
                .clone()
                .with("authorization", &algorithm.spoilt(number)?)
        };
        let shots = (0..all).map(bad).collect::<Outcome<Vec<Shot>>>()?;
        contenders.push(contender(format!("bad {} tokens", algorithm.name()), shots));
    }
    let same = plain
        .clone()
        .with("authorization", &Algorithm::EdDsa.spoilt(0)?)?;
    contenders.push(contender(
        "one bad EdDSA token again and again".to_owned(),
        vec![same],
    ));
    let results = race(&mut contenders, course).await?;
    report.race(&results, 0);
    if let Some((none, bad)) = results.split_first() {
        let worst = bad.iter().map(|flood| flood.over(none)).fold(0.0, f64::max);
        report.reached("flood", worst);
    }
    Ok(())
}
