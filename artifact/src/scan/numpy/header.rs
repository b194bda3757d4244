//! The header of an array: a Python dictionary of exactly `descr`, `fortran_order` and `shape`.

/// Tuples and lists within each other.
const MAX_DEPTH: usize = 8;
/// Values in a header.
const MAX_VALUES: usize = 100_000;

type Fault = &'static str;

/// The values of a header's keys.
pub(super) struct Header<'t> {
    /// The dtype, if it is one code, such as `<f4`, and no list of fields.
    pub(super) descr: Option<&'t str>,
    /// Whether the first dimension varies fastest.
    pub(super) is_fortran_order: bool,
    /// The dimensions.
    pub(super) shape: Vec<u64>,
    /// Bytes of all elements; nothing if some are objects, so that a pickle follows.
    pub(super) bytes: Option<u64>,
}

/// Reads a header. Only what numpy writes is accepted, spaces aside.
pub(super) fn parse(text: &str) -> Result<Header<'_>, Fault> {
    let mut literal = Literal {
        rest: text.as_bytes(),
        values: 0,
    };
    let mut descr = None;
    let mut order = None;
    let mut shape = None;
    literal.expect(b'{')?;
    while !literal.accept(b'}') {
        let Value::Text(key) = literal.value(0)? else {
            return Err("a key of the header is no text");
        };
        literal.expect(b':')?;
        let slot = match key {
            b"descr" => &mut descr,
            b"fortran_order" => &mut order,
            b"shape" => &mut shape,
            _ => return Err("the header has another key"),
        };
        if slot.replace(literal.value(0)?).is_some() {
            return Err("the header has a key twice");
        }
        if !literal.accept(b',') {
            literal.expect(b'}')?;
            break;
        }
    }
    literal.spaces();
    let (Some(descr), Some(Value::Bool(is_fortran_order)), Some(Value::Tuple(shape))) =
        (descr, order, shape)
    else {
        return Err("the header lacks a key, or one has a value of another type");
    };
    if !literal.rest.is_empty() {
        return Err("bytes follow the dictionary of the header");
    }
    let count = product(&shape)?;
    let bytes = item_bytes(&descr)?.map(|bytes| bytes.checked_mul(count).ok_or(TOO_LARGE));
    let sizes = shape.iter().filter_map(|size| match size {
        Value::Int(size) => Some(*size),
        _ => None,
    });
    Ok(Header {
        descr: match descr {
            Value::Text(code) => std::str::from_utf8(code).ok(),
            _ => None,
        },
        is_fortran_order,
        shape: sizes.collect(),
        bytes: bytes.transpose()?,
    })
}

const TOO_LARGE: Fault = "the array is larger than any file";
const NO_DTYPE: Fault = "the header has no plain dtype";

/// The product of a shape.
fn product(shape: &[Value<'_>]) -> Result<u64, Fault> {
    shape.iter().try_fold(1_u64, |product, size| match size {
        Value::Int(size) => product.checked_mul(*size).ok_or(TOO_LARGE),
        _ => Err("a dimension is no number"),
    })
}

/// Bytes of an element; nothing if it has objects. The depth of a value is bounded.
fn item_bytes(descr: &Value<'_>) -> Result<Option<u64>, Fault> {
    let fields = match descr {
        Value::Text(code) => return code_bytes(code),
        Value::List(fields) if !fields.is_empty() => fields,
        _ => return Err(NO_DTYPE),
    };
    let mut total = Some(0_u64);
    for field in fields {
        let Value::Tuple(field) = field else {
            return Err(NO_DTYPE);
        };
        let (name, descr, shape) = match field.as_slice() {
            [name, descr] => (name, descr, <&[Value<'_>]>::default()),
            [name, descr, Value::Tuple(shape)] => (name, descr, shape.as_slice()),
            _ => return Err(NO_DTYPE),
        };
        let is_named = match name {
            Value::Text(_) => true,
            // A title and a name.
            Value::Tuple(names) => matches!(names.as_slice(), [Value::Text(_), Value::Text(_)]),
            _ => false,
        };
        if !is_named {
            return Err("a field has no name");
        }
        let count = product(shape)?;
        let bytes = item_bytes(descr)?;
        total = match (total, bytes) {
            (Some(total), Some(bytes)) => {
                let bytes = bytes.checked_mul(count).ok_or(TOO_LARGE)?;
                Some(total.checked_add(bytes).ok_or(TOO_LARGE)?)
            }
            // One object makes the array a pickle.
            _ => None,
        };
    }
    Ok(total)
}

/// Bytes of an element from a code such as `<f8`.
fn code_bytes(code: &[u8]) -> Result<Option<u64>, Fault> {
    let [order, letter, size @ ..] = code else {
        return Err(NO_DTYPE);
    };
    if !matches!(order, b'<' | b'>' | b'|' | b'=') {
        return Err(NO_DTYPE);
    }
    // `<M8[ns]` names a unit.
    let size = match (letter, size) {
        (b'M' | b'm', [size, b'[', unit @ .., b']']) if unit.iter().all(is_unit) => {
            std::slice::from_ref(size)
        }
        _ => size,
    };
    if *letter == b'O' {
        return if size.iter().all(u8::is_ascii_digit) {
            Ok(None)
        } else {
            Err(NO_DTYPE)
        };
    }
    let is_number = !size.is_empty() && size.iter().all(u8::is_ascii_digit);
    let size = std::str::from_utf8(size).ok().filter(|_| is_number);
    let size = size.and_then(|size| size.parse::<u64>().ok());
    let size = size.ok_or(NO_DTYPE)?;
    let is_known = match letter {
        b'b' => size == 1,
        b'i' | b'u' => matches!(size, 1 | 2 | 4 | 8),
        b'f' => matches!(size, 2 | 4 | 8 | 12 | 16),
        b'c' => matches!(size, 8 | 16 | 24 | 32),
        b'M' | b'm' => size == 8,
        b'S' | b'a' | b'U' | b'V' => size <= u64::from(u32::MAX),
        _ => false,
    };
    if !is_known {
        return Err(NO_DTYPE);
    }
    // A character of a text has four bytes.
    let unit = if *letter == b'U' { 4 } else { 1 };
    Ok(Some(size.checked_mul(unit).ok_or(TOO_LARGE)?))
}

const fn is_unit(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// A value of a header.
enum Value<'t> {
    Text(&'t [u8]),
    Bool(bool),
    Int(u64),
    Tuple(Vec<Value<'t>>),
    List(Vec<Value<'t>>),
}

/// Reads Python literals, of which it knows only those of headers.
struct Literal<'t> {
    rest: &'t [u8],
    values: usize,
}

impl<'t> Literal<'t> {
    fn spaces(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.spaces();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.accept(byte) {
            Ok(())
        } else {
            Err("the header is no dictionary as numpy writes it")
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        self.spaces();
        let rest = self.rest.strip_prefix(word);
        let rest = rest.filter(|rest| !rest.first().is_some_and(|next| is_word(*next)));
        if let Some(rest) = rest {
            self.rest = rest;
        }
        rest.is_some()
    }

    fn value(&mut self, depth: usize) -> Result<Value<'t>, Fault> {
        self.values = self.values.saturating_add(1);
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err("the header has too many values");
        }
        for quote in *b"'\"" {
            if self.accept(quote) {
                return self.text(quote);
            }
        }
        if self.accept(b'(') {
            return Ok(Value::Tuple(self.items(b')', depth)?));
        }
        if self.accept(b'[') {
            return Ok(Value::List(self.items(b']', depth)?));
        }
        for (word, value) in [("True", true), ("False", false)] {
            if self.word(word.as_bytes()) {
                return Ok(Value::Bool(value));
            }
        }
        self.number()
    }

    /// A text without escapes. numpy writes them for names that are not printable.
    fn text(&mut self, quote: u8) -> Result<Value<'t>, Fault> {
        let end = self.rest.iter().position(|byte| *byte == quote);
        let end = end.ok_or("a text of the header has no end")?;
        let (text, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        if text.contains(&b'\\') || text.contains(&b'\n') {
            return Err("a text of the header has escapes");
        }
        self.rest = rest.get(1..).unwrap_or_default();
        // Python joins texts that stand side by side, and reads three quotes as one.
        self.spaces();
        if matches!(self.rest.first(), Some(b'\'' | b'"')) {
            return Err("two texts of the header stand side by side");
        }
        Ok(Value::Text(text))
    }

    fn number(&mut self) -> Result<Value<'t>, Fault> {
        self.spaces();
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit());
        let end = digits.count();
        let (digits, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        // Python 2 wrote an L behind long numbers.
        let rest = rest.strip_prefix(b"L").unwrap_or(rest);
        let is_plain = digits == b"0" || !digits.starts_with(b"0");
        let number = std::str::from_utf8(digits).ok().filter(|_| is_plain);
        let number = number.and_then(|digits| digits.parse().ok());
        self.rest = rest;
        number
            .map(Value::Int)
            .ok_or("a value of the header is no literal of numpy's")
    }

    /// The items up to a bracket. `(3,)` is a tuple, `(3)` is not.
    fn items(&mut self, end: u8, depth: usize) -> Result<Vec<Value<'t>>, Fault> {
        let mut items = Vec::new();
        let mut commas = 0_usize;
        while !self.accept(end) {
            items.push(self.value(depth.saturating_add(1))?);
            if !self.accept(b',') {
                self.expect(end)?;
                break;
            }
            commas = commas.saturating_add(1);
        }
        if end == b')' && items.len() == 1 && commas == 0 {
            return Err("a tuple of one item has no comma");
        }
        Ok(items)
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
