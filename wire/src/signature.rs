//! TF Serving's `signature_name`: a model has one contract, so that the default says nothing, and any other is a parameter like
//! any other, which a rule must name.

use std::borrow::Cow;

use tensorgate_policy::InferRequest;
use tensorgate_policy::tensor::{Parameter, ParameterValue};

/// Its name, as a key in JSON and as a parameter.
pub(crate) const NAME: &str = "signature_name";
/// The one that a request means which names none.
pub(crate) const DEFAULT: &str = "serving_default";

/// The parameter that a name is.
pub(crate) fn parameter(name: Cow<'_, str>) -> Option<Parameter<'_>> {
    let says_something = !name.is_empty() && name != DEFAULT;
    says_something.then_some(Parameter {
        name: Cow::Borrowed(NAME),
        value: ParameterValue::String(name),
    })
}

/// The signature that a request names.
pub(crate) fn of<'r>(request: &'r InferRequest<'_>) -> &'r str {
    among(&request.parameters)
}

/// The signature that parameters name.
pub(crate) fn among<'r>(parameters: &'r [Parameter<'_>]) -> &'r str {
    parameters
        .iter()
        .find_map(|parameter| match &parameter.value {
            ParameterValue::String(name) if parameter.name == NAME => Some(&**name),
            _ => None,
        })
        .unwrap_or(DEFAULT)
}
