//! The readiness probe of a pod ([`tensorgate_wire::readiness`]).
//!
//! The filter signs a context for it and forwards it, so that the host can tell that this filter
//! has a configuration and the host's key. Nothing of it is charged, counted, numbered or reported.

use tensorgate_policy::Now;
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::request::{CallerDigests, Operations, Proofs};
use tensorgate_wire::context::{self, Context};
use tensorgate_wire::headers::ReadHead;
use tensorgate_wire::readiness::{FILTER_CHAIN, PATH};

use super::event_context::{Effect, EventContext, Transition};
use super::{Forwarded, Stream};
use crate::host::Level;

/// Handles the head if it is the probe; `None` if not.
pub(super) fn probe(
    ctx: &mut EventContext<'_>,
    read: &ReadHead<'_>,
    now: Now,
) -> Option<Transition> {
    let key = ctx.root.host_key()?;
    // Other requests cost no host call.
    if read.path != PATH {
        return None;
    }
    let chain = ctx.proxy.property(&["xds", "filter_chain_name"]).ok()??;
    if chain != FILTER_CHAIN.as_bytes() {
        return None;
    }
    let context = Context {
        client: None,
        credential: None,
        proofs: Proofs::NONE,
        withheld: Operations::default(),
        request_id: String::new(),
        method: read.method.to_owned(),
        path: PATH.to_owned(),
        generation: ctx.root.generation().to_owned(),
        issued_unix_s: now.unix_s,
        until_unix_s: None,
        work: FilterWork::default(),
        quotas: Vec::new(),
        claims: Vec::new(),
        caller: CallerDigests::default(),
    };
    // Without a context the host does not confirm the probe.
    let signed = context.sign(key);
    if let Err(fault) = ctx.proxy.set_request_header(context::HEADER, &signed) {
        let line = format!("readiness probe: {fault}");
        ctx.proxy.log(Level::Error, &line);
    }
    Some((Stream::Forwarded(Forwarded::Exempt), Effect::Continue))
}
