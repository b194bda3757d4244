//! RSA moduli whose factors can be computed from them: those that a chip's library made (CVE-2017-15361, "ROCA").
//!
//! Each of its primes is *k·M + (65537^a mod M)*, where *M* is the product of the first primes, so that modulo each of those the modulus is a power
//! of 65537. Any other modulus is that modulo all that are looked at once in 2^27: it is refused too, and its owner makes another.

/// Those of the first primes modulo which 65537 has few powers.
const PRIMES: [u32; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];
const GENERATOR: u32 = 65_537;

/// Whether a modulus, its most significant byte first, bears the mark.
pub(super) fn is_marked(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let modulo = |number: u32| number.checked_rem(*prime).unwrap_or(0);
        // A remainder is less than 2^8, and a product of two less than 2^25.
        let rest = modulus.iter().fold(0, |rest: u32, byte| {
            modulo(rest.wrapping_shl(8).wrapping_add(u32::from(*byte)))
        });
        let powers = core::iter::successors(Some(1), |power: &u32| {
            Some(modulo(power.wrapping_mul(GENERATOR)))
        });
        let mut powers = (1..*prime).zip(powers);
        powers.any(|(_, power)| power == rest)
    })
}
