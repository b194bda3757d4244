//! The form of learned state in a file: numbers in little-endian order, one after the other.
//!
//! Reading checks each bound, and never panics or allocates more than the file has.

use crate::time::Time;

/// State that survives a restart.
pub(super) trait Saved: Sized {
    /// Appends it.
    fn save(&self, out: &mut Vec<u8>);
    /// Takes it from the beginning of the input. `None` if it is not what `save` appends.
    fn load(input: &mut &[u8]) -> Option<Self>;
}

/// Implements [`Saved`] for a struct. Fields that are not named have their first value after a
/// restart.
macro_rules! saved {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::saved::Saved for $name {
            fn save(&self, out: &mut Vec<u8>) {
                $($crate::saved::Saved::save(&self.$field, out);)*
            }

            #[allow(clippy::needless_update, reason = "some structs are saved completely")]
            fn load(input: &mut &[u8]) -> Option<Self> {
                Some(Self {
                    $($field: $crate::saved::Saved::load(input)?,)*
                    ..Self::default()
                })
            }
        }
    };
}
pub(super) use saved;

/// Takes bytes from the beginning of the input.
fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*bytes)
}

macro_rules! saved_numbers {
    ($($number:ty),*) => {
        $(impl Saved for $number {
            fn save(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn load(input: &mut &[u8]) -> Option<Self> {
                take(input).map(Self::from_le_bytes)
            }
        })*
    };
}
saved_numbers!(u8, u16, u32, u64);

/// Values, means and deviations are finite and not negative.
impl Saved for f64 {
    fn save(&self, out: &mut Vec<u8>) {
        self.to_bits().save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let value = Self::from_bits(u64::load(input)?);
        (value.is_finite() && value >= 0.0).then_some(value)
    }
}

impl Saved for bool {
    fn save(&self, out: &mut Vec<u8>) {
        u8::from(*self).save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        match u8::load(input)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Saved for Time {
    fn save(&self, out: &mut Vec<u8>) {
        self.as_ms().save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        u64::load(input).map(Self::from_ms)
    }
}

impl<T: Saved> Saved for Option<T> {
    fn save(&self, out: &mut Vec<u8>) {
        self.is_some().save(out);
        if let Some(value) = self {
            value.save(out);
        }
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        if bool::load(input)? {
            T::load(input).map(Some)
        } else {
            Some(None)
        }
    }
}

impl<T: Saved> Saved for Box<T> {
    fn save(&self, out: &mut Vec<u8>) {
        T::save(self, out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        T::load(input).map(Self::new)
    }
}

impl<T: Saved + Copy + Default, const N: usize> Saved for [T; N] {
    fn save(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|value| value.save(out));
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let mut values = [T::default(); N];
        for value in &mut values {
            *value = T::load(input)?;
        }
        Some(values)
    }
}

impl<A: Saved, B: Saved> Saved for (A, B) {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
        self.1.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some((A::load(input)?, B::load(input)?))
    }
}

/// Appends a list. Its owner bounds it far below 65,536.
pub(super) fn save_list<T: Saved>(values: &[T], out: &mut Vec<u8>) {
    let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
    count.save(out);
    let values = values.iter().take(count.into());
    values.for_each(|value| value.save(out));
}

/// Takes a list of at most so many values.
pub(super) fn load_list<T: Saved>(most: usize, input: &mut &[u8]) -> Option<Vec<T>> {
    let count = usize::from(u16::load(input)?);
    if count > most {
        return None;
    }
    (0..count).map(|_| T::load(input)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_saved_and_others_never() {
        let value = (Some(7_u16), [1.5_f64, 0.0]);
        let mut out = Vec::new();
        value.save(&mut out);
        let load = |bytes: &[u8]| {
            let mut input = bytes;
            <(Option<u16>, [f64; 2])>::load(&mut input).filter(|_| input.is_empty())
        };
        assert_eq!(load(&out), Some(value));
        for length in 0..out.len() {
            assert_eq!(load(out.get(..length).unwrap_or_default()), None);
        }
        let mut negative = Vec::new();
        (-1.0_f64).save(&mut negative);
        assert_eq!(f64::load(&mut negative.as_slice()), None);
        assert_eq!(bool::load(&mut [2_u8].as_slice()), None);
        let mut empty: &[u8] = &[];
        assert_eq!(u8::load(&mut empty), None);
    }

    #[test]
    fn a_list_is_bounded() {
        let mut out = Vec::new();
        save_list(&[1_u8, 2, 3], &mut out);
        assert_eq!(load_list::<u8>(3, &mut out.as_slice()), Some(vec![1, 2, 3]));
        assert_eq!(load_list::<u8>(2, &mut out.as_slice()), None);
    }
}
