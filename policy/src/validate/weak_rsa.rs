//! Detects RSA moduli with computable factors, made by a faulty library (CVE-2017-15361, "ROCA").
//!
//! Each prime is *k·M + (65537^a mod M)*, where *M* is the product of the first primes, so the
//! modulus is a power of 65537 modulo each of them. Other moduli satisfy that once in 2^27; such a
//! key is rejected too.

/// Small primes modulo which 65537 has few powers.
const PRIMES: [u32; 17] = [
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
];
const GENERATOR: u32 = 65_537;

/// Whether a big-endian modulus has this property.
pub(super) fn is_marked(modulus: &[u8]) -> bool {
    PRIMES.iter().all(|prime| {
        let modulo = |number: u32| number.checked_rem(*prime).unwrap_or(0);
        // A remainder is below 2^8, and a product of two below 2^25.
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
