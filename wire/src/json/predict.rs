//! A predict request of TF Serving's REST API: `instances`, a list of rows, or `inputs`, by tensor.
//! The model's contract gives the datatypes. KServe's and Vertex AI's form may have `parameters`
//! beside them.

use tensorgate_policy::InferRequest;
use tensorgate_policy::contract::TensorRule;

use super::columns::{columns, rows};
use super::request::{name, once, or_null, parameters, unknown};
use super::scan::Scanner;
use crate::fault::BodyFault;
use crate::parameters::add;
use crate::raw_contents::Budget;
use crate::signature;

/// The key of a request by row.
const PREDICT_ROWS: &str = "instances";
/// The key of a request by column.
const COLUMNS: &str = "inputs";
/// The key of named scalars.
const PARAMETERS: &str = "parameters";

/// Reads a request.
pub(crate) fn predict<'a>(
    body: &'a [u8],
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let mut budget = Budget::new();
    let (mut signature, mut named, mut by_row, mut by_column) = (None, None, None, None);
    scanner.object(|scanner, key| match &*key {
        signature::NAME => once(
            &mut signature,
            signature::NAME,
            name(scanner, signature::NAME),
        ),
        PARAMETERS => once(&mut named, PARAMETERS, or_null(scanner, parameters)),
        PREDICT_ROWS => once(
            &mut by_row,
            PREDICT_ROWS,
            rows(scanner, PREDICT_ROWS, rules, &mut budget),
        ),
        COLUMNS => once(
            &mut by_column,
            COLUMNS,
            columns(scanner, COLUMNS, rules, &mut budget),
        ),
        _ => Err(unknown(scanner, "", &key)),
    })?;
    scanner.end()?;
    let (inputs, by_column) = match (by_row, by_column) {
        (Some(inputs), None) => (inputs, false),
        (None, Some(inputs)) => (inputs, true),
        (None, None) => {
            return Err(BodyFault::field(
                PREDICT_ROWS,
                "is missing, and so is inputs",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(BodyFault::field(
                COLUMNS,
                "cannot be combined with instances",
            ));
        }
    };
    let mut parameters = named.flatten().unwrap_or_default();
    if let Some(signature) = signature.and_then(signature::parameter) {
        add(&mut parameters, signature)?;
    }
    Ok(InferRequest {
        parameters,
        inputs,
        by_column,
        ..InferRequest::default()
    })
}
