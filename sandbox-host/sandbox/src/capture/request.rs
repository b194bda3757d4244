//! Conversion between what a call reads about its request and the captured form.

use std::borrow::Cow;
use std::sync::Arc;

use tensorgate_policy::policy::Handler;
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_settings::capture::{Blob, Captured, CapturedParameter, CapturedRequest};

use crate::call_request::{CallRequest, RequestFacts};

/// Captures what a call could read. Parameters that the handler does not see are left out.
pub(super) fn captured(read: &CallRequest, rule: &Handler) -> CapturedRequest {
    let CallRequest { facts, carry } = read;
    let shown =
        (facts.parameters.iter()).filter(|parameter| rule.parameters().contains(&*parameter.name));
    let value = |value: &ParameterValue<'_>| match value {
        ParameterValue::Bool(value) => CapturedParameter::Bool(*value),
        ParameterValue::Int64(value) => CapturedParameter::Int64(*value),
        ParameterValue::Uint64(value) => CapturedParameter::Uint64(*value),
        ParameterValue::Double(value) => CapturedParameter::Double(value.to_bits()),
        ParameterValue::String(value) => CapturedParameter::Text(value.clone().into_owned()),
    };
    CapturedRequest {
        version: facts.version.clone(),
        operation: facts.operation.clone(),
        time_unix_ms: facts.time_unix_ms,
        parameters: shown
            .map(|parameter| (parameter.name.clone().into_owned(), value(&parameter.value)))
            .collect(),
        tensors: facts.tensors.clone(),
        media_type: facts.media_type.clone(),
        media_bytes: facts.media_bytes,
        carry: Blob(carry.to_vec()),
    }
}

/// Restores what a captured call could read.
pub fn call_request(call: &Captured) -> CallRequest {
    let Some(read) = &call.request else {
        return CallRequest::default();
    };
    let parameter = |(name, value): &(String, CapturedParameter)| Parameter {
        name: Cow::Owned(name.clone()),
        value: match value {
            CapturedParameter::Bool(value) => ParameterValue::Bool(*value),
            CapturedParameter::Int64(value) => ParameterValue::Int64(*value),
            CapturedParameter::Uint64(value) => ParameterValue::Uint64(*value),
            CapturedParameter::Double(bits) => ParameterValue::Double(f64::from_bits(*bits)),
            CapturedParameter::Text(text) => ParameterValue::String(Cow::Owned(text.clone())),
        },
    };
    let facts = RequestFacts {
        client: call.client.clone(),
        model: call.model.clone(),
        version: read.version.clone(),
        operation: read.operation.clone(),
        time_unix_ms: read.time_unix_ms,
        parameters: read.parameters.iter().map(parameter).collect(),
        tensors: read.tensors.clone(),
        media_type: read.media_type.clone(),
        media_bytes: read.media_bytes,
    };
    CallRequest {
        facts: Arc::new(facts),
        carry: read.carry.0.clone().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use tensorgate_policy_compiler::{raw, validate};
    use tensorgate_settings::capture::{CapturedOutcome, FORMAT, HandlerFacts, Input};

    use super::*;

    #[test]
    fn a_captured_request_is_read_again_as_it_was() {
        let parameters = vec![
            ("a".to_owned(), CapturedParameter::Bool(true)),
            ("b".to_owned(), CapturedParameter::Int64(-1)),
            ("c".to_owned(), CapturedParameter::Uint64(u64::MAX)),
            ("d".to_owned(), CapturedParameter::Double(1.5_f64.to_bits())),
            ("e".to_owned(), CapturedParameter::Text("x".to_owned())),
        ];
        let call = Captured {
            format: FORMAT,
            engine: String::new(),
            at_unix_ms: 0,
            request_id: String::new(),
            client: "scorer".to_owned(),
            model: "digits".to_owned(),
            handler: HandlerFacts::default(),
            request: Some(CapturedRequest {
                version: "2".to_owned(),
                operation: "infer".to_owned(),
                time_unix_ms: 7,
                parameters,
                tensors: vec![("x".to_owned(), vec![1, 2])],
                media_type: None,
                media_bytes: 8,
                carry: Blob(vec![1, 2, 3]),
            }),
            input: Input::Tensors(Vec::new()),
            resources: Vec::new(),
            wasi: None,
            outcome: CapturedOutcome::default(),
            broke: false,
        };
        let restored = call_request(&call);
        assert_eq!(restored.facts.client, "scorer");
        assert_eq!(restored.facts.model, "digits");
        let handler = raw::Handler {
            component: Some("h.wasm".to_owned()),
            sha256: Some("ab".repeat(32)),
            parameters: ["a", "b", "c", "d", "e"].map(str::to_owned).into(),
            ..raw::Handler::default()
        };
        let raw = raw::Policy {
            version: Some(1),
            handlers: [("h".to_owned(), handler)].into(),
            ..raw::Policy::default()
        };
        let (policy, _) = validate::validate(&raw).unwrap();
        let again = captured(&restored, &policy.handlers()["h"]);
        assert_eq!(Some(again), call.request);
    }
}
