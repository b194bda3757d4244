//! TF Serving's `signature_name`. A model has one contract, so the default signature is ignored,
//! and any other is a parameter that needs a rule.

use std::borrow::Cow;

use tensorgate_policy::InferRequest;
use tensorgate_policy::tensor::{Parameter, ParameterValue};

/// Its name as a JSON key and as a parameter.
pub(crate) const NAME: &str = "signature_name";
/// The default signature.
pub(crate) const DEFAULT: &str = "serving_default";

/// The parameter for a signature name.
pub(crate) fn parameter(name: Cow<'_, str>) -> Option<Parameter<'_>> {
    let is_custom = !name.is_empty() && name != DEFAULT;
    is_custom.then_some(Parameter {
        name: Cow::Borrowed(NAME),
        value: ParameterValue::String(name),
    })
}

/// The signature that a request names.
pub(crate) fn of<'r>(request: &'r InferRequest<'_>) -> &'r str {
    among(&request.parameters)
}

/// The signature among parameters.
pub(crate) fn among<'r>(parameters: &'r [Parameter<'_>]) -> &'r str {
    parameters
        .iter()
        .find_map(|parameter| {
            let ParameterValue::String(name) = &parameter.value else {
                return None;
            };
            (parameter.name == NAME).then_some(&**name)
        })
        .unwrap_or(DEFAULT)
}
