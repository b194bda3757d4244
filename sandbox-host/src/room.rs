//! Room within the host's bytes for what a body becomes beside itself: expanded, decoded.

use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::openai::tree_bytes;

use crate::budget::Held;
use crate::document::Document;
use crate::owned;
use crate::sandbox::Payload;

/// The refusal of what the host has no room for.
pub(crate) fn no_room(what: &str) -> Denial {
    let cause = format!("no room for {what} within the host's bytes");
    Denial::new(Reason::Overloaded, cause)
}

/// Takes room for what a compressed body may become, beside it. Bytes that it may become; none if it is not compressed.
pub(crate) fn hold_expanded(
    held: &mut Held,
    plan: &BodyPlan,
    wire_bytes: usize,
) -> Result<usize, Denial> {
    let Some(expansion) = plan.expansion else {
        return Ok(0);
    };
    let most = expansion.most(wire_bytes);
    if held.resize(wire_bytes.saturating_add(most)) {
        Ok(most)
    } else {
        Err(no_room("the expanded body"))
    }
}

/// Takes room for what a body is read into, beside it: the tree of a document without tensors, and what is written from that; otherwise as much again as the
/// body, since tensors are copied out of it. Typed contents and numbers as text may grow beyond that, by a bound of the reader's.
pub(crate) fn hold_read(held: &mut Held, plan: &BodyPlan, body: &[u8]) -> Result<(), Denial> {
    let read_bytes = match plan.format {
        BodyFormat::OpenAi(_) => tree_bytes(body),
        _ => body.len(),
    };
    let both = body.len().saturating_add(read_bytes);
    if held.resize(held.bytes().max(both)) {
        Ok(())
    } else {
        Err(no_room("what the body is read into"))
    }
}

/// Takes room for what a body became, beside the body: typed contents and JSON grow when they are decoded, a document is written anew. A raw
/// payload is the body itself.
pub(crate) fn hold_decoded(
    held: &mut Held,
    wire_bytes: usize,
    payload: &Payload,
    document: Option<&Document>,
) -> Result<(), Denial> {
    let decoded_bytes = match (payload, document) {
        (_, Some(document)) => document.json.len(),
        (Payload::Tensors(tensors), None) => owned::data_bytes(tensors),
        (Payload::Raw { .. }, None) => 0,
    };
    if held.resize(wire_bytes.saturating_add(decoded_bytes)) {
        Ok(())
    } else {
        Err(no_room("the decoded tensors"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use bytes::Bytes;
    use tensorgate_policy::decision::Expansion;
    use tensorgate_policy::request::{Api, Coding};

    #[test]
    fn a_compressed_body_is_held_together_with_what_it_may_become() {
        for (total, max_bytes, expected) in [
            (110, 1_000, Some(110)),
            (109, 1_000, None),
            (40, 30, Some(40)),
        ] {
            let plan = BodyPlan {
                max_bytes: 1_000,
                hold_bytes: 1_000,
                format: BodyFormat::OipJson,
                expansion: Some(Expansion {
                    coding: Coding::Gzip,
                    max_bytes,
                    max_ratio: 10,
                }),
            };
            let mut held = Budget::new(total).hold();
            let held_bytes = hold_expanded(&mut held, &plan, 10).map(|_| held.bytes());
            assert_eq!(held_bytes.ok(), expected, "{total}");
        }
    }

    #[test]
    fn a_body_is_held_together_with_what_it_is_read_into() {
        let body = br#"{"model":"m","messages":[1,2,3]}"#;
        let plan = |format| BodyPlan {
            max_bytes: 1_000,
            hold_bytes: 1_000,
            format,
            expansion: None,
        };
        let most = body.len().saturating_add(tree_bytes(body));
        for (total, format, expected) in [
            (most, BodyFormat::OpenAi(Api::Chat), Some(most)),
            (most.saturating_sub(1), BodyFormat::OpenAi(Api::Chat), None),
            (
                2 * body.len(),
                BodyFormat::OipGrpcInfer,
                Some(2 * body.len()),
            ),
            (2 * body.len() - 1, BodyFormat::OipGrpcInfer, None),
        ] {
            let mut held = Budget::new(total).hold();
            let held_bytes = hold_read(&mut held, &plan(format), body).map(|()| held.bytes());
            assert_eq!(held_bytes.ok(), expected, "{total}");
        }
        let document = Document {
            api: Api::Chat,
            json: Bytes::from_static(b"{}"),
            choices: 1,
            generated: 1,
            max_tokens: None,
            likely: None,
            stream: false,
            include_usage: false,
            claims: http::HeaderMap::new(),
        };
        let mut held = Budget::new(12).hold();
        let payload = Payload::Tensors(vec![]);
        let became = hold_decoded(&mut held, 10, &payload, Some(&document));
        assert_eq!(became.map(|()| held.bytes()), Ok(12));
    }

    #[test]
    fn a_body_is_held_together_with_what_it_became() {
        let tensors = || {
            Payload::Tensors(vec![tensorgate_policy::Tensor {
                name: "x".into(),
                datatype: "INT64".into(),
                shape: vec![4],
                parameters: vec![],
                data: Ok(vec![0; 32].into()),
            }])
        };
        let raw = || Payload::Raw {
            content_type: "image/png".into(),
            data: Bytes::from_static(&[0; 10]),
        };
        for (total, payload, expected) in [
            (42, tensors(), Some(42)),
            (41, tensors(), None),
            (10, raw(), Some(10)),
        ] {
            let budget = Budget::new(total);
            let mut held = budget.hold();
            let held_bytes = hold_decoded(&mut held, 10, &payload, None).map(|()| held.bytes());
            assert_eq!(held_bytes.as_ref().ok(), expected.as_ref(), "{total}");
            if let Err(denial) = held_bytes {
                assert_eq!(denial.reason, Reason::Overloaded);
            }
        }
    }
}
