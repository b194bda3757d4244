//! The vectors load, and every decision that a gate can make has one.

use std::collections::BTreeSet;

use crate::{Driver, Expect, Lowered, load};
use tensorgate_policy::{Protocol, Reason};

/// Reasons that no request alone can cause: failures of the gate and of what is behind it, and
/// blocks of clients.
const NOT_BY_A_REQUEST: [Reason; 12] = [
    // Only Envoy rejects for it.
    Reason::HttpVersion,
    Reason::Overloaded,
    Reason::Blocked,
    Reason::HandlerRejected,
    Reason::HandlerFault,
    Reason::BackendTooLong,
    Reason::BackendRejected,
    Reason::BackendUnknownModel,
    Reason::BackendBusy,
    Reason::BackendUnavailable,
    Reason::BackendTimeout,
    Reason::BackendFault,
];

/// Reasons that cannot occur in one protocol.
const NOT_IN_THIS_PROTOCOL: [(Reason, Protocol); 24] = [
    // A protobuf message nests as deep as its schema; anything else is an unknown field.
    (Reason::TooDeep, Protocol::OipGrpc),
    (Reason::TooDeep, Protocol::TfGrpc),
    // Its JSON has no outputs, no repeated tensors except as repeated keys, and no shape except its
    // lists.
    (Reason::OutputNotAllowed, Protocol::TfRest),
    (Reason::DuplicateInput, Protocol::TfRest),
    (Reason::SizeMismatch, Protocol::TfRest),
    // It has no parameters and no outputs, and only lists express a shape.
    (Reason::Parameter, Protocol::TorchRest),
    (Reason::Parameter, Protocol::TorchGrpc),
    (Reason::OutputNotAllowed, Protocol::TorchRest),
    (Reason::OutputNotAllowed, Protocol::TorchGrpc),
    (Reason::SizeMismatch, Protocol::TorchRest),
    (Reason::SizeMismatch, Protocol::TorchGrpc),
    // A template has no parameters, outputs or names of inputs: an unknown member is malformed. And
    // its route is the model's own, which is no route for another method or for a client without a
    // grant.
    (Reason::NotGranted, Protocol::Json),
    (Reason::MethodNotAllowed, Protocol::Json),
    (Reason::Parameter, Protocol::Json),
    (Reason::OutputNotAllowed, Protocol::Json),
    (Reason::UnknownInput, Protocol::Json),
    (Reason::DuplicateInput, Protocol::Json),
    (Reason::SizeMismatch, Protocol::Json),
    // Its routes are few, exact paths. Any other path belongs to no protocol, and so counts as
    // OIP's.
    (Reason::NotAnInferenceRoute, Protocol::OpenAi),
    // It has texts and members in place of tensors. A member that no rule names, or whose value is
    // out of bounds, is a parameter.
    (Reason::OutputNotAllowed, Protocol::OpenAi),
    (Reason::UnknownInput, Protocol::OpenAi),
    (Reason::DuplicateInput, Protocol::OpenAi),
    (Reason::SizeMismatch, Protocol::OpenAi),
    (Reason::NotFinite, Protocol::OpenAi),
];

fn vectors() -> Vec<Lowered> {
    load().unwrap_or_else(|fault| panic!("{fault}"))
}

#[test]
fn every_reason_that_a_request_can_cause_has_a_vector_in_every_protocol() {
    let seen: BTreeSet<_> = vectors()
        .iter()
        .filter(|vector| vector.runs_on(Driver::Native))
        .filter_map(|vector| match &vector.expect {
            Expect::Deny { reason, .. } => Some((*reason, vector.request.protocol)),
            Expect::Allow => None,
        })
        .collect();
    let wanted = Reason::ALL
        .into_iter()
        .filter(|reason| !NOT_BY_A_REQUEST.contains(reason))
        .flat_map(|reason| Protocol::ALL.map(|protocol| (reason, protocol)))
        .filter(|pair| !NOT_IN_THIS_PROTOCOL.contains(pair));
    let missing: Vec<_> = wanted.filter(|pair| !seen.contains(pair)).collect();
    assert!(missing.is_empty(), "no vector for {missing:?}");
    let odd: Vec<_> = seen
        .iter()
        .filter(|pair| NOT_BY_A_REQUEST.contains(&pair.0) || NOT_IN_THIS_PROTOCOL.contains(pair))
        .collect();
    assert!(
        odd.is_empty(),
        "there are vectors for {odd:?}: the lists above are out of date"
    );
}

#[test]
fn there_are_enough_vectors_and_their_names_are_distinct() {
    let vectors = vectors();
    let ids: BTreeSet<_> = vectors.iter().map(|vector| vector.id.as_str()).collect();
    assert_eq!(ids.len(), vectors.len());
    assert!(ids.len() >= 6_700, "{} requests", ids.len());
    let cases: BTreeSet<_> = ids.iter().map(|id| id.split(" [").next()).collect();
    assert!(cases.len() >= 3_000, "{} cases", cases.len());
}

#[test]
fn most_vectors_reach_a_real_proxy() {
    let vectors = vectors();
    let reach = vectors
        .iter()
        .filter(|vector| vector.runs_on(Driver::Envoy))
        .count();
    assert!(
        reach * 10 >= vectors.len() * 9,
        "{reach} of {}",
        vectors.len()
    );
}

#[test]
fn a_request_in_several_spellings_differs_in_spelling_only() {
    for vector in vectors() {
        let head = vector.request.fields();
        let pseudo: Vec<_> = head
            .iter()
            .take(4)
            .map(|(name, _)| String::from_utf8(name.clone()).unwrap())
            .collect();
        assert_eq!(
            pseudo,
            [":method", ":path", ":authority", ":scheme"],
            "{}",
            vector.id
        );
        assert_eq!(
            vector.request.pieces().concat(),
            vector.request.body,
            "{}",
            vector.id
        );
    }
}
