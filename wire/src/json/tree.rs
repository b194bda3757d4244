//! A value whose shape follows from its lists, with a given datatype, as in TF Serving's JSON. All
//! scalars have the same depth, and lists of a level the same length. One pass over the text;
//! values of one tensor may come row by row.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_policy::Datatype;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::tensor::DataFault;

use super::number::Number;
use super::scan::Scanner;
use crate::fault::BodyFault;
use crate::limits::MAX_JSON_DEPTH;
use crate::raw_contents::{Budget, push_item};

/// Key of an object that represents bytes.
const BASE64_KEY: &str = "b64";

// The document, `instances`, a row, lists of every rank and an object of bytes fit into the depth
// limit.
const _: () = assert!(MAX_RANK + 4 <= MAX_JSON_DEPTH);

/// Encoding of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// A string is text; an object of base64 is bytes.
    Tagged,
    /// A string is text.
    Plain,
    /// A string is base64.
    Base64,
}

/// Why reading stopped: the request is malformed, or the values have another datatype.
enum Stop {
    Body(BodyFault),
    Data(DataFault),
    /// Lists nest deeper than any tensor.
    Dims,
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

/// A tensor in progress.
pub(super) struct Tree {
    datatype: Option<Datatype>,
    texts: Texts,
    raw: Vec<u8>,
    /// Elements so far.
    index: usize,
    /// Length of the lists at each level, outermost first; `None` while the first one is open.
    dims: Vec<Option<i64>>,
    /// Depth of scalars, once known.
    rank: Option<usize>,
    /// A value out of range. Reading continues, because a wrong shape takes precedence.
    beyond: Option<DataFault>,
    /// Another fault, after which values are only scanned.
    stopped: Option<DataFault>,
}

impl Tree {
    pub(super) const fn new(datatype: Option<Datatype>, texts: Texts) -> Self {
        Self {
            datatype,
            texts,
            raw: Vec::new(),
            index: 0,
            dims: Vec::new(),
            rank: None,
            beyond: None,
            stopped: None,
        }
    }

    /// Shape of one value, and all elements in raw form.
    pub(super) fn finish(self) -> (Vec<i64>, Result<Vec<u8>, DataFault>) {
        let shape = self
            .dims
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect();
        let data = match self.stopped.or(self.beyond) {
            Some(fault) => Err(fault),
            None => Ok(self.raw),
        };
        (shape, data)
    }

    /// Reads the next value. Value faults are kept for [`Self::finish`]; the error concerns the
    /// request.
    pub(super) fn read(
        &mut self,
        scanner: &mut Scanner<'_>,
        budget: &mut Budget,
    ) -> Result<(), BodyFault> {
        scanner.token();
        let start = scanner.at;
        if self.stopped.is_none() {
            match self.walk(scanner, budget) {
                Ok(()) => return Ok(()),
                Err(Stop::Body(fault)) => return Err(fault),
                Err(Stop::Data(fault)) => self.stopped = Some(fault),
                Err(Stop::Dims) => {
                    let fault = BodyFault::TooMany {
                        what: "dims",
                        max: MAX_RANK,
                    };
                    scanner.at = start;
                    return Err(scanner.value().err().unwrap_or(fault));
                }
            }
            // The rest of the document must still be valid JSON, which takes precedence.
            scanner.at = start;
            self.raw = Vec::new();
        }
        scanner.value().map(drop)
    }

    fn walk(&mut self, scanner: &mut Scanner<'_>, budget: &mut Budget) -> Result<(), Stop> {
        // Elements in the open list of each level, outermost first.
        let mut seen = [0_i64; MAX_RANK];
        let mut level = 0_usize;
        loop {
            if scanner.token() == Some(b'[') {
                if level >= MAX_RANK {
                    return Err(Stop::Dims);
                }
                if self.rank.is_some_and(|rank| level >= rank) {
                    return Err(DataFault::Nesting.into());
                }
                count(&mut seen, level);
                scanner.step();
                if let Some(open) = seen.get_mut(level) {
                    *open = 0;
                }
                level = level.wrapping_add(1);
                if self.dims.len() < level {
                    self.dims.push(None);
                }
                if scanner.token() != Some(b']') {
                    continue;
                }
            } else {
                // A scalar in place of a list, or at another depth than the first one.
                if *self.rank.get_or_insert(level) != level || self.dims.len() != level {
                    return Err(DataFault::Nesting.into());
                }
                loop {
                    budget.take(1)?;
                    self.element(scanner, budget)?;
                    self.index = self.index.wrapping_add(1);
                    count(&mut seen, level);
                    // The usual case: a comma directly followed by a scalar.
                    if level == 0 || !scanner.next_scalar() {
                        break;
                    }
                }
            }
            // After a value: ends of lists, up to a comma.
            loop {
                if level == 0 {
                    return Ok(());
                }
                match scanner.token() {
                    Some(b',') => {
                        scanner.step();
                        break;
                    }
                    Some(b']') => {
                        scanner.step();
                        level = level.wrapping_sub(1);
                        let length = seen.get(level).copied().unwrap_or_default();
                        if let Some(dim) = self.dims.get_mut(level)
                            && *dim.get_or_insert(length) != length
                        {
                            return Err(DataFault::Nesting.into());
                        }
                    }
                    _ => {
                        return Err(scanner
                            .form("a comma or a closing bracket is expected")
                            .into());
                    }
                }
            }
        }
    }

    /// Reads one scalar.
    fn element(&mut self, scanner: &mut Scanner<'_>, budget: &mut Budget) -> Result<(), Stop> {
        let index = self.index;
        if scanner.peek() == Some(b'{') {
            if self.texts != Texts::Tagged {
                return Err(scanner.other("an object is where a value goes").into());
            }
            let bytes = base64(scanner)?;
            return match self.datatype {
                Some(Datatype::Bytes) => self.item(scanner, &bytes),
                _ => Err(DataFault::Kind { index }.into()),
            };
        }
        match self.datatype {
            Some(Datatype::Bool) => match scanner.peek() {
                Some(b't' | b'f') => match scanner.word()? {
                    Some(value) => {
                        self.raw.push(u8::from(value));
                        Ok(())
                    }
                    None => Err(DataFault::Kind { index }.into()),
                },
                _ => Err(DataFault::Kind { index }.into()),
            },
            Some(Datatype::Uint8) => self.integer(scanner, u8::to_le_bytes),
            Some(Datatype::Uint16) => self.integer(scanner, u16::to_le_bytes),
            Some(Datatype::Uint32) => self.integer(scanner, u32::to_le_bytes),
            Some(Datatype::Uint64) => self.integer(scanner, u64::to_le_bytes),
            Some(Datatype::Int8) => self.integer(scanner, i8::to_le_bytes),
            Some(Datatype::Int16) => self.integer(scanner, i16::to_le_bytes),
            Some(Datatype::Int32) => self.integer(scanner, i32::to_le_bytes),
            Some(Datatype::Int64) => self.integer(scanner, i64::to_le_bytes),
            Some(Datatype::Fp32) => {
                let value = self.float(scanner, budget)?.to_f32();
                self.push(
                    value
                        .filter(|value| value.is_finite())
                        .map(f32::to_le_bytes),
                    DataFault::NotFinite { index },
                );
                Ok(())
            }
            Some(Datatype::Fp64) => {
                let value = self.float(scanner, budget)?.to_f64();
                self.push(
                    value
                        .filter(|value| value.is_finite())
                        .map(f64::to_le_bytes),
                    DataFault::NotFinite { index },
                );
                Ok(())
            }
            Some(Datatype::Bytes) => {
                if scanner.peek() != Some(b'"') {
                    return Err(DataFault::Kind { index }.into());
                }
                let item = scanner.string()?;
                if self.texts == Texts::Base64 {
                    return self.item(scanner, &bytes_of(&item)?);
                }
                self.item(scanner, item.as_bytes())
            }
            Some(Datatype::Fp16 | Datatype::Bf16) | None => Err(DataFault::Kind { index }.into()),
        }
    }

    fn item(&mut self, scanner: &Scanner<'_>, item: &[u8]) -> Result<(), Stop> {
        push_item(&mut self.raw, item).ok_or_else(|| scanner.form("an element is too long").into())
    }

    fn number<'t>(&self, scanner: &mut Scanner<'t>) -> Result<Number<'t>, Stop> {
        let Some(b'-' | b'0'..=b'9') = scanner.peek() else {
            return Err(DataFault::Kind { index: self.index }.into());
        };
        Ok(scanner.number()?)
    }

    /// A number that needs rounding.
    fn float<'t>(
        &self,
        scanner: &mut Scanner<'t>,
        budget: &mut Budget,
    ) -> Result<Number<'t>, Stop> {
        let number = self.number(scanner)?;
        if number.is_long() {
            budget.take_long_number()?;
        }
        Ok(number)
    }

    /// Integer datatypes accept integer literals only. They are never rounded and need no budget.
    fn integer<T: TryFrom<i64> + core::str::FromStr, const N: usize>(
        &mut self,
        scanner: &mut Scanner<'_>,
        le: impl Fn(T) -> [u8; N],
    ) -> Result<(), Stop> {
        let number = self.number(scanner)?;
        let index = self.index;
        if !number.integer {
            return Err(DataFault::Kind { index }.into());
        }
        self.push(number.to_integer().map(le), DataFault::Overflow { index });
        Ok(())
    }

    fn push<const N: usize>(&mut self, value: Option<[u8; N]>, otherwise: DataFault) {
        match value {
            Some(bytes) => self.raw.extend_from_slice(&bytes),
            None => {
                self.beyond.get_or_insert(otherwise);
            }
        }
    }
}

/// Counts a value in the open list of the level above.
fn count(seen: &mut [i64; MAX_RANK], level: usize) {
    if let Some(count) = level.checked_sub(1).and_then(|above| seen.get_mut(above)) {
        *count = count.wrapping_add(1);
    }
}

/// Whether the next object is base64 bytes, by its first key. The scanner does not move.
pub(super) fn is_base64(scanner: &mut Scanner<'_>) -> bool {
    let start = scanner.at;
    let found = scanner.token() == Some(b'{') && {
        scanner.step();
        scanner.token() == Some(b'"') && scanner.string().is_ok_and(|key| key == BASE64_KEY)
    };
    scanner.at = start;
    found
}

/// Reads `{"b64": "…"}`: one key with canonical base64. Any other object is invalid.
fn base64(scanner: &mut Scanner<'_>) -> Result<Vec<u8>, BodyFault> {
    let start = scanner.at;
    let no_base64 = "holds an object that is not {\"b64\": \"…\"}";
    let text = is_base64(scanner).then(|| {
        scanner.step();
        scanner.token();
        scanner.string()?;
        scanner.expect(b':', "a colon is expected")?;
        match scanner.token() {
            Some(b'"') => scanner.string().map(Some),
            _ => Ok(None),
        }
    });
    if let Some(Ok(Some(text))) = text
        && scanner.token() == Some(b'}')
    {
        scanner.step();
        return bytes_of(&text);
    }
    scanner.at = start;
    scanner.value()?;
    Err(BodyFault::field("a tensor", no_base64))
}

/// Decodes base64 text.
fn bytes_of(text: &str) -> Result<Vec<u8>, BodyFault> {
    STANDARD
        .decode(text)
        .map_err(|_| BodyFault::field(BASE64_KEY, "is not base64 in its canonical form"))
}
