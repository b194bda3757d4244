//! The answers of a stream of inferences, message by message.

use prost::Message;
use tensorgate_client::Reply;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;
use tensorgate_wire::proto::ModelInferResponse;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;

use crate::verdict::received;

/// `ModelStreamInferResponse`.
#[derive(Clone, PartialEq, Message)]
pub struct Streamed {
    /// Why there is no answer; empty if there is one.
    #[prost(string, tag = "1")]
    pub error_message: String,
    /// The answer.
    #[prost(message, optional, tag = "2")]
    pub infer_response: Option<ModelInferResponse>,
}

impl Streamed {
    /// The rejection reason; `None` for an answer.
    pub fn reason(&self) -> Option<String> {
        if self.error_message.is_empty() {
            return None;
        }
        let parameters = &self.infer_response.as_ref()?.parameters;
        match &parameters.get("tensorgate_reason")?.parameter_choice {
            Some(ParameterChoice::StringParam(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// `ok`, or the rejection reason.
    pub fn outcome(&self) -> String {
        match self.error_message.is_empty() {
            true => "ok".to_owned(),
            false => self.reason().unwrap_or_else(|| "no reason".to_owned()),
        }
    }
}

/// The messages in the body of a reply, which may be incomplete.
pub fn messages(mut body: &[u8]) -> Result<Vec<Streamed>, String> {
    let mut messages = Vec::new();
    while let Some((header, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return Ok(messages);
        };
        let message = Streamed::decode(message).map_err(|error| error.to_string())?;
        messages.push(message);
        body = rest;
    }
    Ok(messages)
}

/// The first rejection among a stream's answers, in the form that a single request would get.
pub fn refusal(reply: &Reply) -> Result<Option<Reply>, String> {
    let refused = messages(&reply.body)?
        .into_iter()
        .find(|message| !message.error_message.is_empty());
    let Some(refused) = refused else {
        return Ok(None);
    };
    let name = refused.reason().unwrap_or_default();
    let reason = Reason::from_name(&name).ok_or_else(|| format!("{refused:?} has no reason"))?;
    let mut reply = received(&Answer::to_denial(
        &Denial::new(reason, ""),
        Protocol::OipGrpc,
        "",
    ));
    for (name, value) in &mut reply.headers {
        if name == b"grpc-message" {
            *value = refused.error_message.clone().into_bytes();
        }
    }
    Ok(Some(reply))
}
