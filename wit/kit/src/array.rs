//! The array: a type, a shape, and elements in row-major order. Construction, output and
//! conversion.

use num_traits::AsPrimitive;

use crate::buffer::Buffer;
use crate::datatype::{Datatype, with_integer, with_type};
use crate::failure::{Failure, datatype, overflow, room, value};

/// The most dimensions.
pub const MAX_DIMS: usize = 8;

/// The most elements. Byte counts of this many elements can be added without overflow.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// An array of numbers.
#[derive(Clone, Debug)]
pub struct Array {
    pub(crate) datatype: Datatype,
    pub(crate) shape: Vec<usize>,
    pub(crate) buffer: Buffer,
}

/// The number of elements of a shape.
///
/// # Errors
/// If it has too many dimensions or elements.
pub(crate) fn count(shape: &[usize]) -> Result<usize, Failure> {
    if shape.len() > MAX_DIMS {
        return Err(room(format!("{} dims, at most {MAX_DIMS}", shape.len())));
    }
    let mut product = 1_usize;
    // A dimension of 0 must not hide an overflow of the others.
    for dim in shape {
        product = product
            .checked_mul((*dim).max(1))
            .filter(|product| *product <= MAX_ELEMENTS)
            .ok_or_else(|| room(format!("{shape:?} is more than {MAX_ELEMENTS} elements")))?;
    }
    Ok(if shape.contains(&0) { 0 } else { product })
}

/// Checks that a number of bytes is that of a shape.
fn fits(given: Datatype, shape: &[usize], bytes: usize) -> Result<(), Failure> {
    if count(shape)?.checked_mul(given.size()) == Some(bytes) {
        return Ok(());
    }
    Err(value(format!(
        "{bytes} bytes do not fit {given:?} {shape:?}"
    )))
}

impl Array {
    /// An array of a tensor's bytes, little-endian. Halves become `Fp32`.
    ///
    /// # Errors
    /// If the bytes do not fit the shape.
    pub fn from_bytes(given: Datatype, shape: &[usize], bytes: &[u8]) -> Result<Self, Failure> {
        fits(given, shape, bytes.len())?;
        match given {
            Datatype::Fp16 | Datatype::Bf16 => Self::widened(given, shape, bytes),
            _ => Self::of_buffer(given, shape, Buffer::copied(bytes)?),
        }
    }

    /// An array that takes over a buffer of bytes.
    ///
    /// # Errors
    /// If they do not fit the shape.
    pub(crate) fn of_buffer(
        given: Datatype,
        shape: &[usize],
        mut buffer: Buffer,
    ) -> Result<Self, Failure> {
        fits(given, shape, buffer.bytes().len())?;
        match given {
            Datatype::Fp16 | Datatype::Bf16 => return Self::widened(given, shape, buffer.bytes()),
            Datatype::Bool => {
                for byte in buffer.bytes_mut() {
                    *byte = u8::from(*byte != 0);
                }
            }
            _ => {}
        }
        Ok(Self {
            datatype: given,
            shape: shape.to_vec(),
            buffer,
        })
    }

    /// Converts halves to singles.
    fn widened(given: Datatype, shape: &[usize], bytes: &[u8]) -> Result<Self, Failure> {
        let widen = match given {
            Datatype::Fp16 => half_to_single,
            _ => |bits| f32::from_bits(u32::from(bits) << 16),
        };
        Ok(Self {
            datatype: given.array_type(),
            shape: shape.to_vec(),
            buffer: widened(bytes, count(shape)?, widen)?,
        })
    }

    /// An array of zeros.
    pub(crate) fn zeros(datatype: Datatype, shape: &[usize]) -> Result<Self, Failure> {
        let bytes = count(shape)?
            .checked_mul(datatype.size())
            .ok_or_else(|| room("the number of bytes overflows"))?;
        Ok(Self {
            datatype,
            shape: shape.to_vec(),
            buffer: Buffer::zeroed(bytes)?,
        })
    }

    /// An array with the same number in each element.
    ///
    /// # Errors
    /// If the number does not fit the type, or memory is exhausted.
    pub fn full(given: Datatype, shape: &[usize], number: f64) -> Result<Self, Failure> {
        let mut made = Self::zeros(given.array_type(), shape)?;
        with_type!(made.datatype, T => {
            let number: T = element(made.datatype, number)?;
            made.buffer.view_mut::<T>().fill(number);
        });
        Ok(made)
    }

    /// The element type.
    #[must_use]
    pub const fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// The dimensions, outermost first.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer
            .bytes()
            .len()
            .checked_div(self.datatype.size())
            .unwrap_or(0)
    }

    /// Whether it has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.bytes().is_empty()
    }

    /// The elements as a tensor's bytes, little-endian.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// The elements as a tensor's bytes, in the array's own type, or floats in another float type.
    ///
    /// # Errors
    /// If the type is neither, or memory is exhausted.
    pub fn to_bytes(&self, wanted: Datatype) -> Result<Vec<u8>, Failure> {
        match self.narrowed(wanted)? {
            Some(made) => copied(made.bytes()),
            None => copied(self.bytes()),
        }
    }

    /// The elements as halves; `None` if the array's own type is wanted.
    pub(crate) fn narrowed(&self, wanted: Datatype) -> Result<Option<Buffer>, Failure> {
        let narrow: fn(f32) -> u16 = match wanted {
            Datatype::Fp16 => single_to_half,
            Datatype::Bf16 => single_to_brain,
            _ if wanted == self.datatype => return Ok(None),
            _ => {
                return Err(datatype(format!(
                    "an array of {:?} is not {wanted:?}",
                    self.datatype
                )));
            }
        };
        if self.datatype != Datatype::Fp32 {
            return Err(datatype(format!(
                "an array of {:?} is not {wanted:?}: cast it to Fp32 first",
                self.datatype
            )));
        }
        let halves = self.buffer.view::<f32>().iter();
        let mut made = Buffer::of::<u16>(self.len())?;
        for (half, single) in made.view_mut::<u16>().iter_mut().zip(halves) {
            *half = narrow(*single);
        }
        Ok(Some(made))
    }

    /// Converts to another type. Floats are truncated to integers.
    ///
    /// # Errors
    /// If a number does not fit the type.
    pub fn cast(&self, wanted: Datatype) -> Result<Self, Failure> {
        let wanted = wanted.array_type();
        if wanted == self.datatype {
            return Ok(self.clone());
        }
        let mut made = Self::zeros(wanted, &self.shape)?;
        with_type!(self.datatype, S => {
            let from = self.buffer.view::<S>();
            if wanted == Datatype::Bool {
                let zero = <S as num_traits::Zero>::zero();
                for (to, from) in made.buffer.view_mut::<u8>().iter_mut().zip(from) {
                    *to = u8::from(*from != zero);
                }
            } else if wanted == Datatype::Fp32 {
                floats::<S, f32>(from, made.buffer.view_mut());
            } else if wanted == Datatype::Fp64 {
                floats::<S, f64>(from, made.buffer.view_mut());
            } else {
                with_integer!(wanted, T => {
                    convert::<S, T>(from, made.buffer.view_mut::<T>(), wanted)?;
                });
            }
        });
        Ok(made)
    }
}

/// Converts each number to another type.
fn convert<S, T>(from: &[S], to: &mut [T], wanted: Datatype) -> Result<(), Failure>
where
    S: num_traits::NumCast + Copy,
    T: num_traits::NumCast + Copy + Default,
{
    let mut fits = true;
    for (from, to) in from.iter().zip(to) {
        let cast: Option<T> = num_traits::cast(*from);
        *to = cast.unwrap_or_default();
        fits &= cast.is_some();
    }
    if fits {
        Ok(())
    } else {
        Err(overflow(format!("a number does not fit {wanted:?}")))
    }
}

/// Converts each number to a float, which never fails.
fn floats<S: AsPrimitive<T>, T: Copy + 'static>(from: &[S], to: &mut [T]) {
    for (from, to) in from.iter().zip(to) {
        *to = from.as_();
    }
}

/// Converts a number to an element. `Bool` is 0 or 1.
pub(crate) fn element<T: num_traits::NumCast>(wanted: Datatype, number: f64) -> Result<T, Failure> {
    let number = if wanted == Datatype::Bool {
        f64::from(u8::from(number != 0.0))
    } else {
        number
    };
    num_traits::cast(number).ok_or_else(|| overflow(format!("{number} does not fit {wanted:?}")))
}

fn copied(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut made = Vec::new();
    made.try_reserve_exact(bytes.len())
        .map_err(|_| room(format!("cannot allocate {} bytes", bytes.len())))?;
    made.extend_from_slice(bytes);
    Ok(made)
}

fn widened(bytes: &[u8], count: usize, widen: fn(u16) -> f32) -> Result<Buffer, Failure> {
    let mut made = Buffer::of::<f32>(count)?;
    let (halves, _) = bytes.as_chunks::<2>();
    for (single, half) in made.view_mut::<f32>().iter_mut().zip(halves) {
        *single = widen(u16::from_le_bytes(*half));
    }
    Ok(made)
}

fn half_to_single(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff);
    let exponent = (bits >> 10) & 0x1f;
    match exponent {
        // 2^-24 for each unit.
        0 => sign * fraction * f32::from_bits(0x3380_0000),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        _ => {
            // The exponent's bias goes from 15 to 127.
            let exponent = u32::from(exponent).saturating_add(112) << 23;
            let bits =
                (u32::from(bits & 0x8000) << 16) | exponent | (u32::from(bits & 0x3ff) << 13);
            f32::from_bits(bits)
        }
    }
}

/// Converts to half precision, rounded to even.
fn single_to_half(single: f32) -> u16 {
    let bits = single.to_bits();
    let sign = u16::try_from(bits >> 16).unwrap_or_default() & 0x8000;
    let size = single.abs();
    if single.is_nan() {
        return sign | 0x7e00;
    }
    // 65520 is half-way between the greatest half and the next power of two.
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    let units = if size < f32::from_bits(0x3880_0000) {
        // Below 2^-14: units of 2^-24. A single scales to them without loss.
        let scaled = f64::from(size) * 16_777_216.0;
        num_traits::cast(scaled.round_ties_even()).unwrap_or_default()
    } else {
        let magnitude = bits & 0x7fff_ffff;
        let odd = (magnitude >> 13) & 1;
        let rounded = magnitude.saturating_add(0xfff).saturating_add(odd) >> 13;
        u16::try_from(rounded.saturating_sub(112 << 10)).unwrap_or(0x7c00)
    };
    sign | units
}

/// The upper half of a single, rounded to even. A NaN stays a NaN.
fn single_to_brain(single: f32) -> u16 {
    let bits = single.to_bits();
    let odd = (bits >> 16) & 1;
    let rounded = if single.is_nan() {
        bits | 0x0040_0000
    } else {
        bits.saturating_add(0x7fff).saturating_add(odd)
    };
    u16::try_from(rounded >> 16).unwrap_or_default()
}
