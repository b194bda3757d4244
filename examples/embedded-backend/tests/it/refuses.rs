//! Requests that are ambiguous or unsupported are rejected, and the server keeps running.

use std::collections::HashMap;

use tensorgate_embedded::Limits;
use tensorgate_wire::proto::infer_parameter::ParameterChoice;
use tensorgate_wire::proto::model_infer_request::InferRequestedOutputTensor;
use tensorgate_wire::proto::{InferParameter, ModelInferRequest};
use tonic::Code;

use crate::harness::{Server, Split, probabilities, raw, typed};

/// A parameter that requests memory shared with the server.
fn shared_memory() -> HashMap<String, InferParameter> {
    let region = InferParameter {
        parameter_choice: Some(ParameterChoice::StringParam("region".into())),
    };
    HashMap::from([("shared_memory_region".to_owned(), region)])
}

/// Appends zeros to the first input's raw contents.
fn lengthen(request: &mut ModelInferRequest, bytes: usize) {
    let mut contents = request.raw_input_contents[0].to_vec();
    contents.resize(contents.len() + bytes, 0);
    request.raw_input_contents[0] = contents.into();
}

fn output(name: &str) -> InferRequestedOutputTensor {
    InferRequestedOutputTensor {
        name: name.into(),
        parameters: HashMap::new(),
    }
}

#[tokio::test]
async fn a_request_that_does_not_fit_the_model_is_the_callers_fault() {
    let mut server = Server::start(Limits::default()).await;
    let pixels = Split::load().pixels(0, 1);
    type Change = fn(&mut ModelInferRequest);
    let cases: &[(&str, Code, Change)] = &[
        ("another model", Code::NotFound, |request| {
            request.model_name = "nothing".into()
        }),
        ("no model", Code::NotFound, |request| {
            request.model_name.clear()
        }),
        ("a model's path", Code::NotFound, |request| {
            request.model_name = "../models/digits".into()
        }),
        ("another version", Code::NotFound, |request| {
            request.model_version = "2".into()
        }),
        (
            "another spelling of the version",
            Code::NotFound,
            |request| request.model_version = "01".into(),
        ),
        ("a version that is no number", Code::NotFound, |request| {
            request.model_version = "+1".into()
        }),
        ("no inputs", Code::InvalidArgument, |request| {
            request.inputs.clear();
            request.raw_input_contents.clear();
        }),
        ("an unknown input", Code::InvalidArgument, |request| {
            request.inputs[0].name = "picture".into()
        }),
        ("an input twice", Code::InvalidArgument, |request| {
            request.inputs.push(request.inputs[0].clone());
            request
                .raw_input_contents
                .push(request.raw_input_contents[0].clone());
        }),
        (
            "an unknown input beside the known one",
            Code::InvalidArgument,
            |request| {
                request.inputs.push(request.inputs[0].clone());
                request.inputs[1].name = "extra".into();
                request
                    .raw_input_contents
                    .push(request.raw_input_contents[0].clone());
            },
        ),
        ("another datatype", Code::InvalidArgument, |request| {
            request.inputs[0].datatype = "INT32".into()
        }),
        (
            "a datatype in lower case",
            Code::InvalidArgument,
            |request| request.inputs[0].datatype = "fp32".into(),
        ),
        ("another rank", Code::InvalidArgument, |request| {
            request.inputs[0].shape = vec![1, 64]
        }),
        ("no dims", Code::InvalidArgument, |request| {
            request.inputs[0].shape.clear()
        }),
        ("a thousand dims", Code::InvalidArgument, |request| {
            request.inputs[0].shape = vec![1; 1000]
        }),
        ("another dim", Code::InvalidArgument, |request| {
            request.inputs[0].shape = vec![1, 1, 4, 16]
        }),
        ("an empty batch", Code::InvalidArgument, |request| {
            request.inputs[0].shape[0] = 0;
            request.raw_input_contents[0].clear();
        }),
        ("a negative dim", Code::InvalidArgument, |request| {
            request.inputs[0].shape[0] = -1
        }),
        ("the least dim", Code::InvalidArgument, |request| {
            request.inputs[0].shape[0] = i64::MIN
        }),
        ("a dim beyond memory", Code::InvalidArgument, |request| {
            request.inputs[0].shape[0] = i64::MAX
        }),
        (
            "dims whose product is 0 in 64 bits",
            Code::InvalidArgument,
            |request| {
                request.inputs[0].shape = vec![1 << 32, 1 << 32, 8, 8];
            },
        ),
        (
            "more elements than the dims say",
            Code::InvalidArgument,
            |request| {
                lengthen(request, 4);
            },
        ),
        (
            "fewer elements than the dims say",
            Code::InvalidArgument,
            |request| {
                request.raw_input_contents[0].truncate(252);
            },
        ),
        ("a torn element", Code::InvalidArgument, |request| {
            lengthen(request, 3)
        }),
        (
            "more raw contents than inputs",
            Code::InvalidArgument,
            |request| {
                request.raw_input_contents.push(Default::default());
            },
        ),
        ("shared memory", Code::InvalidArgument, |request| {
            request.inputs[0].parameters = shared_memory()
        }),
        (
            "an answer in shared memory",
            Code::InvalidArgument,
            |request| {
                request.outputs.push(InferRequestedOutputTensor {
                    name: "probabilities".into(),
                    parameters: shared_memory(),
                });
            },
        ),
        ("an unknown output", Code::InvalidArgument, |request| {
            request.outputs.push(output("hidden"))
        }),
        ("an output twice", Code::InvalidArgument, |request| {
            request.outputs = vec![output("probabilities"), output("probabilities")];
        }),
        (
            "typed contents beside raw ones",
            Code::InvalidArgument,
            |request| {
                request.inputs[0].contents = Some(Default::default());
            },
        ),
    ];
    for (name, code, change) in cases {
        let mut request = raw(&pixels);
        change(&mut request);
        let status = server.client.model_infer(request).await.expect_err(name);
        assert_eq!(status.code(), *code, "{name}: {status}");
    }

    let typed_cases: &[(&str, Change)] = &[
        ("no contents", |request| request.inputs[0].contents = None),
        ("one element less", |request| {
            request.inputs[0]
                .contents
                .as_mut()
                .unwrap()
                .fp32_contents
                .pop();
        }),
        ("contents of another datatype", |request| {
            let contents = request.inputs[0].contents.as_mut().unwrap();
            contents.fp64_contents = contents.fp32_contents.drain(..).map(f64::from).collect();
        }),
        ("contents of two datatypes", |request| {
            request.inputs[0]
                .contents
                .as_mut()
                .unwrap()
                .int_contents
                .push(1);
        }),
    ];
    for (name, change) in typed_cases {
        let mut request = typed(&pixels);
        change(&mut request);
        let status = server.client.model_infer(request).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status}");
    }

    let good = server
        .client
        .model_infer(raw(&pixels))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(probabilities(&good).len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn a_message_over_the_bound_is_refused() {
    let split = Split::load();
    // 450 images of 256 bytes are 115 200.
    let mut server = Server::start(Limits {
        message_bytes: 100_000,
        ..Limits::default()
    })
    .await;
    let status = server
        .client
        .model_infer(raw(&split.pixels(0, 450)))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    server
        .client
        .model_infer(raw(&split.pixels(0, 32)))
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_no_rule_reads_changes_nothing() {
    let mut server = Server::start(Limits::default()).await;
    let pixels = Split::load().pixels(0, 1);
    let plain = server
        .client
        .model_infer(raw(&pixels))
        .await
        .unwrap()
        .into_inner();
    let mut request = raw(&pixels);
    request.model_version.clear();
    request.id = "7".into();
    request.parameters.insert(
        "priority".into(),
        InferParameter {
            parameter_choice: Some(ParameterChoice::Int64Param(3)),
        },
    );
    request.outputs.push(output("probabilities"));
    let answer = server
        .client
        .model_infer(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(probabilities(&answer), probabilities(&plain));
    assert_eq!(
        (
            answer.model_name.as_str(),
            answer.model_version.as_str(),
            answer.id.as_str()
        ),
        ("digits", "1", "7")
    );
    assert_eq!(plain.id, "");
    server.stop().await;
}
