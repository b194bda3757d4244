//! A value whose shape is what its lists say, read by a datatype that somebody else names: TF Serving's JSON. Scalars all stand at one depth,
//! and every list of a level is as long as the first. One pass over the text; several values of one tensor may come one by one, as rows do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_policy::Datatype;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::tensor::DataFault;

use super::number::Number;
use super::scan::Scanner;
use crate::fault::BodyFault;
use crate::limits::MAX_JSON_DEPTH;
use crate::raw::{Budget, push_item};

/// The one key of an object that stands for bytes.
const BASE64_KEY: &str = "b64";

// The document, `instances`, a row and the lists of every rank fit into a document's bound on depth, and so does an object of bytes inside.
const _: () = assert!(MAX_RANK + 4 <= MAX_JSON_DEPTH);

/// How bytes are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Texts {
    /// A string is text; an object of base64 is bytes.
    Tagged,
    /// A string is text.
    Plain,
    /// A string is base64.
    Base64,
}

/// Why a walk stopped: the request is malformed, or the values are not the datatype's.
enum Stop {
    Body(BodyFault),
    Data(DataFault),
    /// More lists in each other than any tensor has dims.
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

/// A tensor in the making.
pub(super) struct Tree {
    datatype: Option<Datatype>,
    texts: Texts,
    raw: Vec<u8>,
    /// Elements so far.
    index: usize,
    /// The length of each level's lists, outermost first; `None` while the first of them is open.
    dims: Vec<Option<i64>>,
    /// The depth at which scalars stand, once there is one.
    rank: Option<usize>,
    /// A value beyond its datatype. The rest is walked all the same: a wrong shape would be told first.
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

    /// The shape of one value, and the elements of all of them in raw form.
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

    /// Takes the value that is next. What is wrong with the values is kept for [`Self::finish`]; the error is the request's.
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
            // The rest of the document must still be JSON, or that is what is wrong with it.
            scanner.at = start;
            self.raw = Vec::new();
        }
        scanner.value().map(drop)
    }

    fn walk(&mut self, scanner: &mut Scanner<'_>, budget: &mut Budget) -> Result<(), Stop> {
        // Elements seen so far in the open list of each level, outermost first.
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
                // A scalar where a list stood before, or at another depth than the first.
                if *self.rank.get_or_insert(level) != level || self.dims.len() != level {
                    return Err(DataFault::Nesting.into());
                }
                loop {
                    budget.take(1)?;
                    self.element(scanner, budget)?;
                    self.index = self.index.wrapping_add(1);
                    count(&mut seen, level);
                    // A comma and a scalar right behind it, as most writers have it, need none of the rest.
                    if level == 0 || !scanner.next_scalar() {
                        break;
                    }
                }
            }
            // Behind a value: the ends of lists, up to a comma.
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

    /// Takes one scalar.
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

    /// A number that is to be rounded.
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

    /// Integer datatypes take integer literals only, as in every other protocol. None is rounded: no budget is asked.
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

/// Whether the object that is next is bytes in base64: one that says so in its first key. The scanner stays where it is.
pub(super) fn is_base64(scanner: &mut Scanner<'_>) -> bool {
    let start = scanner.at;
    let said = scanner.token() == Some(b'{') && {
        scanner.step();
        scanner.token() == Some(b'"') && scanner.string().is_ok_and(|key| key == BASE64_KEY)
    };
    scanner.at = start;
    said
}

/// Takes `{"b64": "…"}`: one key, and text that encodes its bytes in the one canonical way. Any other object is none that a tensor holds.
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

/// The bytes that a text encodes.
fn bytes_of(text: &str) -> Result<Vec<u8>, BodyFault> {
    STANDARD
        .decode(text)
        .map_err(|_| BodyFault::field(BASE64_KEY, "is not base64 in its canonical form"))
}
