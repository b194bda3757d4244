//! Tensors whose shapes follow from their lists and whose datatypes come from the contract: by row
//! or as a whole, with or without names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::tensor_data::TensorData;
use tensorgate_policy::{Datatype, Tensor};

use super::scan::Scanner;
use super::tree::{Texts, Tree, is_base64};
use crate::fault::{BodyFault, quote};
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES};
use crate::raw_contents::Budget;

/// A tensor that is read by name.
pub(super) struct Column<'a> {
    name: Cow<'a, str>,
    /// From its rule; `None` without a rule, and then it is not read.
    datatype: Option<&'static str>,
    tree: Tree,
    /// Number of rows so far.
    rows: i64,
}

impl<'a> Column<'a> {
    pub(super) fn new(name: Cow<'a, str>, rules: &[TensorRule]) -> Self {
        Self::of(name, rules, Texts::Tagged)
    }

    /// The same with a given encoding of bytes.
    pub(super) fn of(name: Cow<'a, str>, rules: &[TensorRule], texts: Texts) -> Self {
        let datatype = rules
            .iter()
            .find(|rule| rule.name() == name)
            .map(TensorRule::datatype);
        Self {
            name,
            datatype: datatype.map(Datatype::name),
            tree: Tree::new(datatype, texts),
            rows: 0,
        }
    }

    pub(super) fn read(
        &mut self,
        scanner: &mut Scanner<'a>,
        budget: &mut Budget,
    ) -> Result<(), BodyFault> {
        self.rows = self.rows.saturating_add(1);
        match self.datatype {
            Some(_) => self.tree.read(scanner, budget),
            None => scanner.value().map(drop),
        }
    }

    /// Number of values read.
    pub(super) const fn rows(&self) -> i64 {
        self.rows
    }

    /// The tensor; `in_rows`: with a dimension for rows.
    pub(super) fn finish(self, in_rows: bool) -> Tensor<'a> {
        let (mut shape, data) = self.tree.finish();
        if in_rows {
            shape.insert(0, self.rows);
        }
        let data = match self.datatype {
            Some(_) => data.map(TensorData::Owned),
            None => Err(DataFault::Kind { index: 0 }),
        };
        Tensor {
            name: self.name,
            datatype: Cow::Borrowed(self.datatype.unwrap_or_default()),
            shape,
            parameters: Vec::new(),
            data,
        }
    }
}

/// The only tensor, for values without a name.
pub(super) fn only<'a>(field: &'static str, rules: &[TensorRule]) -> Result<Column<'a>, BodyFault> {
    match rules {
        [rule] => Ok(Column::new(Cow::Owned(rule.name().to_owned()), rules)),
        _ => Err(BodyFault::field(
            field,
            "has no names, and the model has several inputs",
        )),
    }
}

/// Reads rows: a list of values of the only input, or of objects with a value per input.
pub(super) fn rows<'a>(
    scanner: &mut Scanner<'a>,
    field: &'static str,
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Vec<Tensor<'a>>, BodyFault> {
    if scanner.token() != Some(b'[') {
        return Err(scanner.other("rows are not a list"));
    }
    let start = scanner.at;
    scanner.step();
    let named = match scanner.token() {
        Some(b'{') => !is_base64(scanner),
        // Without rows there are no named tensors.
        Some(b']') => rules.len() != 1,
        _ => false,
    };
    scanner.at = start;
    if !named {
        let mut column = match only(field, rules) {
            Ok(column) => column,
            Err(fault) => return Err(scanner.value().err().unwrap_or(fault)),
        };
        column.read(scanner, budget)?;
        return Ok(vec![column.finish(false)]);
    }
    let mut columns = RowColumns::default();
    let mut row = 0_i64;
    scanner.array(|scanner| {
        if scanner.token() != Some(b'{') || is_base64(scanner) {
            return Err(scanner.other("a row is not an object of inputs, as the first is"));
        }
        let mut next = 0_usize;
        scanner.object(|scanner, key| {
            let column = columns.find(field, next, key, row == 0, rules)?;
            next = column.wrapping_add(1);
            let column = columns.list.get_mut(column).ok_or_else(|| uneven(field))?;
            if column.rows > row {
                let fault = BodyFault::Duplicate(format!("input {}", quote(&column.name)));
                return Err(scanner.value().err().unwrap_or(fault));
            }
            column.read(scanner, budget)
        })?;
        row = row.saturating_add(1);
        if columns.list.iter().any(|column| column.rows != row) {
            return Err(uneven(field));
        }
        Ok(())
    })?;
    Ok(columns
        .list
        .into_iter()
        .map(|column| column.finish(true))
        .collect())
}

/// Columns of rows, which may have hundreds of them in any order.
#[derive(Default)]
struct RowColumns<'a> {
    list: Vec<Column<'a>>,
    by_name: BTreeMap<Cow<'a, str>, usize>,
}

impl<'a> RowColumns<'a> {
    /// Index of a column: `next` if rows have the same order. A new column is only added in the
    /// `first` row.
    fn find(
        &mut self,
        field: &'static str,
        next: usize,
        key: Cow<'a, str>,
        first: bool,
        rules: &[TensorRule],
    ) -> Result<usize, BodyFault> {
        if (self.list.get(next)).is_some_and(|column| column.name == key) {
            return Ok(next);
        }
        if let Some(index) = self.by_name.get(&key) {
            return Ok(*index);
        }
        if !first {
            return Err(uneven(field));
        }
        let index = add(&mut self.list, key.clone(), rules)?;
        self.by_name.insert(key, index);
        Ok(index)
    }
}

fn add<'a>(
    columns: &mut Vec<Column<'a>>,
    key: Cow<'a, str>,
    rules: &[TensorRule],
) -> Result<usize, BodyFault> {
    if key.len() > MAX_NAME_BYTES {
        return Err(BodyFault::field("name of an input", "is too long"));
    }
    let index = columns.len();
    if index >= MAX_INPUTS {
        return Err(BodyFault::TooMany {
            what: "inputs",
            max: MAX_INPUTS,
        });
    }
    columns.push(Column::new(key, rules));
    Ok(index)
}

/// Rows with different inputs are rejected.
fn uneven(field: &'static str) -> BodyFault {
    BodyFault::field(field, "has not the same inputs in every row")
}

/// Reads whole tensors: the value of the only input, or an object with a value per input.
pub(super) fn columns<'a>(
    scanner: &mut Scanner<'a>,
    field: &'static str,
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Vec<Tensor<'a>>, BodyFault> {
    if scanner.token() != Some(b'{') || is_base64(scanner) {
        let mut column = match only(field, rules) {
            Ok(column) => column,
            Err(fault) => return Err(scanner.value().err().unwrap_or(fault)),
        };
        column.read(scanner, budget)?;
        return Ok(vec![column.finish(false)]);
    }
    let mut columns = Columns::new(rules);
    scanner.object(|scanner, key| columns.read(scanner, key, budget))?;
    Ok(columns.finish())
}

/// Whole tensors by name.
pub(super) struct Columns<'a, 'r> {
    rules: &'r [TensorRule],
    columns: Vec<Column<'a>>,
}

impl<'a, 'r> Columns<'a, 'r> {
    pub(super) const fn new(rules: &'r [TensorRule]) -> Self {
        Self {
            rules,
            columns: Vec::new(),
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Reads the value of a member.
    pub(super) fn read(
        &mut self,
        scanner: &mut Scanner<'a>,
        key: Cow<'a, str>,
        budget: &mut Budget,
    ) -> Result<(), BodyFault> {
        if self.columns.iter().any(|column| column.name == key) {
            let fault = BodyFault::Duplicate(format!("input {}", quote(&key)));
            return Err(scanner.value().err().unwrap_or(fault));
        }
        let index = add(&mut self.columns, key, self.rules)?;
        match self.columns.get_mut(index) {
            Some(column) => column.read(scanner, budget),
            None => scanner.value().map(drop),
        }
    }

    pub(super) fn finish(self) -> Vec<Tensor<'a>> {
        let columns = self.columns.into_iter();
        columns.map(|column| column.finish(false)).collect()
    }
}
