//! The readiness probe of a pod ([`tensorgate_wire::readiness`]).
//!
//! The filter signs a context for it and forwards it, so that the host can tell that this filter
//! has a configuration and the host's key. Nothing of it is charged, counted, numbered or reported.

use tensorgate_policy::Now;
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::request::{Operations, Proofs};
use tensorgate_wire::context::{self, Context};
use tensorgate_wire::readiness::{FILTER_CHAIN, PATH};

use super::{Gate, Phase};
use crate::host::{Action, Field, Level, Proxy};
use crate::upstream::single_text;

impl Gate {
    /// Handles the head if it is the probe; `None` if not.
    pub(super) fn readiness_probe(
        &mut self,
        proxy: &mut dyn Proxy,
        fields: &[Field],
        now: Now,
    ) -> Option<Action> {
        let key = self.root.host_key()?;
        // Other requests cost no host call.
        if single_text(fields, ":path") != Some(PATH) {
            return None;
        }
        let method = single_text(fields, ":method")?;
        let chain = proxy.property(&["xds", "filter_chain_name"]).ok()??;
        if chain != FILTER_CHAIN.as_bytes() {
            return None;
        }
        let context = Context {
            client: None,
            credential: None,
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            request_id: String::new(),
            method: method.to_owned(),
            path: PATH.to_owned(),
            generation: self.root.generation.clone(),
            issued_unix_s: now.unix_s,
            until_unix_s: None,
            work: FilterWork::default(),
            quotas: Vec::new(),
            claims: Vec::new(),
        };
        // Without a context the host does not confirm the probe.
        if let Err(fault) = proxy.set_request_header(context::HEADER, &context.sign(key)) {
            proxy.log(Level::Error, &format!("readiness probe: {fault}"));
        }
        self.phase = Phase::Exempt;
        Some(Action::Continue)
    }
}
