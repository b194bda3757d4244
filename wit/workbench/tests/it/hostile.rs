//! Hostile handlers in Python and in JavaScript. Each behaviour is ended by a bound of the sandbox,
//! in the same way twice. After each, a handler of the other language answers.

use sha2::{Digest as _, Sha256};
use tensorgate_base::payload::{Payload, Role};
use tensorgate_cli_common::user_folders;
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_sandbox::CompilerConfig;
use tensorgate_sandbox::{FaultCause, HandlerError, LoadedHandler, Sandbox, SandboxConfig};

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

const PYTHON: [(&str, Ends); 34] = [
    ("loop", By(Fuel)),
    ("recurse", By(Reported)),
    ("hoard", By(Memory)),
    ("log", By(HostCalls)),
    ("ask", By(HostCalls)),
    ("numbers", By(Fuel)),
    ("backtrack", By(Fuel)),
    ("generate", By(Fuel)),
    ("deep", By(Fuel)),
    ("fail", By(Reported)),
    ("reject", Rejects),
    ("leave", By(Reported)),
    ("interrupt", By(Reported)),
    ("open", By(Reported)),
    ("list", By(Reported)),
    ("clock", By(Reported)),
    ("sleep", By(Trap)),
    ("thread", By(Reported)),
    ("exit", By(Trap)),
    ("nothing", By(Reported)),
    ("no-tensors", By(Reported)),
    ("no-datatype", By(Reported)),
    ("negative", By(Trap)),
    ("huge-dim", By(Trap)),
    ("no-number", By(Trap)),
    ("no-bytes", By(Reported)),
    ("large", By(Memory)),
    ("many", By(BadOutput)),
    ("long-name", By(BadOutput)),
    ("surrogate", By(Trap)),
    ("nan", Answers),
    ("seeded", Answers),
    ("hashed", Answers),
    ("unheard of", By(Reported)),
];

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
    ("no-datatype", By(Trap)),
    ("negative", By(Trap)),
    ("no-number", By(Trap)),
    ("no-bytes", By(Trap)),
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
pub fn load_with(
    sandbox: &Sandbox,
    component: &[u8],
    mut rule: serde_json::Value,
) -> LoadedHandler {
    let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
    rule["component"] = "h.wasm".into();
    rule["sha256"] = sha256.into();
    let document = serde_json::json!({"version": 1, "handlers": {"h": rule}});
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    let policy = validate::validate(&raw).unwrap().0;
    let rule = policy.handlers().get("h").unwrap();
    sandbox
        .load("h", rule, Role::Preprocess, component)
        .unwrap()
}

/// A component that answers with no tensors, and needs nothing.
fn neighbour(name: &'static str) -> Vec<u8> {
    let project = Project::unbuilt(name, "rust", "preprocess");
    project.write(
        "src/lib.rs",
        "use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};\nstruct Neighbour;\nimpl Preprocess for Neighbour {\n    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> { Ok(Vec::new()) }\n}\nexport_preprocess!(Neighbour);\n",
    );
    project.built()
}

fn check(lang: &str, file: &str, source: &str, table: &[(&str, Ends)]) {
    let project = Project::unbuilt("hostile", lang, "preprocess");
    project.write(file, source);
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
    // Each test has its own: the build folder of a project is named after it.
    let neighbour = load(
        &sandbox,
        &neighbour(if lang == "js" {
            "neighbour-js"
        } else {
            "neighbour-py"
        }),
        "",
    );
    let call = |handler: &LoadedHandler| {
        runtime.block_on(handler.preprocess("request", Payload::Tensors(vec![])))
    };
    // One handler keeps the compiled component while the others come and go.
    let _kept = load(&sandbox, &component, "");
    let mut wrong = Vec::new();
    for (behaviour, ends) in table {
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

#[test]
fn every_behaviour_of_a_handler_in_python_ends_by_a_bound_and_twice_in_the_same_way() {
    check(
        "python",
        "handler.py",
        include_str!("hostile/handler.py"),
        &PYTHON,
    );
}

#[test]
fn every_behaviour_of_a_handler_in_js_ends_by_a_bound_and_twice_in_the_same_way() {
    check("js", "handler.js", include_str!("hostile/handler.js"), &JS);
}
