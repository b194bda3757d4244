//! The port on the proxy-wasm SDK: callbacks in, host calls out. Only inside a proxy.
//!
//! The SDK dispatches callbacks. Its host calls are not used, but for the one whose answers it must know: in 0.2.5 each of them panics on a status
//! that it does not expect, its header maps are read with unchecked indexing and `String::from_utf8(…).unwrap()`, and a panic here answers 503 to
//! every request of the worker. [`abi`] makes the same calls and states their failures as data.
//!
//! What is left that can panic lies in the SDK's dispatcher: a callback for a context that the proxy never created, which no client can bring about.

mod abi;
mod counters;
mod limits;
mod outside;
mod unconfigured;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{self, ContextType};
use tensorgate_identity::{PureVerifier, Verifier as _, VerifyFault};
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::{Fault, Now, Severity};
use tensorgate_wire::Answer;
use tensorgate_wire::answer::percent_encoded;

use crate::entry;
use crate::filter::Filter;
use crate::gate::Gate;
use crate::host::{Action, Asked, Field, HostFault, Level, Proxy, Shared, SharedStore};
use crate::lockout::make_pages;
use crate::places::make_counts;
use crate::record::Verdict;
use crate::root::{CONTEXT_KEY_VARIABLE, GateRoot, READ_CONFIGURATION_BYTES, host_fault};
use crate::shared_identity;
use crate::shared_limits::make_breaker;
use crate::signature::{self, Question};
use crate::spend::make_slots;
use outside::{Outer, SOON_MS, Waiting, answered};
use unconfigured::Unconfigured;

thread_local! {
    /// This VM's name and the number of its last entry.
    static ENTRIES: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    /// Which filter this module is.
    static FILTER: Cell<Option<Filter>> = const { Cell::new(None) };
}

/// Registers the filter with the proxy. Called once a VM, before anything else.
pub fn start(filter: Filter) {
    tell_panics();
    // The SDK takes a plain function, which cannot hold the filter.
    FILTER.with(|cell| cell.set(Some(filter)));
    proxy_wasm::set_root_context(|context| root(context, FILTER.with(Cell::get)));
}

/// What answers the proxy for one plugin configuration of a filter; `context` is the proxy's number for it.
pub fn root(context: u32, filter: Option<Filter>) -> Box<dyn RootContext> {
    Box::new(Root {
        context,
        filter,
        declared: false,
        gate: None,
        waiting: Waiting::default(),
        tick_ms: 0,
    })
}

/// Has a panic tell the proxy's log its place.
pub fn tell_panics() {
    // The SDK's own hook prints the panic's message, which may quote what a client sent. The place is enough to find the cause.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        abi::log(abi::LOG_CRITICAL, &format!("tensorgate: panic at {place}"));
    }));
}

/// A plugin configuration's context.
struct Root {
    context: u32,
    filter: Option<Filter>,
    /// The proxy takes a declaration once a plugin configuration, and this context lives as long as that.
    declared: bool,
    gate: Option<Rc<GateRoot>>,
    waiting: Waiting,
    /// How often it is called; 0: never.
    tick_ms: u32,
}

impl Root {
    /// Has the proxy let nobody change who is calling, once a filter of ours has said it.
    fn declare_identity(&mut self) -> Result<(), HostFault> {
        let shares = self.filter.is_some_and(Filter::shares);
        if shares && !self.declared {
            abi::declare_read_only_text(shared_identity::PROPERTY)?;
            self.declared = true;
        }
        Ok(())
    }

    /// Has the proxy call again after so long, and every so often from then on.
    fn tick(&mut self, ms: u32) -> Result<(), HostFault> {
        if self.tick_ms != ms {
            abi::set_tick_period(ms)?;
            self.tick_ms = ms;
        }
        Ok(())
    }

    /// Something of what requests wait for may be there.
    fn go_on(&mut self) {
        self.waiting.wake(self.context);
        if self.gate.as_ref().is_some_and(|gate| gate.was_hurried()) {
            self.tick_ms = SOON_MS;
        }
        if let Err(fault) = self.tick(self.waiting.tick_ms()) {
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
        self.waiting.told(own, token, limits::answer(own, status));
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
            .and_then(|bundle| {
                let filter = self.filter.ok_or_else(|| vec![unnamed()])?;
                GateRoot::configure(filter, bundle, key.as_deref())
            })
            .and_then(|(root, warnings)| {
                self.declare_identity()
                    .map_err(|fault| vec![host_fault(fault)])?;
                make_slots(&mut Host::outside(), root.policy())
                    .map_err(|fault| vec![host_fault(fault)])?;
                make_counts(&mut Host::outside(), root.policy())
                    .map_err(|fault| vec![host_fault(fault)])?;
                make_pages(&mut Host::outside(), root.policy())
                    .map_err(|fault| vec![host_fault(fault)])?;
                make_breaker(&mut Host::outside(), root.policy())
                    .map_err(|fault| vec![host_fault(fault)])?;
                counters::define().map_err(|fault| vec![host_fault(fault)])?;
                take_name().map_err(|fault| vec![host_fault(fault)])?;
                let now = Host::outside()
                    .now()
                    .map_err(|fault| vec![host_fault(fault)])?;
                root.make_keys(&mut Host::outside(), now)
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
        self.go_on();
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
            }),
            None => Box::new(Unconfigured),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A module that was started without saying which filter it is.
fn unnamed() -> Fault {
    host_fault(HostFault {
        call: "start",
        status: 0,
    })
}

/// A request.
struct Stream {
    host: Host,
    gate: Rc<RefCell<Gate>>,
    waiting: Waiting,
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, token: u32, status: u32, _: usize) {
        let answer = limits::answer(self.host, status);
        let mut gate = self.gate.borrow_mut();
        gate.on_limits_answer(&mut self.host, token, answer);
    }

    fn on_done(&mut self) -> bool {
        self.gate.borrow_mut().on_done(&mut self.host);
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> types::Action {
        let mut gate = self.gate.borrow_mut();
        let action = gate.on_request_headers(&mut self.host, end_of_stream);
        drop(gate);
        self.waiting.note(self.host.request, &self.gate);
        to_sdk(action)
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> types::Action {
        let mut gate = self.gate.borrow_mut();
        to_sdk(gate.on_request_body(&mut self.host, body_size, end_of_stream))
    }

    fn on_http_request_trailers(&mut self, _: usize) -> types::Action {
        to_sdk(self.gate.borrow_mut().on_request_trailers(&mut self.host))
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

/// The proxy around the callback that is running: host calls act on its request.
#[derive(Clone, Copy)]
struct Host {
    /// The configuration's context.
    own: u32,
    /// The request's.
    request: u32,
}

impl Host {
    /// Where no request is.
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

impl Proxy for Host {
    fn request_headers(&mut self) -> Result<Vec<Field>, HostFault> {
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

    fn clear_request_trailers(&mut self) -> Result<(), HostFault> {
        abi::set_header_map(abi::REQUEST_TRAILERS, &[])
    }

    fn take_response_trailer(&mut self, name: &str) -> Result<Option<String>, HostFault> {
        let value = abi::get_header(abi::RESPONSE_TRAILERS, name);
        abi::remove_header(abi::RESPONSE_TRAILERS, name)?;
        Ok(value?.and_then(|value| String::from_utf8(value).ok()))
    }

    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        abi::request_body(start, max_bytes)
    }

    fn prepend_request_body(&mut self, data: &[u8]) -> Result<(), HostFault> {
        abi::prepend_request_body(data)
    }

    fn replace_request_body(&mut self, data: &[u8]) -> Result<(), HostFault> {
        abi::replace_request_body(data)
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        match answer {
            Answer::Rest {
                status,
                headers,
                body,
            } => {
                let fields: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                abi::send_local_response(u32::from(*status), &fields, body)
            }
            Answer::Grpc {
                status,
                message,
                headers,
            } => {
                // Written out as the trailers-only answer that it is, not through the proxy's own gRPC form: that one looks at the
                // request's content type and would answer 200 with a text to a gRPC path without one.
                let status = (*status as u8).to_string();
                let message = percent_encoded(message);
                let mut fields = vec![
                    ("content-type", "application/grpc"),
                    ("grpc-status", status.as_str()),
                    ("grpc-message", message.as_str()),
                ];
                fields.extend(headers.iter().map(|(name, value)| (*name, value.as_str())));
                abi::send_local_response(200, &fields, &[])
            }
        }
    }

    fn resume(&mut self) -> Result<(), HostFault> {
        abi::continue_request()
    }

    fn tick_soon(&mut self) {
        // Without it what is wished for comes at the next tick.
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

    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        given: &[u8],
    ) -> Result<bool, VerifyFault> {
        match signature::question(key, signed, given) {
            Some(Question::NoSignature) => Ok(false),
            Some(Question::Ask(message)) => {
                match abi::call_foreign_function(signature::FUNCTION, &message) {
                    Ok(answer) => Ok(signature::says_yes(&answer)),
                    // Another proxy than Envoy, or one built without it.
                    Err(HostFault { status, .. }) if status == abi::NOT_FOUND => {
                        PureVerifier.verify(key, signed, given)
                    }
                    Err(_) => Err(VerifyFault("the proxy cannot check a signature")),
                }
            }
            None => PureVerifier.verify(key, signed, given),
        }
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
        counters::verdict(verdict);
    }

    fn ask_limits(&mut self, question: &[u8], timeout_ms: u64) -> Result<u32, HostFault> {
        limits::ask(*self, question, timeout_ms)
    }

    fn count_asked(&mut self, asked: Asked) {
        counters::asked(asked);
    }

    fn count_shadow(&mut self, reason: &str) {
        counters::shadow(reason);
    }

    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        abi::get_property(path.join("\0").as_bytes())
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        abi::set_property(name, value)
    }

    fn next_entry(&mut self) -> Option<String> {
        let (vm, last) = ENTRIES.with(Cell::get)?;
        let number = last.saturating_add(1);
        ENTRIES.with(|entries| entries.set(Some((vm, number))));
        Some(format!("{vm:016x}.{number}"))
    }
}

/// Gives this VM its name, once.
fn take_name() -> Result<(), HostFault> {
    if ENTRIES.with(Cell::get).is_none() {
        let vm = entry::take_name(&mut Host::outside(), abi::clock_ns(abi::CLOCK_REALTIME)?)?;
        ENTRIES.with(|entries| entries.set(Some((vm, 0))));
    }
    Ok(())
}
