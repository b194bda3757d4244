//! Runs a document of the OpenAI API. It has no handlers.

use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_judge::document::Document;
use tensorgate_judge::request::ModelRequest;
use tensorgate_policy::Denial;
use tensorgate_telemetry::labels::ModelLabels;
use tensorgate_telemetry::timings::Timings;
use tokio::time::Instant;

use super::Pipeline;
use crate::admission::body_memory::out_of_memory;
use crate::backends::openai::{CheckedResponse, EventStream, ResponseMemory};
use crate::dispatch::Deadline;

/// The memory for a chunk of a response: an event as received, decoded, and encoded anew.
const CHUNK_BYTES: usize = 1 << 20;

/// Runs a request with a streamed response. The time at the backend counts until the response
/// head.
///
/// # Errors
/// Returns an error if the backend failed, or if there is no memory for the response.
pub async fn stream(
    pipeline: &Pipeline,
    request: ModelRequest,
    document: Document,
    mut memory_permit: MemoryPermit,
    request_deadline: Deadline,
    timings: &mut Timings,
) -> Result<EventStream, Denial> {
    let (model, route) = pipeline.route(request.model)?;
    if !memory_permit.resize(document.json.len().saturating_add(CHUNK_BYTES)) {
        return Err(out_of_memory("the answer"));
    }
    let started = Instant::now();
    let (version, request_id) = (request.version.as_str(), request.caller.request_id.as_str());
    let queue = &mut timings.queue;
    let streamed = route
        .backend()?
        .stream(
            (model, version),
            document,
            request_id,
            request_deadline,
            queue,
            memory_permit,
        )
        .await;
    timings.dispatch = started.elapsed();
    timings
        .trace
        .add_backend(timings.dispatch, timings.queue, streamed.is_err());
    streamed
}

/// Runs a request with a complete response. `held` follows the memory in use.
///
/// # Errors
/// Returns an error if the backend failed, or if there is no memory for the response.
pub async fn complete(
    pipeline: &Pipeline,
    request: ModelRequest,
    document: Document,
    memory_permit: &mut MemoryPermit,
    request_deadline: Deadline,
    timings: &mut Timings,
) -> Result<CheckedResponse, Denial> {
    let (model, route) = pipeline.route(request.model)?;
    let (version, request_id) = (request.version.as_str(), request.caller.request_id.as_str());
    // Memory for the response is reserved before it is read, so a backend cannot fill the host.
    let mut room = ResponseMemory::new(memory_permit, document.json.len());
    if !room.reserve_first() {
        return Err(out_of_memory("the answer"));
    }
    let started = Instant::now();
    let answered = route
        .backend()?
        .complete(
            (model, version),
            document,
            request_id,
            request_deadline,
            &mut timings.queue,
            &mut room,
        )
        .await;
    timings.dispatch = started.elapsed();
    timings
        .trace
        .add_backend(timings.dispatch, timings.queue, answered.is_err());
    let labels = ModelLabels {
        model: model.name().to_owned(),
    };
    pipeline
        .metrics
        .dispatch_seconds
        .get_or_create(&labels)
        .observe(timings.dispatch.as_secs_f64());
    let answered = answered?;
    timings.tokens = answered.counts;
    room.shrink_to(answered.body.len());
    Ok(answered)
}
