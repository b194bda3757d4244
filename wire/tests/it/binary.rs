//! Decoding the binary data extension: which bytes belong to which tensor, without a copy.

use tensorgate_policy::TensorData;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{Denial, InferRequest, Reason};
use tensorgate_wire::decode;

fn binary<'a>(body: &'a [u8], json: &str) -> Result<InferRequest<'a>, Denial> {
    decode(
        BodyFormat::OipBinary {
            json_bytes: json.len(),
        },
        body,
        &[],
    )
}

const TWO: &str = r#"{"inputs":[
    {"name":"a","shape":[2],"datatype":"UINT8","parameters":{"binary_data_size":2}},
    {"name":"j","shape":[1],"datatype":"UINT8","data":[9]},
    {"name":"b","shape":[1],"datatype":"BF16","parameters":{"binary_data_size":2,"other":1}}]}"#;

#[test]
fn blobs_belong_to_the_inputs_that_name_a_size_in_order_and_are_borrowed() {
    let body = [TWO.as_bytes(), &[1, 2, 3, 4]].concat();
    let request = binary(&body, TWO).unwrap();
    let data: Vec<_> = request
        .inputs
        .iter()
        .map(|input| input.data.clone().unwrap().into_vec())
        .collect();
    assert_eq!(data, [&[1_u8, 2][..], &[9], &[3, 4]]);
    let borrowed: Vec<_> = request
        .inputs
        .iter()
        .map(|input| match &input.data {
            Ok(TensorData::Borrowed(blob)) => Some(blob.as_ptr()),
            _ => None,
        })
        .collect();
    let blobs = body[TWO.len()..].as_ptr();
    assert_eq!(borrowed, [Some(blobs), None, Some(blobs.wrapping_add(2))]);
    // The protocol defines the size. The contract checks every other parameter.
    let parameters: Vec<_> = request
        .inputs
        .iter()
        .map(|input| input.parameters.len())
        .collect();
    assert_eq!(parameters, [0, 0, 1]);
}

#[test]
fn parts_that_do_not_add_up_to_the_body_are_rejected_before_any_blob_is_read() {
    let bool_of_2 = r#"{"inputs":[{"name":"a","shape":[2],"datatype":"BOOL","parameters":{"binary_data_size":2}}]}"#;
    for (blobs, expected) in [
        (&[1, 0][..], Ok(Ok(()))),
        (&[2, 0], Ok(Err(DataFault::Kind { index: 0 }))),
        (&[2], Err("binary_data_size")),
        (&[], Err("binary_data_size")),
        (&[2, 0, 0], Err("binary_data_size")),
    ] {
        let body = [bool_of_2.as_bytes(), blobs].concat();
        let outcome = binary(&body, bool_of_2);
        let outcome = outcome
            .as_ref()
            .map(|request| {
                request.inputs[0]
                    .data
                    .as_ref()
                    .map(|_| ())
                    .map_err(|fault| *fault)
            })
            .map_err(|denial| {
                assert_eq!(denial.reason, Reason::Malformed);
                denial.field.as_deref().unwrap()
            });
        assert_eq!(outcome, expected, "{blobs:?}");
    }
    let length = "inference-header-content-length";
    let no_json = "inference-header-content-length is 0, and the name, datatype and shape of the input must be said in JSON";
    for (json_bytes, expected) in [(0, no_json), (TWO.len() + 5, length), (usize::MAX, length)] {
        let body = [TWO.as_bytes(), &[1, 2, 3, 4]].concat();
        let denial = decode(BodyFormat::OipBinary { json_bytes }, &body, &[]).unwrap_err();
        assert_eq!(denial.reason, Reason::Malformed, "{json_bytes}");
        assert_eq!(denial.field.as_deref(), Some(expected), "{json_bytes}");
    }
}

#[test]
fn boolean_output_parameters_are_removed_from_the_parameters() {
    let json = r#"{"parameters":{"binary_data_output":true,"p":1},"inputs":[],
        "outputs":[{"name":"y","parameters":{"binary_data":false}},{"name":"z","parameters":{"binary_data":1}},{"name":"w"}]}"#;
    for format in [
        BodyFormat::OipJson,
        BodyFormat::OipBinary {
            json_bytes: json.len(),
        },
    ] {
        let request = decode(format, json.as_bytes(), &[]).unwrap();
        assert!(request.binary_data_output);
        assert_eq!(request.parameters.len(), 1);
        let outputs: Vec<_> = request
            .outputs
            .iter()
            .map(|output| (output.binary_data, output.parameters.len()))
            .collect();
        assert_eq!(outputs, [(Some(false), 0), (None, 1), (None, 0)]);
    }
}
