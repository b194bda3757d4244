//! The contract of a model and the validation of requests against it.
//!
//! Each [`Reason`] is one pass over the whole request, in the order of the reasons. With several
//! faults, the earliest reason wins wherever the faults are. Validation never decodes: it checks
//! the same bytes that are forwarded.
#![expect(
    missing_docs,
    reason = "fields that the compiler fills have their documentation at the getters"
)]

mod agreement;
mod cost;
pub mod guardrail;
mod items;
mod kernels;
mod media;
mod near_bounds;
mod number_check;
mod numbers;
pub mod openai;
mod parameters;
mod pattern;
mod streaming;
mod tensors;
mod url;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::datatype::Datatype;
use tensorgate_values::tensor::{InferRequest, Tensor};
use tensorgate_values::{Shared, getters};

use crate::denial::{Denial, Reason};

pub use agreement::{agree, check_structure};
pub use cost::RequestCost;
pub use cost::most_of;
use cost::{elements, here};
pub use items::{Items, MAX_LISTED_BYTES};
pub use kernels::{Channels, Listed, bounds, holds_a_value, listed_bits};
pub(crate) use kernels::{keep_greatest, round, top_score};
pub use media::{MediaRule, MediaType};
pub use near_bounds::{NearBounds, near_bounds};
pub use number_check::NumberCheck;
pub use numbers::Numbers;
pub use pattern::Pattern;
pub use streaming::Part;
pub(crate) use streaming::StreamingCheck;
pub use tensors::Elements;
pub use url::{MAX_URL_BYTES, UrlRule, default_port, has_encoded_control, is_name, number};

/// Maximum rank of a rule or tensor. numpy's limit is 32; serving stacks allow less.
pub const MAX_RANK: usize = 16;

/// Maximum length of a caller's name in a response or log line, in characters.
const MAX_QUOTED_CHARS: usize = 64;

/// Contract of a request to a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contract {
    pub inputs: Vec<TensorRule>,
    pub output_names: Vec<String>,
    pub parameters: ParameterRules,
    /// Parameters of inputs, by the input's name; only inputs that may have some.
    pub input_parameters: Vec<(String, ParameterRules)>,
    /// Names of parameters that are dropped if no rule names them.
    pub ignored: Vec<String>,
}

impl Contract {
    /// Patterns of elements and parameters.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        let of_inputs = self.inputs.iter();
        let of_inputs = of_inputs.filter_map(|rule| rule.items.pattern.as_deref());
        let parameters = self.input_parameters.iter().flat_map(|(_, rules)| rules);
        let parameters = parameters.chain(&self.parameters);
        of_inputs.chain(parameters.flat_map(|(_, bound)| bound.patterns()))
    }

    /// Rules of the input tensors.
    pub fn inputs(&self) -> &[TensorRule] {
        &self.inputs
    }

    /// Validates a decoded request and reports the first fault in [`crate::Reason`]'s order. A
    /// grant may restrict its clients to some outputs.
    pub(crate) fn check(
        &self,
        scope: &OutputScope<'_>,
        request: &InferRequest<'_>,
        on_value_fault: &mut OnValueFault<'_>,
    ) -> Result<(), Denial> {
        self.check_all_but_tensors(scope, request)?;
        tensors::check(
            tensors::INPUT,
            &self.inputs,
            &request.inputs,
            on_value_fault,
        )
    }

    fn check_all_but_tensors(
        &self,
        scope: &OutputScope<'_>,
        request: &InferRequest<'_>,
    ) -> Result<(), Denial> {
        parameters::check(self, request)?;
        self.check_outputs(scope, request)
    }

    /// Requested outputs must be published to this grant's clients, each once. No request means
    /// all.
    fn check_outputs(
        &self,
        of: &OutputScope<'_>,
        request: &InferRequest<'_>,
    ) -> Result<(), Denial> {
        let published = |name: &str| match of.returns {
            Some(returns) => returns.iter().any(|rule| rule.name == name),
            None => self.output_names.iter().any(|published| published == name),
        };
        let mut requested: Vec<&str> = Vec::new();
        for output in &request.outputs {
            let name = output.name.as_ref();
            let cause = if !published(name) {
                "the contract has no such output"
            } else if of.narrowed.is_some_and(|grant| !grant.publishes(name)) {
                "the grant does not give this output"
            } else if requested.contains(&name) {
                "the output is requested twice"
            } else {
                // The list cannot be longer than the published outputs: a longer list repeats a
                // name earlier.
                requested.push(name);
                continue;
            };
            let field = format!("output {}", quote(name));
            return Err(Denial::with_field(
                Reason::OutputNotAllowed,
                field.as_str(),
                format!("{field}: {cause}"),
            ));
        }
        Ok(())
    }

    /// Cost of a request that satisfies the contract.
    pub(crate) fn cost(&self, request: &InferRequest<'_>) -> RequestCost {
        request
            .inputs
            .iter()
            .fold(RequestCost::default(), |sum, tensor| {
                sum.add(elements(tensor), here(tensor))
            })
    }

    /// Cost of a request whose elements are still to come. Only for `BYTES` over gRPC is their size
    /// unknown. Such a request is charged as if all of `body_bytes` were elements, up to the
    /// contract's maximum.
    pub(crate) fn cost_of_head(
        &self,
        request: &InferRequest<'_>,
        deliveries: &[Elements],
        body_bytes: u64,
    ) -> RequestCost {
        let mut unknown = false;
        let inputs = request.inputs.iter().zip(deliveries);
        let sum = inputs.fold(RequestCost::default(), |sum, (tensor, delivery)| {
            let elements = elements(tensor);
            let bytes = match (delivery, self.size_bytes(tensor)) {
                (Elements::Inline, _) => here(tensor),
                (Elements::Streamed(Some(bytes)), _) => u64::try_from(*bytes).unwrap_or(u64::MAX),
                (Elements::Streamed(None), Some(size)) => elements.saturating_mul(size),
                (Elements::Streamed(None), None) => {
                    unknown = true;
                    0
                }
            };
            sum.add(elements, bytes)
        });
        RequestCost {
            bytes: if unknown {
                body_bytes.min(self.most().bytes)
            } else {
                sum.bytes
            },
            ..sum
        }
    }

    /// Maximum cost of a request that satisfies the contract.
    pub fn most(&self) -> RequestCost {
        let rules = self.inputs.iter().map(most_of);
        rules.fold(RequestCost::default(), |sum, most| {
            sum.add(most.elements, most.bytes)
        })
    }

    /// Whether requests may have this parameter.
    pub fn lists_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|(listed, _)| listed == name)
    }

    /// Removes the parameters that are ignored. Returns their names, each once.
    pub(crate) fn drop_ignored(&self, request: &mut InferRequest<'_>) -> Vec<String> {
        parameters::drop_ignored(self, request)
    }

    /// Rules of an input's parameters.
    fn rules_of_input(&self, name: &str) -> &[(String, ParameterBound)] {
        let mut listed = self.input_parameters.iter();
        let listed = listed.find(|(input, _)| input == name);
        listed.map_or(&[], |(_, rules)| rules.as_slice())
    }

    /// Size of one element; `None` for variable sizes and for tensors without a rule.
    fn size_bytes(&self, tensor: &Tensor<'_>) -> Option<u64> {
        let named = |rule: &&TensorRule| rule.name == tensor.name;
        let size = self.inputs.iter().find(named)?.datatype.size_bytes()?;
        u64::try_from(size).ok()
    }
}

/// Release rule of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Whether its values are class scores along the last dimension.
    pub scores: bool,
    pub round_decimals: Option<u32>,
    pub top_k: Option<usize>,
}

/// Restrictions of a grant for its clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrowed {
    /// Allowed outputs; all by default.
    pub outputs: Option<Vec<String>>,
    pub round_decimals: Option<u32>,
    pub top_k: Option<usize>,
}

impl Narrowed {
    /// Whether the grant's clients get this output.
    pub(crate) fn publishes(&self, output: &str) -> bool {
        let outputs = self.outputs.as_ref();
        outputs.is_none_or(|outputs| outputs.iter().any(|name| name == output))
    }
}

/// Outputs that a caller may request; by default all that the contract publishes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OutputScope<'a> {
    /// The caller's grant, which may restrict the outputs.
    pub narrowed: Option<&'a Narrowed>,
    /// Outputs of the grant's own handlers, if it has any.
    pub returns: Option<&'a [TensorRule]>,
}

impl<'a> OutputScope<'a> {
    /// Rules of the outputs that the caller may get; `returns` are the model's.
    pub(crate) fn published(
        self,
        returns: &'a [TensorRule],
    ) -> impl Iterator<Item = &'a TensorRule> {
        let given = move |rule: &&TensorRule| {
            (self.narrowed).is_none_or(|narrowed| narrowed.publishes(rule.name()))
        };
        self.returns.unwrap_or(returns).iter().filter(given)
    }
}

/// Callback for a value that violates its rule (`not-finite`, `out-of-range`). `Err` rejects the
/// request, `Ok` lets the value pass. Other faults, and values that cannot be decoded, are always
/// rejected.
pub type OnValueFault<'f> = dyn FnMut(Denial) -> Result<(), Denial> + 'f;

/// Validates tensors against rules, including symbolic dimensions: request inputs, handler outputs
/// and backend responses. The denial has a contract reason, such as `datatype` or `shape`. A caller
/// that validates a handler or backend maps the reason to its own and keeps the cause.
///
/// # Errors
/// The first fault, in the order of the reasons.
pub fn check_tensors(
    rules: &[TensorRule],
    tensors: &[Tensor<'_>],
    on_value_fault: &mut OnValueFault<'_>,
) -> Result<(), Denial> {
    tensors::check("tensor", rules, tensors, on_value_fault)
}

/// Quotes an untrusted name for logs and responses: printable ASCII of bounded length.
pub(crate) fn quote(name: &str) -> String {
    let mut quoted = String::from("\"");
    let mut characters = name.chars();
    for character in characters.by_ref().take(MAX_QUOTED_CHARS) {
        quoted.extend(character.escape_default());
    }
    if characters.next().is_some() {
        quoted.push_str("...");
    }
    quoted.push('"');
    quoted
}

/// Rules of one tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorRule {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<DimRule>,
    pub optional: bool,
    pub finite: bool,
    pub range: Option<(f64, f64)>,
    pub numbers: Numbers,
    pub max_item_bytes: Option<usize>,
    pub items: Items,
    pub release: Release,
}

getters! { TensorRule {
    /// Name of the tensor.
    name: &str,
    /// Element type.
    datatype: Datatype,
    /// Rules of the dimensions.
    shape: &[DimRule],
    /// Whether the tensor may be omitted.
    optional: bool,
    /// `BYTES`: maximum length of an element, in bytes.
    max_item_bytes: Option<usize>,
} }

/// Whether the tensors can be sent row by row: the first dimensions have a common size.
pub fn have_rows<'r>(mut rules: impl Iterator<Item = &'r TensorRule>) -> bool {
    let sizes = rules.try_fold((0, u64::MAX), |(least, most), rule| {
        let dim = rule.shape.first()?;
        let (least, most) = (dim.min.max(least), dim.max.min(most));
        (least <= most).then_some((least, most))
    });
    sizes.is_some()
}

/// Maximum batch of a model in Triton's sense; `None` if it has no batch dimension. Every tensor
/// has one if all begin with a variable dimension of one symbol, may be a batch of one, and have
/// further dimensions.
pub fn max_batch(inputs: &[TensorRule], outputs: &[TensorRule]) -> Option<u64> {
    let (first, _) = inputs.first()?.shape.split_first()?;
    let symbol = first.symbol?;
    let mut most = first.max;
    for rule in inputs.iter().chain(outputs) {
        let (dim, others) = rule.shape.split_first()?;
        if dim.symbol != Some(symbol) || dim.fixed().is_some() || dim.min > 1 || others.is_empty() {
            return None;
        }
        most = most.min(dim.max);
    }
    Some(most)
}

/// Rule of one dimension.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimRule {
    pub min: u64,
    pub max: u64,
    /// Dimensions with the same symbol are equal within a request. The index is shared by all rules
    /// of one model.
    pub symbol: Option<u32>,
}

impl DimRule {
    /// The only allowed size, or `None` for a variable dimension (`-1` in metadata).
    pub const fn fixed(&self) -> Option<u64> {
        if self.min == self.max {
            Some(self.min)
        } else {
            None
        }
    }

    /// Minimum size.
    pub const fn min(&self) -> u64 {
        self.min
    }

    /// Maximum size.
    pub const fn max(&self) -> u64 {
        self.max
    }
}

/// Parameters with a rule, by name.
pub type ParameterRules = Vec<(String, ParameterBound)>;

/// Bounds of a request parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the raw type says what each is")]
pub enum ParameterBound {
    Int(i64, i64),
    Float(f64, f64),
    Bool,
    /// Only `false`: a profile's rule.
    False,
    OneOf(Vec<String>),
    Text(TextBound),
    IntOrText((i64, i64), TextBound),
    /// A list of at most so many, each within the bound. In OpenAI's API only.
    List(usize, Box<ParameterBound>),
    /// An object's members. In OpenAI's API only.
    Object(ParameterRules),
}

impl ParameterBound {
    /// The patterns of texts.
    pub fn patterns(&self) -> Vec<&Pattern> {
        match self {
            Self::Text(text) | Self::IntOrText(_, text) => {
                text.pattern.as_deref().into_iter().collect()
            }
            Self::List(_, each) => each.patterns(),
            Self::Object(members) => {
                let members = members.iter();
                members.flat_map(|(_, bound)| bound.patterns()).collect()
            }
            Self::Int(..) | Self::Float(..) | Self::Bool | Self::False | Self::OneOf(_) => {
                Vec::new()
            }
        }
    }
}

/// Bounds of a short text. Control characters are never allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextBound {
    pub max_bytes: usize,
    pub pattern: Option<Shared<Pattern>>,
}

#[cfg(test)]
mod tests;
