//! Converts a tensor's `data` to raw form in one pass without allocation per element. Numbers are
//! parsed for the datatype, so a float is rounded once. The pass also checks JSON's grammar.

use tensorgate_policy::Datatype;
use tensorgate_policy::contract::{MAX_RANK, NumberCheck, TensorRule};
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::tensor_data::TensorData;

use super::number::{Number, Plain};
use super::plain_run::take;
use super::scan::{Next, Scanner};
use crate::fault::BodyFault;
use crate::limits::MAX_JSON_DEPTH;
use crate::raw_contents::{Budget, push_item};

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

/// Checks the next `data` list without conversion. `None` for a list that has to be converted: a
/// short one, one with a fault or a long number, or one that the fast check reads in short runs.
/// The scanner's position and the budget are undefined then.
pub(super) fn check(
    scanner: &mut Scanner<'_>,
    rule: &TensorRule,
    shape: &[i64],
    budget: &mut Budget,
) -> Option<TensorData<'static>> {
    let before = budget.elements();
    let mut list = List::new(scanner, shape, budget);
    if list.likely_elements() < MIN_CHECKED {
        return None;
    }
    let check = NumberCheck::new(rule)?;
    list.check = Some(check);
    list.convert(Some(rule.datatype())).ok()?;
    check.checked(before.saturating_sub(budget.elements()))
}

/// Ends a check. The list is converted then, which finds the fault if there is one.
const UNCHECKED: Stop = Stop::Data(DataFault::Missing);
/// The shortest list that is worth a check.
const MIN_CHECKED: usize = 32;
/// How many runs a checked list may have at least, and the elements that allow one more. A run ends
/// at a number for the parser or at unusual blanks, so this bounds what a check can cost in vain.
const FEW_RUNS: usize = 16;
const RUN_ELEMENTS: usize = 16;

/// For elements other than numbers.
const NO_RUNS: fn(&mut Scanner<'_>, usize, &mut Vec<u8>) -> Result<usize, Stop> = |_, _, _| Ok(0);

/// Reads the numbers that a fast check allows, and returns how many these are.
fn run(scanner: &mut Scanner<'_>, check: &NumberCheck<'_>) -> usize {
    let rest = scanner
        .text
        .as_bytes()
        .get(scanner.at..)
        .unwrap_or_default();
    let run = check.run(rest);
    scanner.at = scanner.at.saturating_add(run.bytes);
    run.count
}

/// A `data` list in progress: flat, or nested exactly like the shape.
struct List<'a, 'b> {
    scanner: &'b mut Scanner<'a>,
    shape: &'b [i64],
    budget: &'b mut Budget,
    /// Number of open lists.
    level: usize,
    next: Next,
    /// Checks numbers, which are not converted then.
    check: Option<NumberCheck<'b>>,
}

impl<'a, 'b> List<'a, 'b> {
    fn new(scanner: &'b mut Scanner<'a>, shape: &'b [i64], budget: &'b mut Budget) -> Self {
        Self {
            scanner,
            shape,
            budget,
            level: 0,
            next: Next::First,
            check: None,
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
        let check = self.check;
        let mut runs = 0_usize;
        let before = self.budget.elements();
        self.elements(
            if check.is_some() { 0 } else { N },
            |scanner, max, raw| {
                let Some(check) = check else {
                    return Ok(take(scanner, max, raw, &plain));
                };
                runs = runs.wrapping_add(1);
                let read = before.wrapping_sub(max);
                if runs > FEW_RUNS.saturating_add(read / RUN_ELEMENTS) {
                    return Err(UNCHECKED);
                }
                Ok(run(scanner, &check))
            },
            |scanner, budget, raw, index| {
                let Some(b'-' | b'0'..=b'9') = scanner.peek() else {
                    return Err(DataFault::Kind { index }.into());
                };
                let number = scanner.number()?;
                if check.is_some() && number.is_long() {
                    return Err(UNCHECKED);
                }
                let element = element(number, index, budget)?;
                match check {
                    None => raw.extend_from_slice(&element),
                    Some(check) if check.allows(&element) => {}
                    Some(_) => return Err(UNCHECKED),
                }
                Ok(())
            },
        )
    }

    /// Walks the list; `run` reads a limited number of plain scalars, and `element` any single one.
    fn elements(
        &mut self,
        size_bytes: usize,
        mut run: impl FnMut(&mut Scanner<'a>, usize, &mut Vec<u8>) -> Result<usize, Stop>,
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
                    false => run(self.scanner, self.budget.elements(), &mut raw)?,
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
        let declared = self.shape.iter().try_fold(1_usize, |product, dim| {
            product.checked_mul(usize::try_from(*dim).ok()?)
        });
        declared.unwrap_or(most).min(most)
    }
}
