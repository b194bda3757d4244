//! Lists of named scalars, with the same limit and uniqueness in every protocol.

use tensorgate_policy::tensor::Parameter;

use crate::fault::{BodyFault, quote};
use crate::limits::MAX_PARAMETERS;

/// Adds a parameter with a new name.
pub(crate) fn add<'a>(
    parameters: &mut Vec<Parameter<'a>>,
    parameter: Parameter<'a>,
) -> Result<(), BodyFault> {
    if parameters
        .iter()
        .any(|earlier| earlier.name == parameter.name)
    {
        return Err(BodyFault::Duplicate(format!(
            "parameter {}",
            quote(&parameter.name)
        )));
    }
    if parameters.len() >= MAX_PARAMETERS {
        return Err(BodyFault::TooMany {
            what: "parameters",
            max: MAX_PARAMETERS,
        });
    }
    parameters.push(parameter);
    Ok(())
}
