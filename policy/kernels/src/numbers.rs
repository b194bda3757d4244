//! Checks lists of JSON numbers where they are, without conversion, 64 bytes at a time.
//!
//! A byte of a list is valid or not by the byte before it: a comma or a point needs a digit before
//! it, a minus or a blank needs a separator. With one bit for each byte such a rule is a shift and
//! an AND.
#![cfg_attr(
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        all(target_arch = "wasm32", target_feature = "simd128")
    )),
    allow(dead_code, reason = "no vector unit")
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

/// Bytes of a block: one bit of a `u64` for each.
const BLOCK_BYTES: usize = 64;
/// Digits of the largest limit, and of the longest number that is read: so many always fit into 64
/// bits.
const MAX_DIGITS: u32 = 19;
/// A digit's value is in the lower half of its byte.
const DIGIT_VALUE: u8 = 0xf;

/// The bytes of a block, in vectors. Each method has one bit for each byte, the first one lowest.
trait Block: Copy {
    /// Which bytes are this ASCII byte.
    fn equal(self, byte: u8) -> u64;

    /// Which bytes are above this one, for ASCII bytes. Undefined for others.
    fn above(self, byte: u8) -> u64;

    /// Which bytes are digits.
    fn digits(self) -> u64;

    /// Which bytes are a comma, a minus, a point, a space, a tab or a line feed.
    fn others(self) -> u64;
}

/// The character of [`Block::others`] that has this lower half, or one with another lower half: a
/// table by which a vector unit finds them all at once.
const OTHERS: [u8; 16] = [
    b' ', 0, 0, 0, 0, 0, 0, 0, 0, b'\t', b'\n', 0, b',', b'-', b'.', 0,
];

/// A block in four vectors of 128 bits.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn quarters<V>(bytes: &[u8; BLOCK_BYTES], vector: impl Fn(&[u8; 16]) -> V) -> [V; 4] {
    let (quarters, _) = bytes.as_chunks();
    core::array::from_fn(|at| vector(quarters.get(at).unwrap_or(&[0; 16])))
}

/// Which numbers a list may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberLimit {
    /// The greatest magnitude; at least 1.
    greatest: u64,
    /// Its number of digits.
    digits: u32,
    /// The byte before its first digit.
    below_first: u8,
    /// Whether negative numbers are allowed.
    negative: bool,
    /// Whether all are integers.
    integers: bool,
}

/// Numbers at the beginning of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberRun {
    /// How many there are.
    pub count: usize,
    /// Bytes of the text to the end of the last one.
    pub bytes: usize,
}

impl NumberLimit {
    /// Numbers with at most this magnitude. `None` if it is 0, and where a machine has no vector
    /// unit for [`Self::run`].
    ///
    /// `integers`: fractions and `-0`, which some parsers read as a float, are not allowed.
    pub fn new(greatest: u64, negative: bool, integers: bool) -> Option<Self> {
        if !is_supported() {
            return None;
        }
        let greatest = greatest.min(10_u64.pow(MAX_DIGITS).wrapping_sub(1));
        let digits = greatest.checked_ilog10()?.wrapping_add(1);
        let first = greatest.checked_div(10_u64.pow(digits.wrapping_sub(1)))?;
        let below_first = u8::try_from(first).ok()?.wrapping_add(b'0' - 1);
        Some(Self {
            greatest,
            digits,
            below_first,
            negative,
            integers,
        })
    }

    /// The numbers at the beginning of a text that are within the limit, as far as this can tell.
    ///
    /// Each is followed by a comma and any blanks. A number ends the run if it
    /// - is not within the limit, or has the greatest magnitude and a fraction other than `.0`,
    /// - has an exponent, or more than 19 digits,
    /// - is followed by anything else than a comma, such as the end of the list.
    pub fn run(self, text: &[u8]) -> NumberRun {
        #[cfg(target_arch = "x86_64")]
        return avx2::run(self, text);
        #[cfg(target_arch = "aarch64")]
        return run_by(self, text, neon::NeonBlock::load);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        return run_by(self, text, simd128::Simd128Block::load);
        #[allow(unreachable_code, reason = "there is a vector unit")]
        {
            let _ = text;
            NumberRun::default()
        }
    }
}

/// Whether this machine has a vector unit that [`NumberLimit::run`] uses.
fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx2::is_supported();
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(any(
        target_arch = "aarch64",
        all(target_arch = "wasm32", target_feature = "simd128")
    ));
}

#[inline(always)]
fn run_by<B: Block>(
    limit: NumberLimit,
    text: &[u8],
    load: impl Fn(&[u8; BLOCK_BYTES]) -> B,
) -> NumberRun {
    // Floats of tensors mostly have one digit before the point. Loops over one digit are none.
    match limit.digits {
        1 => run_of::<B, true>(limit, text, load),
        _ => run_of::<B, false>(limit, text, load),
    }
}

#[inline(always)]
fn run_of<B: Block, const ONE_DIGIT: bool>(
    limit: NumberLimit,
    text: &[u8],
    load: impl Fn(&[u8; BLOCK_BYTES]) -> B,
) -> NumberRun {
    let mut run = NumberRun::default();
    let mut carry = Carry::START;
    let mut at = 0_usize;
    while let Some(rest) = text.get(at..) {
        let mut padded;
        let bytes = match rest.first_chunk() {
            Some(bytes) => bytes,
            None => {
                padded = [0; BLOCK_BYTES];
                for (to, byte) in padded.iter_mut().zip(rest) {
                    *to = *byte;
                }
                &padded
            }
        };
        let block = load(bytes);
        let commas = block.equal(b',');
        let faults = limit.faults::<B, ONE_DIGIT>(&mut carry, (text, at), block, commas);
        // All commas before the first fault end a valid number.
        let ends = commas & below_lowest(faults);
        if ends != 0 {
            run.count = run.count.wrapping_add(size(ends.count_ones()));
            let last = u64::BITS.wrapping_sub(1).wrapping_sub(ends.leading_zeros());
            run.bytes = at.wrapping_add(size(last));
        }
        if faults != 0 {
            break;
        }
        at = at.wrapping_add(BLOCK_BYTES);
    }
    run
}

/// What a block has to know of the bytes before it, each in the lowest bit.
#[derive(Clone, Copy)]
struct Carry {
    /// The last byte is a digit.
    digit: u64,
    /// The last byte is a comma, a minus or a blank.
    outside: u64,
    /// The last byte is a comma or a blank.
    separator: u64,
    /// The last byte is a digit before the point.
    integer_part: u64,
    /// The last byte is the first digit of its number, and a zero.
    zero: u64,
    /// The last byte is the first digit of its number, or the second in the second bit, and so on.
    positions: u64,
    /// How many of the last bytes are of one number.
    number_bytes: u32,
    /// [`Block::above`] of the block.
    above: u64,
}

impl Carry {
    /// As behind a comma.
    const START: Self = Self {
        digit: 0,
        outside: 1,
        separator: 1,
        integer_part: 0,
        zero: 0,
        positions: 0,
        number_bytes: 0,
        above: 0,
    };
}

impl NumberLimit {
    /// The bytes at which a number is not valid or not within the limit. A fault is never behind
    /// the comma that ends its number.
    #[inline(always)]
    fn faults<B: Block, const ONE_DIGIT: bool>(
        self,
        carry: &mut Carry,
        (text, at): (&[u8], usize),
        block: B,
        commas: u64,
    ) -> u64 {
        let before = *carry;
        let (digits, mut others) = (block.digits(), block.others());
        // Few texts have lines that end in CR LF.
        if digits | others != u64::MAX {
            others |= block.equal(b'\r');
        }
        let points = block.equal(b'.');
        // Commas, minuses and blanks.
        let outside = others & !points;
        let firsts = digits & (outside << 1 | before.outside);
        let mut faults = !(digits | others) | (commas & !(digits << 1 | before.digit));
        carry.digit = top(digits);
        carry.outside = top(outside);
        // The digits before the point, and the last of those that have as many as the limit.
        let (mut integer_part, mut last) = (firsts, firsts);
        carry.positions = top(firsts);
        if !ONE_DIGIT {
            for position in 1..self.digits {
                if last == 0 && before.positions == 0 {
                    break;
                }
                last = (last << 1 | (before.positions >> position.wrapping_sub(1) & 1)) & digits;
                carry.positions |= top(last) << position;
                integer_part |= last;
            }
            let zeros = firsts & block.equal(b'0');
            faults |= (zeros << 1 | before.zero) & digits;
            carry.zero = top(zeros);
        }
        // The position of the last digit that the limit allows.
        let most = if ONE_DIGIT {
            0
        } else {
            self.digits.wrapping_sub(1)
        };
        faults |= (last << 1 | (before.positions >> most & 1)) & digits;
        faults |= points & !(integer_part << 1 | before.integer_part);
        carry.integer_part = top(integer_part);
        faults |= too_long(digits | points, before.number_bytes);
        carry.number_bytes = (digits | points).leading_ones();
        if self.integers {
            faults |= points;
        }
        // Many lists have neither minuses nor blanks.
        let gaps = outside & !commas;
        carry.separator = top(commas);
        let after_minus = before.outside & !before.separator;
        if gaps | after_minus != 0 {
            let minuses = block.equal(b'-');
            let separators = outside & !minuses;
            faults |= gaps & !(separators << 1 | before.separator);
            carry.separator = top(separators);
            if !self.negative {
                faults |= minuses;
            } else if self.integers {
                faults |= (minuses << 1 | after_minus) & block.equal(b'0');
            }
        }
        let above = block.above(self.below_first);
        let high = match most {
            0 => last & above,
            _ => last & (above << most | before.above >> (u64::BITS.wrapping_sub(most))),
        };
        carry.above = above;
        let high = high & below_lowest(faults);
        if high != 0 {
            faults |= self.beyond(text, at, high);
        }
        faults
    }

    /// Those of the numbers that are beyond the limit. Each has as many digits as the limit before
    /// its point, and is given by the last of these.
    #[inline(always)]
    fn beyond(self, text: &[u8], at: usize, mut numbers: u64) -> u64 {
        let mut beyond = 0_u64;
        while numbers != 0 {
            let lowest = numbers & numbers.wrapping_neg();
            numbers ^= lowest;
            let end = at
                .saturating_add(size(lowest.trailing_zeros()))
                .saturating_add(1);
            let start = end.saturating_sub(size(self.digits));
            let digits = text.get(start..end).unwrap_or_default();
            let value = digits.iter().fold(0_u64, |value, digit| {
                value
                    .wrapping_mul(10)
                    .wrapping_add(u64::from(digit & DIGIT_VALUE))
            });
            let behind = text.get(end..).unwrap_or_default();
            let has_no_fraction =
                self.integers || matches!(behind, [b',', ..] | [b'.', b'0', b',', ..]);
            if value > self.greatest || (value == self.greatest && !has_no_fraction) {
                beyond |= lowest;
            }
        }
        beyond
    }
}

/// The highest bit, as the lowest.
#[inline(always)]
const fn top(bits: u64) -> u64 {
    bits >> 63
}

/// Where 21 bytes of a number follow each other, `before` of them before the block. It has more
/// than [`MAX_DIGITS`] digits, if one of the bytes is a point. A limit has no more digits, so
/// without a point the number is beyond it.
#[inline(always)]
const fn too_long(number: u64, before: u32) -> u64 {
    const MOST: u32 = MAX_DIGITS + 1;
    let two = number & number >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    let sixteen = eight & eight >> 8;
    let long = sixteen & four >> 16 & number >> 20;
    // A number that comes from the block before.
    let first = before > 0 && before.wrapping_add(number.trailing_ones()) > MOST;
    long | first as u64
}

/// All bits below the lowest one of these; all if there is none.
#[inline(always)]
const fn below_lowest(of: u64) -> u64 {
    (of & of.wrapping_neg()).wrapping_sub(1)
}

/// A number of bits or digits as a size.
#[inline(always)]
fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
