//! What every tensor must look like, and the check of a request against it.
//!
//! One pass a [`Reason`] over the whole request, in the reasons' order, so that of two faults the earlier reason is given
//! wherever in the request they stand. It never decodes: the bytes that it checks are the bytes that are sent on.

mod agreement;
mod carried;
mod items;
mod kernels;
mod media;
mod numbers;
pub mod openai;
mod parameters;
mod passing;
mod pattern;
mod tensors;
mod url;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::datatype::Datatype;
use crate::denial::{Denial, Reason};
use crate::policy::{Grant, Model};
use crate::release::Release;
use crate::tensor::{InferRequest, Tensor};

pub use agreement::{agree, check_structure};
pub use carried::Carried;
pub(crate) use carried::most_of;
pub(crate) use items::{Items, MAX_LISTED_BYTES};
pub(crate) use kernels::{
    Channels, Listed, bounds, holds_a_value, keep_greatest, listed_bits, round,
};
pub(crate) use media::{MediaRule, MediaType};
pub(crate) use numbers::Numbers;
pub(crate) use passing::Passing;
pub use passing::{Elements, Part};
pub(crate) use pattern::Pattern;
pub(crate) use url::{MAX_URL_BYTES, UrlRule, default_port, has_encoded_control, is_name, number};

/// Most dims a rule or a tensor can have; numpy's own limit is 32, serving stacks stop earlier.
pub const MAX_RANK: usize = 16;

/// Characters of a caller's name that an answer or a log line repeats.
const MAX_QUOTED_CHARS: usize = 64;

/// What a request to a model must look like.
#[derive(Clone, Debug)]
pub struct Contract {
    pub(crate) inputs: Vec<TensorRule>,
    pub(crate) output_names: Vec<String>,
    pub(crate) parameters: Vec<(String, ParameterBound)>,
}

impl Contract {
    /// The input tensors' rules.
    pub fn inputs(&self) -> &[TensorRule] {
        &self.inputs
    }

    /// Checks a decoded request, reporting the fault that comes first in [`crate::Reason`]'s order.
    /// A grant may let its clients have some of the outputs only.
    pub(crate) fn check(
        &self,
        asked: &Asked<'_>,
        request: &InferRequest<'_>,
        unkept: &mut Unkept<'_>,
    ) -> Result<(), Denial> {
        self.check_all_but_tensors(asked, request)?;
        tensors::check("input", &self.inputs, &request.inputs, unkept)
    }

    fn check_all_but_tensors(
        &self,
        asked: &Asked<'_>,
        request: &InferRequest<'_>,
    ) -> Result<(), Denial> {
        parameters::check(&self.parameters, request)?;
        self.check_outputs(asked, request)
    }

    /// Outputs that are asked for must be published ones, to this grant's clients, each once. None means all of these.
    fn check_outputs(&self, of: &Asked<'_>, request: &InferRequest<'_>) -> Result<(), Denial> {
        let published = |name: &str| match of.returns {
            Some(returns) => returns.iter().any(|rule| rule.name == name),
            None => self.output_names.iter().any(|published| published == name),
        };
        let mut asked: Vec<&str> = Vec::new();
        for output in &request.outputs {
            let name = output.name.as_ref();
            let cause = if !published(name) {
                "the contract has no such output"
            } else if of.grant.is_some_and(|grant| !grant.publishes(name)) {
                "the grant does not give this output"
            } else if asked.contains(&name) {
                "the output is asked for twice"
            } else {
                // At most as many as the contract publishes: a longer list has a repetition among its first ones.
                asked.push(name);
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
}

/// What of an answer a caller may ask for; without anything, all that the contract publishes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked<'a> {
    /// The caller's grant, which may give some of the outputs only.
    pub(crate) grant: Option<&'a Grant>,
    /// What the grant's own handlers make of the outputs, if they do.
    pub(crate) returns: Option<&'a [TensorRule]>,
}

impl<'a> Asked<'a> {
    /// What the caller can get of a model's answer: the rules of what is returned, without what its grant does not give.
    pub(crate) fn published(self, model: &'a Model) -> impl Iterator<Item = &'a TensorRule> {
        let returns = self.returns.unwrap_or_else(|| model.returns());
        let given = move |rule: &&TensorRule| {
            let grant = self.grant;
            grant.is_none_or(|grant| grant.publishes(rule.name()))
        };
        returns.iter().filter(given)
    }
}

/// Told of a value that breaks its rule (`not-finite`, `out-of-range`): `Err` refuses for it, `Ok` lets it pass. Whatever else is wrong never
/// comes here, nor a value that was not decoded: there is nothing that could pass.
pub type Unkept<'f> = dyn FnMut(Denial) -> Result<(), Denial> + 'f;

/// Checks tensors against rules, symbolic dims included: the request's inputs, a handler's output, a backend's answer.
/// The denial carries a contract reason (`datatype`, `shape`, …) in [`crate::Reason`]'s order; a caller that checks a handler or a backend
/// maps it to that party's own reason and keeps the cause.
///
/// # Errors
/// The first fault, in the order of the reasons.
pub fn check_tensors(
    rules: &[TensorRule],
    tensors: &[Tensor<'_>],
    unkept: &mut Unkept<'_>,
) -> Result<(), Denial> {
    tensors::check("tensor", rules, tensors, unkept)
}

/// A name from outside as text that is safe to repeat: quoted, printable ASCII only, of bounded length.
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

/// One tensor's rules.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorRule {
    pub(crate) name: String,
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<DimRule>,
    pub(crate) optional: bool,
    pub(crate) finite: bool,
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) numbers: Numbers,
    pub(crate) max_item_bytes: Option<usize>,
    pub(crate) items: Items,
    pub(crate) release: Release,
}

impl TensorRule {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its element type.
    pub const fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// Its dims.
    pub fn shape(&self) -> &[DimRule] {
        &self.shape
    }

    /// Whether it may be left out.
    pub const fn optional(&self) -> bool {
        self.optional
    }

    /// `BYTES`: the longest element, bytes.
    pub const fn max_item_bytes(&self) -> Option<usize> {
        self.max_item_bytes
    }
}

/// Whether tensors can be said row by row: there is a size that the first dim of each can have.
pub(crate) fn have_rows<'r>(mut rules: impl Iterator<Item = &'r TensorRule>) -> bool {
    let sizes = rules.try_fold((0, u64::MAX), |(least, most), rule| {
        let dim = rule.shape.first()?;
        let (least, most) = (dim.min.max(least), dim.max.min(most));
        (least <= most).then_some((least, most))
    });
    sizes.is_some()
}

/// One dim's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DimRule {
    pub(crate) min: u64,
    pub(crate) max: u64,
    /// Dims of one symbol are equal within a request: an index shared by every rule of one model.
    pub(crate) symbol: Option<u32>,
}

impl DimRule {
    /// The one size it may have, or `None` where it may vary (`-1` in metadata).
    pub const fn fixed(&self) -> Option<u64> {
        if self.min == self.max {
            Some(self.min)
        } else {
            None
        }
    }

    /// The smallest size it may have.
    pub const fn min(&self) -> u64 {
        self.min
    }

    /// The largest size it may have.
    pub const fn max(&self) -> u64 {
        self.max
    }
}

/// A request parameter's bounds.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the raw type says what each is")]
pub enum ParameterBound {
    Int(i64, i64),
    Float(f64, f64),
    Bool,
    OneOf(Vec<String>),
}

#[cfg(test)]
mod tests;
