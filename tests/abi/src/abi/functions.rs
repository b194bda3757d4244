//! The functions that Envoy exports to modules. Those that may end a stream end it before they
//! return to the module, if the stream says so.

use core::ffi::c_void;
use core::hint::black_box;
use core::ptr;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Buffer, Header, Request, lent};
use crate::events::{self, Target};
use crate::stream::{BUFFERED_REQUEST, Exit, Outcome, RECEIVED_REQUEST, Stream};

/// The request of a running hook.
fn request<'h>(pointer: *mut c_void) -> &'h Request {
    // SAFETY: the module calls functions on the stream of the running hook, which is not freed
    // before one of them ends it.
    unsafe { &*pointer.cast::<Request>().cast_const() }
}

fn stream<'h>(pointer: *mut c_void) -> &'h Stream {
    &request(pointer).stream
}

/// The number of a configuration of a running hook.
fn number(configuration: *mut c_void) -> u64 {
    // SAFETY: the module calls functions on the configuration of the running hook.
    unsafe { *configuration.cast::<u64>() }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("a machine of 64 bits")
}

/// Gives the module a value in its own memory.
fn give<T>(to: *mut T, value: T) {
    // SAFETY: the module has room for one value.
    unsafe { to.write(value) }
}

/// Gives the module all values of an array. Each is written at once, so that Valgrind sees one for
/// which there is no room.
fn give_all<T>(to: *mut T, values: impl Iterator<Item = T>) -> bool {
    for (at, value) in values.enumerate() {
        // SAFETY: the module has room for as many values as it was told.
        unsafe { to.add(at).write(value) };
    }
    true
}

/// Gives the module a view, if there is one.
fn give_view(to: *mut Buffer, view: Option<Buffer>) -> bool {
    give(to, view.unwrap_or(Buffer::of(&[])));
    view.is_some()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_log(_: u32, message: Buffer) {
    let line = message.to_vec();
    if let Some((_, hook)) = String::from_utf8_lossy(&line).split_once(" panic in ") {
        events::log_panic(hook);
    }
    if std::env::var_os("ABI_DRIVER_LOG").is_some() {
        println!("{}", String::from_utf8_lossy(&line));
    }
}

/// The functions that modules have registered, by name. A later one of a name is not registered.
static FUNCTIONS: Mutex<BTreeMap<Vec<u8>, usize>> = Mutex::new(BTreeMap::new());

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_register_function(
    name: Buffer,
    function: *mut c_void,
) -> bool {
    let mut functions = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let Entry::Vacant(entry) = functions.entry(name.to_vec()) else {
        return false;
    };
    entry.insert(function.expose_provenance());
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_get_function(
    name: Buffer,
    function: *mut *mut c_void,
) -> bool {
    let functions = FUNCTIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(address) = functions.get(&name.to_vec()) else {
        return false;
    };
    give(function, ptr::with_exposed_provenance_mut(*address));
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_headers_size(
    pointer: *mut c_void,
    map: u32,
) -> usize {
    stream(pointer).maps[index(map)].borrow().views().len()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_headers(
    pointer: *mut c_void,
    map: u32,
    fields: *mut Header,
) -> bool {
    give_all(fields, stream(pointer).maps[index(map)].borrow().views())
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_header(
    pointer: *mut c_void,
    map: u32,
    name: Buffer,
    value: *mut Buffer,
    position: usize,
    count: *mut usize,
) -> bool {
    let fields = stream(pointer).maps[index(map)].borrow();
    let values = fields.values(&name.to_vec());
    if !count.is_null() {
        give(count, values.len());
    }
    give_view(value, values.get(position).copied())
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_header(
    pointer: *mut c_void,
    map: u32,
    name: Buffer,
    value: Buffer,
) -> bool {
    let (name, value) = (name.to_vec(), value.to_vec());
    let mut fields = stream(pointer).maps[index(map)].borrow_mut();
    fields.remove(&name);
    if !value.is_empty() {
        fields.add(&name, &value);
    }
    true
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_add_header(
    pointer: *mut c_void,
    map: u32,
    name: Buffer,
    value: Buffer,
) -> bool {
    let (name, value) = (name.to_vec(), value.to_vec());
    let adds = !value.is_empty();
    if adds {
        let fields = &stream(pointer).maps[index(map)];
        fields.borrow_mut().add(&name, &value);
    }
    adds
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_body_size(
    pointer: *mut c_void,
    body: u32,
) -> usize {
    stream(pointer).bodies[index(body)].borrow().size()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_body_chunks_size(
    pointer: *mut c_void,
    body: u32,
) -> usize {
    stream(pointer).bodies[index(body)].borrow().views().len()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_body_chunks(
    pointer: *mut c_void,
    body: u32,
    chunks: *mut Buffer,
) -> bool {
    give_all(chunks, stream(pointer).bodies[index(body)].borrow().views())
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_append_body(
    pointer: *mut c_void,
    body: u32,
    data: Buffer,
) -> bool {
    let data = data.to_vec();
    let own = stream(pointer);
    let outcome = Rc::clone(&own.outcome);
    let body = index(body);
    // A received piece is there only in the hook that gets it.
    let is_appended = body != RECEIVED_REQUEST || outcome.in_body.get();
    if is_appended {
        own.bodies[body].borrow_mut().add(&data);
    }
    if body == BUFFERED_REQUEST {
        if own.bodies[body].borrow().size() > own.max_bytes && !outcome.is_closed() {
            outcome.replies.set(outcome.replies.get() + 1);
            // SAFETY: the stream has not ended.
            unsafe { Request::refuse_body(pointer.cast()) };
        }
        end_in(pointer, &outcome, Exit::Append);
    }
    is_appended
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_drain_body(
    pointer: *mut c_void,
    body: u32,
    bytes: usize,
) -> bool {
    let body = &stream(pointer).bodies[index(body)];
    body.borrow_mut().drain(bytes);
    true
}

/// Whether the received piece is what Envoy held for an earlier filter. No filter is before this
/// one.
#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_received_buffered_request_body(
    _: *mut c_void,
) -> bool {
    false
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_send_response(
    pointer: *mut c_void,
    status: u32,
    fields: *mut Header,
    count: usize,
    body: Buffer,
    details: Buffer,
) {
    // SAFETY: the module lends the fields during the call.
    for field in unsafe { lent(fields, count) } {
        black_box(field.to_vecs());
    }
    let (body, details) = (body.to_vec(), details.to_vec());
    let own = stream(pointer);
    own.bodies[RECEIVED_REQUEST].borrow_mut().clear();
    let outcome = Rc::clone(&own.outcome);
    assert!(!outcome.is_closed(), "answered twice");
    outcome.replies.set(outcome.replies.get() + 1);
    if !outcome.ended.get() {
        // SAFETY: the stream has not ended.
        unsafe { Request::reply(pointer.cast(), status, &body, &details) };
    }
    end_in(pointer, &outcome, Exit::Respond);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_continue_decoding(pointer: *mut c_void) {
    let own = stream(pointer);
    let outcome = Rc::clone(&own.outcome);
    assert!(!outcome.is_closed(), "resumed after an answer");
    outcome.resumed.set(true);
    for body in &own.bodies {
        body.borrow_mut().clear();
    }
    end_in(pointer, &outcome, Exit::Resume);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_reset_stream(
    pointer: *mut c_void,
    _: u32,
    details: Buffer,
) {
    black_box(details.to_vec());
    let outcome = Rc::clone(&stream(pointer).outcome);
    outcome.reset.set(true);
    end_in(pointer, &outcome, Exit::Reset);
}

/// Ends the stream inside this function, if its client leaves in it.
fn end_in(pointer: *mut c_void, outcome: &Outcome, exit: Exit) {
    if !outcome.ended.get() && stream(pointer).exit == Some(exit) {
        outcome.left.set(Some(exit));
        // SAFETY: it has not ended. Nothing here uses it after this, and the module may not.
        unsafe { Request::end(pointer.cast()) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_set_filter_state_bytes(
    pointer: *mut c_void,
    name: Buffer,
    value: Buffer,
) -> bool {
    let (name, value) = (name.to_vec(), value.to_vec());
    let mut state = stream(pointer).state.borrow_mut();
    state.insert(name, value.into()).is_none()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_filter_state_bytes(
    pointer: *mut c_void,
    name: Buffer,
    value: *mut Buffer,
) -> bool {
    let state = stream(pointer).state.borrow();
    let text = state.get(&name.to_vec());
    give_view(value, text.map(|text| Buffer::of(text)))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_get_metadata_string(
    _: *mut c_void,
    _: u32,
    namespace: Buffer,
    key: Buffer,
    value: *mut Buffer,
) -> bool {
    black_box((namespace.to_vec(), key.to_vec()));
    give_view(value, None)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_get_attribute_string(
    pointer: *mut c_void,
    attribute: u32,
    value: *mut Buffer,
) -> bool {
    let text = stream(pointer).attributes.get(&attribute);
    give_view(value, text.map(|text| Buffer::of(text)))
}

/// The id of the counter of panics. Those of other metrics are further numbers.
const PANICS: usize = 0;

/// Defines a metric.
fn define(name: Buffer, id: *mut usize) -> u32 {
    static METRICS: AtomicUsize = AtomicUsize::new(PANICS + 1);
    let new = match name.to_vec().as_slice() {
        b"tensorgate_panics" => PANICS,
        _ => METRICS.fetch_add(1, Ordering::Relaxed),
    };
    give(id, new);
    0
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_define_counter(
    _: *mut c_void,
    name: Buffer,
    _: *mut Buffer,
    _: usize,
    id: *mut usize,
) -> u32 {
    define(name, id)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_define_gauge(
    _: *mut c_void,
    name: Buffer,
    _: *mut Buffer,
    _: usize,
    id: *mut usize,
) -> u32 {
    define(name, id)
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_set_gauge(
    _: *mut c_void,
    _: usize,
    _: *mut Buffer,
    _: usize,
    _: u64,
) -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_increment_counter(
    _: *mut c_void,
    id: usize,
    _: *mut Buffer,
    _: usize,
    _: u64,
) -> u32 {
    if id == PANICS {
        events::count_panic();
    }
    0
}

/// A scheduler, in memory of its own.
fn new_scheduler(target: Target) -> *mut c_void {
    Box::into_raw(Box::new(target)).cast()
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_new(
    pointer: *mut c_void,
) -> *mut c_void {
    new_scheduler(Target::Request(request(pointer).id))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_commit(
    scheduler: *mut c_void,
    event: u64,
) {
    // SAFETY: the module has not deleted it.
    events::push(unsafe { *scheduler.cast::<Target>() }, event);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler: *mut c_void) {
    // SAFETY: the module deletes it once.
    drop(unsafe { Box::from_raw(scheduler.cast::<Target>()) });
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_new(
    configuration: *mut c_void,
) -> *mut c_void {
    new_scheduler(Target::Configuration(number(configuration)))
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_commit(
    scheduler: *mut c_void,
    event: u64,
) {
    envoy_dynamic_module_callback_http_filter_scheduler_commit(scheduler, event);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_scheduler_delete(
    scheduler: *mut c_void,
) {
    envoy_dynamic_module_callback_http_filter_scheduler_delete(scheduler);
}

#[unsafe(no_mangle)]
extern "C" fn envoy_dynamic_module_callback_http_filter_config_http_callout(
    configuration: *mut c_void,
    id: *mut u64,
    cluster: Buffer,
    fields: *mut Header,
    count: usize,
    body: Buffer,
    _: u64,
) -> u32 {
    // SAFETY: the module lends the fields during the call.
    for field in unsafe { lent(fields, count) } {
        black_box(field.to_vecs());
    }
    black_box((cluster.to_vec(), body.to_vec()));
    let call = events::next_number();
    give(id, call);
    events::push(Target::Call(number(configuration)), call);
    0
}
