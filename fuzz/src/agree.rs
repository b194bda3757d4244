//! Fuzz target: one request in every encoding, judged by the whole gate. The verdict and the reason
//! must be the same.
//!
//! The encodings are OIP's JSON, JSON with binary data, typed contents and raw contents, TF
//! Serving's typed lists, and TF Serving's JSON where the contract gives the datatype. Shapes,
//! elements, names and datatypes are drawn both valid and invalid.

use std::cell::RefCell;
use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use prost::Message as _;
use tensorgate_in_memory_proxy::{InMemoryProxy, Request, Store};
use tensorgate_policy::{Datatype, Now, Reason};

use crate::messages::{Contents, InferRequest, Input};
use crate::support::{CONTEXT_KEY, KEYS, NOW_UNIX_S, bundle, frame};
use tensorgate_wire::tensorflow::{Dim, ModelSpec, PredictRequest, TensorProto, TensorShapeProto};

/// Elements of one input in every form.
#[derive(Default)]
struct Elements {
    json: Vec<String>,
    typed: Contents,
    raw: Vec<u8>,
}

/// A bundle with one model for each datatype. Each has an input `x` of at most 3 × 3.
static BUNDLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let digest: String = tensorgate_identity::digest(KEYS[0])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let models: Vec<String> = Datatype::ALL
        .iter()
        .map(|datatype| {
            let bound = match datatype {
                Datatype::Bytes => ", \"max_item_bytes\": 4",
                Datatype::Bool => "",
                _ => ", \"range\": [0, 100]",
            };
            let half = matches!(datatype, Datatype::Fp16 | Datatype::Bf16);
            let tf_rest = if half { "" } else { ", \"tf-serving-rest\"" };
            format!(
                r#""{datatype}": {{"backend": "b", "versions": ["1"], "protocols": ["oip-rest", "oip-grpc", "tf-serving-grpc"{tf_rest}],
                "inputs": [{{"name": "x", "datatype": "{datatype}", "shape": [{{"max": 3}}, {{"max": 3}}]{bound}}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1]}}]}}"#
            )
        })
        .collect();
    let names: Vec<String> = Datatype::ALL
        .iter()
        .map(|datatype| format!("\"{datatype}\""))
        .collect();
    bundle(&format!(
        r#"{{"version": 1, "clients": {{"c": {{"api_keys": [{{"sha256": "{digest}"}}]}}}},
        "backends": {{"b": {{"kind": "embedded", "models": "models", "max_in_flight": 1, "queue": 1, "timeout_ms": 1000}}}},
        "models": {{{}}},
        "grants": [{{"name": "g", "clients": ["c"], "models": [{}], "operations": ["infer"]}}]}}"#,
        models.join(","),
        names.join(",")
    ))
});

thread_local! {
    /// One gate for all runs. The policy has no limits, so the gate keeps no state.
    static GATE: RefCell<InMemoryProxy> = RefCell::new(
        InMemoryProxy::worker(&BUNDLE, CONTEXT_KEY, Store::default())
            .expect("the policy of this target is valid"),
    );
}

/// Runs one input.
pub fn run(data: &[u8]) {
    // Running out of input is not a finding.
    let _ = play(&mut Unstructured::new(data));
}

fn play(data: &mut Unstructured<'_>) -> Result<()> {
    let kinds: Vec<Datatype> = Datatype::ALL
        .into_iter()
        .filter(|datatype| !matches!(datatype, Datatype::Fp16 | Datatype::Bf16))
        .collect();
    let datatype = *data.choose(&kinds)?;
    // Mostly valid requests. Half floats are excluded: JSON and typed contents cannot carry them,
    // and report that before any other fault.
    let model = if data.ratio(1, 16)? {
        *data.choose(&kinds)?
    } else {
        datatype
    };
    let declared = if data.ratio(1, 16)? {
        *data.choose(&["fp32", "", "INT4", "FP16"])?
    } else {
        datatype.name()
    };
    let name = if data.ratio(1, 16)? { "z" } else { "x" };
    let mut shape = Vec::new();
    for _ in 0..data.int_in_range(0..=3_usize)? {
        shape.push(data.int_in_range(0..=4_i64)?);
    }
    let fits = shape.iter().product::<i64>();
    let count = if data.ratio(1, 16)? {
        data.int_in_range(0..=9)?
    } else {
        usize::try_from(fits).unwrap_or_default()
    };
    let elements = elements(data, datatype, count)?;
    let twice = data.ratio(1, 16)?;

    let one = format!(
        r#"{{"name":"{name}","datatype":"{declared}","shape":{shape:?},"data":[{}]}}"#,
        elements.json.join(",")
    );
    let inputs = if twice { format!("{one},{one}") } else { one };
    let json = format!(r#"{{"inputs":[{inputs}]}}"#).into_bytes();

    let size = elements.raw.len();
    let one = format!(
        r#"{{"name":"{name}","datatype":"{declared}","shape":{shape:?},"parameters":{{"binary_data_size":{size}}}}}"#
    );
    let inputs = if twice { format!("{one},{one}") } else { one };
    let head = format!(r#"{{"inputs":[{inputs}]}}"#);
    let json_bytes = head.len().to_string();
    let blobs = elements.raw.repeat(if twice { 2 } else { 1 });
    let binary = [head.as_bytes(), &blobs].concat();

    let input = |contents: Option<Contents>| Input {
        name: name.to_owned(),
        datatype: declared.to_owned(),
        shape: shape.clone(),
        contents,
        ..Input::default()
    };
    let copies = if twice { 2 } else { 1 };
    let message = |contents: Option<Contents>, raw: Vec<Vec<u8>>| {
        let message = InferRequest {
            model_name: model.name().to_owned(),
            inputs: vec![input(contents); copies],
            raw_input_contents: raw,
            ..InferRequest::default()
        };
        frame(&message.encode_to_vec())
    };
    let said = !twice && declared == datatype.name();
    let lists = said.then(|| predict_request(model, name, datatype, &shape, &elements.typed));
    let fits = usize::try_from(shape.iter().product::<i64>()) == Ok(elements.json.len());
    let columns = (said && fits && model == datatype)
        .then(|| nested(&shape, &elements.json))
        .flatten()
        .map(|value| format!(r#"{{"inputs":{{"{name}":{value}}}}}"#).into_bytes());
    let typed = message(Some(elements.typed), Vec::new());
    let raw = message(None, vec![elements.raw; copies]);

    let path = format!("/v2/models/{model}/infer");
    let by_json = verdict(&path, "application/json", &[], &json);
    let split = ("inference-header-content-length", &*json_bytes);
    let by_binary = verdict(&path, "application/octet-stream", &[split], &binary);
    let grpc = "/inference.GRPCInferenceService/ModelInfer";
    let by_typed = verdict(grpc, "application/grpc", &[], &typed);
    let by_raw = verdict(grpc, "application/grpc", &[], &raw);
    let text = String::from_utf8_lossy(&json);
    // An unknown datatype. No encoding can carry it, and each reports it.
    assert_eq!(by_json, by_typed, "JSON and typed contents: {model} {text}");
    assert_eq!(by_json, by_raw, "JSON and raw contents: {model} {text}");
    assert_eq!(by_json, by_binary, "JSON and binary data: {model} {text}");
    if let Some(lists) = lists {
        let predict = "/tensorflow.serving.PredictionService/Predict";
        let by_lists = verdict(predict, "application/grpc", &[], &lists);
        assert_eq!(
            by_json, by_lists,
            "OIP's and TF Serving's gRPC: {model} {text}"
        );
    }
    if let Some(columns) = columns {
        let path = format!("/v1/models/{model}:predict");
        let by_columns = verdict(&path, "application/json", &[], &columns);
        assert_eq!(
            by_json, by_columns,
            "OIP's and TF Serving's JSON: {model} {text}"
        );
    }
    Ok(())
}

/// The same request as a `PredictRequest`.
fn predict_request(
    model: Datatype,
    name: &str,
    datatype: Datatype,
    shape: &[i64],
    elements: &Contents,
) -> Vec<u8> {
    let dtype = match datatype {
        Datatype::Fp32 => 1,
        Datatype::Fp64 => 2,
        Datatype::Int32 => 3,
        Datatype::Uint8 => 4,
        Datatype::Int16 => 5,
        Datatype::Int8 => 6,
        Datatype::Bytes => 7,
        Datatype::Int64 => 9,
        Datatype::Bool => 10,
        Datatype::Bf16 => 14,
        Datatype::Uint16 => 17,
        Datatype::Fp16 => 19,
        Datatype::Uint32 => 22,
        Datatype::Uint64 => 23,
    };
    let dim = |size: &i64| Dim {
        size: *size,
        ..Dim::default()
    };
    let small = elements
        .uints
        .iter()
        .filter_map(|value| i32::try_from(*value).ok());
    let wide = datatype == Datatype::Uint32;
    let tensor = TensorProto {
        dtype,
        tensor_shape: Some(TensorShapeProto {
            dim: shape.iter().map(dim).collect(),
            unknown_rank: false,
        }),
        float_val: elements.floats.clone(),
        double_val: elements.doubles.clone(),
        int_val: if wide {
            Vec::new()
        } else {
            elements.ints.iter().copied().chain(small).collect()
        },
        string_val: elements.bytes.clone(),
        int64_val: elements.int64s.clone(),
        bool_val: elements.bools.clone(),
        uint32_val: if wide {
            elements.uints.clone()
        } else {
            Vec::new()
        },
        uint64_val: elements.uint64s.clone(),
        ..TensorProto::default()
    };
    let request = PredictRequest {
        model_spec: Some(ModelSpec {
            name: model.name().to_owned(),
            ..ModelSpec::default()
        }),
        inputs: [(name.to_owned(), tensor)].into(),
        output_filter: Vec::new(),
    };
    frame(&request.encode_to_vec())
}

/// Elements as nested lists of this shape. `None` where lists cannot express the shape: dimensions
/// after a zero one.
fn nested(shape: &[i64], elements: &[String]) -> Option<String> {
    let Some((first, inner)) = shape.split_first() else {
        return elements.first().cloned();
    };
    if *first == 0 {
        return inner.is_empty().then(|| "[]".to_owned());
    }
    let each = elements.len() / usize::try_from(*first).ok()?;
    let lists: Option<Vec<_>> = (0..usize::try_from(*first).ok()?)
        .map(|row| nested(inner, elements.get(row * each..(row + 1) * each)?))
        .collect();
    Some(format!("[{}]", lists?.join(",")))
}

fn verdict(path: &str, content_type: &str, more: &[(&str, &str)], body: &[u8]) -> Option<Reason> {
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let mut headers = vec![
        field(":method", "POST"),
        field(":path", path),
        field(":authority", "gate.example"),
        field(":scheme", "http"),
        field("content-type", content_type),
        field("x-api-key", KEYS[0]),
    ];
    headers.extend(more.iter().map(|(name, value)| field(name, value)));
    let request = Request {
        headers,
        body: vec![body.to_vec()],
        trailers: None,
    };
    let now = Now {
        unix_s: NOW_UNIX_S,
        monotonic_ns: 0,
    };
    GATE.with_borrow_mut(|gate| gate.send(&request, now).1.reason)
}

fn elements(data: &mut Unstructured<'_>, datatype: Datatype, count: usize) -> Result<Elements> {
    let mut all = Elements::default();
    for _ in 0..count {
        let mut put = |text: String, bytes: &[u8]| {
            all.json.push(text);
            all.raw.extend_from_slice(bytes);
        };
        // Mostly within the range, so that all elements are checked.
        let small = !data.ratio(1, 16)?;
        let unsigned: u64 = if small {
            data.int_in_range(0..=100)?
        } else {
            data.arbitrary()?
        };
        let signed = unsigned.cast_signed();
        macro_rules! number {
            ($value:expr) => {{
                let value = $value;
                put(value.to_string(), &value.to_le_bytes());
                value
            }};
        }
        match datatype {
            Datatype::Bool => {
                put(
                    (unsigned & 1 == 1).to_string(),
                    &[u8::from(unsigned & 1 == 1)],
                );
                all.typed.bools.push(unsigned & 1 == 1);
            }
            Datatype::Int8 => {
                let value = number!(i8::try_from(signed).unwrap_or(i8::MIN));
                all.typed.ints.push(value.into());
            }
            Datatype::Int16 => {
                let value = number!(i16::try_from(signed).unwrap_or(i16::MIN));
                all.typed.ints.push(value.into());
            }
            Datatype::Int32 => {
                let value = number!(i32::try_from(signed).unwrap_or(i32::MIN));
                all.typed.ints.push(value);
            }
            Datatype::Int64 => {
                let value = number!(signed);
                all.typed.int64s.push(value);
            }
            Datatype::Uint8 => {
                let value = number!(u8::try_from(unsigned).unwrap_or(u8::MAX));
                all.typed.uints.push(value.into());
            }
            Datatype::Uint16 => {
                let value = number!(u16::try_from(unsigned).unwrap_or(u16::MAX));
                all.typed.uints.push(value.into());
            }
            Datatype::Uint32 => {
                let value = number!(u32::try_from(unsigned).unwrap_or(u32::MAX));
                all.typed.uints.push(value);
            }
            Datatype::Uint64 => {
                let value = number!(unsigned);
                all.typed.uint64s.push(value);
            }
            Datatype::Fp32 => {
                let value = if small {
                    f32::from(u8::try_from(unsigned).unwrap_or_default()) / 3.0
                } else {
                    Some(f32::from_bits(data.arbitrary()?))
                        .filter(|value| value.is_finite())
                        .unwrap_or(-0.0)
                };
                put(format!("{value:?}"), &value.to_le_bytes());
                all.typed.floats.push(value);
            }
            Datatype::Fp64 => {
                let value = if small {
                    f64::from(u8::try_from(unsigned).unwrap_or_default()) / 3.0
                } else {
                    Some(f64::from_bits(unsigned))
                        .filter(|value| value.is_finite())
                        .unwrap_or(-0.0)
                };
                put(format!("{value:?}"), &value.to_le_bytes());
                all.typed.doubles.push(value);
            }
            Datatype::Bytes => {
                let length = data.int_in_range(0..=if small { 4 } else { 8 })?;
                let mut item = String::new();
                while item.len() < length {
                    item.push(data.arbitrary()?);
                }
                let text = serde_json::to_string(&item).expect("text");
                let prefix = u32::try_from(item.len()).expect("small").to_le_bytes();
                put(text, &[&prefix, item.as_bytes()].concat());
                all.typed.bytes.push(item.into_bytes());
            }
            Datatype::Fp16 | Datatype::Bf16 => {}
        }
    }
    Ok(all)
}
