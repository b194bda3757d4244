//! Converts a tensor's `data` to raw form in one pass without allocation per element. Numbers are
//! parsed for the datatype, so a float is rounded once. The pass also checks JSON's grammar.

use std::borrow::Cow;

use tensorgate_policy::contract::{MAX_RANK, TensorRule};
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{Datatype, Tensor};

use super::number::{Number, Plain, walk};
use super::scan::{Next, Scanner};
use super::tree::{Texts, Tree, is_base64};
use crate::decode::{BodyFault, Budget, push_item, quote};
use crate::limits::{MAX_INPUTS, MAX_JSON_DEPTH, MAX_NAME_BYTES};

/// Why a conversion stopped: invalid JSON, values of another datatype, or the budget is exhausted.
enum Stop {
    Body(BodyFault),
    Data(DataFault),
    BudgetUse(BodyFault),
}

impl From<BodyFault> for Stop {
    fn from(fault: BodyFault) -> Self {
        Self::Body(fault)
    }
}

impl From<DataFault> for Stop {
    fn from(fault: DataFault) -> Self {
        Self::Data(fault)
    }
}

// Lists of every rank fit into the depth limit, together with the document, `inputs` and the input.
const _: () = assert!(MAX_RANK + 3 <= MAX_JSON_DEPTH);

/// Converts the next `data` list. The outer error concerns the request, the inner one the values;
/// after an error the scanner's position is undefined.
pub(super) fn convert(
    scanner: &mut Scanner<'_>,
    datatype: Option<Datatype>,
    shape: &[i64],
    budget: &mut Budget,
) -> Result<Result<Vec<u8>, DataFault>, BodyFault> {
    match List::new(scanner, shape, budget).convert(datatype) {
        Ok(raw) => Ok(Ok(raw)),
        Err(Stop::Data(fault)) => Ok(Err(fault)),
        Err(Stop::Body(fault) | Stop::BudgetUse(fault)) => Err(fault),
    }
}

/// Result for a list that was converted before the rest of the document.
pub(super) enum Early {
    /// In raw form.
    Raw(Vec<u8>),
    /// Values of another datatype. The list is valid JSON; `objects` says whether it contains
    /// objects.
    Fault { fault: DataFault, objects: bool },
    /// The budget is exhausted; the scanner's position is undefined.
    Exhausted,
}

/// Converts a list early. After a value fault, the rest of the list is only checked for JSON's
/// grammar.
pub(super) fn early(
    scanner: &mut Scanner<'_>,
    datatype: Option<Datatype>,
    shape: &[i64],
    budget: &mut Budget,
) -> Result<Early, BodyFault> {
    let mut list = List::new(scanner, shape, budget);
    match list.convert(datatype) {
        Ok(raw) => Ok(Early::Raw(raw)),
        Err(Stop::Data(fault)) => {
            let (level, next) = (list.level, list.next);
            let objects = match level {
                // Nothing was read.
                0 => scanner.value()?,
                _ => scanner.rest_of_lists(level, next)?,
            };
            Ok(Early::Fault { fault, objects })
        }
        Err(Stop::BudgetUse(_)) => Ok(Early::Exhausted),
        Err(Stop::Body(fault)) => Err(fault),
    }
}

/// For elements other than numbers.
const NO_RUNS: fn(&mut Scanner<'_>, usize, &mut Vec<u8>) -> usize = |_, _, _| 0;

/// A `data` list in progress: flat, or nested exactly like the shape.
struct List<'a, 'b> {
    scanner: &'b mut Scanner<'a>,
    shape: &'b [i64],
    budget: &'b mut Budget,
    /// Number of open lists.
    level: usize,
    next: Next,
}

impl<'a, 'b> List<'a, 'b> {
    fn new(scanner: &'b mut Scanner<'a>, shape: &'b [i64], budget: &'b mut Budget) -> Self {
        Self {
            scanner,
            shape,
            budget,
            level: 0,
            next: Next::First,
        }
    }

    fn convert(&mut self, datatype: Option<Datatype>) -> Result<Vec<u8>, Stop> {
        match datatype {
            Some(Datatype::Bool) => {
                self.elements(1, NO_RUNS, |scanner, _, raw, index| match scanner.peek() {
                    Some(b't' | b'f') => match scanner.word()? {
                        Some(value) => {
                            raw.push(u8::from(value));
                            Ok(())
                        }
                        None => Err(DataFault::Kind { index }.into()),
                    },
                    _ => Err(DataFault::Kind { index }.into()),
                })
            }
            Some(Datatype::Uint8) => self.integers(u8::to_le_bytes),
            Some(Datatype::Uint16) => self.integers(u16::to_le_bytes),
            Some(Datatype::Uint32) => self.integers(u32::to_le_bytes),
            Some(Datatype::Uint64) => self.integers(u64::to_le_bytes),
            Some(Datatype::Int8) => self.integers(i8::to_le_bytes),
            Some(Datatype::Int16) => self.integers(i16::to_le_bytes),
            Some(Datatype::Int32) => self.integers(i32::to_le_bytes),
            Some(Datatype::Int64) => self.integers(i64::to_le_bytes),
            Some(Datatype::Fp32) => self.floats(
                Plain::to_f32,
                |number| number.to_f32().filter(|value| value.is_finite()),
                f32::to_le_bytes,
            ),
            Some(Datatype::Fp64) => self.floats(
                Plain::to_f64,
                |number| number.to_f64().filter(|value| value.is_finite()),
                f64::to_le_bytes,
            ),
            Some(Datatype::Bytes) => self.elements(4, NO_RUNS, |scanner, _, raw, index| {
                if scanner.peek() != Some(b'"') {
                    return Err(DataFault::Kind { index }.into());
                }
                let item = scanner.string()?;
                push_item(raw, item.as_bytes())
                    .ok_or_else(|| scanner.form("an element is too long").into())
            }),
            // JSON has no 16-bit floats; servers reject them too.
            Some(Datatype::Fp16 | Datatype::Bf16) | None => {
                Err(DataFault::Kind { index: 0 }.into())
            }
        }
    }

    /// Floats: `plain` is the fast path for finite values, and `finite` handles all finite values.
    fn floats<T, const N: usize>(
        &mut self,
        plain: impl Fn(Plain) -> Option<T>,
        finite: impl Fn(Number<'_>) -> Option<T>,
        le: impl Fn(T) -> [u8; N],
    ) -> Result<Vec<u8>, Stop> {
        self.numbers(
            // Plain numbers are short and need no budget.
            |read| plain(read.plain?).or_else(|| finite(*read)).map(&le),
            |read, index, budget| {
                if read.is_long() {
                    budget.take_long_number().map_err(Stop::BudgetUse)?;
                }
                let value = finite(read).ok_or(DataFault::NotFinite { index })?;
                Ok(le(value))
            },
        )
    }

    /// Integer datatypes accept integer literals only: `1.0` and `1e2` are floats to typed parsers.
    /// Integers are never rounded and need no budget.
    fn integers<T: TryFrom<i64> + core::str::FromStr, const N: usize>(
        &mut self,
        le: impl Fn(T) -> [u8; N],
    ) -> Result<Vec<u8>, Stop> {
        self.numbers(
            |read| {
                let plain = read.plain.filter(|_| read.integer)?;
                T::try_from(plain.to_i64()?).ok().map(&le)
            },
            |read, index, _| {
                if !read.integer {
                    return Err(DataFault::Kind { index }.into());
                }
                // The text is an integer; only its range can be wrong.
                let value = read.to_integer();
                Ok(value.map(&le).ok_or(DataFault::Overflow { index })?)
            },
        )
    }

    /// Numbers: `plain` converts nearly all; `element` handles the rest.
    fn numbers<const N: usize>(
        &mut self,
        plain: impl Fn(&Number<'_>) -> Option<[u8; N]>,
        element: impl Fn(Number<'a>, usize, &mut Budget) -> Result<[u8; N], Stop>,
    ) -> Result<Vec<u8>, Stop> {
        self.elements(
            N,
            |scanner, max, raw| take(scanner, max, raw, &plain),
            |scanner, budget, raw, index| {
                let Some(b'-' | b'0'..=b'9') = scanner.peek() else {
                    return Err(DataFault::Kind { index }.into());
                };
                let number = scanner.number()?;
                raw.extend_from_slice(&element(number, index, budget)?);
                Ok(())
            },
        )
    }

    /// Walks the list; `run` reads a limited number of plain scalars, and `element` any single one.
    fn elements(
        &mut self,
        size_bytes: usize,
        run: impl Fn(&mut Scanner<'a>, usize, &mut Vec<u8>) -> usize,
        mut element: impl FnMut(&mut Scanner<'a>, &mut Budget, &mut Vec<u8>, usize) -> Result<(), Stop>,
    ) -> Result<Vec<u8>, Stop> {
        let mut raw = Vec::with_capacity(self.likely_elements().saturating_mul(size_bytes));
        let mut index = 0_usize;
        self.scanner.expect(b'[', "data is not a list")?;
        self.level = 1;
        let nested = self.scanner.token() == Some(b'[');
        let rank = if nested { self.shape.len() } else { 1 };
        if nested && rank < 2 {
            return Err(DataFault::Nesting.into());
        }
        // Elements in the open list of each level, outermost first.
        let mut seen = [0_u64; MAX_RANK];
        loop {
            let token = self.scanner.token();
            let after_value = self.next == Next::Separator;
            if token == Some(b',') {
                if !after_value {
                    return Err(self.scanner.form("a value is expected").into());
                }
                self.next = Next::Value;
                self.scanner.step();
                continue;
            }
            let level = self.level.wrapping_sub(1);
            let count = seen.get_mut(level).ok_or(DataFault::Nesting)?;
            if token == Some(b']') {
                if self.next == Next::Value {
                    return Err(self.scanner.form("a value is expected").into());
                }
                let wanted = self.shape.get(level).copied();
                if nested && wanted.map(u64::try_from) != Some(Ok(*count)) {
                    return Err(DataFault::Nesting.into());
                }
                *count = 0;
                self.scanner.step();
                self.next = Next::Separator;
                self.level = level;
                if level == 0 {
                    // Frees memory that the shape promised and the list did not need.
                    if raw.capacity() > raw.len().saturating_mul(2) {
                        raw.shrink_to_fit();
                    }
                    return Ok(raw);
                }
                continue;
            }
            if after_value {
                return Err(self
                    .scanner
                    .form("a comma or a closing bracket is expected")
                    .into());
            }
            if token == Some(b'[') {
                if self.level >= rank {
                    return Err(DataFault::Nesting.into());
                }
                *count = count.wrapping_add(1);
                self.level = self.level.wrapping_add(1);
                self.next = Next::First;
                self.scanner.step();
                continue;
            }
            if self.level != rank {
                return Err(DataFault::Nesting.into());
            }
            self.next = Next::Value;
            let before = index;
            // A run stops before a number that is not plain, which `element` reads next.
            let mut stopped = false;
            loop {
                let taken = match stopped {
                    true => 0,
                    false => run(self.scanner, self.budget.elements(), &mut raw),
                };
                stopped = taken > 0;
                self.budget.take(taken).map_err(Stop::BudgetUse)?;
                index = index.wrapping_add(taken);
                if taken == 0 {
                    self.budget.take(1).map_err(Stop::BudgetUse)?;
                    let at = self.scanner.at;
                    if let Err(stop) = element(self.scanner, self.budget, &mut raw, index) {
                        if self.scanner.at != at {
                            self.next = Next::Separator;
                        }
                        return Err(stop);
                    }
                    index = index.wrapping_add(1);
                }
                // The usual case: a comma directly followed by a scalar.
                if !self.scanner.next_scalar() {
                    break;
                }
            }
            let elements = u64::try_from(index.wrapping_sub(before)).unwrap_or(u64::MAX);
            *count = count.wrapping_add(elements);
            self.next = Next::Separator;
        }
    }

    /// Elements to preallocate: the shape's number, limited by the length of the text.
    fn likely_elements(&self) -> usize {
        let most = self.scanner.text.len().saturating_sub(self.scanner.at) / 2;
        let said = self.shape.iter().try_fold(1_usize, |product, dim| {
            product.checked_mul(usize::try_from(*dim).ok()?)
        });
        said.unwrap_or(most).min(most)
    }
}

// Fast path for runs of plain numbers, separated by a comma and at most one blank. It stops before
// anything else, which the general parser reads.

/// Reads at most `max` elements and returns their number. `element` gives the raw form of a plain
/// number of the datatype, without using the budget.
// A separate function, so that the compiler keeps its state in registers.
#[inline(never)]
pub(super) fn take<const N: usize>(
    scanner: &mut Scanner<'_>,
    max: usize,
    raw: &mut Vec<u8>,
    element: impl Fn(&Number<'_>) -> Option<[u8; N]>,
) -> usize {
    let text = scanner.text.as_bytes();
    let mut next = text.get(scanner.at..).unwrap_or_default();
    let mut rest = next;
    let mut taken = 0_usize;
    while taken < max {
        let Ok((number, behind)) = walk(next) else {
            break;
        };
        let Some(bytes) = element(&number) else {
            break;
        };
        raw.extend_from_slice(&bytes);
        taken = taken.wrapping_add(1);
        rest = behind;
        next = match rest {
            [b',', b' ', next @ ..] | [b',', next @ ..] => next,
            _ => break,
        };
    }
    scanner.at = text.len().wrapping_sub(rest.len());
    taken
}

// Tensors whose shapes follow from their lists and whose datatypes come from the contract: by row
// or as a whole, with or without names.

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
            Some(_) => data.map(Cow::Owned),
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
pub(super) fn only<'a>(place: &'static str, rules: &[TensorRule]) -> Result<Column<'a>, BodyFault> {
    match rules {
        [rule] => Ok(Column::new(Cow::Owned(rule.name().to_owned()), rules)),
        _ => Err(BodyFault::field(
            place,
            "gives no names where there are several inputs",
        )),
    }
}

/// Reads rows: a list of values of the only input, or of objects with a value per input.
pub(super) fn rows<'a>(
    scanner: &mut Scanner<'a>,
    place: &'static str,
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
        let mut column = match only(place, rules) {
            Ok(column) => column,
            Err(fault) => return Err(scanner.value().err().unwrap_or(fault)),
        };
        column.read(scanner, budget)?;
        return Ok(vec![column.finish(false)]);
    }
    let mut columns: Vec<Column<'a>> = Vec::new();
    let mut row = 0_i64;
    scanner.array(|scanner| {
        if scanner.token() != Some(b'{') || is_base64(scanner) {
            return Err(scanner.other("a row is not an object of inputs, as the first is"));
        }
        let mut next = 0_usize;
        scanner.object(|scanner, key| {
            let column = find(&mut columns, place, next, key, row == 0, rules)?;
            next = column.wrapping_add(1);
            let column = columns.get_mut(column).ok_or_else(|| uneven(place))?;
            if column.rows > row {
                let fault = BodyFault::Duplicate(format!("input {}", quote(&column.name)));
                return Err(scanner.value().err().unwrap_or(fault));
            }
            column.read(scanner, budget)
        })?;
        row = row.saturating_add(1);
        if columns.iter().any(|column| column.rows != row) {
            return Err(uneven(place));
        }
        Ok(())
    })?;
    Ok(columns
        .into_iter()
        .map(|column| column.finish(true))
        .collect())
}

/// Index of a column: `next` if rows have the same order. A new column is only added in the `first`
/// row.
fn find<'a>(
    columns: &mut Vec<Column<'a>>,
    place: &'static str,
    next: usize,
    key: Cow<'a, str>,
    first: bool,
    rules: &[TensorRule],
) -> Result<usize, BodyFault> {
    if columns.get(next).is_some_and(|column| column.name == key) {
        return Ok(next);
    }
    if let Some(place) = columns.iter().position(|column| column.name == key) {
        return Ok(place);
    }
    if !first {
        return Err(uneven(place));
    }
    add(columns, key, rules)
}

fn add<'a>(
    columns: &mut Vec<Column<'a>>,
    key: Cow<'a, str>,
    rules: &[TensorRule],
) -> Result<usize, BodyFault> {
    if key.len() > MAX_NAME_BYTES {
        return Err(BodyFault::field("name of an input", "is too long"));
    }
    let place = columns.len();
    if place >= MAX_INPUTS {
        return Err(BodyFault::TooMany {
            what: "inputs",
            max: MAX_INPUTS,
        });
    }
    columns.push(Column::new(key, rules));
    Ok(place)
}

/// Rows with different inputs are rejected.
fn uneven(place: &'static str) -> BodyFault {
    BodyFault::field(place, "has not the same inputs in every row")
}

/// Reads whole tensors: the value of the only input, or an object with a value per input.
pub(super) fn columns<'a>(
    scanner: &mut Scanner<'a>,
    place: &'static str,
    rules: &[TensorRule],
    budget: &mut Budget,
) -> Result<Vec<Tensor<'a>>, BodyFault> {
    if scanner.token() != Some(b'{') || is_base64(scanner) {
        let mut column = match only(place, rules) {
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
        let place = add(&mut self.columns, key, self.rules)?;
        match self.columns.get_mut(place) {
            Some(column) => column.read(scanner, budget),
            None => scanner.value().map(drop),
        }
    }

    pub(super) fn finish(self) -> Vec<Tensor<'a>> {
        let columns = self.columns.into_iter();
        columns.map(|column| column.finish(false)).collect()
    }
}
