//! The sizes of the containers in a chart. Its templates compute options and memory from the
//! processors in the values, as `sizes` does for the other targets.

use tensorgate_policy::Policy;
use tensorgate_settings::handler_threads::EXTRA_THREADS_FRACTION;

use super::{at, missing};
use crate::render::Unrenderable;
use crate::render::cluster::kubernetes::CONCURRENCY;
use crate::render::cluster::sizes::{MIN_WORKERS, Memory, Sizes};
use crate::render::cluster::template::{placeholder, value};
use crate::render::cluster::workload::{HANDLER_MEMORY, HANDLER_THREADS};
use crate::render::node::{Node, map};

/// The templates that compute.
const TEMPLATE: &str = include_str!("../chart/_sizes.tpl");
/// What stands in it for the fewest workers, and for the part of threads that are extra ones.
const FEWEST_MARK: &str = "MIN_WORKERS";
const FRACTION_MARK: &str = "FRACTION";
const ROUNDING_MARK: &str = "ROUNDING";

/// How the size of a container follows from its processors.
struct Rule {
    /// The list of the pod that has the container.
    list: &'static str,
    container: &'static str,
    /// The option with its number of threads.
    option: &'static str,
    /// The template that computes this number.
    threads: &'static str,
    /// The template that computes how often memory is needed.
    count: &'static str,
    memory: Memory,
}

/// The file with the templates.
pub(super) fn template() -> String {
    let rounding = EXTRA_THREADS_FRACTION.saturating_sub(1);
    TEMPLATE
        .replace(FEWEST_MARK, &MIN_WORKERS.to_string())
        .replace(FRACTION_MARK, &EXTRA_THREADS_FRACTION.to_string())
        .replace(ROUNDING_MARK, &rounding.to_string())
}

/// The values: processors alone. Memory is computed where a value does not set it.
pub(super) fn values(sizes: Sizes) -> Node {
    let container = |cpu: u32| {
        map! {"requests" => map! {"cpu" => cpu.to_string()}, "limits" => map! {}}
    };
    map! {"envoy" => container(sizes.envoy_cpu), "host" => container(sizes.host_cpu)}
}

/// Fills resources and options of the containers in a Deployment.
///
/// # Errors
/// The Deployment has no place for one.
pub(super) fn fill(deployment: &mut Node, policy: &Policy) -> Result<(), Unrenderable> {
    let rules = [
        Rule {
            list: "containers",
            container: "envoy",
            option: CONCURRENCY,
            threads: "tensorgate.workers",
            count: "tensorgate.workers",
            memory: Memory::of_envoy(policy),
        },
        Rule {
            list: "initContainers",
            container: "host",
            option: HANDLER_THREADS,
            threads: "tensorgate.handlerThreads",
            count: "tensorgate.sharedThreads",
            memory: Memory::of_host(policy),
        },
    ];
    let args = ["spec", "template", "spec", "initContainers", "host", "args"];
    let memory = at(deployment, &args).and_then(|args| option_value(args, HANDLER_MEMORY));
    let needed = needed_mib(Memory::of_handlers(policy), "tensorgate.sharedThreads");
    let expression = format!("printf \"%dMiB\" {needed}");
    *memory.ok_or_else(|| missing(HANDLER_MEMORY))? = placeholder(&expression).into();
    for rule in rules {
        let container = rule.container;
        let path = |field| ["spec", "template", "spec", rule.list, container, field];
        let resources = at(deployment, &path("resources"));
        *resources.ok_or_else(|| missing(container))? = value(&resources_of(&rule));
        let arguments = at(deployment, &path("args"));
        let threads = arguments.and_then(|arguments| option_value(arguments, rule.option));
        let expression = format!("include \"{}\" .", rule.threads);
        *threads.ok_or_else(|| missing(rule.option))? = placeholder(&expression).into();
    }
    Ok(())
}

/// The expression for the resources of a container.
fn resources_of(rule: &Rule) -> String {
    let Rule {
        container, count, ..
    } = rule;
    let needed = needed_mib(rule.memory, count);
    let given = format!("\"container\" \"{container}\" \"given\" .Values.resources.{container}");
    format!("include \"tensorgate.resources\" (dict {given} \"neededMib\" {needed}) | fromJson")
}

/// The expression for an amount of memory in MiB. The template `count` computes how often a part of
/// it is needed.
fn needed_mib(memory: Memory, count: &str) -> String {
    let Memory {
        fixed_mib,
        each_mib,
    } = memory;
    let count = format!("(include \"{count}\" . | int64)");
    format!("(add {fixed_mib} (mul {each_mib} {count}))")
}

/// The value of an option, which is the argument after it.
fn option_value<'a>(arguments: &'a mut Node, option: &str) -> Option<&'a mut Node> {
    let Node::List(items) = arguments else {
        return None;
    };
    let option = Node::from(option);
    let mut items = items.iter_mut();
    items.find(|item| **item == option)?;
    items.next()
}
