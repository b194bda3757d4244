//! Values that a contract lists: everything else is out of range. Compared by their bits, which the list has of each.

use super::Scan;

/// Values that are looked for one after the other, in vector code; longer lists are searched.
const FEW: usize = 8;

/// Tests every element of `size` bytes against a list in ascending order.
pub(super) fn listed<S: Scan>(scan: S, size: usize, bits: &[u64], data: &[u8]) -> S::Answer {
    macro_rules! elements {
        ($type:ty) => {{
            let mut values = bits.iter().map(|bits| <$type>::try_from(*bits).ok());
            let least = values.next().flatten();
            // A list of a few is filled up with its first.
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
