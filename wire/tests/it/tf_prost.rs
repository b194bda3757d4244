//! Another protobuf library reads the gate's TF Serving gRPC responses, and the gate reads its
//! messages.
#![cfg(feature = "grpc")]

use tensorgate_wire::tensorflow;

use prost::Message;
use tensorflow::{
    Dim, GetModelMetadataResponse, GetModelStatusResponse, Int64Value, ModelSpec, PredictRequest,
    PredictResponse, SignatureDefMap, TensorProto, TensorShapeProto, Version,
};
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::tensor::InferResponse;
use tensorgate_policy::{InferRequest, Tensor};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_wire::encode::{
    AnswerForm, infer_response, model_metadata, model_ready, most_bytes,
};
use tensorgate_wire::{addressee, decode};

fn message<M: Message + Default>(frame: &[u8]) -> M {
    let (header, message) = frame.split_at(5);
    assert_eq!(header[0], 0);
    assert_eq!(
        header[1..],
        u32::try_from(message.len()).unwrap().to_be_bytes()
    );
    M::decode(message).unwrap()
}

fn shape(dims: &[i64]) -> Option<TensorShapeProto> {
    Some(TensorShapeProto {
        dim: dims
            .iter()
            .map(|size| Dim {
                size: *size,
                ..Dim::default()
            })
            .collect(),
        unknown_rank: false,
    })
}

#[test]
fn an_answer_carries_each_datatype_in_the_list_that_tensorflow_has_for_it() {
    let dtype = |dtype, dims: &[i64]| TensorProto {
        dtype,
        tensor_shape: shape(dims),
        ..TensorProto::default()
    };
    for (datatype, dims, data, expected) in [
        (
            "FP32",
            &[1][..],
            1.5_f32.to_le_bytes().to_vec(),
            TensorProto {
                float_val: vec![1.5],
                ..dtype(1, &[1])
            },
        ),
        (
            "FP64",
            &[1],
            1.5_f64.to_le_bytes().to_vec(),
            TensorProto {
                double_val: vec![1.5],
                ..dtype(2, &[1])
            },
        ),
        (
            "INT32",
            &[1],
            (-2_i32).to_le_bytes().to_vec(),
            TensorProto {
                int_val: vec![-2],
                ..dtype(3, &[1])
            },
        ),
        (
            "UINT8",
            &[2, 1],
            vec![1, 255],
            TensorProto {
                int_val: vec![1, 255],
                ..dtype(4, &[2, 1])
            },
        ),
        (
            "INT16",
            &[1],
            (-2_i16).to_le_bytes().to_vec(),
            TensorProto {
                int_val: vec![-2],
                ..dtype(5, &[1])
            },
        ),
        (
            "INT8",
            &[2],
            vec![1, 255],
            TensorProto {
                int_val: vec![1, -1],
                ..dtype(6, &[2])
            },
        ),
        (
            "BYTES",
            &[2],
            b"\x01\0\0\0\xff\0\0\0\0".to_vec(),
            TensorProto {
                string_val: vec![vec![255], vec![]],
                ..dtype(7, &[2])
            },
        ),
        (
            "INT64",
            &[1],
            i64::MIN.to_le_bytes().to_vec(),
            TensorProto {
                int64_val: vec![i64::MIN],
                ..dtype(9, &[1])
            },
        ),
        (
            "BOOL",
            &[2],
            vec![1, 0],
            TensorProto {
                bool_val: vec![true, false],
                ..dtype(10, &[2])
            },
        ),
        (
            "BF16",
            &[1],
            vec![0x80, 0x3f],
            TensorProto {
                half_val: vec![0x3f80],
                ..dtype(14, &[1])
            },
        ),
        (
            "UINT16",
            &[1],
            vec![255, 255],
            TensorProto {
                int_val: vec![65535],
                ..dtype(17, &[1])
            },
        ),
        (
            "FP16",
            &[1],
            vec![0, 0xfc],
            TensorProto {
                half_val: vec![0xfc00],
                ..dtype(19, &[1])
            },
        ),
        (
            "UINT32",
            &[1],
            vec![255; 4],
            TensorProto {
                uint32_val: vec![u32::MAX],
                ..dtype(22, &[1])
            },
        ),
        (
            "UINT64",
            &[1],
            vec![255; 8],
            TensorProto {
                uint64_val: vec![u64::MAX],
                ..dtype(23, &[1])
            },
        ),
        ("FP32", &[0, 2], vec![], dtype(1, &[0, 2])),
        (
            "BOOL",
            &[],
            vec![1],
            TensorProto {
                bool_val: vec![true],
                ..dtype(10, &[])
            },
        ),
    ] {
        let response = InferResponse {
            model: "m".into(),
            version: "7".into(),
            id: None,
            outputs: vec![Tensor {
                name: "y".into(),
                datatype: datatype.into(),
                shape: dims.to_vec(),
                parameters: vec![],
                data: Ok(data.into()),
            }],
        };
        let form = AnswerForm::default();
        let body = infer_response(Protocol::TfGrpc, &response, &form)
            .unwrap()
            .body;
        assert!(body.len() <= most_bytes(Protocol::TfGrpc, &response, &form));
        let PredictResponse {
            mut outputs,
            model_spec,
        } = message(&body);
        assert_eq!(outputs.remove("y"), Some(expected), "{datatype}");
        assert_eq!(
            model_spec,
            Some(ModelSpec {
                name: "m".into(),
                signature_name: "serving_default".into(),
                version: Some(Version::Number(Int64Value { value: 7 })),
            })
        );
    }
}

#[test]
fn messages_of_another_library_are_read() {
    let tensor = TensorProto {
        dtype: 3,
        tensor_shape: shape(&[2]),
        int_val: vec![1, -1],
        ..TensorProto::default()
    };
    let request = PredictRequest {
        model_spec: Some(ModelSpec {
            name: "m".into(),
            version: Some(Version::Label("beta".into())),
            ..ModelSpec::default()
        }),
        inputs: [("x".to_owned(), tensor)].into(),
        output_filter: vec!["y".into()],
    };
    let bytes = request.encode_to_vec();
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&bytes);
    let whom = addressee(BodyFormat::TfGrpcPredict, &frame)
        .unwrap()
        .unwrap();
    assert_eq!((&*whom.model, whom.version.as_deref()), ("m", Some("beta")));
    let InferRequest {
        model,
        version,
        inputs,
        outputs,
        ..
    } = decode(BodyFormat::TfGrpcPredict, &frame, &[]).unwrap();
    assert_eq!(
        (model.as_deref(), version.as_deref()),
        (Some("m"), Some("beta"))
    );
    assert_eq!(
        inputs[0].data.as_deref(),
        Ok(&[1, 0, 0, 0, 255, 255, 255, 255][..])
    );
    assert_eq!(
        (&*inputs[0].datatype, inputs[0].shape.as_slice()),
        ("INT32", &[2][..])
    );
    assert_eq!(outputs[0].name, "y");
}

#[test]
fn a_models_signature_and_status_are_the_contracts() {
    let policy = serde_json::json!({
        "version": 1,
        "clients": {"c": {"api_keys": [{"sha256": "0".repeat(64)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"], "max_in_flight": 1, "queue": 1, "timeout_ms": 1}},
        "models": {"m": {
            "backend": "b", "versions": ["1"], "protocols": ["tf-serving-grpc"],
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 32}, 3]}],
            "outputs": [{"name": "y", "datatype": "INT64", "shape": []}]
        }},
        "grants": [{"name": "g", "clients": ["c"], "models": ["m"], "operations": ["metadata"]}],
    });
    let raw: raw::Policy = serde_json::from_value(policy).unwrap();
    let (policy, _) = validate::validate(&raw).unwrap_or_else(|faults| panic!("{faults:?}"));
    let model = policy.model(policy.model_id("m").unwrap()).unwrap();
    let (inputs, outputs) = (model.backend_inputs(), model.backend_outputs());

    let frame = model_metadata(Protocol::TfGrpc, "m", &["beta".to_owned()], inputs, outputs);
    let GetModelMetadataResponse {
        model_spec,
        metadata,
    } = message(&frame);
    assert_eq!(
        model_spec.unwrap().version,
        Some(Version::Label("beta".into()))
    );
    let any = &metadata["signature_def"];
    assert_eq!(
        any.type_url,
        "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    );
    let signature = &SignatureDefMap::decode(any.value.as_slice())
        .unwrap()
        .signature_def["serving_default"];
    assert_eq!(signature.method_name, "tensorflow/serving/predict");
    assert_eq!(
        (
            signature.inputs["x"].dtype,
            &signature.inputs["x"].tensor_shape
        ),
        (1, &shape(&[-1, 3]))
    );
    assert_eq!(
        (
            signature.outputs["y"].dtype,
            &signature.outputs["y"].tensor_shape
        ),
        (9, &shape(&[]))
    );

    let body = model_metadata(Protocol::TfRest, "m", &["1".to_owned()], inputs, outputs);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        json["model_spec"],
        serde_json::json!({"name": "m", "signature_name": "", "version": "1"})
    );
    let signature = &json["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(
        signature["inputs"]["x"],
        serde_json::json!({
            "dtype": "DT_FLOAT", "name": "x",
            "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}], "unknown_rank": false}
        })
    );

    for (version, number, ready, state) in [("7", 7, true, 30), ("beta", 0, false, 20)] {
        let GetModelStatusResponse {
            model_version_status,
        } = message(&model_ready(Protocol::TfGrpc, "m", version, ready));
        let [status] = model_version_status.as_slice() else {
            panic!("one version")
        };
        assert_eq!((status.version, status.state), (number, state));
    }
}
