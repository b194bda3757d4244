//! The same checks implemented in other ways: a Lua script in Envoy, an external service, and
//! Envoy's own filters as far as they go.

use std::ffi::OsStr;

use crate::lab::{Envoy, Lab, Server};
use crate::load::{Client, Expect, Http, Shot};
use crate::models::{
    FLOATS, HUGEST_ELEMENTS, JSON_100K_ELEMENTS, LARGE, SMALL, binary_floats_shot, binary_shot,
    json_floats_shot, json_shot, spoilt_json_shot,
};
use crate::outcome::Outcome;
use crate::policy::key;
use crate::proxy::{self, Filters, GATE, NATIVE_GATE, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;
use crate::script::script;
use crate::tokens::{Algorithm, public_keys};

use super::{client, course, tokens};

/// Clients that the script knows: as many as have a key in the policy.
pub(super) const CLIENTS: usize = 10;

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let upstream = Server::start(lab, "upstream").await?;
    let rendered = tokens::render(lab, &upstream, GATE)?;
    let native_gate = tokens::render(lab, &upstream, NATIVE_GATE)?;
    let key_file = lab.key_file()?;
    let arguments: [&OsStr; 4] = [
        "--bundle".as_ref(),
        rendered.bundle.as_ref(),
        "--key".as_ref(),
        key_file.as_ref(),
    ];
    let authz = Server::start_with(lab, "ext-authz-checks", &arguments).await?;
    let processor = Server::start_with(lab, "ext-proc-checks", &arguments).await?;
    let (keys, script) = (public_keys(), script(CLIENTS));

    let to = || Upstream::Unix(&upstream.socket);
    let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
    let native = proxy::start(lab, "native", Filters::Native { jwks: &keys }, to()).await?;
    let gate = proxy::start(lab, "gate", Filters::Json(rendered.filters()?), to()).await?;
    let module = Filters::Json(native_gate.filters()?);
    let module = proxy::start(lab, "module", module, to()).await?;
    let lua = proxy::start(lab, "lua", Filters::Lua { script: &script }, to()).await?;
    let by_authz = Filters::ExtAuthzWithBody(&authz);
    let by_authz = proxy::start(lab, "ext_authz", by_authz, to()).await?;
    let by_processor = proxy::start(lab, "ext_proc", Filters::ExtProc(&processor), to()).await?;
    for envoy in [&gate, &module, &lua, &by_authz, &by_processor] {
        refuses(envoy).await?;
    }

    let bearer = Algorithm::Rs256.bearer(0)?;
    for (title, about, shot, rounds, requests) in [
        (
            "The same checks elsewhere: 1 KB of JSON",
            "The checks are key, grant, rate, JSON and contract. `Lua` is a script in Envoy's filter (LuaJIT, `envoy/checks.lua`). It has no SHA-256, shares no bucket with other workers and signs nothing. `ext_authz` and `ext_proc` call a service that runs the gate's own code, compiled for this machine, and send it the whole body. The service's own CPU time is in the column beside Envoy's. Before it is measured, each that reads the body must reject a wrong key and a number out of range. Envoy's own filters read no body.",
            json_shot(SMALL)?,
            7,
            2000,
        ),
        (
            "The same checks elsewhere: 100 KB of JSON",
            "11,650 numbers.",
            json_floats_shot(FLOATS, JSON_100K_ELEMENTS)?,
            7,
            300,
        ),
        (
            "The same checks elsewhere: 600 KB of FP32",
            "One normalised photograph with the binary extension.",
            binary_shot(LARGE)?,
            7,
            150,
        ),
        (
            "The same checks elsewhere: 16 MiB of FP32",
            "With the binary extension. The body is larger than `hold_bytes`, so the gate checks it as it is streamed. The others buffer all of it.",
            binary_floats_shot(FLOATS, HUGEST_ELEMENTS)?,
            5,
            8,
        ),
    ] {
        report.section(title, about);
        let keyed = shot.clone().with("x-api-key", &key(0))?;
        let with_token = shot.clone().with("authorization", &bearer)?;
        let contender = |name: &str, envoy: &Envoy, shot: &Shot, beside| Contender {
            name: name.to_owned(),
            client: client(&envoy.address, Http::One, Expect::Status(200)),
            shots: vec![shot.clone()],
            pid: envoy.process.pid(),
            beside,
        };
        let service = |server: &Server| Some(("service", server.process.pid()));
        let mut contenders = [
            contender("bare Envoy", &bare, &shot, None),
            contender(
                "jwt_authn (cached) + local_ratelimit + rbac, no body read",
                &native,
                &with_token,
                None,
            ),
            contender("gate, API key", &gate, &keyed, None),
            contender("gate as native module, API key", &module, &keyed, None),
            contender("Lua", &lua, &keyed, None),
            contender(
                "ext_authz, a service that checks",
                &by_authz,
                &keyed,
                service(&authz),
            ),
            contender(
                "ext_proc, a service that checks",
                &by_processor,
                &keyed,
                service(&processor),
            ),
        ];
        let results = race(&mut contenders, course(lab, rounds, requests)).await?;
        report.race(&results, 0);
    }
    Ok(())
}

/// Checks that an implementation rejects the same requests as the gate. Otherwise its figure would
/// not be comparable.
async fn refuses(envoy: &Envoy) -> Outcome<()> {
    for (shot, status) in [
        (json_shot(SMALL)?.with("x-api-key", &key(CLIENTS))?, 401),
        (spoilt_json_shot()?.with("x-api-key", &key(0))?, 400),
    ] {
        let expect = Expect::Status(status);
        let mut client = Client::new(envoy.address.clone(), Http::One, expect, 1);
        client.volley(&[shot], 0, 1).await?;
    }
    Ok(())
}
