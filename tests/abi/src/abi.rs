//! The ABI from Envoy's side: the module's hooks, and the functions that it imports. All `unsafe`
//! of this crate is here.
//!
//! Source: `source/extensions/dynamic_modules/abi/abi.h` of Envoy 1.38.
#![expect(unsafe_code, reason = "the boundary to the module")]

use core::ffi::{c_char, c_void};
use core::ptr;
use std::ffi::CString;
use std::rc::Rc;

use tensorgate_vectors::Field;

use crate::events;
use crate::stream::{BUFFERED_REQUEST, Outcome, RECEIVED_REQUEST, RECEIVED_RESPONSE, Stream};

mod functions;

/// Status of a hook after which everything is forwarded, and of one after which Envoy holds the
/// body.
pub const CONTINUE: u32 = 0;
const BUFFER: u32 = 1;

/// Bytes that one side lends to the other.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Buffer {
    data: *const u8,
    size: usize,
}

/// A header field that one side lends to the other.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Header {
    name: Buffer,
    value: Buffer,
}

/// Elements that the other side lends.
///
/// # Safety
/// Unless `count` is 0, that many elements at the address are readable for `'a`.
const unsafe fn lent<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts(data, count) }
}

impl Buffer {
    pub const fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            size: bytes.len(),
        }
    }

    /// The bytes, copied. That reads each of them, so Valgrind sees one that is not readable.
    fn to_vec(self) -> Vec<u8> {
        // SAFETY: the module lends the bytes during the call.
        unsafe { lent(self.data, self.size) }.to_vec()
    }
}

impl Header {
    pub const fn of(name: &[u8], value: &[u8]) -> Self {
        Self {
            name: Buffer::of(name),
            value: Buffer::of(value),
        }
    }

    fn to_vecs(self) -> (Vec<u8>, Vec<u8>) {
        (self.name.to_vec(), self.value.to_vec())
    }
}

/// Declares hooks by their names in the ABI.
macro_rules! hooks {
    ($($name:ident: $symbol:literal ($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The module's hooks.
        #[derive(Clone, Copy)]
        pub struct Hooks {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Hooks {
            /// Loads the module at a path.
            pub fn load(path: &str) -> Self {
                let path = CString::new(path).expect("a path");
                // SAFETY: the path has a terminating zero.
                let module = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
                assert!(!module.is_null(), "{path:?} cannot be loaded");
                let symbol = |name: &str| {
                    let name = CString::new(name).expect("a name");
                    // SAFETY: the name has a terminating zero.
                    let symbol = unsafe { libc::dlsym(module, name.as_ptr()) };
                    assert!(!symbol.is_null(), "the module has no {name:?}");
                    symbol
                };
                let hooks = Self {
                    // SAFETY: the signature is that of the ABI.
                    $($name: unsafe {
                        core::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn($($argument),*) $(-> $result)?,
                        >(symbol(concat!("envoy_dynamic_module_on_", $symbol)))
                    },)*
                };
                // SAFETY: the module was just loaded.
                let version = unsafe { (hooks.program_init)() };
                assert!(!version.is_null(), "the module does not start");
                hooks
            }
        }
    };
}

hooks! {
    program_init: "program_init"() -> *const c_char;
    config_new: "http_filter_config_new"(*mut c_void, Buffer, Buffer) -> *const c_void;
    config_destroy: "http_filter_config_destroy"(*const c_void);
    config_scheduled: "http_filter_config_scheduled"(*mut c_void, *const c_void, u64);
    config_answered: "http_filter_config_http_callout_done"(
        *mut c_void, *const c_void, u64, u32, *const Header, usize, *const Buffer, usize
    );
    new: "http_filter_new"(*const c_void, *mut c_void) -> *const c_void;
    destroy: "http_filter_destroy"(*const c_void);
    request_headers: "http_filter_request_headers"(*mut c_void, *const c_void, bool) -> u32;
    request_body: "http_filter_request_body"(*mut c_void, *const c_void, bool) -> u32;
    request_trailers: "http_filter_request_trailers"(*mut c_void, *const c_void) -> u32;
    response_headers: "http_filter_response_headers"(*mut c_void, *const c_void, bool) -> u32;
    response_body: "http_filter_response_body"(*mut c_void, *const c_void, bool) -> u32;
    response_trailers: "http_filter_response_trailers"(*mut c_void, *const c_void) -> u32;
    local_reply: "http_filter_local_reply"(*mut c_void, *const c_void, u32, Buffer, bool) -> u32;
    stream_complete: "http_filter_stream_complete"(*mut c_void, *const c_void);
    scheduled: "http_filter_scheduled"(*mut c_void, *const c_void, u64);
}

/// A response to an HTTP call of a configuration.
pub struct Response {
    pub fields: Vec<Field>,
    pub pieces: Vec<Vec<u8>>,
}

/// A configuration of the module.
pub struct Configuration {
    hooks: Hooks,
    /// Envoy's own object: its number, by which events name it.
    envoy: Box<u64>,
    module: *const c_void,
}

impl Configuration {
    /// Loads a configuration; `None` if the module rejects it.
    pub fn new(hooks: &Hooks, text: &str) -> Option<Self> {
        let mut envoy = Box::new(events::next_number());
        let (name, bytes) = (b"gate".to_vec(), text.as_bytes().to_vec());
        // SAFETY: the texts live during the hook. The pointer is only a name.
        let module = unsafe {
            (hooks.config_new)(
                (&raw mut *envoy).cast(),
                Buffer::of(&name),
                Buffer::of(&bytes),
            )
        };
        (!module.is_null()).then(|| Self {
            hooks: *hooks,
            envoy,
            module,
        })
    }

    /// The number by which events name it.
    pub const fn number(&self) -> u64 {
        *self.envoy
    }

    fn envoy(&self) -> *mut c_void {
        (&raw const *self.envoy).cast_mut().cast()
    }

    pub fn scheduled(&self, event: u64) {
        // SAFETY: the configuration was not destroyed.
        unsafe { (self.hooks.config_scheduled)(self.envoy(), self.module, event) }
    }

    /// Delivers the response to an HTTP call; `None`: there is none.
    pub fn answered(&self, call: u64, response: Option<&Response>) {
        let fields = response.iter().flat_map(|response| &response.fields);
        let fields: Vec<_> = fields
            .map(|(name, value)| Header::of(name, value))
            .collect();
        let chunks = response.iter().flat_map(|response| &response.pieces);
        let chunks: Vec<_> = chunks.map(|piece| Buffer::of(piece)).collect();
        // SAFETY: the configuration was not destroyed, and the arrays live during the hook.
        unsafe {
            (self.hooks.config_answered)(
                self.envoy(),
                self.module,
                call,
                u32::from(response.is_none()),
                fields.as_ptr(),
                fields.len(),
                chunks.as_ptr(),
                chunks.len(),
            );
        }
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once.
        unsafe { (self.hooks.config_destroy)(self.module) }
    }
}

/// A request with the module's stream, in memory that is freed when the stream ends. It may end in
/// each function of Envoy that the module calls, so the functions here take its address.
struct Request {
    hooks: Hooks,
    id: u64,
    filter: *const c_void,
    stream: Stream,
}

/// A call of a hook: the hooks, Envoy's stream, the module's.
type Hook<'h, T> = &'h dyn Fn(&Hooks, *mut c_void, *const c_void) -> T;

impl Request {
    /// What has happened to it. It outlives the request.
    ///
    /// # Safety
    /// The request has not ended.
    unsafe fn outcome(request: *mut Self) -> Rc<Outcome> {
        // SAFETY: as above.
        Rc::clone(unsafe { &(*request).stream.outcome })
    }

    /// Runs a hook.
    ///
    /// # Safety
    /// The request has not ended. It may have after this.
    unsafe fn run<T>(request: *mut Self, hook: Hook<'_, T>) -> T {
        // SAFETY: as above.
        let (hooks, filter) = unsafe { ((*request).hooks, (*request).filter) };
        hook(&hooks, request.cast(), filter)
    }

    /// Sends a reply of Envoy's or of the module's, as Envoy does before its function returns.
    ///
    /// # Safety
    /// The request has not ended. It may have after this.
    unsafe fn reply(request: *mut Self, status: u32, body: &[u8], details: &[u8]) {
        // SAFETY: the request has not ended, and the details live during the hook.
        unsafe {
            let outcome = Self::outcome(request);
            Self::run(request, &|hooks, stream, own| {
                (hooks.local_reply)(stream, own, status, Buffer::of(details), false)
            });
            if outcome.deciding.get() {
                *outcome.reply.borrow_mut() = Some(body.to_vec());
            } else if !outcome.ended.get() {
                Self::respond(request, body);
            }
        }
    }

    /// Envoy's own answer to a body that is too large to be held.
    ///
    /// # Safety
    /// The request has not ended. It may have after this.
    unsafe fn refuse_body(request: *mut Self) {
        const DETAILS: &[u8] = b"request_payload_too_large";
        // SAFETY: as above.
        unsafe { Self::reply(request, 413, b"Payload Too Large", DETAILS) };
    }

    /// Sends a response through the filter, unless this Envoy spares it its own.
    ///
    /// # Safety
    /// The request has not ended. It may have after this.
    unsafe fn respond(request: *mut Self, body: &[u8]) {
        // SAFETY: the request has not ended before each hook.
        unsafe {
            if (*request).stream.skips_own_response {
                return;
            }
            let outcome = Self::outcome(request);
            Self::run(request, &|hooks, stream, own| {
                (hooks.response_headers)(stream, own, body.is_empty())
            });
            if !body.is_empty() && !outcome.ended.get() {
                Self::response_body(request, body, true);
            }
        }
    }

    /// Delivers a piece of a response, and returns the hook's status.
    ///
    /// # Safety
    /// The request has not ended. It may have after this.
    unsafe fn response_body(request: *mut Self, piece: &[u8], end: bool) -> u32 {
        // SAFETY: the request has not ended where it is used.
        unsafe {
            let outcome = Self::outcome(request);
            (*request).stream.bodies[RECEIVED_RESPONSE]
                .borrow_mut()
                .add(piece);
            let status = Self::run(request, &|hooks, stream, own| {
                (hooks.response_body)(stream, own, end)
            });
            if !outcome.ended.get() {
                (*request).stream.bodies[RECEIVED_RESPONSE]
                    .borrow_mut()
                    .clear();
            }
            status
        }
    }

    /// Ends and frees a request.
    ///
    /// # Safety
    /// It has not ended, and nothing uses it after this.
    unsafe fn end(request: *mut Self) {
        // SAFETY: as above. The filter is destroyed once, after its last hook.
        unsafe {
            let outcome = Self::outcome(request);
            // What the module asks for in its last hook has no effect.
            outcome.ended.set(true);
            Self::run(request, &|hooks, stream, own| {
                (hooks.stream_complete)(stream, own);
            });
            Self::run(request, &|hooks, _, own| (hooks.destroy)(own));
            drop(Box::from_raw(request));
        }
    }
}

/// A request from outside its hooks.
pub struct Running {
    pub id: u64,
    pub outcome: Rc<Outcome>,
    request: *mut Request,
}

impl Running {
    /// Begins a stream of a configuration.
    pub fn new(configuration: &Configuration, id: u64, stream: Stream) -> Self {
        let outcome = Rc::clone(&stream.outcome);
        let request = Box::into_raw(Box::new(Request {
            hooks: configuration.hooks,
            id,
            filter: ptr::null(),
            stream,
        }));
        // SAFETY: the configuration lives, and the request was just made.
        unsafe {
            (*request).filter = (configuration.hooks.new)(configuration.module, request.cast());
        }
        Self {
            id,
            outcome,
            request,
        }
    }

    /// The request, unless it has ended.
    fn live(&self) -> Option<*mut Request> {
        (!self.outcome.ended.get()).then_some(self.request)
    }

    /// Runs a hook of the request's path, unless the request has ended.
    fn decide(&self, hook: Hook<'_, u32>) -> Option<u32> {
        let request = self.live()?;
        self.outcome.deciding.set(true);
        // SAFETY: the request has not ended.
        let status = unsafe { Request::run(request, hook) };
        self.outcome.deciding.set(false);
        let reply = self.outcome.reply.borrow_mut().take();
        if let (Some(body), Some(request)) = (reply, self.live()) {
            // SAFETY: the request has not ended.
            unsafe { Request::respond(request, &body) };
        }
        Some(status)
    }

    pub fn request_headers(&self, end: bool) -> Option<u32> {
        // SAFETY: the request has not ended.
        self.decide(&|hooks, stream, own| unsafe { (hooks.request_headers)(stream, own, end) })
    }

    /// Delivers a piece of the request's body. Envoy rejects a body that is too large to be held.
    pub fn request_body(&self, piece: &[u8], end: bool) -> Option<u32> {
        let request = self.live()?;
        if !piece.is_empty() {
            // SAFETY: the request has not ended.
            let received = unsafe { &(&(*request).stream.bodies)[RECEIVED_REQUEST] };
            received.borrow_mut().add(piece);
        }
        // SAFETY: the request has not ended.
        let hook: Hook<'_, u32> =
            &|hooks, stream, own| unsafe { (hooks.request_body)(stream, own, end) };
        self.outcome.in_body.set(true);
        let status = self.decide(hook);
        self.outcome.in_body.set(false);
        let status = status?;
        let Some(request) = self.live() else {
            return Some(status);
        };
        // SAFETY: the request has not ended.
        let bodies = unsafe { &(*request).stream.bodies };
        let [received, buffered] = [RECEIVED_REQUEST, BUFFERED_REQUEST].map(|at| &bodies[at]);
        match status {
            BUFFER => buffered.borrow_mut().append(&mut received.borrow_mut()),
            CONTINUE => buffered.borrow_mut().clear(),
            _ => {}
        }
        received.borrow_mut().clear();
        // SAFETY: the request has not ended.
        let max_bytes = unsafe { (*request).stream.max_bytes };
        if buffered.borrow().size() > max_bytes && !self.outcome.is_closed() {
            // SAFETY: the request has not ended.
            unsafe { Request::refuse_body(request) };
            self.end();
        }
        Some(status)
    }

    pub fn request_trailers(&self) -> Option<u32> {
        // SAFETY: the request has not ended.
        self.decide(&|hooks, stream, own| unsafe { (hooks.request_trailers)(stream, own) })
    }

    /// Delivers the head of the upstream's response. These return the hook's status.
    pub fn response_headers(&self, end: bool) -> Option<u32> {
        let request = self.live()?;
        // SAFETY: the request has not ended.
        Some(unsafe {
            Request::run(request, &|hooks, stream, own| {
                (hooks.response_headers)(stream, own, end)
            })
        })
    }

    pub fn response_body(&self, piece: &[u8], end: bool) -> Option<u32> {
        let request = self.live()?;
        // SAFETY: the request has not ended.
        Some(unsafe { Request::response_body(request, piece, end) })
    }

    pub fn response_trailers(&self) -> Option<u32> {
        let request = self.live()?;
        // SAFETY: the request has not ended.
        Some(unsafe {
            Request::run(request, &|hooks, stream, own| {
                (hooks.response_trailers)(stream, own)
            })
        })
    }

    pub fn scheduled(&self, event: u64) {
        if let Some(request) = self.live() {
            // SAFETY: the request has not ended.
            unsafe {
                Request::run(request, &|hooks, stream, own| {
                    (hooks.scheduled)(stream, own, event);
                });
            }
        }
    }

    /// Adds a trailer of the request or of the response.
    pub fn add_trailer(&self, map: usize, name: &[u8], value: &[u8]) {
        if let Some(request) = self.live() {
            // SAFETY: the request has not ended.
            let map = unsafe { &(&(*request).stream.maps)[map] };
            map.borrow_mut().add(name, value);
        }
    }

    /// Ends the stream, if it has not ended.
    pub fn end(&self) {
        if let Some(request) = self.live() {
            // SAFETY: it has not ended, and is not used after that.
            unsafe { Request::end(request) };
        }
    }
}
