//! How an answer is to be written, as its request says. It never looks at an answer.

use tensorgate_policy::InferRequest;

use crate::signature;

/// What a request says of its answer's form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerForm {
    /// Whether outputs are wanted as binary data: the request's word.
    all: bool,
    /// The outputs' own, which goes before it.
    named: Vec<(String, bool)>,
    /// Output by output rather than row by row, where the protocol has both.
    pub(super) by_column: bool,
    /// The signature that was asked for; empty for the default.
    pub(super) signature: String,
}

impl AnswerForm {
    /// What a request asks for.
    pub fn of(request: &InferRequest<'_>) -> Self {
        Self {
            all: request.binary_data_output,
            named: request
                .outputs
                .iter()
                .filter_map(|output| Some((output.name.to_string(), output.binary_data?)))
                .collect(),
            by_column: request.by_column,
            signature: signature::of(request).to_owned(),
        }
    }

    /// Whether an output is wanted as binary data.
    pub fn wants(&self, output: &str) -> bool {
        self.named
            .iter()
            .find(|(name, _)| name == output)
            .map_or(self.all, |(_, binary)| *binary)
    }
}
