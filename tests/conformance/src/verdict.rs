//! Compares an answer with the one that a vector expects.

use tensorgate_client::Reply;
use tensorgate_policy::{Protocol, Reason};
use tensorgate_vectors::{Expect, Lowered};
use tensorgate_wire::Answer;

use crate::streams;

/// A rejection as a client would receive it.
pub fn received(answer: &Answer) -> Reply {
    let list = |headers: &[(&'static str, String)]| {
        headers
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.clone().into_bytes()))
            .collect()
    };
    match answer {
        Answer::Rest {
            status,
            headers,
            body,
        } => Reply {
            status: *status,
            headers: list(headers),
            body: body.clone(),
            ..Reply::default()
        },
        Answer::Grpc {
            status,
            message,
            headers,
        } => {
            let mut headers: tensorgate_client::Fields = list(headers);
            headers.push((
                b"grpc-status".to_vec(),
                (*status as u8).to_string().into_bytes(),
            ));
            headers.push((b"grpc-message".to_vec(), message.clone().into_bytes()));
            Reply {
                status: 200,
                headers,
                ..Reply::default()
            }
        }
    }
}

/// Compares an answer with what is expected; the error describes the difference. A stream has the
/// verdict of its first message that is rejected.
pub fn compare(vector: &Lowered, reply: &Reply) -> Result<(), String> {
    let refusal = match vector.request.is_stream() && reply.grpc_status() == Some(0) {
        true => streams::refusal(reply)?,
        false => None,
    };
    let reply = refusal.as_ref().unwrap_or(reply);
    match &vector.expect {
        Expect::Allow => allowed(vector.request.protocol, reply),
        Expect::Deny { reason, field } => refused(*reason, field.as_deref(), reply),
    }
    .map_err(|difference| format!("{}: {difference}", vector.id))
}

/// Checks that a request was served.
pub fn allowed(protocol: Protocol, reply: &Reply) -> Result<(), String> {
    let served = reply.status == 200 && (!protocol.is_grpc() || reply.grpc_status() == Some(0));
    if served {
        Ok(())
    } else {
        Err(format!("expected allow, got {}", describe(reply)))
    }
}

/// A rejection carries its reason, and the status that belongs to it, in the caller's protocol.
pub fn refused(reason: Reason, field: Option<&str>, reply: &Reply) -> Result<(), String> {
    let reason = reason.public_reason();
    if reply.reason().as_deref() != Some(reason.name()) {
        return Err(format!("expected {reason}, got {}", describe(reply)));
    }
    let status = match reply.grpc_status() {
        Some(status) => reply.status == 200 && status == reason.grpc_status() as u8,
        None => reply.status == reason.http_status(),
    };
    if !status {
        return Err(format!(
            "the status does not belong to {reason}: {}",
            describe(reply)
        ));
    }
    match field {
        Some(field) if !text(reply).contains(field) => Err(format!(
            "the answer does not name {field}: {}",
            describe(reply)
        )),
        _ => Ok(()),
    }
}

/// The text that a caller reads.
fn text(reply: &Reply) -> String {
    if let Some(message) = reply.header("grpc-message") {
        return percent_decode(&message);
    }
    let member = |pointer| {
        reply
            .json()
            .and_then(|json| json.pointer(pointer)?.as_str().map(str::to_owned))
    };
    member("/error")
        .or_else(|| member("/error/message"))
        .or_else(|| member("/title"))
        .unwrap_or_default()
}

fn describe(reply: &Reply) -> String {
    let grpc = reply
        .grpc_status()
        .map(|status| format!(" grpc-status {status}"))
        .unwrap_or_default();
    let reason = reply.reason().unwrap_or_else(|| "no reason".into());
    format!("{}{grpc} {reason}: {}", reply.status, text(reply))
}

/// `grpc-message` decoded. A `%` that begins no escape stays as it is.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        rest = if escaped.is_some() {
            &after[2..]
        } else {
            after
        };
        bytes.push(escaped.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
