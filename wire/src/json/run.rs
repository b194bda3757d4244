//! Runs of plain elements: a list's numbers as nearly all of them are written, with a comma between any two and at most one blank behind
//! it. One loop in registers from text to raw bytes. It decides about nothing: in front of whatever is not plain it stops, and whoever reads any
//! element takes that one.

use super::number::{Number, walk};
use super::scan::Scanner;

/// Takes elements from where the scanner stands, at most `max` of them, and stands behind the last; with none taken it stays. `element` gives
/// the raw form of a number that is plainly one of the datatype's, and costs nobody's budget.
// A function of its own: what it keeps in registers is not its caller's to spill.
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
        next = match rest {
            [b',', b' ', next @ ..] | [b',', next @ ..] => next,
            _ => break,
        };
    }
    scanner.at = text.len().wrapping_sub(rest.len());
    taken
}
