//! The requested form of a response.

use core::fmt::Debug;

use tensorgate_policy::InferRequest;
use tensorgate_policy::policy::Template;
use tensorgate_policy::values::Shared;

use crate::signature;

/// The requested form of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerForm {
    /// Whether outputs are binary data by default.
    all: bool,
    /// Settings of single outputs, which take precedence.
    named: Vec<(String, bool)>,
    /// By output instead of by row, if the protocol has both.
    pub(super) by_column: bool,
    /// The requested signature; empty for the default.
    pub(super) signature: String,
    /// Locations of outputs in a JSON template.
    pub(super) template: Option<Shared<Template>>,
}

impl AnswerForm {
    /// The form that a request asks for.
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

    /// The same with a JSON template.
    #[must_use]
    pub fn in_template(self, template: Option<Shared<Template>>) -> Self {
        Self { template, ..self }
    }

    /// Whether an output is sent as binary data.
    pub fn wants(&self, output: &str) -> bool {
        self.named
            .iter()
            .find(|(name, _)| name == output)
            .map_or(self.all, |(_, binary)| *binary)
    }
}
