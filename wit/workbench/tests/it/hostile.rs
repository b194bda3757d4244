//! A hostile handler in JavaScript. Each behaviour is ended by a bound of the sandbox, in the same
//! way twice. After each, another handler answers. `ported` has one in Python.

use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::{Payload, Role};
use tensorgate_cli_common::user_folders;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::CompilerConfig;
use tensorgate_sandbox::{
    FaultCause, HandlerError, LoadFault, LoadedHandler, Sandbox, SandboxConfig,
};

use super::Project;

/// How a behaviour may end.
#[derive(Clone, Copy, Debug)]
enum Ends {
    /// By this fault.
    By(FaultCause),
    /// It reports bad input.
    Rejects,
    /// With tensors, which the contract must reject.
    Answers,
}

use Ends::{Answers, By, Rejects};
use FaultCause::{BadOutput, Fuel, HostCalls, Memory, Reported, Trap};

/// More fuel than any honest call here needs. A loop burns it in less than a second.
const FUEL: u64 = 500_000_000;

const JS: [(&str, Ends); 34] = [
    ("loop", By(Fuel)),
    // QuickJS has less stack in its own memory than the sandbox gives, and no guard below it.
    ("recurse", By(Trap)),
    ("hoard", By(Memory)),
    ("text", By(Fuel)),
    ("log", By(HostCalls)),
    ("ask", By(HostCalls)),
    ("numbers", By(Fuel)),
    ("backtrack", By(Fuel)),
    ("generate", By(Fuel)),
    ("deep", By(Fuel)),
    ("proxy", By(Fuel)),
    ("getter", By(Fuel)),
    ("promise", By(Reported)),
    ("fail", By(Reported)),
    ("reject", Rejects),
    ("throw", By(Reported)),
    ("throw-null", By(Reported)),
    ("throw-trap", By(Fuel)),
    ("global", By(Reported)),
    ("evaluate", By(Fuel)),
    ("clock", By(Reported)),
    ("nothing", By(Reported)),
    ("no-tensors", By(Reported)),
    ("no-datatype", By(Reported)),
    ("negative", By(Reported)),
    ("no-number", By(Reported)),
    ("no-bytes", By(Reported)),
    ("large", By(Memory)),
    ("many", By(BadOutput)),
    ("long-name", By(BadOutput)),
    ("surrogate", By(Trap)),
    ("nan", Answers),
    ("seeded", Answers),
    ("unheard of", By(Reported)),
];

/// Loads a component under a policy that names it.
pub fn load(sandbox: &Sandbox, component: &[u8], behaviour: &str) -> LoadedHandler {
    let rule = serde_json::json!({
        "fuel": FUEL, "memory_bytes": 64 << 20, "timeout_ms": 60_000, "config": {"behaviour": behaviour},
    });
    load_with(sandbox, component, rule)
}

/// The same with these limits and this configuration.
pub fn load_with(sandbox: &Sandbox, component: &[u8], rule: serde_json::Value) -> LoadedHandler {
    try_load_with(sandbox, component, rule).unwrap()
}

pub fn try_load_with(
    sandbox: &Sandbox,
    component: &[u8],
    mut rule: serde_json::Value,
) -> Result<LoadedHandler, LoadFault> {
    let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
    rule["component"] = "h.wasm".into();
    rule["sha256"] = sha256.into();
    let document = serde_json::json!({"version": 1, "handlers": {"h": rule}});
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let policy = validate::validate(&raw).unwrap().0;
    let rule = policy.handlers().get("h").unwrap();
    sandbox.load("h", rule, Role::Preprocess, component)
}

/// A component that answers with no tensors, and needs nothing.
fn neighbour() -> Vec<u8> {
    let project = Project::unbuilt("neighbour", "rust", "preprocess");
    project.write(
        "src/lib.rs",
        "use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};\nstruct Neighbour;\nimpl Preprocess for Neighbour {\n    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> { Ok(Vec::new()) }\n}\nexport_preprocess!(Neighbour);\n",
    );
    project.built()
}

#[test]
fn every_behaviour_of_a_handler_in_js_ends_by_a_bound_and_twice_in_the_same_way() {
    let project = Project::unbuilt("hostile", "js", "preprocess");
    project.write("handler.js", include_str!("hostile/handler.js"));
    let component = project.compiled();
    let sandbox = Sandbox::new(SandboxConfig {
        compiler: CompilerConfig {
            folder: user_folders::compiled_code(),
            ..CompilerConfig::default()
        },
        // A busy machine may have no core for a call at once.
        queue_wait_ms: 60_000,
        ..SandboxConfig::default()
    });
    let sandbox = sandbox.unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let neighbour = load(&sandbox, &neighbour(), "");
    let call = |handler: &LoadedHandler| {
        runtime.block_on(handler.preprocess("request", Payload::Tensors(vec![])))
    };
    // One handler keeps the compiled component while the others come and go.
    let _kept = load(&sandbox, &component, "");
    let mut wrong = Vec::new();
    for (behaviour, ends) in &JS {
        let handler = load(&sandbox, &component, behaviour);
        let started = std::time::Instant::now();
        let mut outcomes = Vec::new();
        for _ in 0..2 {
            let outcome = call(&handler);
            let right = match (&outcome, ends) {
                (Err(HandlerError::Fault { cause, .. }), By(expected)) => cause == expected,
                (Err(HandlerError::Rejected { text, .. }), Rejects) => !text.contains('\n'),
                (Ok(_), Answers) => true,
                _ => false,
            };
            let shown = match outcome {
                Ok(called) => format!("{} fuel: {:?}", called.fuel_used, called.tensors),
                Err(error) => format!("{error:?}"),
            };
            if !right {
                wrong.push(format!("{behaviour:?}: {shown}"));
            }
            outcomes.push(shown);
        }
        let (one, again) = (outcomes.first().unwrap(), outcomes.last().unwrap());
        println!(
            "{behaviour:<14} {:>6} ms {}",
            started.elapsed().as_millis(),
            one.chars().take(110).collect::<String>()
        );
        if one != again {
            wrong.push(format!("{behaviour:?} came to {one} and to {again}"));
        }
        assert!(
            call(&neighbour).is_ok(),
            "the neighbour, after {behaviour:?}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
