//! The four types in which operators compute: whole numbers of 64 bits, and floats. Also the loops
//! over two operands.

use std::cell::Cell;

use crate::operator::Operator;

/// An operand.
#[derive(Clone, Copy)]
pub(crate) enum Side<'a, T> {
    /// An element for each element of the result.
    Each(&'a [T]),
    /// A repeated row. At most one operand has this form.
    Row(&'a [T]),
}

/// Why an operator has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperatorError {
    Overflow,
    Division,
    /// A whole number to the power of a negative one.
    Exponent,
}

/// A type in which operators compute.
pub(crate) trait Lane: Copy + PartialOrd + Default {
    /// Fills `to`. The operator is not a comparison.
    fn arithmetic(
        operator: Operator,
        one: Side<'_, Self>,
        other: Side<'_, Self>,
        to: &mut [Self],
    ) -> Result<(), OperatorError>;
}

/// Fills `to` with the results of a comparison, 1 for true.
pub(crate) fn compare<T: Lane>(
    operator: Operator,
    one: Side<'_, T>,
    other: Side<'_, T>,
    to: &mut [u8],
) {
    match operator {
        Operator::Equal => meet(one, other, to, |a, b| u8::from(a == b)),
        Operator::NotEqual => meet(one, other, to, |a, b| u8::from(a != b)),
        Operator::Less => meet(one, other, to, |a, b| u8::from(a < b)),
        Operator::LessEqual => meet(one, other, to, |a, b| u8::from(a <= b)),
        Operator::Greater => meet(one, other, to, |a, b| u8::from(a > b)),
        _ => meet(one, other, to, |a, b| u8::from(a >= b)),
    }
}

/// Applies a function to each pair, row by row. Elements beyond the length of `to` are ignored.
fn meet<T: Copy, U>(one: Side<'_, T>, other: Side<'_, T>, to: &mut [U], f: impl Fn(T, T) -> U) {
    let width = match (one, other) {
        (Side::Row(row), _) | (_, Side::Row(row)) => row.len(),
        _ => to.len(),
    };
    let width = width.max(1);
    let mut at = 0_usize;
    for to in to.chunks_mut(width) {
        let pairs = part(one, at).iter().zip(part(other, at));
        for (to, (a, b)) in to.iter_mut().zip(pairs) {
            *to = f(*a, *b);
        }
        at = at.saturating_add(width);
    }
}

/// The elements of an operand for a row of the result.
fn part<'a, T>(side: Side<'a, T>, at: usize) -> &'a [T] {
    match side {
        Side::Each(all) => all.get(at..).unwrap_or_default(),
        Side::Row(row) => row,
    }
}

/// Whether an operand has a zero.
fn has_zero<T: PartialEq + Default>(side: &Side<'_, T>) -> bool {
    let zero = T::default();
    let (Side::Each(all) | Side::Row(all)) = side;
    all.contains(&zero)
}

fn divides(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Divide | Operator::FloorDivide | Operator::Remainder
    )
}

macro_rules! float_lane {
    ($T:ty) => {
        impl Lane for $T {
            fn arithmetic(
                operator: Operator,
                one: Side<'_, Self>,
                other: Side<'_, Self>,
                to: &mut [Self],
            ) -> Result<(), OperatorError> {
                if divides(operator) && has_zero(&other) {
                    return Err(OperatorError::Division);
                }
                // As in Python, the remainder has the divisor's sign.
                let remainder = |a: Self, b: Self| {
                    let left = a % b;
                    if left != 0.0 && (left < 0.0) != (b < 0.0) {
                        left + b
                    } else {
                        left
                    }
                };
                match operator {
                    Operator::Add => meet(one, other, to, |a, b| a + b),
                    Operator::Subtract => meet(one, other, to, |a, b| a - b),
                    Operator::Multiply => meet(one, other, to, |a, b| a * b),
                    Operator::Divide => meet(one, other, to, |a, b| a / b),
                    Operator::FloorDivide => meet(one, other, to, |a, b| {
                        ((a - remainder(a, b)) / b).round_ties_even()
                    }),
                    Operator::Remainder => meet(one, other, to, remainder),
                    Operator::Power => meet(one, other, to, Self::powf),
                    // A NaN on either side gives a NaN.
                    Operator::Minimum => {
                        meet(
                            one,
                            other,
                            to,
                            |a, b| if a < b || a.is_nan() { a } else { b },
                        )
                    }
                    _ => meet(
                        one,
                        other,
                        to,
                        |a, b| if a > b || a.is_nan() { a } else { b },
                    ),
                }
                Ok(())
            }
        }
    };
}

float_lane!(f32);
float_lane!(f64);

macro_rules! integer_lane {
    ($T:ty) => {
        impl Lane for $T {
            fn arithmetic(
                operator: Operator,
                one: Side<'_, Self>,
                other: Side<'_, Self>,
                to: &mut [Self],
            ) -> Result<(), OperatorError> {
                if divides(operator) && has_zero(&other) {
                    return Err(OperatorError::Division);
                }
                let (overflows, negative) = (Cell::new(false), Cell::new(false));
                let keep = |(number, over): (Self, bool)| {
                    overflows.set(overflows.get() | over);
                    number
                };
                let floor = |a: Self, b: Self| {
                    let (down, over) = a.overflowing_div_euclid(b);
                    // Euclid's remainder is never negative; with a negative divisor the floor is
                    // less by one.
                    let inexact = a.checked_rem_euclid(b).is_some_and(|rest| rest != 0);
                    #[allow(unused_comparisons, reason = "one of the types has no sign")]
                    let below = b < 0 && inexact;
                    (if below { down.wrapping_sub(1) } else { down }, over)
                };
                match operator {
                    Operator::Add => meet(one, other, to, |a, b| keep(a.overflowing_add(b))),
                    Operator::Subtract => meet(one, other, to, |a, b| keep(a.overflowing_sub(b))),
                    Operator::Multiply => meet(one, other, to, |a, b| keep(a.overflowing_mul(b))),
                    Operator::Divide | Operator::FloorDivide => {
                        meet(one, other, to, |a, b| keep(floor(a, b)));
                    }
                    Operator::Remainder => meet(one, other, to, |a, b| {
                        let (down, _) = floor(a, b);
                        a.wrapping_sub(down.wrapping_mul(b))
                    }),
                    Operator::Power => meet(one, other, to, |a, b| {
                        #[allow(unused_comparisons, reason = "one of the types has no sign")]
                        negative.set(negative.get() | (b < 0));
                        // A greater exponent overflows, unless the base is 0, 1 or -1.
                        let exponent = u32::try_from(b).unwrap_or(if b & 1 == 0 {
                            u32::MAX ^ 1
                        } else {
                            u32::MAX
                        });
                        keep(a.overflowing_pow(exponent))
                    }),
                    Operator::Minimum => meet(one, other, to, Self::min),
                    _ => meet(one, other, to, Self::max),
                }
                if negative.get() {
                    Err(OperatorError::Exponent)
                } else if overflows.get() {
                    Err(OperatorError::Overflow)
                } else {
                    Ok(())
                }
            }
        }
    };
}

integer_lane!(i64);
integer_lane!(u64);
