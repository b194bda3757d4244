//! Allowed values: any other value is out of range. Values are compared by their bits.

use super::Scan;

/// Maximum list length for linear search in vector code; longer lists use binary search.
const FEW: usize = 8;

/// Tests every element of `size` bytes against a list in ascending order.
pub(super) fn listed<S: Scan>(scan: S, size: usize, bits: &[u64], data: &[u8]) -> S::Answer {
    macro_rules! elements {
        ($type:ty) => {{
            let mut values = bits.iter().map(|bits| <$type>::try_from(*bits).ok());
            let least = values.next().flatten();
            // A short list is padded with its first value.
            match (least, bits.len() <= FEW) {
                (Some(least), true) => {
                    let mut few = [least; FEW];
                    for (slot, value) in few.iter_mut().zip(bits) {
                        *slot = <$type>::try_from(*value).unwrap_or(least);
                    }
                    scan.run(data, |bytes| {
                        let value = <$type>::from_le_bytes(bytes);
                        !few.iter()
                            .fold(false, |flag, listed| flag | (value == *listed))
                    })
                }
                _ => scan.run(data, |bytes| {
                    let value = u64::from(<$type>::from_le_bytes(bytes));
                    bits.binary_search(&value).is_err()
                }),
            }
        }};
    }
    match size {
        1 => elements!(u8),
        2 => elements!(u16),
        4 => elements!(u32),
        8 => elements!(u64),
        _ => scan.run(data, |_: [u8; 1]| true),
    }
}
