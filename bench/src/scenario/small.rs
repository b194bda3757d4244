//! 1 KB of JSON: the CPU time that each way of guarding adds to a bare proxy.

use crate::lab::{Lab, Server};
use crate::load::{Expect, Http};
use crate::models::{SMALL, json_shot};
use crate::outcome::{Failure, Outcome};
use crate::policy::key;
use crate::proxy::{self, CHAIN, Filters, GATE, NATIVE_GATE, Upstream};
use crate::race::{Contender, race};
use crate::report::Report;
use crate::script::script;

use super::{checks, client, course, stages, tokens};
use crate::tokens::{Algorithm, public_keys};

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    report.section(
        "1 KB of JSON over HTTP/1.1",
        "One worker, four connections, the same upstream on a Unix socket. `gate` is the filter in the bare listener, and `gate as native module` the same filter as native code. `the three filters` are the same work as a chain, also in the bare listener. `gate as rendered` is the whole bootstrap that `tensorgate render` writes, with access log and overload manager.",
    );
    let upstream = Server::start(lab, "upstream").await?;
    let authz = Server::start(lab, "ext-authz").await?;
    let processor = Server::start(lab, "ext-proc").await?;
    let rendered = tokens::render(lab, &upstream, GATE)?;
    let filters = rendered.filters()?.clone();
    let keys = public_keys();

    let to = || Upstream::Unix(&upstream.socket);
    let bare = proxy::start(lab, "bare", Filters::None, to()).await?;
    let by_authz = proxy::start(lab, "ext_authz", Filters::ExtAuthz(&authz), to()).await?;
    let by_processor = proxy::start(lab, "ext_proc", Filters::ExtProc(&processor), to()).await?;
    let native = proxy::start(lab, "native", Filters::Native { jwks: &keys }, to()).await?;
    let gate = proxy::start(lab, "gate", Filters::Json(&filters), to()).await?;
    let chain = match tokens::render(lab, &upstream, CHAIN) {
        Ok(chain) => Some(proxy::start(lab, "chain", Filters::Json(chain.filters()?), to()).await?),
        Err(why) => {
            report.line(&format!("The three filters could not be rendered: {why}"));
            None
        }
    };
    let module = tokens::render(lab, &upstream, NATIVE_GATE)?;
    let module = proxy::start(lab, "module", Filters::Json(module.filters()?), to()).await?;
    let whole = rendered.start(lab, "rendered", 1).await?;
    // What a module costs that only holds and copies bodies, and the same checks as a script.
    let idle = stages::idle_module(lab, true)?;
    let idle = proxy::start(lab, "idle", Filters::Module(&idle), to()).await?;
    let path = lab.bin.join("libtensorgate_idle.so");
    let holding = Filters::NativeModule {
        path: &path,
        filter: "holding",
    };
    let native_idle = proxy::start(lab, "native-idle", holding, to()).await?;
    let script = script(checks::CLIENTS);
    let lua = proxy::start(lab, "lua", Filters::Lua { script: &script }, to()).await?;

    let plain = json_shot(SMALL)?;
    let keyed = plain.clone().with("x-api-key", &key(0))?;
    let bearer = Algorithm::Rs256.bearer(0)?;
    let with_token = plain.clone().with("authorization", &bearer)?;
    let contender = |name: &str, envoy: &crate::lab::Envoy, shot, beside| Contender {
        name: name.to_owned(),
        client: client(&envoy.address, Http::One, Expect::Status(200)),
        shots: vec![shot],
        pid: envoy.process.pid(),
        beside,
    };
    let mut contenders = vec![
        contender("bare Envoy", &bare, plain.clone(), None),
        contender(
            "ext_authz, no-op service",
            &by_authz,
            plain.clone(),
            Some(("service", authz.process.pid())),
        ),
        contender(
            "ext_proc, no-op service, body buffered",
            &by_processor,
            plain.clone(),
            Some(("service", processor.process.pid())),
        ),
        contender(
            "wasm module that holds and copies",
            &idle,
            plain.clone(),
            None,
        ),
        contender(
            "native module that holds and copies",
            &native_idle,
            plain,
            None,
        ),
        contender("Lua with the same checks", &lua, keyed.clone(), None),
        contender(
            "jwt_authn (cached) + local_ratelimit + rbac",
            &native,
            with_token.clone(),
            None,
        ),
        contender("gate, API key", &gate, keyed.clone(), None),
        contender("gate, cached token", &gate, with_token.clone(), None),
        contender(
            "gate as native module, API key",
            &module,
            keyed.clone(),
            None,
        ),
        contender(
            "gate as native module, cached token",
            &module,
            with_token.clone(),
            None,
        ),
        contender("gate as rendered, API key", &whole, keyed.clone(), None),
    ];
    if let Some(chain) = &chain {
        contenders.push(contender("the three filters, API key", chain, keyed, None));
        contenders.push(contender(
            "the three filters, cached token",
            chain,
            with_token,
            None,
        ));
    }
    let results = race(&mut contenders, course(lab, 9, 4000)).await?;
    report.race(&results, 0);
    let [
        bare,
        authz,
        processor,
        _,
        _,
        _,
        native,
        gate,
        token,
        module,
        ..,
    ] = results.as_slice()
    else {
        return Err(Failure::from("a contender is missing"));
    };
    report.reached("key", gate.over(bare));
    report.reached("module", module.over(bare));
    report.reached("jwt", token.over(bare));
    report.reached("native", token.added_to(bare) / native.added_to(bare));
    report.reached("ext-authz", gate.added_to(bare) / authz.added_to(bare));
    report.reached("ext-proc", gate.added_to(bare) / processor.added_to(bare));
    Ok(())
}
