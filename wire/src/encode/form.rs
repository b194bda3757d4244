//! How an answer is to be written, as its request says. It never looks at an answer.

use std::sync::Arc;

use tensorgate_policy::InferRequest;
use tensorgate_policy::policy::Template;

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
    /// Where outputs go in JSON of a model's own.
    pub(super) template: Option<Arc<Template>>,
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
            template: None,
        }
    }

    /// The same by a model's own template.
    #[must_use]
    pub fn in_template(self, template: Option<Arc<Template>>) -> Self {
        Self { template, ..self }
    }

    /// Whether an output is wanted as binary data.
    pub fn wants(&self, output: &str) -> bool {
        self.named
            .iter()
            .find(|(name, _)| name == output)
            .map_or(self.all, |(_, binary)| *binary)
    }
}
