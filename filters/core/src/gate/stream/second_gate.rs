//! A second gate in the filter chain of one proxy, as while Istio's `TrafficExtension` replaces its
//! `WasmPlugin`. The first gate has decided and has replaced the client's header fields, so that a
//! second decision could only reject the request.
//!
//! | before this gate | the request |
//! |---|---|
//! | nothing, and a client sent a context | is ambiguous, as any field in tensorgate's name |
//! | a gate with this policy version, which signed a context for this request | passes untouched |
//! | another filter of tensorgate | is rejected with a cause that says so |
//!
//! What proves the first filter is a property of the request, which no client can set. So a context
//! proves nothing by itself, even a valid one that was captured and is sent again.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Denial, Now, Reason};
use tensorgate_wire::context::{self, Context};
use tensorgate_wire::headers::ReadHead;

use super::event_context::{Effect, EventContext, Transition};
use super::{Forwarded, Stream};
use crate::filter::Filter;
use crate::host::{Fields, HostFault, Level, Proxy, cannot_decide};
use crate::report::property;
use crate::report::record::ReportedOutcome;

/// What an operator has to know and do.
const TWO_GATES: &str = "two filters of tensorgate are in the filter chain of this proxy, and each \
                         decides: remove one";

/// Handles the head if another filter of tensorgate has handled this request; `None` if not.
pub(super) fn behind_another(
    ctx: &mut EventContext<'_>,
    read: &ReadHead<'_>,
    fields: &Fields,
    now: Now,
) -> Option<Transition> {
    // Most requests have no context here, and cost no host call.
    if ctx.root.filter() != Filter::Gate || !read.has_context {
        return None;
    }
    let checked = match FirstFilter::read(ctx.proxy) {
        Ok(None) => return None,
        Ok(Some(first)) => {
            ctx.outcome.record.request_id = first.request_id;
            check_first_gate(ctx, first.outcome.as_ref(), fields, now)
        }
        Err(fault) => Err(cannot_decide(fault)),
    };
    if let Err(denial) = checked {
        return Some(ctx.deny(&denial, Protocol::OipRest));
    }
    if !ctx.root.is_second_logged.replace(true) {
        let line = format!("configuration: {TWO_GATES}. The first one decides meanwhile");
        ctx.proxy.log(Level::Warn, &line);
    }
    Some((Stream::Forwarded(Forwarded::Exempt), Effect::Continue))
}

/// Checks that the filter before this one was a gate that has accepted this request by the
/// same policy version.
fn check_first_gate(
    ctx: &mut EventContext<'_>,
    outcome: Option<&ReportedOutcome>,
    fields: &Fields,
    now: Now,
) -> Result<(), Denial> {
    let denial = |why: &str| {
        let cause = format!("{TWO_GATES} ({why})");
        Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Configuration)
    };
    // Only the parts of a gate name themselves.
    let part = ctx
        .proxy
        .property(&[property::FILTER])
        .map_err(cannot_decide)?;
    if part.is_some() {
        return Err(denial("the first one is a part of a gate"));
    }
    if outcome.is_some_and(|outcome| !outcome.is_allowed()) {
        return Err(denial("the first one has not accepted the request"));
    }
    let values = [context::HEADER, ":method", ":path"];
    let [Some(signed), Some(method), Some(path)] = values.map(|name| fields.single_text(name))
    else {
        return Err(denial("a field of the first one is missing or repeated"));
    };
    let Some(key) = ctx.root.host_key() else {
        return Err(denial("no host is behind this one"));
    };
    // It was signed in this request, whatever the filters between have waited for.
    let context = Context::verify(signed, key, method, path, now.unix_s, u64::MAX)
        .map_err(|fault| denial(&fault.to_string()))?;
    if context.request_id != ctx.outcome.record.request_id {
        return Err(denial("the context is of another request"));
    }
    if context.generation != ctx.root.generation() {
        return Err(denial("they have different policy versions"));
    }
    if !context.work.checks {
        return Err(denial("the first one does not validate bodies"));
    }
    Ok(())
}

/// What another filter of tensorgate has reported about this request: its outcome, or that it
/// forwards the head, before the next filter has the head.
struct FirstFilter {
    /// Empty if it named none.
    request_id: String,
    /// `None` while it has only forwarded the head.
    outcome: Option<ReportedOutcome>,
}

impl FirstFilter {
    /// Reads the report; `None` if there is no other filter.
    fn read(proxy: &mut dyn Proxy) -> Result<Option<Self>, HostFault> {
        let forwarded = proxy.property(&[property::FORWARDED])?;
        let outcome_json = proxy.property(&[property::OUTCOME])?;
        let outcome = outcome_json.map(|json| ReportedOutcome::parse(&json));
        let request_id = match (forwarded, &outcome) {
            (Some(id), _) => String::from_utf8(id).unwrap_or_default(),
            (None, Some(outcome)) => outcome.request_id.clone(),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            request_id,
            outcome,
        }))
    }
}
