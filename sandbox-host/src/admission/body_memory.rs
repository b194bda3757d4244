//! Reserves memory for the decompressed and decoded forms of a body, within
//! `limits.buffered_bytes`.

use tensorgate_base::memory_budget::MemoryPermit;
use tensorgate_base::owned;
use tensorgate_base::payload::Payload;
use tensorgate_judge::document::Document;
use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::most_expanded;
use tensorgate_wire::openai::tree_bytes;

/// The denial of a request without memory.
pub(crate) fn out_of_memory(what: &str) -> Denial {
    let cause = format!("no memory for {what} within limits.buffered_bytes");
    Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Memory)
}

/// Reserves memory for the decompressed form of a body. Returns its maximum size, 0 if the body is
/// not compressed.
pub(crate) fn reserve_expanded(
    memory_permit: &mut MemoryPermit,
    plan: &BodyPlan,
    body: &[u8],
) -> Result<usize, Denial> {
    let Some(expansion) = plan.expansion else {
        return Ok(0);
    };
    let most = most_expanded(&expansion, body);
    if memory_permit.resize(body.len().saturating_add(most)) {
        Ok(most)
    } else {
        Err(out_of_memory("the expanded body"))
    }
}

/// Reserves memory for the parsed form of a body: the tree of a document and its encoded form, or
/// as much again as the body, or as what it `becomes`, for tensors. Typed contents and decimal
/// numbers may take more, within a limit of the parser.
pub(crate) fn reserve_parsed(
    memory_permit: &mut MemoryPermit,
    plan: &BodyPlan,
    body: &[u8],
    becomes: usize,
) -> Result<(), Denial> {
    let read_bytes = match plan.format {
        BodyFormat::OpenAi(_) => tree_bytes(body),
        _ => body.len().max(becomes),
    };
    let all = body
        .len()
        .saturating_add(becomes)
        .saturating_add(read_bytes);
    if memory_permit.resize(memory_permit.bytes().max(all)) {
        Ok(())
    } else {
        Err(out_of_memory("the decoded form of the body"))
    }
}

/// Reserves memory for the decoded form of a body: typed contents and JSON grow when decoded, and a
/// document is encoded anew. A raw payload is the body itself, and raw elements may be part of it.
pub(crate) fn reserve_decoded(
    memory_permit: &mut MemoryPermit,
    wire_bytes: usize,
    payload: &Payload,
    document: Option<&Document>,
) -> Result<(), Denial> {
    let decoded_bytes = match (payload, document) {
        (_, Some(document)) => document.json.len(),
        (Payload::Tensors(tensors), None) => {
            owned::memory_bytes(tensors).saturating_sub(owned::shared_bytes(tensors))
        }
        (Payload::Raw { .. }, None) => 0,
    };
    if memory_permit.resize(wire_bytes.saturating_add(decoded_bytes)) {
        Ok(())
    } else {
        Err(out_of_memory("the decoded tensors"))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tensorgate_base::memory_budget::Budget;
    use tensorgate_policy::Reason;
    use tensorgate_policy::contract::openai::OfferedCalls;
    use tensorgate_policy::decision::Expansion;
    use tensorgate_policy::denial::OverloadCause;
    use tensorgate_policy::request::{Api, Coding};

    use super::*;

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
                    free_bytes: 0,
                }),
            };
            let mut memory_permit = Budget::new(total).permit();
            let held_bytes = reserve_expanded(&mut memory_permit, &plan, &[0xff; 10])
                .map(|_| memory_permit.bytes());
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
        let (chat, infer) = (BodyFormat::OpenAi(Api::Chat), BodyFormat::OipGrpcInfer);
        let twice = 2 * body.len();
        for (total, format, becomes, expected) in [
            (most, chat, 0, Some(most)),
            (most.saturating_sub(1), chat, 0, None),
            (twice, infer, 0, Some(twice)),
            (twice - 1, infer, 0, None),
            // What is expanded is copied out of it.
            (1_000, infer, 400, Some(800 + body.len())),
        ] {
            let mut memory_permit = Budget::new(total).permit();
            let held_bytes = reserve_parsed(&mut memory_permit, &plan(format), body, becomes)
                .map(|()| memory_permit.bytes());
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
            answer_links: None,
            offered_calls: OfferedCalls::Any,
            escaped: false,
        };
        let mut memory_permit = Budget::new(12).permit();
        let payload = Payload::Tensors(vec![]);
        let became = reserve_decoded(&mut memory_permit, 10, &payload, Some(&document));
        assert_eq!(became.map(|()| memory_permit.bytes()), Ok(12));
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
            let mut memory_permit = budget.permit();
            let held_bytes = reserve_decoded(&mut memory_permit, 10, &payload, None)
                .map(|()| memory_permit.bytes());
            assert_eq!(held_bytes.as_ref().ok(), expected.as_ref(), "{total}");
            if let Err(denial) = held_bytes {
                assert_eq!(denial.reason, Reason::Overloaded);
                assert_eq!(denial.overload, Some(OverloadCause::Memory));
            }
        }
    }
}
