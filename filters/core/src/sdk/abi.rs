//! The part of the proxy-wasm ABI 0.2.1 that the port needs. Every returned status and length is
//! checked; client data cannot cause a panic here.
//!
//! The proxy passes memory by calling the allocator that the SDK exports
//! (`proxy_on_memory_allocate`: a boxed slice of exactly the requested size). The result is
//! therefore a `Vec` of that capacity.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use proxy_wasm::hostcalls;
use tensorgate_policy::Now;

use super::{Host, abi};
use crate::gate::Gate;
use crate::host::{
    FetchOutcome, Field, HostFault, HttpCall, HttpResponse, Level, Outside, Proxy as _, Shared,
    SharedStore,
};
use crate::keys::document::MAX_DOCUMENT_BYTES;

pub(super) const REQUEST_HEADERS: u32 = 0;
pub(super) const REQUEST_TRAILERS: u32 = 1;
pub(super) const RESPONSE_TRAILERS: u32 = 3;
pub(super) const LOG_INFO: u32 = 2;
pub(super) const LOG_WARN: u32 = 3;
pub(super) const LOG_ERROR: u32 = 4;
pub(super) const LOG_CRITICAL: u32 = 5;
pub(super) const CLOCK_REALTIME: u32 = 0;
/// One clock for all workers of a proxy process, which `std::time::Instant` would hide.
pub(super) const CLOCK_MONOTONIC: u32 = 1;
/// [`set_shared_data`] without comparing.
pub(super) const NO_CAS: u32 = 0;

const BUFFER_REQUEST_BODY: u32 = 0;
const BUFFER_CALL_RESPONSE_BODY: u32 = 4;
const BUFFER_GRPC_RECEIVED: u32 = 5;
const BUFFER_PLUGIN_CONFIGURATION: u32 = 7;
const CALL_RESPONSE_HEADERS: u32 = 6;
const METRIC_COUNTER: u32 = 0;
const METRIC_GAUGE: u32 = 1;
const STREAM_REQUEST: u32 = 0;
const NOT_GRPC: i32 = -1;
/// `%RESPONSE_CODE_DETAILS%` of a tensorgate response. Access logs and `local_reply_config` use it
/// to tell it from Envoy's own responses.
const DETAILS: &str = "tensorgate";

const OK: u32 = 0;
pub(super) const NOT_FOUND: u32 = 1;
const SERIALIZATION_FAILURE: u32 = 3;
const CAS_MISMATCH: u32 = 8;

mod raw {
    #![expect(unsafe_code, reason = "what the proxy exports")]

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(super) fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            size: usize,
            data: *const u8,
            data_size: usize,
        ) -> u32;
        pub(super) fn proxy_get_header_map_pairs(
            map: u32,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
        pub(super) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(super) fn proxy_remove_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
        ) -> u32;
        pub(super) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            results: *mut *mut u8,
            results_size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(super) fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            data: *const u8,
            size: usize,
        ) -> u32;
        pub(super) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(super) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            data: *const u8,
            size: usize,
            cas: u32,
        ) -> u32;
        pub(super) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(super) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            size: usize,
            id: *mut u32,
        ) -> u32;
        pub(super) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(super) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(super) fn proxy_continue_stream(kind: u32) -> u32;
        pub(super) fn proxy_set_effective_context(context: u32) -> u32;
        pub(super) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(super) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
    }
}

fn check(call: &'static str, status: u32) -> Result<(), HostFault> {
    if status == OK {
        Ok(())
    } else {
        Err(HostFault { call, status })
    }
}

/// Takes ownership of memory that the proxy allocated.
fn take(data: *mut u8, size: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: a successful call has set both to the result of `proxy_on_memory_allocate(size)`,
    // which leaks a boxed slice of `size` bytes of this module's own allocator. The proxy filled it
    // and keeps no reference.
    #[expect(
        unsafe_code,
        reason = "memory comes from the proxy as pointer and length"
    )]
    unsafe {
        Vec::from_raw_parts(data, size, size)
    }
}

pub(super) fn log(level: u32, message: &str) {
    // A line that cannot be written is lost.
    // SAFETY: pointer and length are of one live string, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let _ = unsafe { raw::proxy_log(level, message.as_ptr(), message.len()) };
}

fn get_buffer(buffer: u32, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: both out-pointers are of live locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status =
        unsafe { raw::proxy_get_buffer_bytes(buffer, start, max_bytes, &mut data, &mut size) };
    match status {
        NOT_FOUND => Ok(Vec::new()),
        status => check("get_buffer_bytes", status).map(|()| take(data, size)),
    }
}

pub(super) fn request_body(start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_REQUEST_BODY, start, max_bytes)
}

/// Writes to the request's body: before it, instead of it, or after it.
fn set_request_body(start: usize, instead_of: usize, data: &[u8]) -> Result<(), HostFault> {
    // SAFETY: pointer and length are of one live slice, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe {
        raw::proxy_set_buffer_bytes(
            BUFFER_REQUEST_BODY,
            start,
            instead_of,
            data.as_ptr(),
            data.len(),
        )
    };
    check("set_buffer_bytes", status)
}

pub(super) fn prepend_request_body(data: &[u8]) -> Result<(), HostFault> {
    set_request_body(0, 0, data)
}

pub(super) fn append_request_body(data: &[u8]) -> Result<(), HostFault> {
    // An offset beyond the end means the end.
    set_request_body(usize::MAX, 0, data)
}

pub(super) fn replace_request_body(data: &[u8]) -> Result<(), HostFault> {
    // A length beyond the end means the whole body.
    set_request_body(0, usize::MAX, data)
}

pub(super) fn plugin_configuration(max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_PLUGIN_CONFIGURATION, 0, max_bytes)
}

/// At most `max_bytes` of a gRPC response message.
pub(super) fn grpc_message(max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_GRPC_RECEIVED, 0, max_bytes)
}

/// At most `max_bytes` of an HTTP response body.
pub(super) fn call_body(max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_CALL_RESPONSE_BODY, 0, max_bytes)
}

pub(super) fn get_request_headers() -> Result<Vec<Field>, HostFault> {
    get_headers(REQUEST_HEADERS)
}

pub(super) fn get_request_trailers() -> Result<Vec<Field>, HostFault> {
    get_headers(REQUEST_TRAILERS)
}

/// Header fields of an HTTP response.
pub(super) fn get_call_headers() -> Result<Vec<Field>, HostFault> {
    get_headers(CALL_RESPONSE_HEADERS)
}

fn get_headers(map: u32) -> Result<Vec<Field>, HostFault> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: both out-pointers are of live locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_get_header_map_pairs(map, &mut data, &mut size) };
    check("get_header_map_pairs", status)?;
    crate::host::deserialize(&take(data, size)).ok_or(HostFault {
        call: "get_header_map_pairs",
        status: SERIALIZATION_FAILURE,
    })
}

/// Value of a field; `None` if it is missing or empty.
pub(super) fn get_header(map: u32, name: &str) -> Result<Option<Vec<u8>>, HostFault> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the name's pointer and length are of one live string; both out-pointers are of live
    // locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe {
        raw::proxy_get_header_map_value(map, name.as_ptr(), name.len(), &mut data, &mut size)
    };
    match status {
        NOT_FOUND => Ok(None),
        status => check("get_header_map_value", status)
            .map(|()| Some(take(data, size)).filter(|value| !value.is_empty())),
    }
}

pub(super) fn set_header_map(map: u32, fields: &[(&str, &str)]) -> Result<(), HostFault> {
    let fields = serialize("set_header_map_pairs", fields)?;
    // SAFETY: pointer and length are of one live vector, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_set_header_map_pairs(map, fields.as_ptr(), fields.len()) };
    check("set_header_map_pairs", status)
}

pub(super) fn replace_header(map: u32, name: &str, value: &str) -> Result<(), HostFault> {
    // SAFETY: pointers and lengths are of two live strings, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe {
        raw::proxy_replace_header_map_value(
            map,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        )
    };
    check("replace_header_map_value", status)
}

pub(super) fn remove_header(map: u32, name: &str) -> Result<(), HostFault> {
    // SAFETY: pointer and length are of one live string, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) };
    check("remove_header_map_value", status)
}

/// Calls a function of the proxy by name and returns its result.
pub(super) fn call_foreign_function(
    name: &'static str,
    arguments: &[u8],
) -> Result<Vec<u8>, HostFault> {
    let (mut results, mut size) = (ptr::null_mut(), 0);
    // SAFETY: pointers and lengths are of a constant and a live slice, which the proxy only reads;
    // both out-pointers are of live locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe {
        raw::proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &mut results,
            &mut size,
        )
    };
    check(name, status).map(|()| take(results, size))
}

/// Declares a text property that is set once and lives as long as the request in the filter chain.
pub(super) fn declare_read_only_text(name: &str) -> Result<(), HostFault> {
    /// `DeclarePropertyArguments`: readonly (field 2) is true, type (3) is String (1); span (5)
    /// stays 0, the filter chain.
    const READ_ONLY_TEXT: [u8; 4] = [2 << 3, 1, 3 << 3, 1];
    let call = "declare_property";
    // Field 1, the name; its length is one byte.
    let length = u8::try_from(name.len())
        .ok()
        .filter(|length| *length < 0x80)
        .ok_or(HostFault {
            call,
            status: SERIALIZATION_FAILURE,
        })?;
    let arguments = [&[1 << 3 | 2, length][..], name.as_bytes(), &READ_ONLY_TEXT].concat();
    call_foreign_function(call, &arguments).map(|_| ())
}

fn serialize(call: &'static str, fields: &[(&str, &str)]) -> Result<Vec<u8>, HostFault> {
    crate::host::serialize(fields).ok_or(HostFault {
        call,
        status: SERIALIZATION_FAILURE,
    })
}

/// `path`: parts separated by zero bytes.
pub(super) fn get_property(path: &[u8]) -> Result<Option<Vec<u8>>, HostFault> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: the path's pointer and length are of one live slice; both out-pointers are of live
    // locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status =
        unsafe { raw::proxy_get_property(path.as_ptr(), path.len(), &mut data, &mut size) };
    match status {
        NOT_FOUND => Ok(None),
        status => check("get_property", status).map(|()| Some(take(data, size))),
    }
}

pub(super) fn set_property(name: &str, value: &str) -> Result<(), HostFault> {
    // SAFETY: pointers and lengths are of two live strings, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status =
        unsafe { raw::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    check("set_property", status)
}

pub(super) fn get_shared_data(key: &str) -> Result<Option<Shared>, HostFault> {
    let (mut data, mut size, mut token) = (ptr::null_mut(), 0, 0);
    // SAFETY: the key's pointer and length are of one live string; the out-pointers are of live
    // locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe {
        raw::proxy_get_shared_data(key.as_ptr(), key.len(), &mut data, &mut size, &mut token)
    };
    match status {
        NOT_FOUND => Ok(None),
        status => check("get_shared_data", status).map(|()| {
            Some(Shared {
                value: take(data, size),
                token,
            })
        }),
    }
}

/// `false`: another worker wrote since `cas` was read. [`NO_CAS`] disables the comparison.
pub(super) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<bool, HostFault> {
    // SAFETY: pointers and lengths are of one live string and one live slice, which the proxy only
    // reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe {
        raw::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas)
    };
    match status {
        CAS_MISMATCH => Ok(false),
        status => check("set_shared_data", status).map(|()| true),
    }
}

pub(super) fn send_local_response(
    status: u32,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Result<(), HostFault> {
    let fields = serialize("send_local_response", fields)?;
    // SAFETY: pointers and lengths are of a constant, a live slice and a live vector, which the
    // proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let answered = unsafe {
        raw::proxy_send_local_response(
            status,
            DETAILS.as_ptr(),
            DETAILS.len(),
            body.as_ptr(),
            body.len(),
            fields.as_ptr(),
            fields.len(),
            NOT_GRPC,
        )
    };
    check("send_local_response", answered)
}

pub(super) fn define_counter(name: &str) -> Result<u32, HostFault> {
    define_metric(METRIC_COUNTER, name)
}

pub(super) fn define_gauge(name: &str) -> Result<u32, HostFault> {
    define_metric(METRIC_GAUGE, name)
}

fn define_metric(kind: u32, name: &str) -> Result<u32, HostFault> {
    let mut id = 0;
    // SAFETY: pointer and length are of one live string; the out-pointer is of a live local.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    check("define_metric", status).map(|()| id)
}

pub(super) fn increment(counter: u32) {
    // A lost count fails no request. SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "a host call")]
    let _ = unsafe { raw::proxy_increment_metric(counter, 1) };
}

/// Sets a gauge.
pub(super) fn record(gauge: u32, value: u64) {
    // As above.
    // SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "a host call")]
    let _ = unsafe { raw::proxy_record_metric(gauge, value) };
}

/// Resumes the request of the effective context after the running callback.
pub(super) fn continue_request() -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_continue_stream(STREAM_REQUEST) };
    check("continue_stream", status)
}

/// Makes host calls act on this context for the rest of the running callback.
pub(super) fn set_effective_context(context: u32) -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_set_effective_context(context) };
    check("set_effective_context", status)
}

/// Sets the tick period of the configuration's context, in milliseconds; 0: never. The first tick
/// comes after one period.
pub(super) fn set_tick_period(ms: u32) -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_set_tick_period_milliseconds(ms) };
    check("set_tick_period", status)
}

pub(super) fn clock_ns(clock: u32) -> Result<u64, HostFault> {
    let mut time = 0;
    // SAFETY: the out-pointer is of a live local.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::clock_time_get(clock, 1, &mut time) };
    check("clock_time_get", status).map(|()| time)
}

// The proxy outside of requests: clocks, HTTP calls and the requests that wait for their results.

/// Tick period for background work, in milliseconds.
pub(super) const TICK_MS: u32 = 1_000;
/// Tick period while requests wait.
const WAITING_TICK_MS: u32 = 20;
/// Tick period for an immediate tick.
pub(super) const SOON_MS: u32 = 1;

thread_local! {
    /// Metrics of key sets by name. They outlive a configuration change, as the VM does.
    static METRICS: RefCell<BTreeMap<String, u32>> = const { RefCell::new(BTreeMap::new()) };
}

/// The proxy outside of requests.
pub(super) struct Outer;

impl SharedStore for Outer {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        Host::outside().get(key)
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        Host::outside().swap(key, value, token)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        Host::outside().put(key, value)
    }
}

impl Outside for Outer {
    fn clocks(&mut self) -> Result<Now, HostFault> {
        Host::outside().now()
    }

    fn http_call(&mut self, call: &HttpCall<'_>) -> Result<u32, HostFault> {
        // The SDK's own call: its dispatcher must know the token, or it would panic on an unknown
        // response. Envoy returns only statuses that the SDK knows.
        let timeout = Duration::from_millis(call.timeout_ms);
        hostcalls::dispatch_http_call(
            call.cluster,
            call.headers.to_vec(),
            None,
            Vec::new(),
            timeout,
        )
        .map_err(|status| HostFault {
            call: "http_call",
            status: status as u32,
        })
    }

    fn log(&mut self, level: Level, line: &str) {
        Host::outside().log(level, line);
    }

    fn count_fetch(&mut self, issuer: &str, fetched: FetchOutcome) {
        let outcome = fetched.name();
        let name = format!("tensorgate_key_sets;issuer={issuer};outcome={outcome};");
        if let Some(counter) = metric(name, abi::define_counter) {
            abi::increment(counter);
        }
        if let FetchOutcome::Good(unix_s) = fetched {
            let name = format!("tensorgate_key_set_fetched_unix_s;issuer={issuer};");
            if let Some(gauge) = metric(name, abi::define_gauge) {
                abi::record(gauge, unix_s);
            }
        }
    }
}

/// Id of a metric; `None` if the proxy cannot define it.
fn metric(name: String, define: fn(&str) -> Result<u32, HostFault>) -> Option<u32> {
    METRICS.with(|metrics| {
        let mut metrics = metrics.borrow_mut();
        if let Some(id) = metrics.get(&name) {
            return Some(*id);
        }
        let id = define(&name).ok()?;
        metrics.insert(name, id);
        Some(id)
    })
}

/// The HTTP response; `None` if there was none.
pub(super) fn answered(fields: usize) -> Option<HttpResponse> {
    if fields == 0 {
        return None;
    }
    Some(HttpResponse {
        headers: abi::get_call_headers().ok()?,
        body: abi::call_body(MAX_DOCUMENT_BYTES.saturating_add(1)).ok()?,
    })
}

/// Waiting requests of one configuration, by context.
#[derive(Clone, Default)]
pub(super) struct Waiting(Rc<RefCell<Vec<Waiter>>>);

struct Waiter {
    context: u32,
    gate: Weak<RefCell<Gate>>,
}

impl Waiter {
    fn is_needed(&self) -> bool {
        let gate = self.gate.upgrade();
        gate.is_some_and(|gate| gate.borrow().waits() || gate.borrow().has_pending_call())
    }
}

impl Waiting {
    /// Called after each request callback, which may have started a wait.
    pub(super) fn note(&self, context: u32, gate: &Rc<RefCell<Gate>>) {
        if gate.borrow().waits() {
            let gate = Rc::downgrade(gate);
            self.0.borrow_mut().push(Waiter { context, gate });
        }
    }

    /// Tick period that the waiting requests need.
    pub(super) fn tick_ms(&self) -> u32 {
        if self.0.borrow().is_empty() {
            TICK_MS
        } else {
            WAITING_TICK_MS
        }
    }

    /// Delivers the rate-limit service's answer to a request, from a callback of the
    /// configuration's own context.
    pub(super) fn charge_response(&self, host: Host, token: u32, answer: Result<Vec<u8>, u32>) {
        let asked = |waiter: &Waiter| {
            let gate = waiter.gate.upgrade()?;
            let its_own = gate.borrow().is_waiting_for(token);
            its_own.then_some((waiter.context, gate))
        };
        let found = self.0.borrow().iter().find_map(asked);
        if let Some((context, gate)) = found
            && abi::set_effective_context(context).is_ok()
        {
            let mut host = Host {
                request: context,
                ..host
            };
            gate.borrow_mut()
                .on_rate_limit_response(&mut host, token, answer);
        }
        let _ = abi::set_effective_context(host.own);
        self.0.borrow_mut().retain(Waiter::is_needed);
    }

    /// Wakes every request whose wait is over, from a callback of the configuration's own context.
    pub(super) fn wake(&self, own: u32) {
        let now_ns = match Host::outside().now() {
            Ok(now) => now.monotonic_ns,
            // Without a clock every wait counts as over.
            Err(_) => u64::MAX,
        };
        let mut due = Vec::new();
        self.0.borrow_mut().retain(|waiter| {
            let Some(gate) = waiter.gate.upgrade() else {
                return false;
            };
            let (waits, is_due) = (gate.borrow().waits(), gate.borrow().is_due(now_ns));
            if waits && is_due {
                due.push((waiter.context, gate));
                return false;
            }
            waiter.is_needed()
        });
        for (context, gate) in due {
            // Host calls act on that request until the next effective context is set.
            if abi::set_effective_context(context).is_ok() {
                let mut host = Host {
                    own,
                    request: context,
                };
                gate.borrow_mut().wake(&mut host);
                self.note(context, &gate);
                // A call made here belongs to the configuration's context.
                if gate.borrow().has_pending_call() {
                    let gate = Rc::downgrade(&gate);
                    self.0.borrow_mut().push(Waiter { context, gate });
                }
            }
        }
        let _ = abi::set_effective_context(own);
    }
}
