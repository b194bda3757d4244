//! A configuration of the filter, which all workers share.

use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::HostFault;
use tensorgate_filter_core::report::{Counters, WorkerNumbers};
use tensorgate_filter_core::root::{
    CONTEXT_KEY_VARIABLE, Configuration, GateRoot, create_shared_state, host_fault,
};
use tensorgate_policy::{Fault, Policy};

use crate::abi::{ConfigurationCall, is_after_1_38};
use crate::key_requests::KeyRequests;
use crate::store::Store;
use crate::{clock, timer};

/// A loaded configuration.
pub struct Module {
    pub configuration: Configuration,
    pub counters: Counters,
    /// Counts panics.
    pub panics: usize,
    /// Whether Envoy is newer than 1.38, which shows a module less of a request, logs each question
    /// for more, and keeps the first value of a filter state.
    pub is_after_1_38: bool,
    /// The key sets that are fetched, if there are any.
    pub key_requests: Option<KeyRequests>,
}

impl Module {
    /// Loads a configuration on Envoy's main thread. `Ok` carries the warnings, `Err` all faults.
    ///
    /// # Errors
    /// The faults, if any is an error.
    pub fn load(
        call: &ConfigurationCall<'_>,
        name: &[u8],
        bytes: &[u8],
    ) -> Result<(Self, Vec<Fault>), Vec<Fault>> {
        let rejected = |fault: HostFault| vec![host_fault(fault)];
        timer::start().map_err(|fault| vec![host_fault(fault)])?;
        if name != Filter::Gate.name().as_bytes() {
            let cause = "must be gate: only the wasm module can be a chain of its parts";
            return Err(vec![Fault::error("filter_name", cause)]);
        }
        let key = std::env::var(CONTEXT_KEY_VARIABLE).ok();
        let (configuration, warnings) = Configuration::load(None, bytes, key.as_deref(), None)?;
        if configuration.filter() != Filter::Gate {
            let cause = "is of a part of the gate: only the wasm module can be one";
            return Err(vec![Fault::error("bundle", cause)]);
        }
        let faults = unsupported(configuration.policy(), configuration.has_host());
        if !faults.is_empty() {
            return Err(faults);
        }
        let counters = Counters::define(|name| call.define_counter(name)).map_err(rejected)?;
        let panics = call.define_counter("tensorgate_panics").map_err(rejected)?;
        // The workers find this state: Envoy configures its main thread first.
        create_shared_state(&mut Store, &GateRoot::new(&configuration), clock::now())
            .map_err(|fault| vec![host_fault(fault)])?;
        // So do they find the counter of their ids.
        WorkerNumbers::allocate(&mut Store, clock::unix_ns()).map_err(rejected)?;
        let key_requests = KeyRequests::new(call, configuration.policy()).map_err(rejected)?;
        let module = Self {
            key_requests,
            configuration,
            counters,
            panics,
            is_after_1_38: is_after_1_38(),
        };
        Ok((module, warnings))
    }

    /// A filter of this configuration for one worker.
    pub fn root(&self) -> GateRoot {
        let root = GateRoot::new(&self.configuration);
        // Envoy delivers the bodies of a module's requests while their headers are held.
        root.expect_bodies();
        root
    }
}

/// All workers share it, and any may drop it.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Module>();
};

/// What a policy has that this module cannot do. The wasm module can.
fn unsupported(policy: &Policy, has_host: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !has_host && policy.rate_limit_service().is_some() {
        let cause = "without a sandbox host, the native module does not call the service yet: put a host behind it, or use the wasm module";
        faults.push(Fault::error("rate_limit_service", cause));
    }
    for client in policy.clients().iter() {
        if client.metadata().is_some_and(|rule| rule.claim().len() > 1) {
            let place = format!("clients.{}.metadata.claim", client.name());
            let cause = "Envoy shows a native module only the top level of another filter's metadata: use the wasm module";
            faults.push(Fault::error(&place, cause));
        }
    }
    faults
}
