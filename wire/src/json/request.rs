//! Fields of an OIP inference request. Keys may be in any order: `data` is converted at once if
//! datatype and shape came before it, as usual, and otherwise kept as text.

use std::borrow::Cow;

use tensorgate_policy::contract::{MAX_RANK, TensorRule};
use tensorgate_policy::tensor::{DataFault, Parameter, ParameterValue, RequestedOutput};
use tensorgate_policy::tensor_data::TensorData;
use tensorgate_policy::{Datatype, InferRequest, Tensor};

use super::data::{self, Early};
use super::scan::Scanner;
use crate::fault::{BodyFault, quote};
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS, MAX_PARAMETER_BYTES};
use crate::parameters::add;
use crate::raw_contents::{Budget, BudgetUse};

/// Reads a request with all elements in it. Lists of tensors that have one of these rules are only
/// checked, where that is possible.
pub(crate) fn infer<'a>(
    body: &'a [u8],
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    let mut budget = Budget::new();
    let document = document(body, rules, &mut budget)?;
    let inputs = document
        .inputs
        .into_iter()
        .map(|input| input.convert(&mut budget))
        .collect::<Result<_, _>>()?;
    Ok(document.rest.with(inputs))
}

/// A parsed request, with elements converted if datatype and shape came first.
pub(super) struct Document<'a> {
    pub(super) inputs: Vec<Input<'a>>,
    pub(super) rest: Rest<'a>,
}

/// A request without its inputs.
pub(super) struct Rest<'a> {
    /// The path names model and version; KServe's client repeats them.
    model: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    parameters: Vec<Parameter<'a>>,
    outputs: Vec<RequestedOutput<'a>>,
    binary_data_output: bool,
}

impl<'a> Rest<'a> {
    pub(super) fn with(self, inputs: Vec<Tensor<'a>>) -> InferRequest<'a> {
        let Self {
            model,
            version,
            id,
            parameters,
            outputs,
            binary_data_output,
        } = self;
        InferRequest {
            model,
            version,
            id,
            parameters,
            inputs,
            outputs,
            body: None,
            body_type: None,
            binary_data_output,
            document: Vec::new(),
            by_column: false,
        }
    }
}

/// Scans a whole document; `rules` as for [`infer`].
pub(super) fn document<'a>(
    body: &'a [u8],
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Document<'a>, BodyFault> {
    let mut scanner = Scanner::over(body)?;
    let (mut model, mut version, mut id) = (None, None, None);
    let (mut parameters, mut inputs, mut outputs) = (None, None, None);
    scanner.object(|scanner, key| match &*key {
        "model_name" => once(&mut model, "model_name", name(scanner, "model_name")),
        "model_version" => once(
            &mut version,
            "model_version",
            name(scanner, "model_version"),
        ),
        "id" => once(
            &mut id,
            "id",
            or_null(scanner, |scanner| name(scanner, "id")),
        ),
        "parameters" => once(
            &mut parameters,
            "parameters",
            or_null(scanner, self::parameters),
        ),
        "inputs" => once(
            &mut inputs,
            "inputs",
            list(scanner, "inputs", MAX_INPUTS, |scanner| {
                input(scanner, rules, budget)
            }),
        ),
        "outputs" => once(
            &mut outputs,
            "outputs",
            or_null(scanner, |scanner| {
                list(scanner, "outputs", MAX_OUTPUTS, output)
            }),
        ),
        _ => Err(unknown(scanner, "", &key)),
    })?;
    scanner.end()?;
    let inputs = inputs.ok_or_else(|| BodyFault::field("inputs", "is missing"))?;
    let mut parameters: Vec<Parameter<'_>> = parameters.flatten().unwrap_or_default();
    // The form of the response concerns the gate only, not the backend.
    let binary_data_output = take_flag(&mut parameters, "binary_data_output").unwrap_or(false);
    Ok(Document {
        inputs,
        rest: Rest {
            model,
            version: version.filter(|version: &Cow<'_, str>| !version.is_empty()),
            id: id.flatten().filter(|id: &Cow<'_, str>| !id.is_empty()),
            parameters,
            outputs: outputs.flatten().unwrap_or_default(),
            binary_data_output,
        },
    })
}

/// Removes a boolean flag of the binary data extension from a list. Other types stay and are
/// validated as parameters.
fn take_flag(parameters: &mut Vec<Parameter<'_>>, name: &str) -> Option<bool> {
    let (index, flag) = parameters
        .iter()
        .enumerate()
        .find_map(|(index, parameter)| {
            let ParameterValue::Bool(flag) = parameter.value else {
                return None;
            };
            (parameter.name == name).then_some((index, flag))
        })?;
    parameters.remove(index);
    Some(flag)
}

/// An input as received.
pub(super) struct Input<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) datatype: Cow<'a, str>,
    pub(super) shape: Vec<i64>,
    pub(super) parameters: Vec<Parameter<'a>>,
    /// Its elements.
    pub(super) data: Option<Data<'a>>,
}

/// Elements of an input.
pub(super) enum Data<'a> {
    /// In raw form, or checked.
    Read(TensorData<'a>),
    /// A valid JSON list, not converted yet.
    Text(&'a str),
    /// A valid JSON list that violates the datatype, and the budget used to detect that.
    Faulty {
        text: &'a str,
        fault: DataFault,
        spent: BudgetUse,
    },
}

impl<'a> Input<'a> {
    /// The tensor; elements that are still text are converted now.
    pub(super) fn convert(mut self, budget: &mut Budget) -> Result<Tensor<'a>, BodyFault> {
        let data = match self.data.take() {
            Some(Data::Read(data)) => Ok(data),
            Some(Data::Faulty { fault, spent, .. }) if budget.charge(spent) => Err(fault),
            // If the budget does not suffice, the fault is another one.
            Some(Data::Text(text) | Data::Faulty { text, .. }) => data::convert(
                &mut Scanner::new(text),
                Datatype::from_name(&self.datatype),
                &self.shape,
                budget,
            )?
            .map(TensorData::Owned),
            None => Err(DataFault::Missing),
        };
        Ok(self.with(data))
    }

    /// The tensor with elements from elsewhere.
    pub(super) fn with(self, data: Result<TensorData<'a>, DataFault>) -> Tensor<'a> {
        Tensor {
            name: self.name,
            datatype: self.datatype,
            shape: self.shape,
            parameters: self.parameters,
            data,
        }
    }
}

pub(super) fn input<'a>(
    scanner: &mut Scanner<'a>,
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Input<'a>, BodyFault> {
    let (mut name, mut datatype, mut shape, mut parameters, mut data) = (
        None::<Cow<'_, str>>,
        None::<Cow<'_, str>>,
        None::<Vec<i64>>,
        None,
        None,
    );
    scanner.object(|scanner, key| match &*key {
        "name" => once(
            &mut name,
            "name of an input",
            self::name(scanner, "name of an input"),
        ),
        "datatype" => once(
            &mut datatype,
            "datatype of an input",
            self::name(scanner, "datatype of an input"),
        ),
        "shape" => once(&mut shape, "shape of an input", self::shape(scanner)),
        "parameters" => once(
            &mut parameters,
            "parameters of an input",
            or_null(scanner, self::parameters),
        ),
        "data" => {
            let known =
                (datatype.as_deref().zip(shape.as_deref())).map(|(datatype, shape)| Known {
                    rule: rule(rules, name.as_deref(), datatype),
                    datatype,
                    shape,
                });
            once(
                &mut data,
                "data of an input",
                elements(scanner, known, budget),
            )
        }
        _ => Err(unknown(scanner, " of an input", &key)),
    })?;
    let missing = |field| BodyFault::field(field, "is missing");
    Ok(Input {
        name: name.ok_or_else(|| missing("name of an input"))?,
        datatype: datatype.ok_or_else(|| missing("datatype of an input"))?,
        shape: shape.ok_or_else(|| missing("shape of an input"))?,
        parameters: parameters.flatten().unwrap_or_default(),
        data,
    })
}

fn output<'a>(scanner: &mut Scanner<'a>) -> Result<RequestedOutput<'a>, BodyFault> {
    let (mut name, mut parameters) = (None, None);
    scanner.object(|scanner, key| match &*key {
        "name" => once(
            &mut name,
            "name of an output",
            self::name(scanner, "name of an output"),
        ),
        "parameters" => once(
            &mut parameters,
            "parameters of an output",
            or_null(scanner, self::parameters),
        ),
        _ => Err(unknown(scanner, " of an output", &key)),
    })?;
    let name = name.ok_or_else(|| BodyFault::field("name of an output", "is missing"))?;
    let mut parameters: Vec<Parameter<'_>> = parameters.flatten().unwrap_or_default();
    let binary_data = take_flag(&mut parameters, "binary_data");
    Ok(RequestedOutput {
        name,
        parameters,
        binary_data,
    })
}

/// A value, or `null` for an absent one: clients write out optional fields of their types.
pub(super) fn or_null<'a, T>(
    scanner: &mut Scanner<'a>,
    value: impl FnOnce(&mut Scanner<'a>) -> Result<T, BodyFault>,
) -> Result<Option<T>, BodyFault> {
    if scanner.token() == Some(b'n') {
        return scanner.word().map(|_| None);
    }
    value(scanner).map(Some)
}

/// Sets a field that must not repeat.
pub(super) fn once<T>(
    slot: &mut Option<T>,
    field: &'static str,
    value: Result<T, BodyFault>,
) -> Result<(), BodyFault> {
    let value = value?;
    if slot.is_some() {
        return Err(BodyFault::Duplicate(field.to_owned()));
    }
    *slot = Some(value);
    Ok(())
}

/// The fault of an unknown key. Its value is scanned first, as in [`Scanner::other`].
pub(super) fn unknown(scanner: &mut Scanner<'_>, whose: &str, key: &str) -> BodyFault {
    let fault = BodyFault::Unknown(format!("{}{whose}", quote(key)));
    scanner.value().err().unwrap_or(fault)
}

fn list<'a, T>(
    scanner: &mut Scanner<'a>,
    what: &'static str,
    max: usize,
    mut item: impl FnMut(&mut Scanner<'a>) -> Result<T, BodyFault>,
) -> Result<Vec<T>, BodyFault> {
    let mut items = Vec::new();
    scanner.array(|scanner| {
        if items.len() >= max {
            return Err(BodyFault::TooMany { what, max });
        }
        items.push(item(scanner)?);
        Ok(())
    })?;
    Ok(items)
}

fn text<'a>(
    scanner: &mut Scanner<'a>,
    field: &str,
    max_bytes: usize,
) -> Result<Cow<'a, str>, BodyFault> {
    if scanner.token() != Some(b'"') {
        let fault = BodyFault::field(field, "is not a string");
        return Err(scanner.value().err().unwrap_or(fault));
    }
    let text = scanner.string()?;
    if text.len() > max_bytes {
        return Err(BodyFault::field(field, "is too long"));
    }
    Ok(text)
}

pub(super) fn name<'a>(
    scanner: &mut Scanner<'a>,
    field: &'static str,
) -> Result<Cow<'a, str>, BodyFault> {
    text(scanner, field, MAX_NAME_BYTES)
}

fn shape(scanner: &mut Scanner<'_>) -> Result<Vec<i64>, BodyFault> {
    list(scanner, "dims", MAX_RANK, |scanner| {
        let Some(b'-' | b'0'..=b'9') = scanner.token() else {
            return Err(scanner.other("a dim is not a number"));
        };
        let number = scanner.number()?;
        let dim = if number.integer {
            number.to_integer()
        } else {
            None
        };
        dim.ok_or_else(|| {
            BodyFault::field(
                "shape of an input",
                "holds a dim that is not an integer within 64 bits",
            )
        })
    })
}

/// Reads named scalars. One that is `null` is absent; its name counts as used.
pub(super) fn parameters<'a>(scanner: &mut Scanner<'a>) -> Result<Vec<Parameter<'a>>, BodyFault> {
    let mut parameters: Vec<Parameter<'a>> = Vec::new();
    let mut absent: Vec<Parameter<'a>> = Vec::new();
    scanner.object(|scanner, name| {
        let field = format!("parameter {}", quote(&name));
        if name.len() > MAX_NAME_BYTES {
            return Err(BodyFault::field(field, "has too long a name"));
        }
        let value = or_null(scanner, |scanner| scalar(scanner, &field))?;
        let (list, others) = match value {
            Some(_) => (&mut parameters, &absent),
            None => (&mut absent, &parameters),
        };
        if others.iter().any(|other| other.name == name) {
            return Err(BodyFault::Duplicate(field));
        }
        let value = value.unwrap_or(ParameterValue::Bool(false));
        add(list, Parameter { name, value })
    })?;
    Ok(parameters)
}

fn scalar<'a>(scanner: &mut Scanner<'a>, field: &str) -> Result<ParameterValue<'a>, BodyFault> {
    match scanner.token() {
        Some(b'"') => text(scanner, field, MAX_PARAMETER_BYTES).map(ParameterValue::String),
        Some(b'-' | b'0'..=b'9') => {
            let number = scanner.number()?;
            let value = if number.integer {
                let signed = number.to_integer().map(ParameterValue::Int64);
                signed.or_else(|| number.to_integer().map(ParameterValue::Uint64))
            } else {
                number
                    .to_f64()
                    .filter(|value| value.is_finite())
                    .map(ParameterValue::Double)
            };
            value.ok_or_else(|| BodyFault::field(field, "is a number beyond 64 bits"))
        }
        Some(b't' | b'f') => scanner
            .word()?
            .map(ParameterValue::Bool)
            .ok_or_else(|| BodyFault::field(field, "is not a scalar")),
        _ => {
            let fault = BodyFault::field(field, "is not a scalar");
            Err(scanner.value().err().unwrap_or(fault))
        }
    }
}

/// What was read of an input before its list.
struct Known<'k> {
    datatype: &'k str,
    shape: &'k [i64],
    /// The tensor's rule, if its list is only checked.
    rule: Option<&'k TensorRule>,
}

/// The rule of a tensor whose list can be checked by it.
fn rule<'r>(rules: &'r [TensorRule], name: Option<&str>, datatype: &str) -> Option<&'r TensorRule> {
    let rule = rules.iter().find(|rule| Some(rule.name()) == name)?;
    (rule.datatype().name() == datatype).then_some(rule)
}

/// Reads a `data` list: in raw form if datatype and shape are known and match. Other faults are
/// reported after the whole document is known to be JSON.
fn elements<'a>(
    scanner: &mut Scanner<'a>,
    known: Option<Known<'_>>,
    budget: &mut Budget,
) -> Result<Data<'a>, BodyFault> {
    let is_list = scanner.token() == Some(b'[');
    if let Some(known) = known.filter(|_| is_list && budget.allows_early()) {
        let (at, before) = (scanner.at, *budget);
        if let Some(rule) = known.rule {
            if let Some(checked) = data::check(scanner, rule, known.shape, budget) {
                return Ok(Data::Read(checked));
            }
            (scanner.at, *budget) = (at, before);
        }
        let datatype = Datatype::from_name(known.datatype);
        match data::early(scanner, datatype, known.shape, budget)? {
            Early::Raw(raw) => return Ok(Data::Read(raw.into())),
            Early::Fault { fault, objects } => {
                let spent = budget.spent_since(&before);
                *budget = before.after_failure();
                let text = list_text(scanner, at, objects)?;
                return Ok(Data::Faulty { text, fault, spent });
            }
            Early::Exhausted => {
                scanner.at = at;
                *budget = before.after_failure();
            }
        }
    }
    span(scanner).map(Data::Text)
}

/// Scans a `data` list and returns its text.
fn span<'a>(scanner: &mut Scanner<'a>) -> Result<&'a str, BodyFault> {
    if scanner.token() != Some(b'[') {
        return Err(scanner.other("data is not a list"));
    }
    let start = scanner.at;
    let objects = scanner.value()?;
    list_text(scanner, start, objects)
}

/// Text of a list that ends at the scanner's position.
fn list_text<'a>(scanner: &Scanner<'a>, start: usize, objects: bool) -> Result<&'a str, BodyFault> {
    if objects {
        return Err(BodyFault::field("data of an input", "holds an object"));
    }
    scanner
        .text
        .get(start..scanner.at)
        .ok_or_else(|| scanner.form("data is not a list"))
}

#[cfg(test)]
mod tests;
