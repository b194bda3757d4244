//! The port on the proxy-wasm SDK: callbacks in, host calls out. Only used inside a proxy.
//!
//! The SDK dispatches callbacks. Its host calls are not used, with one exception whose tokens the
//! SDK must know. In 0.2.5 each host call panics on an unexpected status, and header maps are read
//! with unchecked indexing and `String::from_utf8(…).unwrap()`. A panic here answers 503 to every
//! request of the worker. [`abi`] makes the same calls and returns failures as values.
//!
//! One possible panic remains in the SDK's dispatcher: a callback for a context that the proxy
//! never created. No client can cause that.
#![cfg(target_family = "wasm")]

mod abi;
mod counters;
mod limits;
mod open_streams;
mod outside;
mod unconfigured;

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{self, ContextType};
use tensorgate_identity::{ConfirmationFault, PureVerifier, Verifier, VerifyFault};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::{Now, Severity};
use tensorgate_wire::Answer;
use tensorgate_wire::answer::HttpAnswer;
use tensorgate_wire::context::Key;

use open_streams::OpenStreams;
use outside::{Outer, SOON_MS, Waiting, answered};
use tensorgate_filter_core::IDENTITY_PROPERTY;
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::signature::{self, SignatureCall};
use tensorgate_filter_core::host::{
    Action, Fields, HostFault, Level, LimitCallOutcome, Proxy, Shared, SharedStore, Verdict,
};
use tensorgate_filter_core::report::WorkerNumbers;
use tensorgate_filter_core::root::{
    CONTEXT_KEY_VARIABLE, GateRoot, READ_CONFIGURATION_BYTES, create_shared_state, host_fault,
};
use unconfigured::Unconfigured;

thread_local! {
    /// This VM's numbers. A VM without an id has no configuration, and so no requests.
    static NUMBERS: OnceCell<WorkerNumbers> = const { OnceCell::new() };
}

/// Registers the module with the proxy. Called once per VM, before anything else.
pub fn start() {
    log_panics();
    proxy_wasm::set_root_context(root);
}

/// Creates the root context of one plugin configuration; `context` is the proxy's number for it.
pub fn root(context: u32) -> Box<dyn RootContext> {
    Box::new(Root {
        context,
        declared: false,
        gate: None,
        waiting: Waiting::default(),
        open: OpenStreams::default(),
        tick_ms: 0,
    })
}

/// Logs the location of a panic.
pub fn log_panics() {
    // The SDK's own hook prints the panic's message, which may quote client data. The location is
    // enough to find the cause.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        abi::log(abi::LOG_CRITICAL, &format!("tensorgate: panic at {place}"));
    }));
}

/// Context of a plugin configuration.
struct Root {
    context: u32,
    /// The proxy accepts a declaration once per plugin configuration; this context lives as long.
    declared: bool,
    gate: Option<Rc<GateRoot>>,
    waiting: Waiting,
    open: OpenStreams,
    /// Tick period; 0: never.
    tick_ms: u32,
}

impl Root {
    /// Declares the caller's identity as a read-only property, so no later filter can change it.
    fn declare_identity(&mut self, filter: Filter) -> Result<(), HostFault> {
        if filter.shares_identity() && !self.declared {
            abi::declare_read_only_text(IDENTITY_PROPERTY)?;
            self.declared = true;
        }
        Ok(())
    }

    /// Sets the tick period.
    fn tick(&mut self, ms: u32) -> Result<(), HostFault> {
        if self.tick_ms != ms {
            abi::set_tick_period(ms)?;
            self.tick_ms = ms;
        }
        Ok(())
    }

    /// Wakes waiting requests whose result may have arrived.
    fn go_on(&mut self) {
        self.waiting.wake(self.context);
        if self
            .gate
            .as_ref()
            .is_some_and(|gate| gate.was_tick_requested())
        {
            self.tick_ms = SOON_MS;
        }
        let busy_ms = self.gate.as_ref().and_then(|gate| gate.busy_tick_ms());
        let tick_ms = self.waiting.tick_ms();
        if let Err(fault) = self.tick(busy_ms.map_or(tick_ms, |ms| ms.min(tick_ms))) {
            Host::outside().log(Level::Error, &fault.to_string());
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, fields: usize, _: usize, _: usize) {
        if let Some(gate) = &self.gate {
            gate.on_answer(&mut Outer, token, answered(fields).as_ref());
        }
        self.go_on();
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, _: usize) {
        let own = Host {
            own: self.context,
            request: self.context,
        };
        self.waiting
            .charge_response(own, token, limits::answer(own, status));
    }

    fn on_done(&mut self) -> bool {
        if let Some(gate) = &self.gate {
            gate.close(&mut Outer);
        }
        // The timer would outlive this context.
        if let Err(fault) = self.tick(0) {
            Host::outside().log(Level::Error, &fault.to_string());
        }
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        let key = std::env::var(CONTEXT_KEY_VARIABLE).ok();
        let configured = abi::plugin_configuration(READ_CONFIGURATION_BYTES)
            .map_err(|fault| vec![host_fault(fault)])
            .and_then(|configuration| GateRoot::configure(configuration, key.as_deref()))
            .and_then(|(root, warnings)| {
                self.declare_identity(root.filter())
                    .map_err(|fault| vec![host_fault(fault)])?;
                counters::define().map_err(|fault| vec![host_fault(fault)])?;
                set_vm_id().map_err(|fault| vec![host_fault(fault)])?;
                let now = Host::outside()
                    .now()
                    .map_err(|fault| vec![host_fault(fault)])?;
                create_shared_state(&mut Host::outside(), &root, now)
                    .map_err(|fault| vec![host_fault(fault)])?;
                let tick_ms = if root.ticks() { SOON_MS } else { 0 };
                self.tick(tick_ms)
                    .map_err(|fault| vec![host_fault(fault)])?;
                Ok((root, warnings))
            });
        let (root, faults) = match configured {
            Ok((root, warnings)) => (Some(root), warnings),
            Err(faults) => (None, faults),
        };
        for fault in &faults {
            let level = if fault.severity == Severity::Error {
                Level::Error
            } else {
                Level::Warn
            };
            Host::outside().log(level, &format!("configuration: {fault}"));
        }
        self.gate = root.map(Rc::new);
        self.gate.is_some()
    }

    fn on_tick(&mut self) {
        if let Some(gate) = &self.gate {
            gate.on_tick(&mut Outer);
        }
        let more = self.open.end_late(self.context);
        self.go_on();
        if more && let Err(fault) = self.tick(SOON_MS) {
            Host::outside().log(Level::Error, &fault.to_string());
        }
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.gate {
            Some(root) => Box::new(Stream {
                host: Host {
                    own: self.context,
                    request: context,
                },
                gate: Rc::new(RefCell::new(Gate::new(Rc::clone(root)))),
                waiting: self.waiting.clone(),
                open: self.open.clone(),
            }),
            None => Box::new(Unconfigured),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// Context of a request.
struct Stream {
    host: Host,
    gate: Rc<RefCell<Gate>>,
    waiting: Waiting,
    open: OpenStreams,
}

impl Stream {
    /// Calls the gate, and notes a wait that begins with it.
    fn call<T>(&mut self, gate_callback: impl FnOnce(&mut Gate, &mut Host) -> T) -> T {
        let mut gate = self.gate.borrow_mut();
        let waited = gate.waits();
        let result = gate_callback(&mut gate, &mut self.host);
        drop(gate);
        if !waited {
            self.waiting.note(self.host.request, &self.gate);
        }
        result
    }
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, _: usize) {
        let answer = limits::answer(self.host, status);
        self.call(|gate, host| gate.on_rate_limit_response(host, token, answer));
    }

    fn on_done(&mut self) -> bool {
        self.open.remove(self.host.request);
        self.gate.borrow_mut().on_done(&mut self.host);
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> types::Action {
        let mut gate = self.gate.borrow_mut();
        let action = gate.on_request_headers(&mut self.host, end_of_stream);
        if let Some(ends_ns) = gate.ends_ns() {
            self.open.add(self.host.request, ends_ns, &self.gate);
        }
        drop(gate);
        self.waiting.note(self.host.request, &self.gate);
        to_sdk(action)
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> types::Action {
        to_sdk(self.call(|gate, host| gate.on_request_body(host, body_size, end_of_stream)))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> types::Action {
        to_sdk(self.gate.borrow_mut().on_request_trailers(&mut self.host))
    }

    fn on_http_response_body(&mut self, body_size: usize, _: bool) -> types::Action {
        let mut gate = self.gate.borrow_mut();
        gate.on_response_body(&mut self.host, body_size);
        types::Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> types::Action {
        to_sdk(self.gate.borrow_mut().on_response_trailers(&mut self.host))
    }

    fn on_log(&mut self) {
        self.gate.borrow_mut().on_log(&mut self.host);
    }
}

const fn to_sdk(action: Action) -> types::Action {
    match action {
        Action::Continue => types::Action::Continue,
        Action::Pause => types::Action::Pause,
    }
}

/// The proxy during a running callback: host calls act on its request.
#[derive(Clone, Copy)]
struct Host {
    /// Context of the configuration.
    own: u32,
    /// Context of the request.
    request: u32,
}

impl Host {
    /// Used outside of requests.
    const fn outside() -> Self {
        Self { own: 0, request: 0 }
    }
}

impl SharedStore for Host {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        abi::get_shared_data(key)
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        abi::set_shared_data(key, value, token)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        abi::set_shared_data(key, value, abi::NO_CAS).map(|_| ())
    }
}

impl Verifier for Host {
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        given: &[u8],
    ) -> Result<bool, VerifyFault> {
        match signature::request(key, signed, given) {
            Some(SignatureCall::Malformed) => Ok(false),
            Some(SignatureCall::Call(message)) => {
                match abi::call_foreign_function(signature::FUNCTION, &message) {
                    Ok(answer) => Ok(signature::is_verified(&answer)),
                    // A proxy other than Envoy, or an Envoy built without this function.
                    Err(HostFault { status, .. }) if status == abi::NOT_FOUND => {
                        PureVerifier.verify(key, signed, given)
                    }
                    Err(_) => Err(VerifyFault("the proxy cannot check a signature")),
                }
            }
            None => PureVerifier.verify(key, signed, given),
        }
    }
}

impl Proxy for Host {
    fn request_headers(&mut self) -> Result<Fields, HostFault> {
        abi::get_request_headers()
    }

    fn replace_request_headers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        abi::set_header_map(abi::REQUEST_HEADERS, fields)
    }

    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        abi::replace_header(abi::REQUEST_HEADERS, name, value)
    }

    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault> {
        abi::remove_header(abi::REQUEST_HEADERS, name)
    }

    fn set_request_trailers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault> {
        abi::set_header_map(abi::REQUEST_TRAILERS, fields)
    }

    fn take_response_trailer(&mut self, name: &str) -> Result<Option<String>, HostFault> {
        let value = abi::get_header(abi::RESPONSE_TRAILERS, name);
        abi::remove_header(abi::RESPONSE_TRAILERS, name)?;
        Ok(value?.and_then(|value| String::from_utf8(value).ok()))
    }

    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        abi::request_body(start, max_bytes)
    }

    fn response_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        abi::response_body(start, max_bytes)
    }

    fn replace_request_body(&mut self, data: &[u8]) -> Result<(), HostFault> {
        abi::replace_request_body(data)
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        let HttpAnswer {
            status,
            fields,
            body,
        } = answer.to_http();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (*name, value.as_ref()))
            .collect();
        abi::send_local_response(u32::from(status), &fields, body)
    }

    fn resume(&mut self) -> Result<(), HostFault> {
        abi::continue_request()
    }

    fn tick_soon(&mut self) {
        // Without it the work waits for the next tick.
        let _ = abi::set_tick_period(SOON_MS);
    }

    fn now(&mut self) -> Result<Now, HostFault> {
        Ok(Now {
            unix_s: abi::clock_ns(abi::CLOCK_REALTIME)? / 1_000_000_000,
            monotonic_ns: abi::clock_ns(abi::CLOCK_MONOTONIC)?,
        })
    }

    fn source_address(&mut self) -> Option<String> {
        String::from_utf8(abi::get_property(b"source\0address").ok()??).ok()
    }

    fn log(&mut self, level: Level, line: &str) {
        let level = match level {
            Level::Info => abi::LOG_INFO,
            Level::Warn => abi::LOG_WARN,
            Level::Error => abi::LOG_ERROR,
        };
        abi::log(level, line);
    }

    fn count(&mut self, verdict: Verdict) {
        counters::increment(|counters| counters.verdict(verdict));
    }

    fn count_overload(&mut self, cause: OverloadCause) {
        counters::increment(|counters| counters.overload(cause));
    }

    fn call_rate_limit_service(
        &mut self,
        question: &[u8],
        timeout_ms: u64,
    ) -> Result<u32, HostFault> {
        limits::ask(*self, question, timeout_ms)
    }

    fn count_limit_call(&mut self, asked: LimitCallOutcome) {
        counters::increment(|counters| counters.limit_call(asked));
    }

    fn count_unconfirmed(&mut self, fault: ConfirmationFault) {
        counters::increment(|counters| counters.unconfirmed(fault));
    }

    fn count_shadow(&mut self, reason: &str) {
        counters::increment(|counters| counters.shadow(reason));
    }

    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        abi::get_property(path.join("\0").as_bytes())
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        abi::set_property(name, value)
    }

    fn new_request_id(&mut self, key: Option<&Key>) -> String {
        let id = |numbers: &OnceCell<WorkerNumbers>| Some(numbers.get()?.new_request_id(key));
        NUMBERS.with(id).unwrap_or_default()
    }

    fn next_sequence_number(&mut self) -> Option<String> {
        NUMBERS.with(|numbers| Some(numbers.get()?.next_sequence_number()))
    }
}

/// Sets this VM's id, once.
fn set_vm_id() -> Result<(), HostFault> {
    NUMBERS.with(|numbers| {
        if numbers.get().is_none() {
            let now_ns = abi::clock_ns(abi::CLOCK_REALTIME)?;
            let own = WorkerNumbers::allocate(&mut Host::outside(), now_ns)?;
            // The cell was empty before, on this single thread.
            let _ = numbers.set(own);
        }
        Ok(())
    })
}
