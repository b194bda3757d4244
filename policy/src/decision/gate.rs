//! The single questions that a [`super::Decision`] asks, each with its reason: is the head readable, who calls, is the type
//! accepted, is there a grant. None of them keeps state.

use alloc::format;
use alloc::string::String;

use crate::contract::quote;
use crate::decision::{BodyFormat, Expansion};
use crate::denial::{Denial, Reason};
use crate::draw::Draw;
use crate::policy::{Accepts, Client, ClientId, GrantId, ModelId, Policy};
use crate::raw::Health;
use crate::request::{
    Coding, ContentType, Encoding, FORM, Head, Identity, OCTET_STREAM, Operation, Operations,
    Proofs, Protocol, Requires, Route, ServerQuestion,
};

/// Whether the head is within its bounds and can be read in one way only.
pub(super) fn readable(policy: &Policy, head: &Head<'_>) -> Result<(), Denial> {
    let limits = policy.listen().limits();
    if head.header_bytes > limits.header_bytes {
        let cause = format!(
            "headers take {} bytes, {} are allowed",
            head.header_bytes, limits.header_bytes
        );
        return Err(Denial::new(Reason::HeaderTooLarge, cause));
    }
    if head.header_count > limits.headers {
        let cause = format!(
            "{} header fields came, {} are allowed",
            head.header_count, limits.headers
        );
        return Err(Denial::new(Reason::HeaderTooLarge, cause));
    }
    match head.ambiguous {
        Some(cause) => Err(Denial::new(Reason::AmbiguousRequest, cause)),
        None => Ok(()),
    }
}

/// Who calls. `None` passes on public health questions only: anybody may ask those, whatever credential comes along.
/// Everywhere else an unknown caller gets one answer, so that it learns nothing of which routes exist.
pub(super) fn client(policy: &Policy, head: &Head<'_>) -> Result<Option<ClientId>, Denial> {
    let (reason, cause) = match &head.identity {
        Identity::Client(name) => match policy.client_id(name) {
            Some(client) => return Ok(Some(client)),
            None => (Reason::Unauthenticated, "the client is not in the policy"),
        },
        Identity::Missing => (Reason::Unauthenticated, "no credential"),
        Identity::Refused(cause) => (Reason::Unauthenticated, *cause),
        Identity::LockedOut(cause) => (Reason::LockedOut, *cause),
        // Ours to mend: a caller that is told 401 would throw a good credential away.
        Identity::Unjudged(cause) => (Reason::Overloaded, *cause),
        Identity::Conflicting(cause) => return Err(Denial::new(Reason::AmbiguousRequest, *cause)),
    };
    let public = policy.listen().health() == Health::Public
        && matches!(
            head.route,
            Route::Server {
                question: ServerQuestion::Live | ServerQuestion::Ready | ServerQuestion::Health,
                ..
            }
        );
    if public {
        Ok(None)
    } else {
        Err(Denial::new(reason, cause))
    }
}

/// Whether the declared type fits the route, as far as the route alone can tell: `operation` is `None` on server routes.
/// A REST request that carries no body may declare any type, but not one that is no media type at all.
pub(super) fn media_type(
    policy: &Policy,
    head: &Head<'_>,
    protocol: Protocol,
    operation: Option<Operation>,
) -> Result<(), Denial> {
    let accepted = match (protocol, operation, &head.content_type) {
        (_, _, ContentType::Malformed) => false,
        (Protocol::OipGrpc | Protocol::TfGrpc | Protocol::TorchGrpc, _, declared) => {
            *declared == ContentType::Grpc
        }
        (Protocol::TfRest | Protocol::Json, Some(Operation::Infer), declared) => {
            matches!(declared, ContentType::Absent | ContentType::Json)
        }
        (Protocol::OipRest, Some(Operation::Infer), declared)
            if says_tensors(Protocol::OipRest, declared) =>
        {
            true
        }
        (Protocol::TorchRest, Some(Operation::Infer), ContentType::Form(_)) => true,
        (Protocol::OipRest | Protocol::TorchRest, Some(Operation::Infer), declared) => {
            match (declared, declared.name()) {
                (ContentType::Absent | ContentType::Json, _) => true,
                (_, Some(name)) => policy.raw_types.contains(name),
                _ => false,
            }
        }
        (Protocol::OpenAi, Some(Operation::Infer), declared) => *declared == ContentType::Json,
        (
            Protocol::OipRest
            | Protocol::TfRest
            | Protocol::OpenAi
            | Protocol::TorchRest
            | Protocol::Json,
            _,
            _,
        ) => true,
    };
    if accepted {
        return Ok(());
    }
    let declared: String = match &head.content_type {
        ContentType::Absent => "no content type".into(),
        ContentType::Json => "application/json".into(),
        ContentType::Grpc => "application/grpc".into(),
        ContentType::Form(_) => FORM.into(),
        ContentType::Other(declared) => quote(declared),
        ContentType::Malformed => "a malformed content type".into(),
    };
    Err(Denial::new(
        Reason::UnsupportedMediaType,
        format!("{declared} is not accepted on this route"),
    ))
}

/// Whether the declared coding is one that some model takes, as far as the route alone can tell: `operation` is `None` on server routes. Whether
/// the model that is asked takes it is [`coded`]'s to say, once that is known.
pub(super) fn encoding(
    policy: &Policy,
    head: &Head<'_>,
    operation: Option<Operation>,
) -> Result<(), Denial> {
    let some_model = |coding: &Coding| policy.codings.contains(*coding);
    let infers = operation.is_some_and(Operation::infers);
    let cause = match (head.encoding, infers) {
        (Encoding::Identity, _) => return Ok(()),
        (Encoding::Coded(coding), true) => {
            if some_model(&coding) {
                return Ok(());
            }
            "no model takes compressed bodies of this coding"
        }
        (Encoding::Coded(_), false) => "a compressed body is declared where none is read",
        (Encoding::Unknown, _) => "another content coding than gzip or deflate is declared",
    };
    let read = Coding::ALL.into_iter().filter(|_| infers);
    Err(other_coding(cause, read.filter(some_model)))
}

/// Whether a model takes bodies that are compressed so.
pub(super) fn coded(
    policy: &Policy,
    model: ModelId,
    expansion: Option<Expansion>,
) -> Result<(), Denial> {
    let Some(Expansion { coding, .. }) = expansion else {
        return Ok(());
    };
    match policy.model(model) {
        Some(model) if model.takes(coding) => Ok(()),
        model => {
            let cause = format!("the model takes no {} bodies", coding.name());
            let takes = |coding: &Coding| model.is_some_and(|model| model.takes(*coding));
            Err(other_coding(cause, Coding::ALL.into_iter().filter(takes)))
        }
    }
}

/// The refusal of a content coding, which says what would be read (RFC 9110, 15.5.16).
fn other_coding(cause: impl Into<String>, read: impl Iterator<Item = Coding>) -> Denial {
    Denial {
        codings: Some(read.collect()),
        ..Denial::new(Reason::UnsupportedEncoding, cause)
    }
}

/// Whether a declared type can be that of tensors: JSON's, that of plain bytes, or none. Some clients of the binary data extension declare
/// plain bytes, Triton's asynchronous one whatever it sends, and servers look at none of them: the length of the JSON part says what a body is.
pub(super) fn says_tensors(protocol: Protocol, declared: &ContentType<'_>) -> bool {
    match declared {
        ContentType::Absent | ContentType::Json => true,
        ContentType::Other(name) => protocol == Protocol::OipRest && name == OCTET_STREAM,
        ContentType::Grpc | ContentType::Form(_) | ContentType::Malformed => false,
    }
}

/// How a body of tensors over REST is read. Only OIP has a binary data extension, as [`binary_data`] has seen to.
pub(super) fn tensor_format(
    protocol: Protocol,
    json_length: Option<u64>,
) -> Result<BodyFormat, Denial> {
    match json_length.map(usize::try_from) {
        None if protocol == Protocol::TfRest => Ok(BodyFormat::TfJson),
        None if protocol == Protocol::TorchRest => Ok(BodyFormat::TorchJson),
        None if protocol == Protocol::Json => Ok(BodyFormat::Template),
        None => Ok(BodyFormat::OipJson),
        Some(Ok(json_bytes)) => Ok(BodyFormat::OipBinary { json_bytes }),
        Some(Err(_)) => Err(Denial::new(
            Reason::BodyTooLarge,
            "more JSON is declared than memory has bytes",
        )),
    }
}

/// The binary data extension belongs to inference over REST; elsewhere nothing reads its header field, and what stands behind
/// might.
pub(super) fn binary_data(
    head: &Head<'_>,
    protocol: Protocol,
    operation: Operation,
) -> Result<(), Denial> {
    match (protocol, operation) {
        (Protocol::OipRest, Operation::Infer) => Ok(()),
        _ => no_binary_data(head),
    }
}

/// Refuses the binary data extension where there is none.
pub(super) fn no_binary_data(head: &Head<'_>) -> Result<(), Denial> {
    if head.json_length.is_some() {
        return Err(Denial::new(
            Reason::UnsupportedEncoding,
            "binary data is declared on a route that takes no tensors",
        ));
    }
    Ok(())
}

/// Whether a caller has proven who it is in the ways that a model asks for.
pub(super) fn proven(policy: &Policy, model: ModelId, proofs: Proofs) -> Result<(), Denial> {
    let met = |requires: Requires| requires.met_by(proofs);
    match policy.model(model) {
        Some(model) if model.requires().is_none_or(met) => Ok(()),
        Some(model) => {
            let cause = format!(
                "model {} asks for other proofs than came",
                quote(model.name())
            );
            Err(Denial::new(Reason::NotGranted, cause))
        }
        None => Err(super::foreign_policy()),
    }
}

/// A token may extend to less than its client's grants (RFC 6750, 3.1: `insufficient_scope`).
pub(super) fn in_scope(withheld: Operations, operation: Operation) -> Result<(), Denial> {
    if withheld.contains(operation) {
        let cause = format!("the token lacks the scope for {}", operation.name());
        return Err(Denial::new(Reason::NotGranted, cause));
    }
    Ok(())
}

/// What a grant came to.
pub(super) struct Granted {
    pub(super) model: ModelId,
    pub(super) version: u32,
    pub(super) grant: GrantId,
}

/// The one grant for a request. Every refusal gives the caller the same reason, a model that does not exist included.
pub(super) fn grant(
    policy: &Policy,
    client: ClientId,
    protocol: Protocol,
    operation: Operation,
    (name, version): (&str, Option<&str>),
    draw: Draw,
) -> Result<Granted, Denial> {
    let refuse = |cause: String| Err(Denial::new(Reason::NotGranted, cause));
    let Some((id, model)) = policy
        .model_id(name)
        .and_then(|id| Some((id, policy.model(id)?)))
    else {
        return refuse(format!("model {} is not in the policy", quote(name)));
    };
    if !model.protocols().contains(&protocol) {
        return refuse(format!(
            "model {} may not be called by {}",
            quote(name),
            protocol.name()
        ));
    }
    let position = match (version, model.versions()) {
        (None, _) if model.routing().has_weights() => {
            let may = |place| policy.grant_for(client, id, place, operation).is_some();
            let caller = policy.client(client).map_or("", Client::name);
            let picked = (model.routing()).pick((draw, caller, name), operation, may);
            let Some(place) = picked else {
                return refuse(format!(
                    "no version of model {} that has weight is granted for {}",
                    quote(name),
                    operation.name()
                ));
            };
            usize::try_from(place).ok()
        }
        (None, [_]) => Some(0),
        (None, _) => {
            return refuse(format!(
                "no version is named and model {} has several",
                quote(name)
            ));
        }
        (Some(version), versions) => versions.iter().position(|listed| listed == version),
    };
    let Some(index) = position.and_then(|position| u32::try_from(position).ok()) else {
        return refuse(format!(
            "version {} of model {} is not in the policy",
            quote(version.unwrap_or("")),
            quote(name)
        ));
    };
    match policy.grant_for(client, id, index, operation) {
        Some(grant) => Ok(Granted {
            model: id,
            version: index,
            grant,
        }),
        None => refuse(format!(
            "no grant for {} on model {}",
            operation.name(),
            quote(name)
        )),
    }
}

/// Whether a model takes what a body of OpenAI's API asks for. One that does not is no more than one that is not there.
pub(super) fn takes(policy: &Policy, id: ModelId, format: BodyFormat) -> Result<(), Denial> {
    let (BodyFormat::OpenAi(api), Some(model)) = (format, policy.model(id)) else {
        return Ok(());
    };
    match model.accepts() {
        Accepts::OpenAi(rules) if rules.takes(api) => Ok(()),
        _ => {
            let cause = format!("model {} takes no {}", quote(model.name()), api.name());
            Err(Denial::new(Reason::NotGranted, cause))
        }
    }
}

/// Whether a client may do this with any model at all: where the body names the model, a client that may not is refused before a
/// byte of the body is held.
pub(super) fn reaches(
    policy: &Policy,
    client: Option<ClientId>,
    protocol: Protocol,
    operation: Operation,
) -> Result<(), Denial> {
    let reached = client.is_some_and(|client| policy.reaches(client, protocol, operation));
    if reached {
        return Ok(());
    }
    let cause = format!(
        "no grant for {} on any model over {}",
        operation.name(),
        protocol.name()
    );
    Err(Denial::new(Reason::NotGranted, cause))
}

/// Whether a client may ask a question about the server: which models of OpenAI's API there are is nothing to those who may see none of them.
pub(super) fn may_ask(
    policy: &Policy,
    head: &Head<'_>,
    client: Option<ClientId>,
    question: ServerQuestion,
) -> Result<(), Denial> {
    match question {
        ServerQuestion::Models => {
            let operation = Operation::Metadata;
            in_scope(head.withheld, operation)?;
            reaches(policy, client, Protocol::OpenAi, operation)
        }
        ServerQuestion::Live
        | ServerQuestion::Ready
        | ServerQuestion::Health
        | ServerQuestion::Metadata => Ok(()),
    }
}
