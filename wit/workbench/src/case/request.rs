//! The request of a case: what `context` returns, and the bytes that handlers of one request carry.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tensorgate_base::payload::Payload;
use tensorgate_policy::Operation;
use tensorgate_policy::tensor::{Parameter, ParameterValue};
use tensorgate_sandbox::capture::{self, Blob, Captured};
use tensorgate_sandbox::{CallRequest, RequestFacts};
use tensorgate_settings::capture::MAX_CARRY_BYTES;

use super::files::content_beside;
use crate::project::World;

/// The request of a case as it calls the handler.
#[derive(Debug)]
pub struct CaseRequest {
    /// Its ID, if the case has one.
    pub id: Option<String>,
    /// What the handler can read about it, with the carried bytes.
    pub read: CallRequest,
    /// The time at which the handler's clocks stand, if the case has one.
    pub at: Option<SystemTime>,
    /// The seed of the handler's random numbers, if the case has one.
    pub seed: Option<[u8; 32]>,
}

/// `context` of a case.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawContext {
    request_id: Option<String>,
    client: String,
    model: String,
    version: String,
    operation: RawOperation,
    /// Unix milliseconds.
    time: Option<u64>,
    /// 32 bytes in base64.
    seed: Option<Blob>,
    parameters: BTreeMap<String, RawParameter>,
    /// By default the input of the case, if its handler runs before the model.
    input: Option<RawRequestInput>,
}

/// The operations that run a handler.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOperation {
    #[default]
    Infer,
    Stream,
}

/// The value of a parameter. A whole number is an `int64` if it fits.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a parameter is a truth value, a number, a text, or {\"uint64\": NUMBER}"
)]
enum RawParameter {
    Bool(bool),
    Int64(i64),
    LargeUint64(u64),
    Double(f64),
    Text(String),
    Typed(TypedParameter),
}

/// A value with its type. An enum, because a struct would accept a list, too.
#[derive(Deserialize)]
enum TypedParameter {
    /// A whole number of any size.
    #[serde(rename = "uint64")]
    Uint64(u64),
}

/// The input of a request.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRequestInput {
    tensors: Vec<RawShape>,
    media_type: Option<String>,
    media_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShape {
    name: String,
    shape: Vec<u64>,
}

/// `carry` of a case, in base64 or in a file beside the case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCarry {
    file: Option<String>,
    base64: Option<Blob>,
}

impl RawContext {
    /// The request of a case with this input, before whose call these bytes were carried.
    ///
    /// # Errors
    /// The seed has another size.
    pub fn request(
        self,
        world: World,
        input: &Payload,
        carry: Vec<u8>,
    ) -> Result<CaseRequest, String> {
        let seed = self.seed.map(|Blob(bytes)| {
            <[u8; 32]>::try_from(bytes)
                .map_err(|bytes| format!("context.seed has {} bytes, not 32", bytes.len()))
        });
        let input = match (self.input, world) {
            (Some(input), _) => input.facts(),
            (None, World::Preprocess) => RequestFacts::from_input(input),
            (None, World::Postprocess) => RequestFacts::default(),
        };
        let operation = match self.operation {
            RawOperation::Infer => Operation::Infer,
            RawOperation::Stream => Operation::Stream,
        };
        let parameter = |(name, value): (String, RawParameter)| Parameter {
            name: Cow::Owned(name),
            value: value.value(),
        };
        let facts = RequestFacts {
            client: self.client,
            model: self.model,
            version: self.version,
            operation: operation.name().to_owned(),
            time_unix_ms: self.time.unwrap_or_default(),
            parameters: self.parameters.into_iter().map(parameter).collect(),
            ..input
        };
        let after_1970 = |ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
        Ok(CaseRequest {
            id: self.request_id,
            read: CallRequest {
                facts: Arc::new(facts),
                carry: carry.into(),
            },
            at: self.time.and_then(after_1970),
            seed: seed.transpose()?,
        })
    }
}

impl RawParameter {
    fn value(self) -> ParameterValue<'static> {
        match self {
            Self::Bool(value) => ParameterValue::Bool(value),
            Self::Int64(value) => ParameterValue::Int64(value),
            Self::LargeUint64(value) | Self::Typed(TypedParameter::Uint64(value)) => {
                ParameterValue::Uint64(value)
            }
            Self::Double(value) => ParameterValue::Double(value),
            Self::Text(text) => ParameterValue::String(Cow::Owned(text)),
        }
    }
}

impl RawRequestInput {
    fn facts(self) -> RequestFacts {
        let tensors = self.tensors.into_iter();
        RequestFacts {
            tensors: tensors.map(|tensor| (tensor.name, tensor.shape)).collect(),
            media_type: self.media_type,
            media_bytes: self.media_bytes,
            ..RequestFacts::default()
        }
    }
}

impl RawCarry {
    /// The bytes. A file that has them is noted. The fault begins with what follows the field.
    ///
    /// # Errors
    /// There are none or too many, or the file cannot be read.
    pub fn read(&self, case: &Path, files: &mut BTreeSet<PathBuf>) -> Result<Vec<u8>, String> {
        let bytes = match (&self.file, &self.base64) {
            (Some(file), None) => content_beside(case, file, files)?,
            (None, Some(Blob(bytes))) => bytes.clone(),
            _ => return Err(": needs either `file` or `base64`".to_owned()),
        };
        if bytes.len() > MAX_CARRY_BYTES {
            let count = bytes.len();
            return Err(format!(": {count} bytes, more than {MAX_CARRY_BYTES}"));
        }
        Ok(bytes)
    }
}

/// `context` of a captured call.
///
/// # Errors
/// JSON cannot express a parameter.
pub fn captured_context(call: &Captured) -> Result<Value, String> {
    let mut context = Map::new();
    let mut add = |key: &str, value: Value| {
        context.insert(key.to_owned(), value);
    };
    add("request_id", json!(call.request_id));
    add("client", json!(call.client));
    add("model", json!(call.model));
    if let Some(wasi) = &call.wasi {
        add("time", json!(wasi.unix_ms));
        add("seed", json!(wasi.seed));
    }
    if call.request.is_some() {
        let facts = capture::call_request(call).facts;
        let parameters = facts.parameters.iter().map(|parameter| {
            let name = parameter.name.clone().into_owned();
            captured_parameter(parameter).map(|value| (name, value))
        });
        let parameters = parameters.collect::<Result<Map<String, Value>, String>>()?;
        let shape = |(name, shape): &(String, Vec<u64>)| json!({"name": name, "shape": shape});
        let tensors: Vec<Value> = facts.tensors.iter().map(shape).collect();
        add("version", json!(facts.version));
        add("operation", json!(facts.operation));
        add("time", json!(facts.time_unix_ms));
        add("parameters", Value::Object(parameters));
        add(
            "input",
            json!({
                "tensors": tensors,
                "media_type": facts.media_type,
                "media_bytes": facts.media_bytes,
            }),
        );
    }
    Ok(Value::Object(context))
}

/// The value of a parameter as a case has it.
fn captured_parameter(parameter: &Parameter<'_>) -> Result<Value, String> {
    Ok(match &parameter.value {
        ParameterValue::Bool(value) => json!(value),
        ParameterValue::Int64(value) => json!(value),
        ParameterValue::Uint64(value) if i64::try_from(*value).is_ok() => json!({"uint64": value}),
        ParameterValue::Uint64(value) => json!(value),
        ParameterValue::Double(value) if value.is_finite() => json!(value),
        ParameterValue::Double(value) => {
            let name = &parameter.name;
            return Err(format!("JSON cannot express parameter {name:?}: {value}"));
        }
        ParameterValue::String(text) => json!(text),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_sandbox::capture::{CapturedOutcome, FORMAT, HandlerFacts, Input};

    use super::*;

    fn captured(request: Value) -> Captured {
        Captured {
            format: FORMAT,
            engine: String::new(),
            at_unix_ms: 0,
            request_id: "r-7".to_owned(),
            client: "scorer".to_owned(),
            model: "vec".to_owned(),
            handler: HandlerFacts::default(),
            request: serde_json::from_value(request).unwrap(),
            input: Input::Tensors(Vec::new()),
            resources: Vec::new(),
            wasi: serde_json::from_value(json!({"unix_ms": 5, "seed": Blob(vec![7; 32])})).unwrap(),
            outcome: CapturedOutcome::default(),
            broke: false,
        }
    }

    #[test]
    fn a_captured_request_is_the_same_in_a_case() {
        let call = captured(json!({
            "version": "2", "operation": "stream", "time_unix_ms": 5,
            "parameters": [
                ["a", {"bool": true}], ["b", {"int64": -1}], ["c", {"uint64": 1}],
                ["d", {"uint64": u64::MAX}], ["e", {"double": 2.0_f64.to_bits()}], ["f", {"text": "x"}],
            ],
            "tensors": [["x", [1, 2]]], "media_type": null, "media_bytes": 8, "carry": "AQI=",
        }));
        let context = captured_context(&call).unwrap();
        // As it is written to a file and read again.
        let context: RawContext = serde_json::from_str(&context.to_string()).unwrap();
        let nothing = Payload::Tensors(Vec::new());
        let found = context
            .request(World::Postprocess, &nothing, vec![1, 2])
            .unwrap();
        let expected = capture::call_request(&call);
        assert_eq!(found.read.facts, expected.facts);
        assert_eq!(found.read.carry, expected.carry);
        assert_eq!(found.id.as_deref(), Some("r-7"));
        let five = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(5));
        assert_eq!((found.at, found.seed), (five, Some([7; 32])));
        let call = captured(json!({
            "version": "", "operation": "infer", "time_unix_ms": 0,
            "parameters": [["e", {"double": f64::NAN.to_bits()}]],
            "tensors": [], "media_type": null, "media_bytes": 0, "carry": "",
        }));
        assert_eq!(
            captured_context(&call).unwrap_err(),
            "JSON cannot express parameter \"e\": NaN"
        );
    }

    #[test]
    fn an_invalid_context_or_carry_is_refused() {
        for (text, fault) in [
            (r#"{"user": "a"}"#, "unknown field `user`"),
            (r#"{"operation": "ready"}"#, "unknown variant `ready`"),
            (r#"{"parameters": {"a": [1]}}"#, "a parameter is a truth"),
            (r#"{"input": {"shape": []}}"#, "unknown field `shape`"),
        ] {
            let found = serde_json::from_str::<RawContext>(text).err().unwrap();
            assert!(found.to_string().contains(fault), "{text}: {found}");
        }
        let short: RawContext = serde_json::from_str(r#"{"seed": "AAAA"}"#).unwrap();
        let found = short.request(World::Preprocess, &Payload::Tensors(Vec::new()), Vec::new());
        assert_eq!(found.unwrap_err(), "context.seed has 3 bytes, not 32");
        let long = Blob(vec![0; MAX_CARRY_BYTES.saturating_add(1)]);
        for (value, fault) in [
            (json!({}), ": needs either"),
            (json!({"file": "a", "base64": ""}), ": needs either"),
            (json!({"file": "../a"}), ".file: \"../a\" is not below"),
            (json!({"base64": long}), ": 65537 bytes, more than 65536"),
        ] {
            let carry: RawCarry = serde_json::from_value(value).unwrap();
            let found = carry.read(Path::new("cases/a.json"), &mut BTreeSet::new());
            let found = found.unwrap_err();
            assert!(found.starts_with(fault), "{found}");
        }
    }
}
