//! A walk over a UBJSON document that keeps no more of it than the keys of the objects around it.

use std::collections::BTreeSet;

use crate::scan::Limits;
use crate::scan::json::{ELEMENT, Watch};
use crate::scan::rules::{self, Rule};
use crate::scan::source::{Source, Stop};

const RULE: &Rule = rules::XGBOOST_DOCUMENT;
/// Values within values.
const MAX_DEPTH: usize = 64;
/// The longest key, and the longest text that is read, bytes.
const MAX_KEY_BYTES: u64 = 1 << 10;
/// What a key takes in memory beside its characters, bytes.
const KEY_OVERHEAD_BYTES: usize = 64;

struct Walk<'a, 'i, W> {
    source: &'a mut Source<'i>,
    watch: &'a mut W,
    /// The keys around a value.
    path: Vec<String>,
    key_bytes_left: usize,
}

/// Follows the document that the whole input is.
pub(super) fn walk(
    source: &mut Source<'_>,
    limits: &Limits,
    watch: &mut impl Watch,
) -> Result<(), Stop> {
    if source.byte()? != b'{' {
        return Err(Stop::malformed(0, RULE, "the document is not an object"));
    }
    let mut walk = Walk {
        source,
        watch,
        path: Vec::new(),
        key_bytes_left: limits.header_bytes,
    };
    walk.object()?;
    if source.left() > 0 {
        let at = source.position();
        return Err(Stop::malformed(at, RULE, "bytes after the document"));
    }
    Ok(())
}

impl<W: Watch> Walk<'_, '_, W> {
    /// The members of an object. XGBoost reads none with a number of members.
    fn object(&mut self) -> Result<(), Stop> {
        let key_bytes_left = self.key_bytes_left;
        let mut keys = BTreeSet::new();
        loop {
            let at = self.source.position();
            let kind = self.source.byte()?;
            if kind == b'}' {
                break;
            }
            let length = read_length(self.source, kind)?;
            let Some(key) = self.text(length)? else {
                return Err(Stop::malformed(at, RULE, "a key is too long or not UTF-8"));
            };
            let bytes = key.len().saturating_add(KEY_OVERHEAD_BYTES);
            let Some(left) = self.key_bytes_left.checked_sub(bytes) else {
                return Err(Stop::unknown(at, RULE, "an object has too many keys"));
            };
            self.key_bytes_left = left;
            self.watch.key(&self.path, &key);
            if !keys.insert(key.clone()) {
                return Err(Stop::malformed(at, RULE, "an object has a key twice"));
            }
            self.path.push(key);
            self.value()?;
            self.path.pop();
        }
        self.watch.end(&self.path);
        self.key_bytes_left = key_bytes_left;
        Ok(())
    }

    /// The elements of a list, which may begin with their number, and before it their type.
    fn list(&mut self) -> Result<(), Stop> {
        self.watch.list(&self.path);
        self.path.push(ELEMENT.to_owned());
        match self.source.byte()? {
            b'$' => {
                let kind = self.source.byte()?;
                if self.source.byte()? != b'#' {
                    let detail = "a type without a number of elements";
                    return Err(Stop::malformed(self.source.position(), RULE, detail));
                }
                for _ in 0..self.length()? {
                    self.number(kind)?;
                }
            }
            b'#' => {
                for _ in 0..self.length()? {
                    self.value()?;
                }
            }
            mut kind => {
                while kind != b']' {
                    self.value_of(kind)?;
                    kind = self.source.byte()?;
                }
            }
        }
        self.path.pop();
        Ok(())
    }

    fn value(&mut self) -> Result<(), Stop> {
        let kind = self.source.byte()?;
        self.value_of(kind)
    }

    fn value_of(&mut self, kind: u8) -> Result<(), Stop> {
        match kind {
            b'{' | b'[' if self.path.len() >= MAX_DEPTH => {
                let at = self.source.position();
                return Err(Stop::malformed(at, RULE, "values are nested too deeply"));
            }
            b'{' => self.object()?,
            b'[' => self.list()?,
            b'S' => {
                let length = self.length()?;
                if let Some(text) = self.text(length)? {
                    self.watch.text(&self.path, &text);
                }
            }
            b'T' | b'F' => self.watch.truth(&self.path, kind == b'T'),
            b'Z' => self.watch.null(&self.path),
            _ => self.number(kind)?,
        }
        Ok(())
    }

    fn number(&mut self, kind: u8) -> Result<(), Stop> {
        let integer = read_number(self.source, kind)?;
        self.watch.numeral(&self.path, integer);
        Ok(())
    }

    fn length(&mut self) -> Result<u64, Stop> {
        let kind = self.source.byte()?;
        read_length(self.source, kind)
    }

    /// A text, if it is short and in UTF-8.
    fn text(&mut self, length: u64) -> Result<Option<String>, Stop> {
        let short = usize::try_from(length).ok();
        let Some(short) = short.filter(|_| length <= MAX_KEY_BYTES) else {
            self.source.skip(length)?;
            return Ok(None);
        };
        Ok(String::from_utf8(self.source.read_bytes(short)?).ok())
    }
}

/// A number, with its value if it is whole.
fn read_number(source: &mut Source<'_>, kind: u8) -> Result<Option<i64>, Stop> {
    Ok(Some(match kind {
        b'U' => source.byte()?.into(),
        b'i' => i8::from_be_bytes(source.array()?).into(),
        b'I' => i16::from_be_bytes(source.array()?).into(),
        b'l' => i32::from_be_bytes(source.array()?).into(),
        b'L' => i64::from_be_bytes(source.array()?),
        b'd' => return source.skip(4).map(|()| None),
        b'D' => return source.skip(8).map(|()| None),
        _ => {
            let detail = format!("a value has the unknown type {kind:#x}");
            return Err(Stop::malformed(source.position(), RULE, detail));
        }
    }))
}

fn read_length(source: &mut Source<'_>, kind: u8) -> Result<u64, Stop> {
    let at = source.position();
    let length = read_number(source, kind)?;
    let length = length.and_then(|length| u64::try_from(length).ok());
    length.ok_or_else(|| Stop::malformed(at, RULE, "a length that is not a number"))
}
