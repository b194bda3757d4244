//! A document of OpenAI's API from check to answer. There are no handlers on its way.

use tensorgate_policy::Denial;
use tokio::time::Instant;

use super::Pipeline;
use crate::backends::openai::{Answered, Room, Streamed};
use crate::budget::Held;
use crate::dispatch::Latest;
use crate::document::Document;
use crate::metrics::ModelLabels;
use crate::request::ModelRequest;
use crate::room::no_room;
use crate::timings::Timings;

/// What a piece of an answer takes: an event as it came, as what was read, and written anew.
const PIECE_BYTES: usize = 1 << 20;

impl Pipeline {
    /// A request whose answer comes in pieces. The time at the backend is counted up to the head of the answer.
    ///
    /// # Errors
    /// The backend failed, or there is no room for the answer.
    pub async fn stream(
        &self,
        request: ModelRequest,
        document: Document,
        mut held: Held,
        latest: Latest,
        timings: &mut Timings,
    ) -> Result<Streamed, Denial> {
        let (model, route) = self.route(request.model)?;
        if !held.resize(document.json.len().saturating_add(PIECE_BYTES)) {
            return Err(no_room("the answer"));
        }
        let started = Instant::now();
        let (version, request_id) = (request.version.as_str(), request.caller.request_id.as_str());
        let queue = &mut timings.queue;
        let streamed = route
            .backend()?
            .stream((model, version), document, request_id, latest, queue, held)
            .await;
        timings.dispatch = started.elapsed();
        streamed
    }

    /// A request whose answer comes in one piece. `held` grows and shrinks with what is in memory.
    ///
    /// # Errors
    /// The backend failed, or there is no room for the answer.
    pub async fn complete(
        &self,
        request: ModelRequest,
        document: Document,
        held: &mut Held,
        latest: Latest,
        timings: &mut Timings,
    ) -> Result<Answered, Denial> {
        let (model, route) = self.route(request.model)?;
        let (version, request_id) = (request.version.as_str(), request.caller.request_id.as_str());
        // A backend cannot fill the host: an answer's room is taken before it is read.
        let mut room = Room::new(held, document.json.len());
        if !room.begins() {
            return Err(no_room("the answer"));
        }
        let started = Instant::now();
        let answered = route
            .backend()?
            .complete(
                (model, version),
                document,
                request_id,
                latest,
                &mut timings.queue,
                &mut room,
            )
            .await;
        timings.dispatch = started.elapsed();
        let labels = ModelLabels {
            model: model.name().to_owned(),
        };
        self.metrics
            .dispatch_seconds
            .get_or_create(&labels)
            .observe(timings.dispatch.as_secs_f64());
        let answered = answered?;
        room.keeps(answered.body.len());
        Ok(answered)
    }
}
