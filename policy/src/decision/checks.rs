//! The single checks of a [`super::Decision`], each with its reason: readable head, known caller,
//! accepted type, grant. They keep no state.

use alloc::format;
use alloc::string::String;

use tensorgate_values::Health;

use crate::contract::quote;
use crate::decision::{BodyFormat, Expansion};
use crate::denial::{Denial, OverloadCause, Reason};
use crate::policy::{Accepts, Client, ClientId, GrantId, ModelId, Policy};
use crate::request::RequestHash;
use crate::request::{
    Coding, ContentType, Encoding, FORM, Head, Identity, OCTET_STREAM, Operation, Operations,
    Proofs, Protocol, Requires, Route, ServerQuery,
};

/// Whether the head is within its limits and unambiguous.
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
            "{} header fields were sent, {} are allowed",
            head.header_count, limits.headers
        );
        return Err(Denial::new(Reason::HeaderTooLarge, cause));
    }
    match head.ambiguous {
        Some(cause) => Err(Denial::new(Reason::AmbiguousRequest, cause)),
        None => Ok(()),
    }
}

/// The caller. `None` is allowed for public health requests only, with any credential. All other
/// requests of unknown callers get the same response, so callers cannot probe for routes.
pub(super) fn client(policy: &Policy, head: &Head<'_>) -> Result<Option<ClientId>, Denial> {
    let (reason, cause) = match &head.identity {
        Identity::Client(name) => match policy.client_id(name) {
            Some(client) => return Ok(Some(client)),
            None => (Reason::Unauthenticated, "the client is not in the policy"),
        },
        Identity::Missing => (Reason::Unauthenticated, "no credential"),
        Identity::Refused(cause) => (Reason::Unauthenticated, *cause),
        Identity::LockedOut(cause) => (Reason::LockedOut, *cause),
        // This is an internal failure: after a 401 the caller would discard a valid credential.
        Identity::Unverifiable(cause) => (Reason::Overloaded, *cause),
        Identity::Conflicting(cause) => return Err(Denial::new(Reason::AmbiguousRequest, *cause)),
    };
    let public = policy.listen().health() == Health::Public
        && matches!(
            head.route,
            Route::Server {
                question: ServerQuery::Live | ServerQuery::Ready | ServerQuery::Health,
                ..
            }
        );
    if public {
        Ok(None)
    } else {
        let denial = Denial::new(reason, cause);
        // Of these reasons, only that of an unverifiable identity is an overload.
        Err(denial.overloaded_by(OverloadCause::Issuer))
    }
}

/// The denial of a path that is no route. A query on an inference's path is named, because the
/// caller may not know that a library adds it.
pub(super) fn no_route(head: &Head<'_>) -> Denial {
    let text = match head.query {
        None => {
            let cause = "no route has this method and path";
            return Denial::new(Reason::NotAnInferenceRoute, cause);
        }
        Some("") => String::from("an inference takes no query"),
        Some(name) => format!("an inference takes no query: leave out {}", quote(name)),
    };
    Denial::with_field(Reason::NotAnInferenceRoute, text.clone(), text)
}

/// Whether the declared type fits the route; `operation` is `None` on server routes. A REST request
/// without a body may declare any valid media type.
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
            if may_be_tensors(Protocol::OipRest, declared) =>
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
    let types = types(policy, protocol, operation);
    let mut cause = format!("{declared} is not accepted on this route, which takes {types}");
    let is_other = matches!(
        head.content_type,
        ContentType::Form(_) | ContentType::Other(_)
    );
    if is_other && operation.is_some_and(Operation::infers) {
        cause.push_str(OTHER_TYPES);
    }
    Err(Denial::with_field(
        Reason::UnsupportedMediaType,
        format!("this route takes {types}"),
        cause,
    ))
}

/// What the log adds about a form or another type that no model of the route takes.
const OTHER_TYPES: &str =
    "; a handler can take other types as raw bodies (`accepts`): see docs/how-to/own-json.md";

/// The content types that a route accepts. Callers see them: they do not depend on grants.
fn types(policy: &Policy, protocol: Protocol, operation: Option<Operation>) -> String {
    let (tensors, takes_files) = match (protocol, operation) {
        (Protocol::OipGrpc | Protocol::TfGrpc | Protocol::TorchGrpc, _) => {
            ("application/grpc", false)
        }
        (Protocol::TfRest | Protocol::Json | Protocol::OpenAi, Some(Operation::Infer)) => {
            ("application/json", false)
        }
        (Protocol::OipRest, Some(Operation::Infer)) => {
            ("application/json, application/octet-stream", true)
        }
        (Protocol::TorchRest, Some(Operation::Infer)) => {
            ("application/json, multipart/form-data", true)
        }
        (
            Protocol::OipRest
            | Protocol::TfRest
            | Protocol::OpenAi
            | Protocol::TorchRest
            | Protocol::Json,
            _,
        ) => ("any valid type", false),
    };
    if takes_files && !policy.raw_types.is_empty() {
        format!("{tensors}, or what a model that takes files accepts")
    } else {
        tensors.into()
    }
}

/// Whether any model accepts the declared coding; `operation` is `None` on server routes. [`coded`]
/// checks the requested model later.
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

/// Whether a model accepts bodies with this compression.
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

/// The denial of a content coding, which lists the supported codings (RFC 9110, 15.5.16).
fn other_coding(cause: impl Into<String>, read: impl Iterator<Item = Coding>) -> Denial {
    Denial {
        codings: Some(read.collect()),
        ..Denial::new(Reason::UnsupportedEncoding, cause)
    }
}

/// Whether a declared type may be that of tensors: JSON, plain bytes or none. Some clients of the
/// binary data extension declare plain bytes, and Triton's asynchronous client the same type for
/// everything. Servers ignore the type: the length of the JSON part determines the format.
pub(super) fn may_be_tensors(protocol: Protocol, declared: &ContentType<'_>) -> bool {
    match declared {
        ContentType::Absent | ContentType::Json => true,
        ContentType::Other(name) => protocol == Protocol::OipRest && name == OCTET_STREAM,
        ContentType::Grpc | ContentType::Form(_) | ContentType::Malformed => false,
    }
}

/// Format of a REST body with tensors. Only OIP has a binary data extension, which [`binary_data`]
/// has checked.
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
            "more JSON is declared than fits into memory",
        )),
    }
}

/// The binary data extension is for REST inference only. On other routes its header field is
/// rejected, because the backend might still read it.
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

/// Rejects the binary data extension on other routes.
pub(super) fn no_binary_data(head: &Head<'_>) -> Result<(), Denial> {
    if head.json_length.is_some() {
        return Err(Denial::new(
            Reason::UnsupportedEncoding,
            "binary data is declared on a route that takes no tensors",
        ));
    }
    Ok(())
}

/// Whether the caller has provided the proofs that a model requires.
pub(super) fn proven(policy: &Policy, model: ModelId, proofs: Proofs) -> Result<(), Denial> {
    let met = |requires: Requires| requires.met_by(proofs);
    match policy.model(model) {
        Some(model) if model.requires().is_none_or(met) => Ok(()),
        Some(model) => {
            let cause = format!(
                "model {} requires another kind of credential",
                quote(model.name())
            );
            Err(Denial::new(Reason::NotGranted, cause))
        }
        None => Err(super::foreign_policy()),
    }
}

/// A token may allow less than its client's grants (RFC 6750, 3.1: `insufficient_scope`).
pub(super) fn in_scope(withheld: Operations, operation: Operation) -> Result<(), Denial> {
    if withheld.contains(operation) {
        let cause = format!("the token lacks the scope for {}", operation.name());
        return Err(Denial::new(Reason::NotGranted, cause));
    }
    Ok(())
}

/// Result of a grant lookup.
pub(super) struct Granted {
    pub(super) model: ModelId,
    pub(super) version: u32,
    pub(super) grant: GrantId,
}

/// The single grant of a request. Every denial has the same reason, including an unknown model.
pub(super) fn grant(
    policy: &Policy,
    client: ClientId,
    protocol: Protocol,
    operation: Operation,
    (name, version): (&str, Option<&str>),
    request_hash: RequestHash,
) -> Result<Granted, Denial> {
    let refuse = |cause: String| Err(Denial::new(Reason::NotGranted, cause));
    let Some((id, model)) = policy
        .model_id(name)
        .and_then(|id| Some((id, policy.model(id)?)))
    else {
        return refuse(format!("model {} is not in the policy", quote(name)));
    };
    if !model.protocols().contains(&protocol) {
        // The path of a status in TF Serving's API is that of a model's card in OpenAI's.
        let is_card = (protocol, operation) == (Protocol::TfRest, Operation::Ready);
        if is_card && version.is_none() && model.protocols().contains(&Protocol::OpenAi) {
            return refuse(format!(
                "no grant for {} on model {}",
                Operation::Metadata.name(),
                quote(name)
            ));
        }
        return refuse(format!(
            "model {} may not be called by {}",
            quote(name),
            protocol.name()
        ));
    }
    let position = match (version, model.versions()) {
        (None, _) if model.routing().has_weights() => {
            let may = |permit| policy.grant_for(client, id, permit, operation).is_some();
            let caller = policy.client(client).map_or("", Client::name);
            let picked = (model.routing()).pick((request_hash, caller, name), operation, may);
            let Some(permit) = picked else {
                return refuse(format!(
                    "no version of model {} that has weight is granted for {}",
                    quote(name),
                    operation.name()
                ));
            };
            usize::try_from(permit).ok()
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

/// Whether a model accepts this kind of OpenAI request. Otherwise it counts as unknown.
pub(super) fn takes(policy: &Policy, id: ModelId, format: BodyFormat) -> Result<(), Denial> {
    let (BodyFormat::OpenAi(api), Some(model)) = (format, policy.model(id)) else {
        return Ok(());
    };
    match model.accepts() {
        Accepts::OpenAi(rules) if rules.takes(api) => Ok(()),
        Accepts::Tensors(_) | Accepts::Raw { .. } | Accepts::OpenAi(_) => {
            let cause = format!("model {} takes no {}", quote(model.name()), api.name());
            Err(Denial::new(Reason::NotGranted, cause))
        }
    }
}

/// Whether a client may perform this operation on any model. If the body names the model, other
/// clients are rejected before the body is buffered.
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

/// Whether a client may make a server-level request. The list of OpenAI models is hidden from
/// clients that may use none of them.
pub(super) fn may_ask(
    policy: &Policy,
    head: &Head<'_>,
    client: Option<ClientId>,
    question: ServerQuery,
) -> Result<(), Denial> {
    match question {
        ServerQuery::Models => {
            let operation = Operation::Metadata;
            in_scope(head.withheld, operation)?;
            reaches(policy, client, Protocol::OpenAi, operation)
        }
        ServerQuery::Live | ServerQuery::Ready | ServerQuery::Health | ServerQuery::Metadata => {
            Ok(())
        }
    }
}
