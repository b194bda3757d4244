//! The memory that the handlers of a policy can need together, as a host checks it when it loads
//! them. Their code is not counted, because components are not compiled here.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_settings::handler_memory::{HandlerNeeds, default_limit_bytes};

use crate::components::uses;

/// The fault of a policy whose handlers can need more than a host gives them. Without a limit in
/// bytes it is a warning about a host on this machine, because others may have more memory.
/// `threads` are the most concurrent calls of one handler: by default, the processors of this
/// machine.
pub(super) fn fault(
    policy: &Policy,
    limit_bytes: Option<usize>,
    threads: Option<NonZeroUsize>,
) -> Option<Fault> {
    let threads = threads.or_else(|| available_parallelism().ok());
    let threads = threads.map_or(1, NonZeroUsize::get);
    let uses = uses(policy);
    let handlers = uses.keys().filter_map(|(name, _)| {
        let rule = policy.handlers().get(*name)?;
        Some((*name, rule.memory_bytes()))
    });
    let needs = HandlerNeeds::new(handlers, threads, 0);
    let checked = needs.check(limit_bytes.unwrap_or_else(default_limit_bytes));
    let found = checked.err()?;
    let (severity, message) = match limit_bytes {
        Some(_) => (Severity::Error, found.message),
        None => (
            Severity::Warning,
            format!(
                "a host on this machine would not load this: {}",
                found.message
            ),
        ),
    };
    Some(Fault {
        severity,
        path: "handlers".to_owned(),
        message,
        fix: Some(found.fix),
    })
}
