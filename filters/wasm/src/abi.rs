//! The part of the proxy-wasm ABI 0.2.1 that the port needs. Every returned status and length is
//! checked; client data cannot cause a panic here.
//!
//! The proxy passes memory by calling the allocator that the SDK exports
//! (`proxy_on_memory_allocate`: a boxed slice of exactly the requested size). The result is
//! therefore a `Vec` of that capacity.

use std::ptr;

use tensorgate_filter_core::host::{Fields, HostFault, Shared};

pub(crate) const REQUEST_HEADERS: u32 = 0;
pub(crate) const REQUEST_TRAILERS: u32 = 1;
pub(crate) const RESPONSE_TRAILERS: u32 = 3;
pub(crate) const LOG_INFO: u32 = 2;
pub(crate) const LOG_WARN: u32 = 3;
pub(crate) const LOG_ERROR: u32 = 4;
pub(crate) const LOG_CRITICAL: u32 = 5;
pub(crate) const CLOCK_REALTIME: u32 = 0;
/// One clock for all workers of a proxy process, which `std::time::Instant` would hide.
pub(crate) const CLOCK_MONOTONIC: u32 = 1;
/// [`set_shared_data`] without comparing.
pub(crate) const NO_CAS: u32 = 0;

const BUFFER_REQUEST_BODY: u32 = 0;
const BUFFER_RESPONSE_BODY: u32 = 1;
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
pub(crate) const NOT_FOUND: u32 = 1;
const SERIALIZATION_FAILURE: u32 = 3;
const CAS_MISMATCH: u32 = 8;

mod raw {
    #![expect(unsafe_code, reason = "what the proxy exports")]

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub(crate) fn proxy_log(level: u32, message: *const u8, size: usize) -> u32;
        pub(crate) fn proxy_get_buffer_bytes(
            buffer: u32,
            start: usize,
            max: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_set_buffer_bytes(
            buffer: u32,
            start: usize,
            size: usize,
            data: *const u8,
            data_size: usize,
        ) -> u32;
        pub(crate) fn proxy_get_header_map_pairs(
            map: u32,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_set_header_map_pairs(map: u32, data: *const u8, size: usize) -> u32;
        pub(crate) fn proxy_get_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *mut *mut u8,
            value_size: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_replace_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub(crate) fn proxy_remove_header_map_value(
            map: u32,
            name: *const u8,
            name_size: usize,
        ) -> u32;
        pub(crate) fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            arguments: *const u8,
            arguments_size: usize,
            results: *mut *mut u8,
            results_size: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_get_property(
            path: *const u8,
            path_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub(crate) fn proxy_set_property(
            path: *const u8,
            path_size: usize,
            data: *const u8,
            size: usize,
        ) -> u32;
        pub(crate) fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub(crate) fn proxy_set_shared_data(
            key: *const u8,
            key_size: usize,
            data: *const u8,
            size: usize,
            cas: u32,
        ) -> u32;
        pub(crate) fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub(crate) fn proxy_define_metric(
            kind: u32,
            name: *const u8,
            size: usize,
            id: *mut u32,
        ) -> u32;
        pub(crate) fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub(crate) fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub(crate) fn proxy_continue_stream(kind: u32) -> u32;
        pub(crate) fn proxy_close_stream(kind: u32) -> u32;
        pub(crate) fn proxy_set_effective_context(context: u32) -> u32;
        pub(crate) fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    }

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub(crate) fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> u32;
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

pub(crate) fn log(level: u32, message: &str) {
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

pub(crate) fn request_body(start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_REQUEST_BODY, start, max_bytes)
}

/// Part of a response's body, in the callback that brings it.
pub(crate) fn response_body(start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_RESPONSE_BODY, start, max_bytes)
}

/// Replaces the request's body.
pub(crate) fn replace_request_body(data: &[u8]) -> Result<(), HostFault> {
    // A length beyond the end means the whole body.
    let (start, instead_of) = (0, usize::MAX);
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

pub(crate) fn plugin_configuration(max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_PLUGIN_CONFIGURATION, 0, max_bytes)
}

/// At most `max_bytes` of a gRPC response message.
pub(crate) fn grpc_message(max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_GRPC_RECEIVED, 0, max_bytes)
}

/// At most `max_bytes` of an HTTP response body.
pub(crate) fn call_body(max_bytes: usize) -> Result<Vec<u8>, HostFault> {
    get_buffer(BUFFER_CALL_RESPONSE_BODY, 0, max_bytes)
}

pub(crate) fn get_request_headers() -> Result<Fields, HostFault> {
    get_headers(REQUEST_HEADERS)
}

/// Header fields of an HTTP response.
pub(crate) fn get_call_headers() -> Result<Fields, HostFault> {
    get_headers(CALL_RESPONSE_HEADERS)
}

fn get_headers(map: u32) -> Result<Fields, HostFault> {
    let (mut data, mut size) = (ptr::null_mut(), 0);
    // SAFETY: both out-pointers are of live locals.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_get_header_map_pairs(map, &mut data, &mut size) };
    check("get_header_map_pairs", status)?;
    tensorgate_filter_core::host::deserialize(take(data, size)).ok_or(HostFault {
        call: "get_header_map_pairs",
        status: SERIALIZATION_FAILURE,
    })
}

/// Value of a field; `None` if it is missing or empty.
pub(crate) fn get_header(map: u32, name: &str) -> Result<Option<Vec<u8>>, HostFault> {
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

pub(crate) fn set_header_map(map: u32, fields: &[(&str, &str)]) -> Result<(), HostFault> {
    let fields = serialize("set_header_map_pairs", fields)?;
    // SAFETY: pointer and length are of one live vector, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_set_header_map_pairs(map, fields.as_ptr(), fields.len()) };
    check("set_header_map_pairs", status)
}

pub(crate) fn replace_header(map: u32, name: &str, value: &str) -> Result<(), HostFault> {
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

pub(crate) fn remove_header(map: u32, name: &str) -> Result<(), HostFault> {
    // SAFETY: pointer and length are of one live string, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_remove_header_map_value(map, name.as_ptr(), name.len()) };
    check("remove_header_map_value", status)
}

/// Calls a function of the proxy by name and returns its result.
pub(crate) fn call_foreign_function(
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
pub(crate) fn declare_read_only_text(name: &str) -> Result<(), HostFault> {
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
    tensorgate_filter_core::host::serialize(fields).ok_or(HostFault {
        call,
        status: SERIALIZATION_FAILURE,
    })
}

/// `path`: parts separated by zero bytes.
pub(crate) fn get_property(path: &[u8]) -> Result<Option<Vec<u8>>, HostFault> {
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

pub(crate) fn set_property(name: &str, value: &str) -> Result<(), HostFault> {
    // SAFETY: pointers and lengths are of two live strings, which the proxy only reads.
    #[expect(unsafe_code, reason = "a host call")]
    let status =
        unsafe { raw::proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) };
    check("set_property", status)
}

pub(crate) fn get_shared_data(key: &str) -> Result<Option<Shared>, HostFault> {
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
pub(crate) fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<bool, HostFault> {
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

pub(crate) fn send_local_response(
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

pub(crate) fn define_counter(name: &str) -> Result<u32, HostFault> {
    define_metric(METRIC_COUNTER, name)
}

pub(crate) fn define_gauge(name: &str) -> Result<u32, HostFault> {
    define_metric(METRIC_GAUGE, name)
}

fn define_metric(kind: u32, name: &str) -> Result<u32, HostFault> {
    let mut id = 0;
    // SAFETY: pointer and length are of one live string; the out-pointer is of a live local.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    check("define_metric", status).map(|()| id)
}

pub(crate) fn increment(counter: u32) {
    // A lost count fails no request. SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "a host call")]
    let _ = unsafe { raw::proxy_increment_metric(counter, 1) };
}

/// Sets a gauge.
pub(crate) fn record(gauge: u32, value: u64) {
    // As above.
    // SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "a host call")]
    let _ = unsafe { raw::proxy_record_metric(gauge, value) };
}

/// Resumes the request of the effective context after the running callback.
pub(crate) fn continue_request() -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_continue_stream(STREAM_REQUEST) };
    check("continue_stream", status)
}

/// Resets the request of the effective context, and its response, after the running callback.
pub(crate) fn close_request() -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_close_stream(STREAM_REQUEST) };
    check("close_stream", status)
}

/// Makes host calls act on this context for the rest of the running callback.
pub(crate) fn set_effective_context(context: u32) -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_set_effective_context(context) };
    check("set_effective_context", status)
}

/// Sets the tick period of the configuration's context, in milliseconds; 0: never. The first tick
/// comes after one period.
pub(crate) fn set_tick_period(ms: u32) -> Result<(), HostFault> {
    // SAFETY: takes a number only.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::proxy_set_tick_period_milliseconds(ms) };
    check("set_tick_period", status)
}

pub(crate) fn clock_ns(clock: u32) -> Result<u64, HostFault> {
    let mut time = 0;
    // SAFETY: the out-pointer is of a live local.
    #[expect(unsafe_code, reason = "a host call")]
    let status = unsafe { raw::clock_time_get(clock, 1, &mut time) };
    check("clock_time_get", status).map(|()| time)
}
