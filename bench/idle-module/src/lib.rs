//! The least work of a native module of Envoy that has each request as a whole: it holds the head
//! until the body is complete, and copies the body. `bench/envoy/idle.wat` does the same in wasm.
//!
//! Source: `source/extensions/dynamic_modules/abi/abi.h` of Envoy 1.38.
#![expect(unsafe_code, reason = "the boundary to Envoy")]

use core::ffi::{CStr, c_char, c_void};
use core::hint::black_box;
use core::ptr;

use smallvec::{SmallVec, smallvec};

const VERSION: &CStr = c"v0.1.0";
/// Statuses of a hook: everything is forwarded, or Envoy holds what it has.
const CONTINUE: u32 = 0;
const HOLD: u32 = 1;
/// The buffers of a request's body: what Envoy holds, and what a hook gets.
const BODIES: [u32; 2] = [1, 0];

/// Bytes that Envoy lends.
#[derive(Clone, Copy)]
#[repr(C)]
struct Buffer {
    data: *const u8,
    size: usize,
}

unsafe extern "C" {
    fn envoy_dynamic_module_callback_http_get_body_chunks_size(
        stream: *mut c_void,
        body: u32,
    ) -> usize;
    fn envoy_dynamic_module_callback_http_get_body_chunks(
        stream: *mut c_void,
        body: u32,
        chunks: *mut Buffer,
    ) -> bool;
}

/// The filter and its streams have nothing of their own, but Envoy needs an address.
static FILTER: u8 = 0;

/// Copies a body of the running hook.
fn copy(stream: *mut c_void) {
    let mut copied = Vec::new();
    for body in BODIES {
        // SAFETY: the stream is that of the running hook.
        let count =
            unsafe { envoy_dynamic_module_callback_http_get_body_chunks_size(stream, body) };
        let empty = Buffer {
            data: ptr::null(),
            size: 0,
        };
        let mut chunks: SmallVec<[_; 4]> = smallvec![empty; count];
        // SAFETY: the array has room for as many chunks as Envoy has just counted.
        let has = unsafe {
            envoy_dynamic_module_callback_http_get_body_chunks(stream, body, chunks.as_mut_ptr())
        };
        for chunk in chunks.into_iter().filter(|chunk| has && chunk.size > 0) {
            // SAFETY: Envoy has set the chunk, which stays during the hook.
            copied
                .extend_from_slice(unsafe { core::slice::from_raw_parts(chunk.data, chunk.size) });
        }
    }
    black_box(copied);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
    VERSION.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
    _: *mut c_void,
    _: Buffer,
    _: Buffer,
) -> *const c_void {
    ptr::from_ref(&FILTER).cast()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_new(
    filter: *const c_void,
    _: *mut c_void,
) -> *const c_void {
    filter
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
    _: *mut c_void,
    _: *const c_void,
    end: bool,
) -> u32 {
    if end { CONTINUE } else { HOLD }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
    stream: *mut c_void,
    _: *const c_void,
    end: bool,
) -> u32 {
    if !end {
        return HOLD;
    }
    copy(stream);
    CONTINUE
}

/// Exports hooks that do nothing. Envoy does not load a module without them.
macro_rules! unneeded {
    ($($hook:ident($($argument:ty),*) $(-> $result:ty: $value:expr)?;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $hook($(_: $argument),*) $(-> $result)? {
                $($value)?
            }
        )*
    };
}

unneeded! {
    envoy_dynamic_module_on_http_filter_config_destroy(*const c_void);
    envoy_dynamic_module_on_http_filter_config_scheduled(*mut c_void, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_config_http_callout_done(
        *mut c_void, *const c_void, u64, u32, *const c_void, usize, *const Buffer, usize
    );
    envoy_dynamic_module_on_http_filter_per_route_config_new(Buffer, Buffer)
        -> *const c_void: ptr::null();
    envoy_dynamic_module_on_http_filter_per_route_config_destroy(*const c_void);
    envoy_dynamic_module_on_http_filter_destroy(*const c_void);
    envoy_dynamic_module_on_http_filter_request_trailers(*mut c_void, *const c_void)
        -> u32: CONTINUE;
    envoy_dynamic_module_on_http_filter_response_headers(*mut c_void, *const c_void, bool)
        -> u32: CONTINUE;
    envoy_dynamic_module_on_http_filter_response_body(*mut c_void, *const c_void, bool)
        -> u32: CONTINUE;
    envoy_dynamic_module_on_http_filter_response_trailers(*mut c_void, *const c_void)
        -> u32: CONTINUE;
    envoy_dynamic_module_on_http_filter_local_reply(
        *mut c_void, *const c_void, u32, Buffer, bool
    ) -> u32: CONTINUE;
    envoy_dynamic_module_on_http_filter_stream_complete(*mut c_void, *const c_void);
    envoy_dynamic_module_on_http_filter_scheduled(*mut c_void, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark(
        *mut c_void, *const c_void
    );
    envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark(
        *mut c_void, *const c_void
    );
    envoy_dynamic_module_on_http_filter_http_callout_done(
        *mut c_void, *const c_void, u64, u32, *const c_void, usize, *const Buffer, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_headers(
        *mut c_void, *const c_void, u64, *const c_void, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_data(
        *mut c_void, *const c_void, u64, *const Buffer, usize, bool
    );
    envoy_dynamic_module_on_http_filter_http_stream_trailers(
        *mut c_void, *const c_void, u64, *const c_void, usize
    );
    envoy_dynamic_module_on_http_filter_http_stream_complete(*mut c_void, *const c_void, u64);
    envoy_dynamic_module_on_http_filter_http_stream_reset(*mut c_void, *const c_void, u64, u32);
}
