//! Unary functions.

use crate::arithmetic;
use crate::array::Array;
use crate::datatype::Datatype;
use crate::failure::{Failure, overflow};
use crate::operator::Operator;

/// A unary function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// -a
    Negative,
    /// |a|
    Absolute,
    /// e to the power of a.
    Exp,
    /// The natural logarithm.
    Log,
    /// The square root.
    Sqrt,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + exp(-a))
    Sigmoid,
    /// The greatest whole number that is not greater.
    Floor,
    /// The least whole number that is not less.
    Ceil,
    /// The nearest whole number, halves to even.
    Round,
}

macro_rules! floats {
    ($T:ty, $function:expr, $array:expr) => {
        match $function {
            Function::Negative => each($array, |a: $T| -a),
            Function::Absolute => each($array, <$T>::abs),
            Function::Exp => each($array, <$T>::exp),
            Function::Log => each($array, <$T>::ln),
            Function::Sqrt => each($array, <$T>::sqrt),
            Function::Tanh => each($array, <$T>::tanh),
            Function::Sigmoid => each($array, |a: $T| 1.0 / (1.0 + (-a).exp())),
            Function::Floor => each($array, <$T>::floor),
            Function::Ceil => each($array, <$T>::ceil),
            Function::Round => each($array, <$T>::round_ties_even),
        }
    };
}

/// Applies a function to each element of an array of its type.
fn each<T: bytemuck::Pod>(from: &Array, function: impl Fn(T) -> T) -> Result<Array, Failure> {
    let mut made = Array::zeros(from.datatype, &from.shape)?;
    let to = made.buffer.view_mut::<T>().iter_mut();
    for (to, from) in to.zip(from.buffer.view::<T>()) {
        *to = function(*from);
    }
    Ok(made)
}

/// Applies a function to each element. Whole numbers become `Fp64`, except for the first two
/// functions.
///
/// # Errors
/// If the negative of a whole number does not fit its type, or memory is exhausted.
pub fn apply(array: &Array, function: Function) -> Result<Array, Failure> {
    match (array.datatype, function) {
        (Datatype::Fp32, _) => floats!(f32, function, array),
        (Datatype::Fp64, _) => floats!(f64, function, array),
        (Datatype::Bool, Function::Negative | Function::Absolute) => Ok(array.clone()),
        (_, Function::Negative) => {
            arithmetic::combine_number(array, Operator::Subtract, 0.0, false, true)
        }
        (
            Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64,
            Function::Absolute,
        ) => Ok(array.clone()),
        (_, Function::Absolute) => {
            let mut wide = array.cast(Datatype::Int64)?;
            for number in wide.buffer.view_mut::<i64>() {
                *number = number
                    .checked_abs()
                    .ok_or_else(|| overflow("the negative of the least number does not fit"))?;
            }
            wide.cast(array.datatype)
        }
        _ => apply(&array.cast(Datatype::Fp64)?, function),
    }
}
