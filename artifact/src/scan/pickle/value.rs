//! What a scanner knows of a value on the unpickler's stack.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;

use super::allowed::Global;
use super::operation::Stop;

/// Bytes of texts and tuples that are kept, all together. Beyond, values are known by kind only.
const MAX_KEPT_BYTES: usize = 8 << 20;
/// Items of a tuple that is kept. Arrays have at most 64 dimensions.
const MAX_TUPLE_ITEMS: usize = 64;
/// Tuples within tuples that are kept.
const MAX_TUPLE_DEPTH: u16 = 4;
/// Tuples within tuples. A dictionary hashes a key without a bound on this, and CPython's pickler
/// stops at its recursion limit, which is the same.
const MAX_NESTED_TUPLES: u16 = 1_000;
/// Values that the hash of a tuple visits: more than the operations of a file. Only tuples that
/// share their items have as many.
const MAX_HASHED: u32 = 1 << 26;
/// Values of a tuple that are compared. Tuples share their items, so there may be many more of them
/// than bytes.
const MAX_COMPARED: u32 = 256;
/// What an allocation takes besides its content, bytes.
const ALLOCATION_BYTES: usize = 64;

/// What BUILD does to a value.
pub(super) enum Built {
    /// It sets data.
    Fine,
    /// It sets data whose layout is not checked here.
    Unchecked(&'static str),
    /// It can run code, or make memory be read as what it is not.
    Refused,
}

/// The kind of a numpy dtype that was made from a code such as `f8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dtype {
    /// The letter of the code.
    pub(super) letter: u8,
    /// The number behind it.
    pub(super) size: u32,
}

/// A value. What is not known of it is not assumed. Two are equal if a call treats both alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A float, or an integer of more than 64 bits.
    Number,
    /// A text; nothing if it is no short one.
    Text(Option<Rc<Kept<String>>>),
    Bytes,
    ByteArray,
    /// A tuple, with nothing in it if it is too large to keep.
    Tuple(Tuple),
    List,
    Dict,
    Set,
    OrderedDict,
    /// A dictionary that makes missing values, which are plain and empty.
    DefaultDict,
    /// An allowed global itself.
    Global(Global),
    Array,
    /// joblib's description of an array.
    JoblibArray,
    Dtype(Dtype),
    /// A generator of random numbers, or an object that draws from one.
    Generator,
    /// The seed of a generator.
    SeedSequence,
    /// A torch storage.
    Storage,
    Tensor,
    /// An object of a TorchScript program, which sets its own state.
    ScriptObject,
    /// An instance of an allowed class that is not changed after it was made.
    Plain,
    /// A value of which nothing is known.
    Opaque,
}

impl Value {
    /// The text, if it is known.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(Some(text)) => Some(text),
            _ => None,
        }
    }

    /// The items of a tuple, if they are known.
    pub(super) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::Tuple(tuple) => tuple.items.as_deref().map(|items| items.value.as_slice()),
            _ => None,
        }
    }

    /// Whether it is a tuple of integers, such as a shape.
    pub(super) fn is_shape(&self) -> bool {
        self.items()
            .is_some_and(|items| items.iter().all(|item| matches!(item, Self::Int(_))))
    }

    /// Whether it is a truth value. Old pickles write 0 and 1.
    pub(super) const fn is_bool(&self) -> bool {
        matches!(self, Self::Bool(_) | Self::Int(0 | 1))
    }

    /// Tuples within each other, and values that a hash visits.
    const fn nesting(&self) -> (u16, u32) {
        match self {
            Self::Tuple(tuple) => (tuple.depth, tuple.hashed),
            _ => (0, 1),
        }
    }
}

/// A tuple.
#[derive(Clone, Debug)]
pub(super) struct Tuple {
    items: Option<Rc<Kept<Vec<Value>>>>,
    /// Tuples within each other, with this one.
    depth: u16,
    /// Values that its hash visits, each as often as it is reached.
    hashed: u32,
}

impl PartialEq for Tuple {
    /// A tuple that is too large to compare differs.
    fn eq(&self, other: &Self) -> bool {
        self.hashed <= MAX_COMPARED && self.items == other.items
    }
}

/// Bytes that are kept now.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Rc<Cell<usize>>);

impl Gauge {
    fn keep<T>(&self, value: T, bytes: usize) -> Option<Rc<Kept<T>>> {
        let bytes = bytes.saturating_add(ALLOCATION_BYTES);
        let kept = self.0.get().saturating_add(bytes);
        if kept > MAX_KEPT_BYTES {
            return None;
        }
        self.0.set(kept);
        Some(Rc::new(Kept {
            value,
            bytes,
            gauge: self.clone(),
        }))
    }

    /// A text.
    pub(super) fn text(&self, text: Option<&str>) -> Value {
        Value::Text(text.and_then(|text| self.keep(text.to_owned(), text.len())))
    }

    /// A tuple.
    pub(super) fn tuple(&self, items: Vec<Value>) -> Result<Value, Stop> {
        let (mut depth, mut hashed) = (0_u16, 1_u32);
        for (item_depth, item_hashed) in items.iter().map(Value::nesting) {
            depth = depth.max(item_depth);
            hashed = hashed.saturating_add(item_hashed);
        }
        let depth = depth.saturating_add(1);
        if depth > MAX_NESTED_TUPLES {
            return Err(Stop::Limit("more than 1,000 tuples are in each other"));
        }
        if hashed > MAX_HASHED {
            return Err(Stop::Limit("tuples share their items more than 2^26 times"));
        }
        let bytes = items.capacity().saturating_mul(size_of::<Value>());
        let is_kept = items.len() <= MAX_TUPLE_ITEMS && depth <= MAX_TUPLE_DEPTH;
        let items = is_kept.then(|| self.keep(items, bytes)).flatten();
        Ok(Value::Tuple(Tuple {
            items,
            depth,
            hashed,
        }))
    }
}

/// A value whose bytes count until it is dropped.
#[derive(Debug)]
pub(super) struct Kept<T> {
    value: T,
    bytes: usize,
    gauge: Gauge,
}

impl<T: PartialEq> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let kept = &self.gauge.0;
        kept.set(kept.get().saturating_sub(self.bytes));
    }
}
