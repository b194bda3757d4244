//! Fuzz target: the guardrail contract. A request is compared with serde_json. An answer passes
//! exactly if Agent Router would apply all of it, and is then written as the router reads it.

use std::sync::LazyLock;

use serde_json::Value;
use tensorgate_policy::contract::guardrail::{ACTIONS, check_answer, text_characters};
use tensorgate_policy::decision::{BodyFormat, ReadBy};
use tensorgate_policy::policy::{Accepts, Model, Template};
use tensorgate_policy::tensor::{InferResponse, items};
use tensorgate_policy::values::Shared;
use tensorgate_policy::{Policy, Protocol, Tensor};
use tensorgate_wire::decode;
use tensorgate_wire::encode::{self, AnswerForm};

use crate::support::{GUARDRAIL, check_body_denial, policy};

static POLICY: LazyLock<Policy> = LazyLock::new(|| policy(GUARDRAIL));

/// Runs one input: whether it is a request or an answer, then a body, or what the answer is made
/// of.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let model = POLICY.model_id("redaction").and_then(|id| POLICY.model(id));
    let model = model.expect("a model of the policy");
    let template = model.template().expect("a guardrail has a route");
    match kind % 2 {
        0 => request(rest, model, template),
        _ => answer(rest, template),
    }
}

/// Reads a body as the gate does.
fn request(body: &[u8], model: &Model, template: &Template) {
    let Accepts::Tensors(contract) = model.accepts() else {
        panic!("a model of tensors");
    };
    let by = ReadBy {
        inputs: contract.inputs(),
        template: Some(template),
        only_checks: false,
    };
    let ours = match decode(BodyFormat::Template, body, by) {
        Ok(request) => request.inputs,
        Err(denial) => return check_body_denial(&denial),
    };
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        // A member that is skipped may have any number.
        Err(error) if error.to_string().starts_with("number out of range") => return,
        Err(error) => panic!("accepted a text that serde_json rejects: {error}"),
    };
    for (name, value) in [
        ("text", request.get("text")),
        ("stage", request.pointer("/context/stage")),
    ] {
        let tensor = ours.iter().find(|tensor| tensor.name == name);
        assert_eq!(tensor.is_some(), value.is_some(), "{name}");
        if let (Some(tensor), Some(value)) = (tensor, value)
            && let Ok(data) = &tensor.data
        {
            let text = value.as_str().expect("a text is in no list");
            let read: Vec<_> = items(data).collect();
            assert_eq!(read, [Ok(text.as_bytes())], "{name}");
            if name == "text" {
                assert_eq!(text_characters(&ours), text.chars().count());
            }
        }
    }
}

/// Makes an answer of an action, whether there is a replacement, up to eight findings and a text.
fn answer(data: &[u8], template: &Shared<Template>) {
    let [action, flags, rest @ ..] = data else {
        return;
    };
    let action = ACTIONS.get(usize::from(*action) % 4).unwrap_or(&"other");
    let count = usize::from(flags >> 4) % 9;
    let (pairs, text) = rest.split_at(rest.len().min(count * 2));
    let (pairs, _) = pairs.as_chunks::<2>();
    let text = String::from_utf8_lossy(text);
    let characters = text.chars().count();
    // Small numbers of either sign.
    let offsets = |at: usize| {
        pairs
            .iter()
            .map(move |pair| i64::from(pair[at].cast_signed()))
    };
    let mut tensors = vec![texts("action", action)];
    if flags & 1 > 0 {
        tensors.push(texts("replacement", &text));
    }
    if flags & 2 > 0 {
        tensors.extend([integers("start", offsets(0)), integers("end", offsets(1))]);
    }
    let has_findings = flags & 2 > 0 && !pairs.is_empty();
    let is_applied = flags & 2 == 0
        || offsets(0).zip(offsets(1)).all(|(start, end)| {
            let most = i64::try_from(characters).expect("a short text");
            0 <= start && start < end && end <= most
        });
    let has_change = flags & 1 > 0 || has_findings;
    let passes = *action != "other" && is_applied && (*action != "modify" || has_change);
    let checked = check_answer(characters, &tensors);
    assert_eq!(checked.is_ok(), passes, "{checked:?}: {tensors:?}");
    if !passes {
        return;
    }
    let response = InferResponse {
        outputs: tensors,
        ..InferResponse::default()
    };
    let form = AnswerForm::default().in_template(Some(template.clone()));
    let encoded = encode::infer_response(Protocol::Json, &response, &form);
    let body = encoded.expect("an answer that passes can be written").body;
    assert!(body.len() <= encode::most_bytes(Protocol::Json, &response, &form));
    let read: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(read["action"], **action);
    assert_eq!(read.get("replacement").is_some(), flags & 1 > 0);
    if flags & 1 > 0 {
        assert_eq!(read["replacement"], *text);
    }
    let findings = read
        .get("findings")
        .map(|list| list.as_array().expect("a list"));
    assert_eq!(
        findings.map(Vec::len),
        (flags & 2 > 0).then_some(pairs.len())
    );
    for (finding, (start, end)) in findings
        .into_iter()
        .flatten()
        .zip(offsets(0).zip(offsets(1)))
    {
        assert_eq!(
            (&finding["start"], &finding["end"]),
            (&Value::from(start), &Value::from(end))
        );
    }
}

fn texts(name: &'static str, text: &str) -> Tensor<'static> {
    let length = u32::try_from(text.len()).expect("a short text");
    let data = [&length.to_le_bytes()[..], text.as_bytes()].concat();
    tensor(name, "BYTES", 1, data)
}

fn integers(name: &'static str, values: impl Iterator<Item = i64>) -> Tensor<'static> {
    let data: Vec<u8> = values.flat_map(i64::to_le_bytes).collect();
    tensor(name, "INT64", data.len() / 8, data)
}

fn tensor(
    name: &'static str,
    datatype: &'static str,
    len: usize,
    data: Vec<u8>,
) -> Tensor<'static> {
    Tensor {
        name: name.into(),
        datatype: datatype.into(),
        shape: vec![i64::try_from(len).expect("a short list")],
        parameters: Vec::new(),
        data: Ok(data.into()),
    }
}
