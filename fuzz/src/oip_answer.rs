//! Fuzz target: the size estimate of a backend's OIP response, which is made before it is decoded.
//! prost's decoded form must take no more memory and have no more parts than estimated. A response
//! on a stream must have the same estimate.

use prost::Message;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_wire::limits::{MAX_OUTPUTS, MAX_PARAMETERS};
use tensorgate_wire::upstream::{answer_bytes, streamed_bytes};

use crate::messages::{Choice, Contents, InferResponse, Parameter};

#[derive(Clone, PartialEq, Message)]
struct StreamResponse {
    #[prost(string, tag = "1")]
    error_message: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    infer_response: Option<Vec<u8>>,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let weighed = answer_bytes(data);
    let streamed = StreamResponse {
        error_message: String::new(),
        infer_response: Some(data.to_vec()),
    };
    assert_eq!(
        streamed_bytes(&streamed.encode_to_vec()).ok(),
        weighed.as_ref().ok().copied(),
        "on a stream"
    );
    // Reading it as a message of a stream must end.
    let _ = streamed_bytes(data);
    let (Ok(bytes), Ok(answer)) = (weighed, InferResponse::decode(data)) else {
        return;
    };
    bounded(&answer);
    assert!(bytes >= taken(&answer), "{bytes} of {answer:?}");
    // As prost writes it: without repeated and unknown fields.
    let again = answer_bytes(&answer.encode_to_vec()).expect("what prost writes");
    assert!(again >= taken(&answer), "{again} of {answer:?}");
}

fn bounded(answer: &InferResponse) {
    assert!(answer.outputs.len() <= MAX_OUTPUTS);
    assert!(answer.raw_output_contents.len() <= MAX_OUTPUTS);
    assert!(answer.parameters.len() <= MAX_PARAMETERS);
    for output in &answer.outputs {
        assert!(output.shape.len() <= MAX_RANK, "{:?}", output.shape);
        assert!(output.parameters.len() <= MAX_PARAMETERS);
    }
}

/// Bytes of its strings and elements.
fn taken(answer: &InferResponse) -> usize {
    let texts = [&answer.model_name, &answer.model_version, &answer.id];
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    let parameters: usize = answer.parameters.iter().map(parameter).sum();
    let outputs = answer.outputs.iter().map(|output| {
        let parameters: usize = output.parameters.iter().map(parameter).sum();
        let contents = output.contents.as_ref().map_or(0, elements);
        output.name.len() + output.datatype.len() + parameters + contents
    });
    let raws = answer.raw_output_contents.iter().map(Vec::len);
    texts + parameters + outputs.sum::<usize>() + raws.sum::<usize>()
}

fn parameter((name, parameter): (&String, &Parameter)) -> usize {
    let text = match &parameter.choice {
        Some(Choice::String(text)) => text.len(),
        _ => 0,
    };
    name.len() + text
}

fn elements(contents: &Contents) -> usize {
    let Contents {
        bools,
        ints,
        int64s,
        uints,
        uint64s,
        floats,
        doubles,
        bytes,
    } = contents;
    let narrow = ints.len() + uints.len() + floats.len();
    let wide = int64s.len() + uint64s.len() + doubles.len();
    let items = bytes.iter().map(|item| item.len() + size_of::<Vec<u8>>());
    bools.len() + 4 * narrow + 8 * wide + items.sum::<usize>()
}
