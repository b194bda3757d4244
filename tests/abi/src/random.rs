//! Random numbers that are the same on each machine.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: usize) -> Self {
        let seed = u64::try_from(seed).expect("a machine of 64 bits");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: usize) -> usize {
        let random = usize::try_from(self.next()).expect("a machine of 64 bits");
        random.checked_rem(bound).unwrap_or(0)
    }

    /// `true` once in so many cases.
    pub fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub fn choose<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len())]
    }
}
