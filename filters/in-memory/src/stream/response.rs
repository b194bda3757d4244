//! The response side of a forwarded request.

use tensorgate_filter_core::host::Field;

use super::Stream;

impl Stream {
    /// The proxy's request id.
    pub fn request_id(&self) -> &str {
        &self.io.request_id
    }

    /// The upstream responds.
    pub fn answered_by_upstream(&mut self) {
        let details = (
            "response.code_details".to_owned(),
            "via_upstream".to_owned(),
        );
        self.io.properties.extend([details]);
    }

    /// Delivers a chunk of the response's body.
    pub fn send_answer_body(&mut self, data: &[u8]) {
        self.io.answer_body = data.to_vec();
        for hop in self.hops.iter_mut().rev().filter(|hop| hop.reached) {
            hop.gate.on_response_body(&mut self.io, data.len());
        }
    }

    /// Ends the response with trailers; returns those that the client receives.
    pub fn end_answer(&mut self, trailers: &[Field]) -> Vec<Field> {
        self.io.answer_trailers = trailers.to_vec();
        for hop in self.hops.iter_mut().rev() {
            hop.gate.on_response_trailers(&mut self.io);
        }
        self.answer_limits();
        core::mem::take(&mut self.io.answer_trailers)
    }
}
