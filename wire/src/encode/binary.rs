//! Which outputs of an answer are wanted as binary data. It never looks at an answer.

use tensorgate_policy::InferRequest;

/// What a request says of its outputs: an output's own word before the request's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinaryOutputs {
    /// The request's word.
    all: bool,
    /// The outputs' own.
    named: Vec<(String, bool)>,
}

impl BinaryOutputs {
    /// What a request asks for.
    pub fn of(request: &InferRequest<'_>) -> Self {
        Self {
            all: request.binary_data_output,
            named: request
                .outputs
                .iter()
                .filter_map(|output| Some((output.name.to_string(), output.binary_data?)))
                .collect(),
        }
    }

    /// Whether an output is wanted so.
    pub fn wants(&self, output: &str) -> bool {
        self.named
            .iter()
            .find(|(name, _)| name == output)
            .map_or(self.all, |(_, binary)| *binary)
    }
}
