//! Sequences that may have a hundred thousand elements, read into exactly the memory that they
//! need. A filter reads them in each worker, and a VM's memory never shrinks.

use alloc::vec::Vec;
use core::fmt::{Formatter, Result as FormatResult};
use core::marker::PhantomData;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tensorgate_values::Shared;

/// Maximum number of elements whose memory is reserved before they are read, because the bytes may
/// claim more than they have.
const MAX_RESERVED: usize = 1 << 17;

/// Reads a sequence.
pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Shared<Vec<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_seq(Rows(PhantomData)).map(Shared::from)
}

struct Rows<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Rows<T> {
    type Value = Vec<T>;

    fn expecting(&self, to: &mut Formatter<'_>) -> FormatResult {
        to.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Vec<T>, A::Error> {
        let mut read = Vec::new();
        while let Some(row) = rows.next_element()? {
            if read.len() == read.capacity() {
                match rows.size_hint() {
                    Some(left) => read.reserve_exact(left.min(MAX_RESERVED).saturating_add(1)),
                    // Fewer bytes than elements are left, so that the sequence is malformed.
                    None => read.reserve(1),
                }
            }
            read.push(row);
        }
        Ok(read)
    }
}
