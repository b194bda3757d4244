//! The gate's decoder reads what the generated messages write, and the generated messages read
//! what the gate's encoder writes.
#![cfg(feature = "grpc")]

use std::collections::HashMap;

use tensorgate_policy::decision::BodyFormat::OipGrpcInfer;
use tensorgate_policy::request::{Protocol, ServerQuery};
use tensorgate_policy::tensor::{InferResponse, ParameterValue};
use tensorgate_policy::{InferRequest, Tensor};
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate_wire::proto::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    ModelMetadataResponse, ModelReadyResponse, ServerMetadataResponse,
};
use tensorgate_wire::{decode, encode};

fn frame(message: &impl prost::Message) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut frame).unwrap();
    frame
}

fn message<M: prost::Message + Default>(frame: &[u8]) -> M {
    let (header, message) = frame.split_at(5);
    assert_eq!(
        header,
        [
            &[0][..],
            &u32::try_from(message.len()).unwrap().to_be_bytes()
        ]
        .concat()
    );
    M::decode(message).unwrap()
}

fn parameters(choice: ParameterChoice) -> HashMap<String, InferParameter> {
    HashMap::from([(
        "p".to_owned(),
        InferParameter {
            parameter_choice: Some(choice),
        },
    )])
}

fn request(contents: Option<InferTensorContents>, datatype: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        model_version: "2".into(),
        id: "id".into(),
        parameters: parameters(ParameterChoice::Int64Param(-3)),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: datatype.into(),
            shape: vec![2, -1, i64::MAX],
            parameters: parameters(ParameterChoice::StringParam(String::new())),
            contents,
        }],
        outputs: vec![InferRequestedOutputTensor {
            name: "y".into(),
            parameters: parameters(ParameterChoice::BoolParam(false)),
        }],
        raw_input_contents: vec![],
    }
}

fn decoded(request: &ModelInferRequest, check: impl FnOnce(InferRequest<'_>)) {
    check(decode(OipGrpcInfer, &frame(request), &[]).unwrap());
}

#[test]
fn a_request_of_prost_is_read_field_by_field() {
    let mut message = request(None, "FP32");
    message.raw_input_contents = vec![vec![1, 2, 3, 4].into()];
    decoded(&message, |request| {
        assert_eq!(
            (
                request.model.as_deref(),
                request.version.as_deref(),
                request.id.as_deref()
            ),
            (Some("m"), Some("2"), Some("id"))
        );
        assert_eq!(
            (&*request.parameters[0].name, &request.parameters[0].value),
            ("p", &ParameterValue::Int64(-3))
        );
        let [
            Tensor {
                name,
                datatype,
                shape,
                parameters,
                data,
            },
        ] = &*request.inputs
        else {
            panic!("one input")
        };
        assert_eq!(
            (&**name, &**datatype, &**shape),
            ("x", "FP32", &[2, -1, i64::MAX][..])
        );
        assert_eq!(parameters[0].value, ParameterValue::String("".into()));
        assert_eq!(data.as_deref(), Ok(&[1, 2, 3, 4][..]));
        assert_eq!(
            (
                &*request.outputs[0].name,
                &request.outputs[0].parameters[0].value
            ),
            ("y", &ParameterValue::Bool(false))
        );
    });
}

#[test]
fn typed_contents_of_prost_are_read_in_every_datatype() {
    let none = InferTensorContents::default;
    for (datatype, contents, raw) in [
        (
            "BOOL",
            InferTensorContents {
                bool_contents: vec![true, false],
                ..none()
            },
            vec![1, 0],
        ),
        (
            "INT8",
            InferTensorContents {
                int_contents: vec![-1, 2],
                ..none()
            },
            vec![255, 2],
        ),
        (
            "INT32",
            InferTensorContents {
                int_contents: vec![i32::MIN],
                ..none()
            },
            i32::MIN.to_le_bytes().to_vec(),
        ),
        (
            "INT64",
            InferTensorContents {
                int64_contents: vec![-2],
                ..none()
            },
            (-2_i64).to_le_bytes().to_vec(),
        ),
        (
            "UINT16",
            InferTensorContents {
                uint_contents: vec![65535],
                ..none()
            },
            vec![255, 255],
        ),
        (
            "UINT64",
            InferTensorContents {
                uint64_contents: vec![u64::MAX],
                ..none()
            },
            vec![255; 8],
        ),
        (
            "FP32",
            InferTensorContents {
                fp32_contents: vec![f32::NAN],
                ..none()
            },
            f32::NAN.to_le_bytes().to_vec(),
        ),
        (
            "FP64",
            InferTensorContents {
                fp64_contents: vec![0.1],
                ..none()
            },
            0.1_f64.to_le_bytes().to_vec(),
        ),
        (
            "BYTES",
            InferTensorContents {
                bytes_contents: vec!["ab".into(), "".into()],
                ..none()
            },
            b"\x02\0\0\0ab\0\0\0\0".to_vec(),
        ),
        ("FP32", none(), vec![]),
    ] {
        decoded(&request(Some(contents), datatype), |request| {
            assert_eq!(request.inputs[0].data.as_deref(), Ok(&*raw), "{datatype}")
        });
    }
}

#[test]
fn an_answer_is_read_by_prost_field_by_field() {
    let output = |name: &'static str, shape: &[i64], data: &[u8]| Tensor {
        name: name.into(),
        datatype: "INT16".into(),
        shape: shape.to_vec(),
        parameters: vec![],
        data: Ok(data.to_vec().into()),
    };
    let response = InferResponse {
        model: "m".into(),
        version: "1".into(),
        id: Some("id".into()),
        outputs: vec![
            output("y", &[1, 2], &[1, 2, 3, 4]),
            output("z", &[0], &[]),
            output("s", &[], &[1, 2]),
        ],
    };
    let answer: ModelInferResponse = message(
        &encode::infer_response(Protocol::OipGrpc, &response, &encode::AnswerForm::default())
            .unwrap()
            .body,
    );
    assert_eq!(
        (&*answer.model_name, &*answer.model_version, &*answer.id),
        ("m", "1", "id")
    );
    let outputs: Vec<_> = answer
        .outputs
        .iter()
        .map(|output| (&*output.name, &*output.datatype, &*output.shape))
        .collect();
    assert_eq!(
        outputs,
        [
            ("y", "INT16", &[1, 2][..]),
            ("z", "INT16", &[0][..]),
            ("s", "INT16", &[][..])
        ]
    );
    assert_eq!(
        answer.raw_output_contents,
        [&[1, 2, 3, 4][..], &[], &[1, 2]]
    );
    assert!(
        answer
            .outputs
            .iter()
            .all(|output| output.contents.is_none())
            && answer.parameters.is_empty()
    );
}

#[test]
fn small_answers_are_read_by_prost() {
    assert!(
        message::<ModelReadyResponse>(&encode::model_ready(Protocol::OipGrpc, "m", "1", true))
            .ready
    );
    assert!(
        !message::<ModelReadyResponse>(&encode::model_ready(Protocol::OipGrpc, "m", "1", false))
            .ready
    );
    let server: ServerMetadataResponse = message(&encode::server_answer(
        Protocol::OipGrpc,
        ServerQuery::Metadata,
        true,
    ));
    assert_eq!(
        server,
        ServerMetadataResponse {
            name: "tensorgate".into(),
            ..ServerMetadataResponse::default()
        }
    );
    let model: ModelMetadataResponse = message(&encode::model_metadata(
        Protocol::OipGrpc,
        "m",
        &["1".into(), "2".into()],
        &[],
        &[],
    ));
    assert_eq!(
        (&*model.name, &*model.versions, &*model.platform),
        ("m", &["1".to_owned(), "2".to_owned()][..], "tensorgate")
    );
}
