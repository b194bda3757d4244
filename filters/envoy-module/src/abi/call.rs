//! Envoy's functions as safe ones, on what a hook is about.

use core::ffi::c_void;
use core::marker::PhantomData;
use core::ptr;

use smallvec::{SmallVec, smallvec};
use tensorgate_filter_core::host::{Fields, HostFault, HttpCall};
use tensorgate_wire::answer::HttpAnswer;

use super::{
    Attribute, Body, Buffer, DETAILS, Header, Headers, LOCAL_RESET, accepted, raw, slice,
    successful,
};

/// Fields of a map, and chunks of a body, for which no array is allocated.
const USUAL_FIELDS: usize = 32;
const USUAL_CHUNKS: usize = 4;

/// A configuration in one of its hooks, on Envoy's main thread.
pub struct ConfigurationCall<'h> {
    pub(super) configuration: *mut c_void,
    pub(super) hook: PhantomData<&'h ()>,
}

impl ConfigurationCall<'_> {
    /// Defines a counter and returns its id. Only in the hook that creates the configuration.
    pub fn define_counter(&self, name: &str) -> Result<usize, HostFault> {
        let mut id = 0;
        // SAFETY: the configuration is the hook's; the name is read during the call, and the id is
        // a live local.
        let status = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_config_define_counter(
                self.configuration,
                Buffer::of(name.as_bytes()),
                ptr::null_mut(),
                0,
                &mut id,
            )
        };
        successful("define_counter", status).map(|()| id)
    }

    /// Defines a gauge and returns its id. Only in the hook that creates the configuration.
    pub fn define_gauge(&self, name: &str) -> Result<usize, HostFault> {
        let mut id = 0;
        // SAFETY: the configuration is the hook's; the name is read during the call, and the id is
        // a live local.
        let status = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_config_define_gauge(
                self.configuration,
                Buffer::of(name.as_bytes()),
                ptr::null_mut(),
                0,
                &mut id,
            )
        };
        successful("define_gauge", status).map(|()| id)
    }

    /// A handle with which any thread can wake the configuration.
    pub fn scheduler(&self) -> Scheduler {
        // SAFETY: the configuration is the hook's.
        let handle = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_config_scheduler_new(self.configuration)
        };
        Scheduler {
            handle,
            commit: raw::envoy_dynamic_module_callback_http_filter_config_scheduler_commit,
            delete: raw::envoy_dynamic_module_callback_http_filter_config_scheduler_delete,
        }
    }

    /// Sends an HTTP request, and returns the id with which its response comes.
    pub fn http_call(&self, call: &HttpCall<'_>) -> Result<u64, HostFault> {
        let mut fields: Vec<_> = call.headers.iter().copied().map(Header::of).collect();
        let mut id = 0;
        // SAFETY: the configuration is the hook's; everything is read during the call, and the id
        // is a live local.
        let status = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_config_http_callout(
                self.configuration,
                &mut id,
                Buffer::of(call.cluster.as_bytes()),
                fields.as_mut_ptr(),
                fields.len(),
                Buffer::EMPTY,
                call.timeout_ms,
            )
        };
        successful("http_call", status).map(|()| id)
    }
}

/// A request in one of its hooks: Envoy's functions act on it. Functions that may end the stream
/// consume this, because Envoy may destroy the stream before they return.
pub struct Call<'h> {
    pub(super) stream: *mut c_void,
    pub(super) hook: PhantomData<&'h ()>,
}

impl Call<'_> {
    /// All fields of a map, in order.
    ///
    /// # Errors
    /// There is no such map.
    pub fn fields(&self, map: Headers) -> Result<Fields, HostFault> {
        // SAFETY: the stream is the hook's.
        let count = unsafe {
            raw::envoy_dynamic_module_callback_http_get_headers_size(self.stream, map as u32)
        };
        let mut fields: SmallVec<[_; USUAL_FIELDS]> = smallvec![Header::EMPTY; count];
        // SAFETY: the array has room for as many fields as Envoy has just counted, on this thread.
        let read = unsafe {
            raw::envoy_dynamic_module_callback_http_get_headers(
                self.stream,
                map as u32,
                fields.as_mut_ptr(),
            )
        };
        accepted("get_headers", read)?;
        let sizes = fields
            .iter()
            .map(|field| field.name_size.saturating_add(field.value_size));
        let bytes = sizes.fold(0, usize::saturating_add);
        let mut copied = Fields::with_capacity(count, bytes);
        for field in fields {
            // SAFETY: Envoy has set all fields; they are unchanged until a header is set.
            let (name, value) = unsafe { field.parts() };
            copied.push(name, value);
        }
        Ok(copied)
    }

    /// The first value of a field.
    pub fn field(&self, map: Headers, name: &str) -> Option<Vec<u8>> {
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream is the hook's; the name is read during the call, and the value is a
        // live local that Envoy sets to a view of its map.
        unsafe {
            raw::envoy_dynamic_module_callback_http_get_header(
                self.stream,
                map as u32,
                Buffer::of(name.as_bytes()),
                &mut value,
                0,
                ptr::null_mut(),
            )
            .then(|| value.to_vec())
        }
    }

    /// Replaces all fields of one name with one field. Envoy removes them if the value is empty.
    pub fn set(&self, map: Headers, name: &str, value: &str) -> Result<(), HostFault> {
        self.set_raw(map, name.as_bytes(), Buffer::of(value.as_bytes()))
    }

    /// Removes all fields of one name.
    pub fn remove(&self, map: Headers, name: &[u8]) -> Result<(), HostFault> {
        self.set_raw(map, name, Buffer::EMPTY)
    }

    fn set_raw(&self, map: Headers, name: &[u8], value: Buffer) -> Result<(), HostFault> {
        // SAFETY: the stream is the hook's; name and value are read during the call.
        let set = unsafe {
            raw::envoy_dynamic_module_callback_http_set_header(
                self.stream,
                map as u32,
                Buffer::of(name),
                value,
            )
        };
        accepted("set_header", set)
    }

    /// Adds a field. Envoy adds none with an empty value.
    pub fn add(&self, map: Headers, name: &str, value: &str) -> Result<(), HostFault> {
        // SAFETY: the stream is the hook's; name and value are read during the call.
        let added = unsafe {
            raw::envoy_dynamic_module_callback_http_add_header(
                self.stream,
                map as u32,
                Buffer::of(name.as_bytes()),
                Buffer::of(value.as_bytes()),
            )
        };
        accepted("add_header", added || value.is_empty())
    }

    /// Size of a body's buffer, in bytes; 0 if there is none.
    pub fn body_bytes(&self, body: Body) -> usize {
        // SAFETY: the stream is the hook's.
        unsafe { raw::envoy_dynamic_module_callback_http_get_body_size(self.stream, body as u32) }
    }

    /// Whether the received piece is what Envoy held for an earlier filter. Then both buffers of
    /// the request are one.
    pub fn is_received_buffered(&self) -> bool {
        // SAFETY: the stream is the hook's.
        unsafe {
            raw::envoy_dynamic_module_callback_http_received_buffered_request_body(self.stream)
        }
    }

    /// Adds bytes of a body's buffer: those after `skip` bytes, until `read` has `max_bytes`.
    /// `skip` is then the number of bytes that are still to be skipped in the next buffer.
    pub fn read(&self, body: Body, skip: &mut usize, max_bytes: usize, read: &mut Vec<u8>) {
        self.visit(body, |bytes| {
            let rest = bytes.get(*skip..).unwrap_or_default();
            *skip = skip.saturating_sub(bytes.len());
            let left = max_bytes.saturating_sub(read.len());
            read.extend_from_slice(rest.get(..left).unwrap_or(rest));
        });
    }

    /// Passes the pieces of a body's buffer on, in order. Nothing else may be called meanwhile.
    pub fn visit(&self, body: Body, mut pass: impl FnMut(&[u8])) {
        // SAFETY: the stream is the hook's.
        let count = unsafe {
            raw::envoy_dynamic_module_callback_http_get_body_chunks_size(self.stream, body as u32)
        };
        let mut chunks: SmallVec<[_; USUAL_CHUNKS]> = smallvec![Buffer::EMPTY; count];
        // SAFETY: the array has room for as many chunks as Envoy has just counted, on this thread.
        let has = unsafe {
            raw::envoy_dynamic_module_callback_http_get_body_chunks(
                self.stream,
                body as u32,
                chunks.as_mut_ptr(),
            )
        };
        if !has {
            return;
        }
        for chunk in chunks {
            // SAFETY: Envoy has set all chunks, and they are unchanged until the body is. Nothing
            // else is called while this slice lives.
            pass(unsafe { slice(chunk.data, chunk.size) });
        }
    }

    /// Removes everything of a body's buffer.
    pub fn drain(&self, body: Body) {
        let bytes = self.body_bytes(body);
        // SAFETY: the stream is the hook's. There is nothing to remove where the buffer is missing.
        let _ = unsafe {
            raw::envoy_dynamic_module_callback_http_drain_body(self.stream, body as u32, bytes)
        };
    }

    /// Adds to a body's buffer.
    pub fn append(&self, body: Body, data: &[u8]) -> Result<(), HostFault> {
        // SAFETY: the stream is the hook's; the data is read during the call.
        let appended = unsafe {
            raw::envoy_dynamic_module_callback_http_append_body(
                self.stream,
                body as u32,
                Buffer::of(data),
            )
        };
        accepted("append_body", appended)
    }

    /// An attribute of the request as text.
    pub fn text(&self, attribute: Attribute) -> Option<Vec<u8>> {
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream is the hook's; the value is a live local that Envoy sets to a view.
        unsafe {
            raw::envoy_dynamic_module_callback_http_filter_get_attribute_string(
                self.stream,
                attribute as u32,
                &mut value,
            )
            .then(|| value.to_vec())
        }
    }

    /// A text in the dynamic metadata of another filter.
    pub fn metadata(&self, filter: &str, key: &str) -> Option<Vec<u8>> {
        const DYNAMIC: u32 = 0;
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream is the hook's; both names are read during the call, and the value is a
        // live local that Envoy sets to a view.
        unsafe {
            raw::envoy_dynamic_module_callback_http_get_metadata_string(
                self.stream,
                DYNAMIC,
                Buffer::of(filter.as_bytes()),
                Buffer::of(key.as_bytes()),
                &mut value,
            )
            .then(|| value.to_vec())
        }
    }

    /// A text in the stream's filter state.
    pub fn state(&self, name: &str) -> Option<Vec<u8>> {
        let mut value = Buffer::EMPTY;
        // SAFETY: the stream is the hook's; the name is read during the call, and the value is a
        // live local that Envoy sets to a view.
        unsafe {
            raw::envoy_dynamic_module_callback_http_get_filter_state_bytes(
                self.stream,
                Buffer::of(name.as_bytes()),
                &mut value,
            )
            .then(|| value.to_vec())
        }
    }

    /// Writes a text into the stream's filter state. Each name is written once: Envoy 1.38 keeps
    /// the first value, later releases the last one.
    pub fn set_state(&self, name: &str, value: &str) -> Result<(), HostFault> {
        // SAFETY: the stream is the hook's; name and value are read during the call.
        let set = unsafe {
            raw::envoy_dynamic_module_callback_http_set_filter_state_bytes(
                self.stream,
                Buffer::of(name.as_bytes()),
                Buffer::of(value.as_bytes()),
            )
        };
        accepted("set_filter_state", set)
    }

    /// Increments a counter of the configuration.
    pub fn increment(&self, counter: usize) {
        self.increment_by(counter, 1);
    }

    /// Adds to a counter of the configuration.
    pub fn increment_by(&self, counter: usize, count: u64) {
        // SAFETY: the stream is the hook's; the counter has no labels. An unknown one is ignored.
        let _ = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_increment_counter(
                self.stream,
                counter,
                ptr::null_mut(),
                0,
                count,
            )
        };
    }

    /// Sets a gauge of the configuration.
    pub fn set_gauge(&self, gauge: usize, value: u64) {
        // SAFETY: the stream is the hook's; the gauge has no labels. An unknown one is ignored.
        let _ = unsafe {
            raw::envoy_dynamic_module_callback_http_filter_set_gauge(
                self.stream,
                gauge,
                ptr::null_mut(),
                0,
                value,
            )
        };
    }

    /// A handle with which any thread can wake the stream.
    pub fn scheduler(&self) -> Scheduler {
        // SAFETY: the stream is the hook's.
        let handle =
            unsafe { raw::envoy_dynamic_module_callback_http_filter_scheduler_new(self.stream) };
        Scheduler {
            handle,
            commit: raw::envoy_dynamic_module_callback_http_filter_scheduler_commit,
            delete: raw::envoy_dynamic_module_callback_http_filter_scheduler_delete,
        }
    }

    /// Sends a local response.
    pub fn respond(self, answer: &HttpAnswer<'_>) {
        let fields = answer.fields.iter();
        let mut fields: Vec<_> = fields
            .map(|(name, value)| Header::of((name, value)))
            .collect();
        // SAFETY: the stream is the hook's and is not used after this. Everything is read during
        // the call.
        unsafe {
            raw::envoy_dynamic_module_callback_http_send_response(
                self.stream,
                u32::from(answer.status),
                fields.as_mut_ptr(),
                fields.len(),
                Buffer::of(answer.body),
                Buffer::of(DETAILS),
            );
        }
    }

    /// Resumes a request that is held.
    pub fn resume(self) {
        // SAFETY: the stream is the hook's and is not used after this.
        unsafe { raw::envoy_dynamic_module_callback_http_filter_continue_decoding(self.stream) }
    }

    /// Resets the stream.
    pub fn reset(self) {
        // SAFETY: the stream is the hook's and is not used after this.
        unsafe {
            raw::envoy_dynamic_module_callback_http_filter_reset_stream(
                self.stream,
                LOCAL_RESET,
                Buffer::of(DETAILS),
            );
        }
    }
}

/// Wakes a stream on its worker, or a configuration on Envoy's main thread.
pub struct Scheduler {
    handle: *mut c_void,
    commit: unsafe extern "C" fn(*mut c_void, u64),
    delete: unsafe extern "C" fn(*mut c_void),
}

// SAFETY: Envoy's schedulers may be committed to and deleted on any thread.
unsafe impl Send for Scheduler {}

impl Scheduler {
    /// Requests a call of the hook `scheduled` with this number. Nothing happens if what it wakes
    /// is gone.
    pub fn wake(&self, event: u64) {
        // SAFETY: the function is that of the handle, which is deleted only when this is dropped.
        unsafe { (self.commit)(self.handle, event) }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: the function is that of the handle. This is its only owner, so nothing uses it
        // after this.
        unsafe { (self.delete)(self.handle) }
    }
}
