//! Writes the elements of a tensor as nested JSON lists.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, Tensor};

use super::elements::scalar;
use super::{Unencodable, consistent_data};
use crate::json_text::list;

/// How `BYTES` are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// As text.
    Plain,
    /// In base64.
    Base64,
    /// In base64, in an object with a key.
    Tagged,
}

/// Elements of one output, row-major, during encoding.
pub(super) struct Elements<'a> {
    datatype: Datatype,
    rest: &'a [u8],
    texts: Texts,
}

impl<'a> Elements<'a> {
    /// Elements of a consistent output.
    pub(super) fn of(output: &'a Tensor<'_>, texts: Texts) -> Result<Self, Unencodable> {
        let (datatype, rest) = consistent_data(output).ok_or(Unencodable::Tensor)?;
        Ok(Self {
            datatype,
            rest,
            texts,
        })
    }

    /// Takes the next element.
    fn take(&mut self) -> Option<&'a [u8]> {
        let size = match self.datatype.size_bytes() {
            Some(size) => size,
            None => items(self.rest).next()?.ok()?.len().checked_add(4)?,
        };
        let (element, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(element)
    }

    /// Writes the next element.
    fn next(&mut self, json: &mut String) -> Result<(), Unencodable> {
        let element = self.take().ok_or(Unencodable::Tensor)?;
        if self.datatype == Datatype::Bytes && self.texts != Texts::Plain {
            let (before, after) = match self.texts {
                Texts::Tagged => ("{\"b64\":\"", "\"}"),
                Texts::Base64 | Texts::Plain => ("\"", "\""),
            };
            json.push_str(before);
            STANDARD.encode_string(element.get(4..).ok_or(Unencodable::Tensor)?, json);
            json.push_str(after);
            return Ok(());
        }
        scalar(json, self.datatype, element)
    }

    /// Writes a value with these dimensions, at most [`MAX_RANK`].
    pub(super) fn value(&mut self, json: &mut String, shape: &[i64]) -> Result<(), Unencodable> {
        let Some((dim, inner)) = shape.split_first() else {
            return self.next(json);
        };
        let mut written = Ok(());
        list(json, 0..*dim, |json, _| {
            if written.is_ok() {
                written = self.value(json, inner);
            }
        });
        written
    }
}

/// Elements of a tensor in nested lists. `None` if JSON cannot represent one, or if the tensor is
/// inconsistent.
pub(crate) fn lists(tensor: &Tensor<'_>) -> Option<String> {
    if tensor.shape.len() > MAX_RANK {
        return None;
    }
    let mut json = String::new();
    let mut elements = Elements::of(tensor, Texts::Plain).ok()?;
    elements.value(&mut json, &tensor.shape).ok()?;
    Some(json)
}

/// Maximum JSON overhead of an output: every opened list, and its name in every row.
pub(super) fn json_overhead(output: &Tensor<'_>) -> usize {
    /// Brackets and a comma.
    const LIST_BYTES: usize = 3;
    /// Quotes, a colon, a comma, a brace; a character of a name may take six in JSON.
    const NAME_BYTES: usize = 5;
    let mut lists = 1_usize;
    let mut total = 0_usize;
    for dim in &output.shape {
        total = total.saturating_add(lists);
        lists = lists.saturating_mul(usize::try_from(*dim).unwrap_or(usize::MAX));
    }
    let rows = output.shape.first().copied().unwrap_or(1);
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let name = output
        .name
        .len()
        .saturating_mul(6)
        .saturating_add(NAME_BYTES);
    total
        .saturating_mul(LIST_BYTES)
        .saturating_add(rows.saturating_mul(name))
}
