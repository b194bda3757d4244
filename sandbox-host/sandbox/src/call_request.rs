//! What a handler can read about the request of its call: plain data.

use std::sync::Arc;

use bytes::Bytes;
use tensorgate_base::payload::Payload;
use tensorgate_policy::Tensor;
use tensorgate_policy::tensor::Parameter;

/// What a handler can read about the request of its call, apart from the ID.
#[derive(Clone, Debug, Default)]
pub struct CallRequest {
    /// The values of `context.get`. Empty if no handler of the request reads them.
    pub facts: Arc<RequestFacts>,
    /// The bytes that an earlier handler of the same request has set last.
    pub carry: Bytes,
}

/// The values of `context.get`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestFacts {
    /// The client's name. Empty without one.
    pub client: String,
    /// The model's name.
    pub model: String,
    /// The version of the model.
    pub version: String,
    /// The name of the operation.
    pub operation: String,
    /// The time of the request in Unix milliseconds.
    pub time_unix_ms: u64,
    /// All parameters of the request. A handler sees those that its policy lists.
    pub parameters: Vec<Parameter<'static>>,
    /// The names and dimensions of the input tensors.
    pub tensors: Vec<(String, Vec<u64>)>,
    /// The media type of a raw body.
    pub media_type: Option<String>,
    /// The size of the raw body, or of the data of all tensors, in bytes.
    pub media_bytes: u64,
}

impl RequestFacts {
    /// The facts about a checked input: dimensions, media type and size. All others are empty.
    pub fn from_input(input: &Payload) -> Self {
        // A checked tensor has no negative dimension.
        let dims = |shape: &[i64]| shape.iter().map(|dim| dim.unsigned_abs()).collect();
        let tensor = |tensor: &Tensor<'_>| (tensor.name.clone().into_owned(), dims(&tensor.shape));
        let (tensors, media_type) = match input {
            Payload::Tensors(tensors) => (tensors.iter().map(tensor).collect(), None),
            Payload::Raw { content_type, .. } => (Vec::new(), Some(content_type.clone())),
        };
        Self {
            tensors,
            media_type,
            media_bytes: u64::try_from(input.data_bytes()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }
}
