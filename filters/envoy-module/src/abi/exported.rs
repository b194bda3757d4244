//! The hooks that Envoy calls. None unwinds into Envoy, and none uses a stream after it has ended.

use core::ffi::{c_char, c_void};
use core::marker::PhantomData;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use tensorgate_filter_core::host::{Action, HttpResponse};
use tensorgate_filter_core::keys::document::MAX_DOCUMENT_BYTES;

use super::{Buffer, Call, ConfigurationCall, Header, LogLevel, SUCCESS, VERSION, log, slice};
use crate::configuration::Module;
use crate::hooks::{self, BodyAction};
use crate::key_fetches;
use crate::stream::Stream;

/// Status of headers and trailers that are forwarded, or held: `StopIteration`.
const CONTINUE: u32 = 0;
const STOP: u32 = 1;
/// Status of a body that is held, or dropped: `StopIterationAndBuffer`, `StopIterationNoBuffer`.
const BUFFER: u32 = 1;
const DROP: u32 = 3;

/// Bytes of a response that are read: one more than a key set may have.
const MAX_BODY_BYTES: usize = MAX_DOCUMENT_BYTES + 1;

/// Runs a hook. The gate's own panics are caught further inside, where the stream is answered.
pub(super) fn guard<T>(otherwise: T, hook: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(hook)).unwrap_or(otherwise)
}

/// Runs a hook of a stream. Envoy may destroy the stream inside a function that the hook calls, so
/// the hook has a share of it.
///
/// # Safety
/// `filter` comes from `http_filter_new` and was not given to `http_filter_destroy`. It is null if
/// no stream could begin. Envoy calls all hooks of a stream on one thread, that of its worker.
unsafe fn on_stream<T>(filter: *const c_void, otherwise: T, hook: impl FnOnce(&Stream) -> T) -> T {
    if filter.is_null() {
        return otherwise;
    }
    guard(otherwise, || {
        let filter = filter.cast::<Stream>();
        // SAFETY: as above, so the count is at least one. It is raised for the share taken here.
        let stream = unsafe {
            Rc::increment_strong_count(filter);
            Rc::from_raw(filter)
        };
        hook(&stream)
    })
}

/// The stream of the running hook.
///
/// # Safety
/// Envoy has passed `stream` to the running hook.
const unsafe fn call<'h>(stream: *mut c_void) -> Call<'h> {
    Call {
        stream,
        hook: PhantomData,
    }
}

const fn head_status(action: Action) -> u32 {
    match action {
        Action::Continue => CONTINUE,
        Action::Pause => STOP,
    }
}

const fn body_status(action: BodyAction) -> u32 {
    match action {
        BodyAction::Continue => CONTINUE,
        BodyAction::Hold => BUFFER,
        BodyAction::Discard => DROP,
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    guard((), hooks::start);
    VERSION.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    configuration: *mut c_void,
    name: Buffer,
    bytes: Buffer,
) -> *const c_void {
    let call = ConfigurationCall {
        configuration,
        hook: PhantomData,
    };
    // SAFETY: Envoy's buffers are valid during the hook.
    let (name, bytes) = unsafe { (slice(name.data, name.size), slice(bytes.data, bytes.size)) };
    let module = guard(None, || hooks::configure(&call, name, bytes));
    module.map_or(ptr::null(), |module| Arc::into_raw(module).cast())
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(configuration: *const c_void) {
    // SAFETY: the pointer is that of `config_new`. Envoy gives it back once, when no more streams
    // begin with it. Streams have shares of their own. `Module` may be dropped on any thread.
    guard((), || {
        key_fetches::end(&unsafe { Arc::from_raw(configuration.cast::<Module>()) });
    });
}

/// A share of a configuration.
///
/// # Safety
/// The pointer is that of `config_new`, and was not given to `config_destroy`.
unsafe fn module(configuration: *const c_void) -> Arc<Module> {
    let configuration = configuration.cast::<Module>();
    // SAFETY: as above, so the count is at least one. It is raised for the share taken here.
    unsafe {
        Arc::increment_strong_count(configuration);
        Arc::from_raw(configuration)
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
    configuration: *mut c_void,
    own: *const c_void,
    _: u64,
) {
    let call = ConfigurationCall {
        configuration,
        hook: PhantomData,
    };
    // SAFETY: Envoy passes it to the running hook.
    guard((), || key_fetches::tick(call, &unsafe { module(own) }));
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_http_callout_done(
    configuration: *mut c_void,
    own: *const c_void,
    id: u64,
    result: u32,
    fields: *const Header,
    count: usize,
    chunks: *const Buffer,
    chunk_count: usize,
) {
    let call = ConfigurationCall {
        configuration,
        hook: PhantomData,
    };
    let response = || {
        // SAFETY: Envoy's arrays are valid during the hook, and null if there is no response.
        let (fields, chunks) = unsafe { (slice(fields, count), slice(chunks, chunk_count)) };
        // SAFETY: as above.
        let fields = fields.iter().map(|field| unsafe { field.parts() });
        let mut body = Vec::new();
        for chunk in chunks {
            // SAFETY: as above.
            let bytes = unsafe { slice(chunk.data, chunk.size) };
            // More would be rejected as too large.
            let left = MAX_BODY_BYTES.saturating_sub(body.len());
            body.extend_from_slice(bytes.get(..left).unwrap_or(bytes));
        }
        HttpResponse {
            headers: fields.collect(),
            body,
        }
    };
    guard((), || {
        let response = (result == SUCCESS).then(response);
        // SAFETY: Envoy passes it to the running hook.
        key_fetches::answered(call, &unsafe { module(own) }, id, response);
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    configuration: *const c_void,
    envoy: *mut c_void,
) -> *const c_void {
    // SAFETY: Envoy passes both to the running hook.
    let stream = guard(None, || unsafe {
        hooks::begin(&call(envoy), &module(configuration))
    });
    stream.map_or(ptr::null(), |stream| Rc::into_raw(Rc::new(stream)).cast())
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_destroy(filter: *const c_void) {
    if filter.is_null() {
        return;
    }
    guard((), || {
        // SAFETY: the pointer is that of `http_filter_new`. Envoy gives it back once, on the
        // stream's thread, and perhaps inside a function that a hook calls. That hook has a share.
        let stream = unsafe { Rc::from_raw(filter.cast::<Stream>()) };
        stream.cancel_timers();
    });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    stream: *mut c_void,
    filter: *const c_void,
    end: bool,
) -> u32 {
    // SAFETY: Envoy passes both to the running hook.
    unsafe {
        if filter.is_null() {
            guard((), || hooks::request_headers_of_none(call(stream)));
        }
        on_stream(filter, STOP, |own| {
            head_status(hooks::request_headers(call(stream), own, end))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    stream: *mut c_void,
    filter: *const c_void,
    end: bool,
) -> u32 {
    // SAFETY: Envoy passes both to the running hook.
    unsafe {
        on_stream(filter, DROP, |own| {
            body_status(hooks::request_body(call(stream), own, end))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
    stream: *mut c_void,
    filter: *const c_void,
) -> u32 {
    // SAFETY: Envoy passes both to the running hook.
    unsafe {
        on_stream(filter, STOP, |own| {
            head_status(hooks::request_trailers(call(stream), own))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
    _: *mut c_void,
    filter: *const c_void,
    end: bool,
) -> u32 {
    // SAFETY: Envoy passes it to the running hook.
    unsafe { on_stream(filter, (), |own| hooks::response_headers(own, end)) };
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_body(
    stream: *mut c_void,
    filter: *const c_void,
    end: bool,
) -> u32 {
    if filter.is_null() {
        // The response is Envoy's own: nothing of the request was forwarded.
        return CONTINUE;
    }
    // SAFETY: Envoy passes both to the running hook.
    unsafe {
        on_stream(filter, DROP, |own| {
            body_status(hooks::response_body(call(stream), own, end))
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(
    stream: *mut c_void,
    filter: *const c_void,
) -> u32 {
    if filter.is_null() {
        return CONTINUE;
    }
    // SAFETY: Envoy passes both to the running hook.
    unsafe {
        on_stream(filter, STOP, |own| {
            head_status(hooks::response_trailers(call(stream), own))
        })
    }
}

/// Envoy calls this hook inside its function that sends the reply, so no gate runs here.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_local_reply(
    _: *mut c_void,
    filter: *const c_void,
    _: u32,
    _: Buffer,
    _: bool,
) -> u32 {
    // SAFETY: Envoy passes it to the running hook.
    unsafe { on_stream(filter, (), hooks::local_reply) };
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
    stream: *mut c_void,
    filter: *const c_void,
) {
    // SAFETY: Envoy passes both to the running hook.
    unsafe { on_stream(filter, (), |own| hooks::stream_complete(&call(stream), own)) };
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
    stream: *mut c_void,
    filter: *const c_void,
    event: u64,
) {
    // SAFETY: Envoy passes both to the running hook.
    unsafe { on_stream(filter, (), |own| hooks::scheduled(call(stream), own, event)) };
}

/// Envoy resolves this hook where a route configures the module, which none may.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
    _: Buffer,
    _: Buffer,
) -> *const c_void {
    log(
        LogLevel::Error,
        "tensorgate: a route cannot configure this filter",
    );
    ptr::null()
}

/// Exports hooks that the gate does not need. Envoy does not load a module without them.
macro_rules! unneeded {
    ($($hook:ident($($argument:ty),*);)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $hook($(_: $argument),*) {}
        )*
    };
}

unneeded! {
    envoy_dynamic_module_on_http_filter_per_route_config_destroy(*const c_void);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
        *mut c_void, *const c_void
    );
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
        *mut c_void, *const c_void
    );
    envoy_dynamic_module_on_http_filter_http_callout_done(
        *mut c_void, *const c_void, u64, u32, *const Header, usize, *const Buffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        *mut c_void, *const c_void, u64, *const Header, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        *mut c_void, *const c_void, u64, *const Buffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(
        *mut c_void, *const c_void, u64, *const Header, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_complete(*mut c_void, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(*mut c_void, *const c_void, u64, u32);
}
