//! Fast path for runs of plain numbers, separated by a comma and at most one blank. It stops before
//! anything else, which the general parser reads.

use super::number::{Number, walk};
use super::scan::{Scanner, behind_comma};

/// Reads at most `max` elements and returns their number. `element` gives the raw form of a plain
/// number of the datatype, without using the budget.
// A separate function, so that the compiler keeps its state in registers.
#[inline(never)]
pub(super) fn take<const N: usize>(
    scanner: &mut Scanner<'_>,
    max: usize,
    raw: &mut Vec<u8>,
    element: impl Fn(&Number<'_>) -> Option<[u8; N]>,
) -> usize {
    let text = scanner.text.as_bytes();
    let mut next = text.get(scanner.at..).unwrap_or_default();
    let mut rest = next;
    let mut taken = 0_usize;
    while taken < max {
        let Ok((number, behind)) = walk(next) else {
            break;
        };
        let Some(bytes) = element(&number) else {
            break;
        };
        raw.extend_from_slice(&bytes);
        taken = taken.wrapping_add(1);
        rest = behind;
        let Some(behind) = behind_comma(rest) else {
            break;
        };
        next = behind;
    }
    scanner.at = text.len().wrapping_sub(rest.len());
    taken
}
