//! The part of Envoy's dynamic-module ABI that the port needs: its types, Envoy's functions behind
//! safe ones, and the hooks that Envoy calls. All `unsafe` of this crate is here.
//!
//! Source: `source/extensions/dynamic_modules/abi/abi.h` of Envoy 1.38, the oldest release whose
//! functions the next ones keep. Nothing else is imported: Envoy resolves every symbol of a module
//! while it loads it, so one that an older release lacks would keep the module from loading there.
#![expect(
    unsafe_code,
    reason = "the boundary to Envoy: foreign functions and exported hooks"
)]

use core::ffi::CStr;
use core::ptr;

use tensorgate_filter_core::host::{HostFault, Level};
use tensorgate_policy::time::SECOND_NS;

mod call;
mod exported;
mod raw;
mod shared;

pub use call::{Call, ConfigurationCall, Scheduler};
pub use shared::{join_store, visit_slot};

/// The ABI that this module is written for: Envoy 1.38's.
const VERSION: &CStr = c"v0.1.0";

/// Bytes of the module or of Envoy.
#[derive(Clone, Copy)]
#[repr(C)]
struct Buffer {
    data: *const u8,
    size: usize,
}

/// A header field.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
}

impl Buffer {
    const EMPTY: Self = Self {
        data: ptr::null(),
        size: 0,
    };

    const fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            size: bytes.len(),
        }
    }

    /// The bytes, copied.
    ///
    /// # Safety
    /// Envoy has set both fields in the running call.
    unsafe fn to_vec(self) -> Vec<u8> {
        // SAFETY: as above.
        unsafe { slice(self.data, self.size) }.to_vec()
    }
}

impl Header {
    const EMPTY: Self = Self {
        name: ptr::null(),
        name_size: 0,
        value: ptr::null(),
        value_size: 0,
    };

    const fn of((name, value): (&str, &str)) -> Self {
        Self {
            name: name.as_ptr(),
            name_size: name.len(),
            value: value.as_ptr(),
            value_size: value.len(),
        }
    }

    /// Its name and value.
    ///
    /// # Safety
    /// Envoy has set all fields, and what they point to does not change for `'a`.
    const unsafe fn parts<'a>(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: as above.
        unsafe {
            (
                slice(self.name, self.name_size),
                slice(self.value, self.value_size),
            )
        }
    }
}

/// Elements at an address, where null is allowed for none.
///
/// # Safety
/// Unless `data` is null, `size` elements there are readable and do not change for `'a`.
const unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if data.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts(data, size) }
}

/// A map of header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Headers {
    Request = 0,
    RequestTrailers = 1,
    ResponseTrailers = 3,
}

/// A buffer of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Body {
    /// What has arrived with this call.
    ReceivedRequest = 0,
    /// What Envoy holds of earlier calls.
    BufferedRequest = 1,
    ReceivedResponse = 2,
}

/// An attribute of a request, by its number in the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Attribute {
    Protocol = 10,
    CodeDetails = 16,
    SourceAddress = 24,
    DnsSanPeer = 35,
    UriSanPeer = 37,
    Sha256Peer = 38,
    FilterChainName = 66,
}

/// Level of a log line.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub enum LogLevel {
    Info = 2,
    Warn = 3,
    Error = 4,
    Critical = 5,
}

impl From<Level> for LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Info,
            Level::Warn => Self::Warn,
            Level::Error => Self::Error,
        }
    }
}

/// Envoy resets a stream with this reason as `LocalReset`.
const LOCAL_RESET: u32 = 0;
/// Success of metrics and of HTTP calls.
const SUCCESS: u32 = 0;

/// `%RESPONSE_CODE_DETAILS%` of a tensorgate response, as of the wasm module.
const DETAILS: &[u8] = b"tensorgate";

/// Status of a fault that the ABI reports as `false`: proxy-wasm's `INTERNAL_FAILURE`.
const REFUSED: u32 = 10;

/// A function of Envoy that has failed. Its ABI gives no cause.
pub const fn refused(call: &'static str) -> HostFault {
    HostFault {
        call,
        status: REFUSED,
    }
}

const fn successful(call: &'static str, status: u32) -> Result<(), HostFault> {
    match status {
        SUCCESS => Ok(()),
        status => Err(HostFault { call, status }),
    }
}

const fn accepted(call: &'static str, accepted: bool) -> Result<(), HostFault> {
    if accepted { Ok(()) } else { Err(refused(call)) }
}

/// Whether this Envoy is 1.39 or later: it has a function that 1.38 lacks. The newer function is
/// not called.
pub fn is_after_1_38() -> bool {
    const NEWER: &CStr = c"envoy_dynamic_module_callback_http_get_header_values";
    // SAFETY: the name is a constant with a terminating zero.
    !unsafe { libc::dlsym(libc::RTLD_DEFAULT, NEWER.as_ptr()) }.is_null()
}

/// A clock of the machine, ns: `CLOCK_REALTIME`, or `CLOCK_MONOTONIC`. The standard library has no
/// number for the latter, and `rustix` reads it by code of its own, which Valgrind cannot run.
pub fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time is a live local. It stays zero for a clock that there is not.
    unsafe { libc::clock_gettime(clock, &mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(SECOND_NS).saturating_add(rest)
}

/// Writes a log line of Envoy's logger `dynamic_modules`.
pub fn log(level: LogLevel, line: &str) {
    // SAFETY: Envoy only reads the line, during the call.
    unsafe { raw::envoy_dynamic_module_callback_log(level as u32, Buffer::of(line.as_bytes())) }
}
