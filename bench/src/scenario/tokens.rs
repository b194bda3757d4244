//! Cost of a token that is not cached, and of a flood of invalid tokens.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Expect, Http, Shot};
use crate::models::{SMALL, json_shot};
use crate::outcome::{Failure, Outcome, failure};
use crate::policy::Shape;
use crate::proxy::{self, Filters, GATE, Rendered, Upstream};
use crate::race::{Contender, Course, race};
use crate::report::Report;
use crate::tokens::{Algorithm, policy, public_keys};

use super::{client, course};

/// The JWKS file beside a policy.
pub const KEYS_FILE: &str = "issuer.jwks.json";

/// Envoy's foreign function that verifies signatures with its own library.
const FOREIGN: &[u8] = b"verify_signature";
/// A function name that Envoy does not know.
const NOBODYS: &[u8] = b"verify_nothing__";

/// Renders a gate with these filters and the bench's issuer.
pub fn render(lab: &Lab, upstream: &Server, options: &[&str]) -> Outcome<Rendered> {
    render_with(lab, upstream, options, false)
}

fn render_with(lab: &Lab, upstream: &Server, options: &[&str], lockout: bool) -> Outcome<Rendered> {
    let folder = lab.folder(if lockout { "lockout" } else { "tokens" })?;
    std::fs::write(folder.join(KEYS_FILE), public_keys())?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.issuers = Some(policy(KEYS_FILE));
    shape.lockout = lockout;
    // By default a filter leaves bodies above 64 KiB to the host.
    shape.judge = Some("envoy");
    Rendered::with_options(lab, folder, &shape.to_json(), &upstream.socket, options)
}

/// Runs the scenario.
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

    report.section("A new token", "Each request has a token that was not sent before. For comparison: the same gate with one token for all requests, and jwt_authn + local_ratelimit + rbac with new tokens.");
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
            contender(format!("gate, {name}, new token"), &gate, fresh.clone()),
            contender(format!("native chain, {name}, cached"), &native, cached),
            contender(format!("native chain, {name}, new token"), &native, fresh),
        ];
        let results = race(&mut contenders, course).await?;
        report.race(&results, 0);
        if let [cached, fresh, ..] = results.as_slice() {
            report.reached(id, fresh.added_to(cached));
        }
    }
    foreign(lab, report, &upstream, &gate, rendered.filters()?, &with).await?;
    let bounded = render_with(lab, &upstream, GATE, true)?;
    let bounded = Filters::Json(bounded.filters()?);
    let bounded = proxy::start(lab, "bounded", bounded, to()).await?;
    flood(report, &bounded, &plain, course, all).await
}

/// Compares the two signature implementations: Envoy's foreign function, where it exists, and the
/// filter's own. The second uses the same module with another function name, which Envoy does not
/// know.
async fn foreign(
    lab: &Lab,
    report: &mut Report,
    upstream: &Server,
    gate: &Envoy,
    filters: &Value,
    with: &impl Fn(String) -> Outcome<Shot>,
) -> Outcome<()> {
    report.section("A signature verified by Envoy's `verify_signature`, or in the VM", "New tokens again. `in the VM` is the gate's own module with the function's name changed to one that Envoy does not have. The module then verifies in Rust, as it does for algorithms that the function does not support.");
    let pure = with_module(filters, &without_foreign(lab)?)?;
    let to = Upstream::Unix(&upstream.socket);
    let pure = proxy::start(lab, "pure", Filters::Json(&pure), to).await?;
    let course = course(lab, 5, 200);
    let all = course
        .warm_up
        .saturating_add(course.rounds.saturating_mul(course.requests));
    for (id, algorithm) in [
        ("foreign-rs256", Algorithm::Rs256),
        ("foreign-es256", Algorithm::Es256),
    ] {
        let name = algorithm.name();
        let cached = vec![with(algorithm.bearer(usize::MAX)?)?];
        // Tokens that earlier races did not use.
        let fresh = (0..all)
            .map(|number| with(algorithm.bearer(number.saturating_add(1 << 32))?))
            .collect::<Outcome<Vec<Shot>>>()?;
        let contender = |name: String, envoy: &Envoy, shots: &[Shot]| Contender {
            name,
            client: client(&envoy.address, Http::One, Expect::Status(200)),
            shots: shots.to_vec(),
            pid: envoy.process.pid(),
            beside: None,
        };
        let mut contenders = [
            contender(format!("{name}, cached"), gate, &cached),
            contender(format!("{name}, `verify_signature`"), gate, &fresh),
            contender(format!("{name}, cached, the other module"), &pure, &cached),
            contender(format!("{name}, in the VM"), &pure, &fresh),
        ];
        let results = race(&mut contenders, course).await?;
        report.race(&results, 0);
        if let [cached, foreign, cached_pure, in_vm] = results.as_slice() {
            let ratio = foreign.added_to(cached) / in_vm.added_to(cached_pure);
            report.reached(id, ratio);
        }
    }
    Ok(())
}

/// The gate's module with a function name that Envoy does not know, so that it verifies signatures
/// itself.
fn without_foreign(lab: &Lab) -> Outcome<PathBuf> {
    let mut module = std::fs::read(lab.filters.join("gate.wasm"))?;
    let found: Vec<usize> = module
        .windows(FOREIGN.len())
        .enumerate()
        .filter_map(|(at, bytes)| (bytes == FOREIGN).then_some(at))
        .collect();
    let [at] = found.as_slice() else {
        return failure(format!(
            "the gate's module contains verify_signature {} times",
            found.len()
        ));
    };
    for (to, from) in module.iter_mut().skip(*at).zip(NOBODYS) {
        *to = *from;
    }
    let path = lab.path("gate-alone.wasm");
    std::fs::write(&path, module)?;
    Ok(path)
}

/// These filters, with the first filter's module replaced.
fn with_module(filters: &Value, module: &Path) -> Outcome<Value> {
    let mut filters = filters.clone();
    let file = filters
        .pointer_mut("/0/typed_config/config/vm_config/code/local/filename")
        .ok_or_else(|| Failure::from("the first filter is not a module"))?;
    *file = module.display().to_string().into();
    Ok(filters)
}

async fn flood(
    report: &mut Report,
    gate: &Envoy,
    plain: &Shot,
    course: Course,
    all: usize,
) -> Outcome<()> {
    report.section("A flood of invalid tokens", "Well-formed tokens of the right issuer with a wrong signature. Each token is different, so no cache helps. The policy has a `lockout`. The baseline is requests without a credential. Each request gets 401. Once the source is locked out, at most 20 of its unknown tokens are verified within a second, and 100 more cost as much. The requests use HTTP/2, because Envoy closes an HTTP/1.1 connection with the response when the body is not read.");
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
        "one invalid EdDSA token repeated".to_owned(),
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
