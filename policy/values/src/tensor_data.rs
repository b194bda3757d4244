//! The elements of a tensor: borrowed from a body, owned, or part of memory that others share.
//!
//! A host keeps a request after its body was judged, and sends its elements on. Then a part of the
//! body is shared, not copied.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

/// The elements of a tensor in raw form.
#[derive(Clone)]
pub enum TensorData<'a> {
    /// Part of a body that lives longer.
    Borrowed(&'a [u8]),
    /// Converted or computed elements.
    Owned(Vec<u8>),
    /// Part of memory that stays as long as any part of it is used.
    Shared(SharedPart),
    /// Numbers that were checked in their text and not converted. There is nothing to read.
    Checked(CheckedNumbers),
}

/// Numbers that were checked in their text, as `NumberCheck` of the policy crate does it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckedNumbers {
    raw_bytes: usize,
    range: (f64, f64),
}

impl CheckedNumbers {
    /// Numbers of this size in raw form. All of them were found to be in the range.
    pub const fn new(raw_bytes: usize, range: (f64, f64)) -> Self {
        Self { raw_bytes, range }
    }

    /// The range that all of them are in.
    pub const fn range(&self) -> (f64, f64) {
        self.range
    }
}

/// Part of memory that others share, such as a body.
#[derive(Clone)]
pub struct SharedPart {
    /// The part, which keeps all of the memory.
    pub part: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// How many bytes beside the part this one keeps in memory. Where several parts share memory,
    /// one of them counts the bytes that belong to none.
    pub beside_bytes: usize,
}

impl TensorData<'_> {
    /// The elements, to be changed. They are copied if others see them, too.
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Borrowed(_) | Self::Shared(_) | Self::Checked(_) => self.to_vec(),
        }
    }

    /// Size of all elements in raw form, bytes.
    pub fn raw_bytes(&self) -> usize {
        match self {
            Self::Checked(checked) => checked.raw_bytes,
            Self::Borrowed(_) | Self::Owned(_) | Self::Shared(_) => self.len(),
        }
    }

    /// How many bytes stay in memory because of these elements.
    pub fn memory_bytes(&self) -> usize {
        let beside_bytes = match self {
            Self::Shared(shared) => shared.beside_bytes,
            Self::Borrowed(_) | Self::Owned(_) | Self::Checked(_) => 0,
        };
        self.len().saturating_add(beside_bytes)
    }
}

impl Deref for TensorData<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(shared) => (*shared.part).as_ref(),
            Self::Checked(_) => &[],
        }
    }
}

impl Default for TensorData<'_> {
    fn default() -> Self {
        Self::Owned(Vec::new())
    }
}

impl AsRef<[u8]> for TensorData<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for TensorData<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl<'a> From<&'a [u8]> for TensorData<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Borrowed(bytes)
    }
}

impl PartialEq for TensorData<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Checked(own), Self::Checked(others)) => own == others,
            (Self::Checked(_), _) | (_, Self::Checked(_)) => false,
            _ => **self == **other,
        }
    }
}

impl fmt::Debug for TensorData<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, formatter)
    }
}
