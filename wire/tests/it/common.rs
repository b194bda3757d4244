//! Shared test helpers: a separate protobuf writer, a pseudo-random source, short names for
//! decoding.

use tensorgate_policy::TensorData;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{InferRequest, Reason};
use tensorgate_policy_compiler::{raw, validate};

/// Protobuf written by hand, so that malformed messages can be written too.
#[derive(Clone, Default)]
pub struct Proto(pub Vec<u8>);

impl Proto {
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn varint(self, field: u64, value: u64) -> Self {
        self.raw(&varint(field << 3)).raw(&varint(value))
    }

    pub fn bytes(self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.raw(&varint(field << 3 | 2))
            .raw(&varint(value.len() as u64))
            .raw(value)
    }

    pub fn fixed32(self, field: u64, value: [u8; 4]) -> Self {
        self.raw(&varint(field << 3 | 5)).raw(&value)
    }

    pub fn fixed64(self, field: u64, value: [u8; 8]) -> Self {
        self.raw(&varint(field << 3 | 1)).raw(&value)
    }

    pub fn packed(self, field: u64, values: impl IntoIterator<Item = u64>) -> Self {
        let run: Vec<u8> = values.into_iter().flat_map(varint).collect();
        self.bytes(field, run)
    }

    pub fn message(self, field: u64, message: Self) -> Self {
        self.bytes(field, message.0)
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(self.0.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&self.0);
        frame
    }
}

pub fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// An `InferInputTensor` without contents.
pub fn tensor(name: &str, datatype: &str, shape: &[i64]) -> Proto {
    Proto::default()
        .bytes(1, name)
        .bytes(2, datatype)
        .packed(3, shape.iter().map(|dim| dim.cast_unsigned()))
}

/// The reason and field of a rejection.
pub fn refusal(format: BodyFormat, body: &[u8]) -> (Reason, Option<String>) {
    match tensorgate_wire::decode(format, body, &[]) {
        Ok(request) => panic!("decoded: {request:?}"),
        Err(denial) => (denial.reason, denial.field),
    }
}

pub fn accepted(format: BodyFormat, body: &[u8]) -> InferRequest<'_> {
    tensorgate_wire::decode(format, body, &[])
        .unwrap_or_else(|denial| panic!("refused: {denial:?}"))
}

/// Xorshift64*: the same numbers on every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// A JSON request with one input.
pub fn json(datatype: &str, shape: &str, data: &str) -> String {
    let input = format!(r#""name":"x","datatype":"{datatype}","shape":{shape},"data":{data}"#);
    format!(r#"{{"inputs":[{{{input}}}]}}"#)
}

/// The rules of these names and datatypes.
pub fn rules(inputs: &[(&str, &str)]) -> Vec<TensorRule> {
    let inputs = inputs.iter().map(|(name, datatype)| {
        let mut input = serde_json::json!({"name": name, "datatype": datatype, "shape": [1]});
        if *datatype == "BYTES" {
            input["max_item_bytes"] = 8.into();
        }
        input
    });
    rules_of(&inputs.collect::<Vec<_>>())
}

/// The rules of these inputs, as a policy has them.
pub fn rules_of(inputs: &[serde_json::Value]) -> Vec<TensorRule> {
    let policy = serde_json::json!({
        "version": 1,
        "clients": {"c": {"api_keys": [{"sha256": "0".repeat(64)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"], "max_in_flight": 1, "queue": 1, "timeout_ms": 1}},
        "models": {"m": {
            "backend": "b", "versions": ["1"], "protocols": ["tf-serving-rest"], "inputs": inputs,
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]
        }},
        "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer"]}],
    });
    let raw: raw::Policy = serde_json::from_value(policy).unwrap();
    let (policy, _) = validate::validate(&raw).unwrap_or_else(|faults| panic!("{faults:?}"));
    match policy
        .model(policy.model_id("m").unwrap())
        .unwrap()
        .accepts()
    {
        Accepts::Tensors(contract) => contract.inputs().to_vec(),
        Accepts::Raw { .. } | Accepts::OpenAi(_) => panic!("tensors"),
    }
}

/// Names, shapes and data.
pub type TensorList = Vec<(String, Vec<i64>, Result<Vec<u8>, DataFault>)>;

pub fn tensors_of(request: &InferRequest<'_>) -> TensorList {
    request
        .inputs
        .iter()
        .map(|input| {
            (
                input.name.to_string(),
                input.shape.clone(),
                input.data.clone().map(TensorData::into_vec),
            )
        })
        .collect()
}
