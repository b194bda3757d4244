//! What each of Envoy's hooks does. A panic of the gate costs one stream:
//!
//! - on the request's path the stream is answered, and nothing more of it is forwarded,
//! - on the response's path it is reset, and nothing more of it is forwarded,
//! - at its end only its permits are returned.
//!
//! A panic while a configuration is loaded has Envoy reject it. One in the background, of a timer
//! or a fetch of keys, costs no stream: what it may have left half changed is made anew.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::Action;
use tensorgate_policy::Severity;
use tensorgate_wire::answer::HttpAnswer;

use crate::abi::{self, Body, Call, ConfigurationCall, Headers, LogLevel};
use crate::configuration::Module;
use crate::host::{Effects, Host};
use crate::panics::{Hook, log_panic};
use crate::stream::{Panicked, Stream, report};
use crate::timer::Event;
use crate::{key_fetches, panics};

/// The answer to a request at which the gate has panicked, as Envoy answers for a wasm module.
const PANIC: HttpAnswer<'_> = HttpAnswer {
    status: 503,
    fields: Cow::Borrowed(&[]),
    body: &[],
};
/// The same over gRPC: `UNAVAILABLE`. Envoy would add the status 0.
const GRPC_PANIC: HttpAnswer<'_> = HttpAnswer {
    status: 200,
    fields: Cow::Borrowed(&[
        ("content-type", Cow::Borrowed("application/grpc")),
        ("grpc-status", Cow::Borrowed("14")),
    ]),
    body: &[],
};

/// What happens to a part of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyAction {
    /// It is forwarded, with everything that is held.
    Continue,
    /// Envoy holds it.
    Hold,
    /// It is dropped.
    Discard,
}

/// Prepares the module, once for each file of it that a process loads.
pub fn start() {
    abi::join_store();
    // The default hook prints the panic's message, which may quote client data. The location is
    // enough to find the cause.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        abi::log(LogLevel::Critical, &format!("tensorgate: panic at {place}"));
    }));
}

/// Loads a configuration. `None`: Envoy rejects it.
pub fn configure(call: &ConfigurationCall<'_>, name: &[u8], bytes: &[u8]) -> Option<Arc<Module>> {
    let load = AssertUnwindSafe(|| {
        panics::panic_if_named(Hook::Configuration);
        Module::load(call, name, bytes)
    });
    let (module, faults) = match catch_unwind(load) {
        Ok(Ok((module, warnings))) => (Some(Arc::new(module)), warnings),
        Ok(Err(faults)) => (None, faults),
        Err(_) => {
            log_panic(Hook::Configuration);
            return None;
        }
    };
    for fault in faults {
        let level = match fault.severity {
            Severity::Error => LogLevel::Error,
            Severity::Warning => LogLevel::Warn,
        };
        abi::log(level, &format!("tensorgate: configuration: {fault}"));
    }
    module.inspect(key_fetches::begin)
}

/// Begins a stream. `None`: it is answered as after a panic.
pub fn begin(call: &Call<'_>, module: &Arc<Module>) -> Option<Stream> {
    match catch_unwind(AssertUnwindSafe(|| Stream::begin(Arc::clone(module)))) {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(fault)) => {
            abi::log(LogLevel::Error, &format!("tensorgate: {fault}"));
            None
        }
        Err(_) => {
            report(call, module, Hook::Begin);
            None
        }
    }
}

/// The head of a request for which no stream could begin.
pub fn request_headers_of_none(call: Call<'_>) {
    let answer = panic_answer(&call);
    call.respond(&answer);
}

pub fn request_headers(call: Call<'_>, stream: &Stream, end: bool) -> Action {
    stream.read_test_fault(&call);
    on_request(call, stream, Hook::RequestHeaders, |gate, host| {
        gate.on_request_headers(host, end)
    })
}

pub fn request_body(call: Call<'_>, stream: &Stream, end: bool) -> BodyAction {
    let action = on_request(call, stream, Hook::RequestBody, |gate, host| {
        let bytes = host.request_body_bytes();
        gate.on_request_body(host, bytes, end)
    });
    let action = match action {
        Action::Continue => BodyAction::Continue,
        // Nothing of an answered request is held.
        Action::Pause if stream.is_closed() => BodyAction::Discard,
        Action::Pause => BodyAction::Hold,
    };
    stream.state.holds.set(action == BodyAction::Hold);
    action
}

pub fn request_trailers(call: Call<'_>, stream: &Stream) -> Action {
    on_request(call, stream, Hook::RequestTrailers, |gate, host| {
        gate.on_request_trailers(host)
    })
}

pub fn response_headers(stream: &Stream, end: bool) {
    let state = &stream.state;
    state.responded.set(end);
    state.has_upstream_headers.set(!state.is_local_reply.get());
}

/// Envoy answers the request itself, or for the gate.
pub fn local_reply(stream: &Stream) {
    stream.state.is_local_reply.set(true);
}

pub fn response_body(call: Call<'_>, stream: &Stream, end: bool) -> BodyAction {
    stream.state.responded.set(end);
    let action = if stream.reads_responses() {
        on_response(call, stream, Hook::ResponseBody, |gate, host| {
            let bytes = host.response_body_bytes();
            gate.on_response_body(host, bytes);
        })
    } else {
        unless_poisoned(stream)
    };
    match action {
        Action::Continue => BodyAction::Continue,
        Action::Pause => BodyAction::Discard,
    }
}

pub fn response_trailers(call: Call<'_>, stream: &Stream) -> Action {
    stream.state.responded.set(true);
    on_response(call, stream, Hook::ResponseTrailers, |gate, host| {
        // The gate never stops a response.
        let _ = gate.on_response_trailers(host);
    })
}

/// The stream ends, for any reason. The access log is written after this.
pub fn stream_complete(call: &Call<'_>, stream: &Stream) {
    let log = |gate: &mut Gate, host: &mut Host<'_>| gate.on_log(host);
    // A gate that has panicked, too, gives its permits back.
    let end = |gate: &mut Gate, host: &mut Host<'_>| gate.on_done(host);
    let logged = stream.run(call, Hook::StreamComplete, log);
    let ended = stream.run(call, Hook::StreamComplete, end);
    if logged.and(ended).is_err() {
        stream.poison(call, Hook::StreamComplete);
    }
    stream.end(call);
}

/// A timer of the stream is due.
pub fn scheduled(call: Call<'_>, stream: &Stream, event: u64) {
    if stream.is_complete() {
        // Envoy 1.40 keeps a stream for a while after its end.
        return;
    }
    let event = match Event::from_number(event) {
        Some(Event::Tick) => return tick(&call, stream),
        Some(event) if !stream.is_poisoned() => event,
        _ => return,
    };
    let run = stream.run(&call, Hook::Scheduled, |gate, host| {
        stream.on_event(gate, host, event)
    });
    match run {
        Ok((true, _)) => call.reset(),
        Ok((false, effects)) => finish(call, stream, effects),
        Err(Panicked) => {
            let was_answered = stream.is_closed();
            stream.poison(&call, Hook::Scheduled);
            if !was_answered {
                answer_panic(call, stream);
            }
        }
    }
}

/// Runs the background work of the stream's worker.
fn tick(call: &Call<'_>, stream: &Stream) {
    let worker = &stream.state.worker;
    if catch_unwind(AssertUnwindSafe(|| worker.tick())).is_err() {
        // No tick follows for the streams that still use it.
        worker.root.forget_tick();
        report(call, &stream.state.module, Hook::Tick);
    }
}

/// Runs a hook of the request's path.
fn on_request(
    call: Call<'_>,
    stream: &Stream,
    hook: Hook,
    work: impl FnOnce(&mut Gate, &mut Host<'_>) -> Action,
) -> Action {
    if stream.is_closed() {
        return Action::Pause;
    }
    match stream.run(&call, hook, work) {
        Ok((action, effects)) => {
            finish(call, stream, effects);
            if stream.is_closed() {
                Action::Pause
            } else {
                action
            }
        }
        Err(Panicked) => {
            stream.poison(&call, hook);
            answer_panic(call, stream);
            Action::Pause
        }
    }
}

/// Runs a hook of the response's path. A closed stream's response is the gate's own.
fn on_response(
    call: Call<'_>,
    stream: &Stream,
    hook: Hook,
    work: impl FnOnce(&mut Gate, &mut Host<'_>),
) -> Action {
    if !stream.is_closed() && stream.run(&call, hook, work).is_err() {
        stream.poison(&call, hook);
        call.reset();
    }
    unless_poisoned(stream)
}

fn unless_poisoned(stream: &Stream) -> Action {
    if stream.is_poisoned() {
        Action::Pause
    } else {
        Action::Continue
    }
}

/// Carries out what the gate has asked for. Envoy may end the stream meanwhile.
fn finish(call: Call<'_>, stream: &Stream, effects: Effects) {
    if let Some(answer) = effects.answer {
        stream.close();
        return answer_or_reset(call, stream, &answer.to_http());
    }
    if let Some(body) = effects.body {
        if let Err(fault) = call.append(Body::BufferedRequest, &body) {
            abi::log(LogLevel::Error, &format!("tensorgate: {fault}"));
            stream.close();
            return answer_panic(call, stream);
        }
        // Envoy itself answers if the body is too large for its buffer.
        if stream.state.is_local_reply.get() {
            stream.close();
        }
        if stream.is_closed() {
            return;
        }
    }
    if effects.resume {
        // Envoy forwards what it holds.
        stream.state.holds.set(false);
        call.resume();
    }
}

/// Answers a request. If the upstream's response has begun, no other one can follow.
fn answer_or_reset(call: Call<'_>, stream: &Stream, answer: &HttpAnswer<'_>) {
    if stream.state.has_upstream_headers.get() {
        call.reset();
    } else {
        call.respond(answer);
    }
}

fn answer_panic(call: Call<'_>, stream: &Stream) {
    let answer = panic_answer(&call);
    answer_or_reset(call, stream, &answer);
}

/// The answer to a request at which the gate has panicked.
fn panic_answer(call: &Call<'_>) -> HttpAnswer<'static> {
    let content_type = call.field(Headers::Request, "content-type");
    let is_grpc = content_type.is_some_and(|it| it.starts_with(b"application/grpc"));
    if is_grpc { GRPC_PANIC } else { PANIC }
}
