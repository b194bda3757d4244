//! Fuzz target: a `PredictRequest`, compared with prost. prost must read an accepted message as the
//! same request. When prost writes it again, the gate must read the same request. The input is used
//! as a message, as a whole frame, and as a server's response.

use prost::Message as _;
use tensorgate_policy::InferRequest;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_wire::upstream::tf_serving;
use tensorgate_wire::{addressee, decode};

use crate::support::{check_body_denial, frame};
use tensorgate_wire::tensorflow::{PredictRequest, TensorProto, Version};

const FORMATS: [BodyFormat; 3] = [
    BodyFormat::TfGrpcPredict,
    BodyFormat::TfGrpcModel { metadata: false },
    BodyFormat::TfGrpcModel { metadata: true },
];

/// Runs one input.
pub fn run(data: &[u8]) {
    for format in FORMATS {
        // The input as a frame, to test the frame's flag and length.
        match decode(format, data, &[]) {
            Ok(_) => assert_eq!(data, frame(data.get(5..).unwrap_or_default()), "one frame"),
            Err(denial) => check_body_denial(&denial),
        }
        let body = frame(data);
        let whom = addressee(format, &body).expect("left to the decoder");
        match decode(format, &body, &[]) {
            Err(denial) => check_body_denial(&denial),
            // The early search for the model finds the same model as the decoder, or none.
            Ok(request) => {
                if let Some(whom) = whom {
                    assert_eq!(request.model.as_deref(), Some(&*whom.model));
                    assert_eq!(request.version, whom.version);
                }
            }
        }
    }
    predict(data);
    // The same reader reads responses of the protocol's servers.
    if let Ok(predicted) = tf_serving::answer(data) {
        assert!(predicted.outputs.iter().all(|output| output.data.is_ok()));
    }
    drop(tf_serving::signature(data));
    drop(tf_serving::is_available(data, "7"));
}

fn predict(data: &[u8]) {
    let body = frame(data);
    let ours = decode(BodyFormat::TfGrpcPredict, &body, &[]);
    let theirs = PredictRequest::decode(data);
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => compare(ours, theirs),
        (Ok(_), Err(error)) => panic!("accepted a message that prost rejects: {error}"),
        (Err(denial), _) => check_body_denial(denial),
    }
    let (Ok(ours), Ok(theirs)) = (ours, theirs) else {
        return;
    };
    // A map has each name once. prost has zeros in the lists of other datatypes.
    if theirs.inputs.len() == ours.inputs.len() {
        let canonical = frame(&theirs.encode_to_vec());
        let again = decode(BodyFormat::TfGrpcPredict, &canonical, &[]);
        compare(&again.expect("prost writes what the gate reads"), &theirs);
    }
}

fn compare(ours: &InferRequest<'_>, theirs: &PredictRequest) {
    let spec = theirs.model_spec.clone().unwrap_or_default();
    assert_eq!(ours.model.as_deref().unwrap_or_default(), spec.name);
    let version = match spec.version {
        Some(Version::Number(number)) => number.value.to_string(),
        Some(Version::Label(label)) => label,
        None => String::new(),
    };
    assert_eq!(ours.version.as_deref().unwrap_or_default(), version);
    let outputs: Vec<_> = ours.outputs.iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, theirs.output_filter);
    for tensor in &ours.inputs {
        // prost keeps the last of two inputs with one name.
        if ours
            .inputs
            .iter()
            .filter(|other| other.name == tensor.name)
            .count()
            > 1
        {
            continue;
        }
        let proto = theirs.inputs.get(&*tensor.name).expect("the same names");
        let shape = proto.tensor_shape.clone().unwrap_or_default();
        if let Ok(data) = &tensor.data {
            let dims: Vec<_> = shape.dim.iter().map(|dim| dim.size).collect();
            assert_eq!(tensor.shape, dims);
            assert_eq!(
                &**data,
                &*raw(&tensor.datatype, proto),
                "{}",
                tensor.datatype
            );
        }
    }
}

/// The elements as prost reads them, in raw form.
fn raw(datatype: &str, proto: &TensorProto) -> Vec<u8> {
    if !proto.tensor_content.is_empty() {
        return proto.tensor_content.clone();
    }
    let ints = |size: usize| {
        proto
            .int_val
            .iter()
            .flat_map(|value| value.to_le_bytes()[..size].to_vec())
            .collect()
    };
    match datatype {
        "FP32" => proto
            .float_val
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "FP64" => proto
            .double_val
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "INT32" => ints(4),
        "INT16" | "UINT16" => ints(2),
        "INT8" | "UINT8" => ints(1),
        "INT64" => proto
            .int64_val
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "UINT32" => proto
            .uint32_val
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "UINT64" => proto
            .uint64_val
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        "BOOL" => proto
            .bool_val
            .iter()
            .map(|value| u8::from(*value))
            .collect(),
        "FP16" | "BF16" => proto
            .half_val
            .iter()
            .flat_map(|value| value.to_le_bytes()[..2].to_vec())
            .collect(),
        "BYTES" => {
            let mut raw = Vec::new();
            for item in &proto.string_val {
                raw.extend(
                    u32::try_from(item.len())
                        .expect("a short item")
                        .to_le_bytes(),
                );
                raw.extend_from_slice(item);
            }
            raw
        }
        other => panic!("data of {other}"),
    }
}
