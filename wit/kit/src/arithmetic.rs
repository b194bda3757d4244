//! Binary operators on two arrays, or on an array and a number: type promotion and broadcasting.

use bytemuck::Pod;
use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};

use crate::array::{Array, count};
use crate::buffer::Buffer;
use crate::datatype::Datatype;
use crate::failure::{Failure, datatype, division, overflow, value};
use crate::lanes::{self, Lane, OperatorError, Side};
use crate::operator::Operator;

/// The least length of a repeated row, so that the loop over rows has enough work in each
/// iteration.
const ROW: usize = 192;

/// Applies an operator to each pair of elements. Shapes broadcast and types promote as in
/// numpy. A result that does not fit its whole type is a failure.
///
/// # Errors
/// If shapes do not broadcast, a result does not fit, or something is divided by zero.
pub fn combine(left: &Array, operator: Operator, right: &Array) -> Result<Array, Failure> {
    let shape = broadcast(&left.shape, &right.shape)?;
    let common = result(operator, left.datatype.with(right.datatype));
    dispatch(
        operator,
        common,
        &shape,
        Given::Array(left),
        Given::Array(right),
    )
}

/// Applies an operator to each element and one number, which comes first if `reversed`. `real`
/// states that the number is not a whole one: an array of whole numbers becomes `Fp64` then.
///
/// # Errors
/// If a result or the number does not fit the type, or something is divided by zero.
pub fn combine_number(
    array: &Array,
    operator: Operator,
    number: f64,
    real: bool,
    reversed: bool,
) -> Result<Array, Failure> {
    let own = match array.datatype {
        Datatype::Fp32 | Datatype::Fp64 => array.datatype,
        _ if real => Datatype::Fp64,
        Datatype::Bool => Datatype::Int64,
        integer => integer,
    };
    let (one, other) = (Given::Array(array), Given::Number(number));
    let (one, other) = if reversed { (other, one) } else { (one, other) };
    dispatch(operator, result(operator, own), &array.shape, one, other)
}

/// Limits each element to at least `low` and at most `high`. The type stays.
///
/// # Errors
/// If a bound does not fit the type.
pub fn clip(array: &Array, low: f64, high: f64) -> Result<Array, Failure> {
    let own = array.datatype;
    let wide = |bound: f64, operator| {
        dispatch(
            operator,
            own,
            &array.shape,
            Given::Array(array),
            Given::Number(bound),
        )
    };
    let raised = wide(low, Operator::Maximum)?;
    dispatch(
        Operator::Minimum,
        own,
        &array.shape,
        Given::Array(&raised),
        Given::Number(high),
    )
}

/// The type in which an operator computes on numbers of a common type.
fn result(operator: Operator, common: Datatype) -> Datatype {
    if operator == Operator::Divide && !common.is_float() {
        Datatype::Fp64
    } else {
        common
    }
}

#[derive(Clone, Copy)]
enum Given<'a> {
    Array(&'a Array),
    Number(f64),
}

fn dispatch(
    operator: Operator,
    common: Datatype,
    shape: &[usize],
    one: Given<'_>,
    other: Given<'_>,
) -> Result<Array, Failure> {
    match common {
        Datatype::Fp32 => run::<f32>(operator, common, Datatype::Fp32, shape, one, other),
        Datatype::Fp64 => run::<f64>(operator, common, Datatype::Fp64, shape, one, other),
        Datatype::Uint64 => run::<u64>(operator, common, Datatype::Uint64, shape, one, other),
        _ => run::<i64>(operator, common, Datatype::Int64, shape, one, other),
    }
}

fn run<T: Lane + Pod + num_traits::NumCast>(
    operator: Operator,
    common: Datatype,
    lane: Datatype,
    shape: &[usize],
    one: Given<'_>,
    other: Given<'_>,
) -> Result<Array, Failure> {
    let (one, mut other) = (
        Operand::of::<T>(one, lane, shape)?,
        Operand::of::<T>(other, lane, shape)?,
    );
    let expanded = match (&one, &other) {
        (Operand::Row(_), Operand::Row(row)) => Some(repeated::<T>(row.view(), count(shape)?)?),
        _ => None,
    };
    if let Some(expanded) = expanded {
        other = Operand::Each(expanded);
    }
    if operator.compares() {
        let mut made = Array::zeros(Datatype::Bool, shape)?;
        lanes::compare::<T>(operator, one.side(), other.side(), made.buffer.bytes_mut());
        return Ok(made);
    }
    let mut made = Array::zeros(lane, shape)?;
    let filled = T::arithmetic(operator, one.side(), other.side(), made.buffer.view_mut());
    filled.map_err(|error| match error {
        OperatorError::Overflow => {
            overflow(format!("a result of {operator:?} does not fit {lane:?}"))
        }
        OperatorError::Division => division("division by zero"),
        OperatorError::Exponent => value("a whole number to the power of a negative one"),
    })?;
    if common == lane {
        Ok(made)
    } else {
        made.cast(common)
    }
}

/// An operand, converted to its lane type, and the layout of its elements.
enum Operand<'a> {
    Borrowed(&'a Array),
    Each(Buffer),
    Row(Buffer),
}

impl<'a> Operand<'a> {
    fn of<T: Pod + num_traits::NumCast>(
        given: Given<'a>,
        lane: Datatype,
        shape: &[usize],
    ) -> Result<Self, Failure> {
        let total = count(shape)?;
        let array = match given {
            Given::Number(number) => {
                let number: Option<T> = num_traits::cast(number);
                let number = number
                    .ok_or_else(|| overflow("a number that does not fit the array's type"))?;
                return repeated(&[number], ROW.min(total)).map(Self::Row);
            }
            Given::Array(array) => array,
        };
        if array.shape == shape && array.datatype == lane {
            return Ok(Self::Borrowed(array));
        }
        let cast = array.cast(lane)?;
        if array.shape == shape {
            return Ok(Self::Each(cast.buffer));
        }
        // An operand that repeats as a whole: dimensions of 1, then the last dimensions of the
        // shape.
        let own: Vec<usize> = array
            .shape
            .iter()
            .copied()
            .skip_while(|dim| *dim == 1)
            .collect();
        let width = cast.len();
        if width > 0 && shape.ends_with(&own) {
            let complete_rows = ROW.div_ceil(width).saturating_mul(width);
            return repeated(cast.buffer.view::<T>(), complete_rows.min(total)).map(Self::Row);
        }
        spread::<T>(&cast, shape).map(Self::Each)
    }

    fn side<T: Pod>(&self) -> Side<'_, T> {
        match self {
            Self::Borrowed(array) => Side::Each(array.buffer.view()),
            Self::Each(buffer) => Side::Each(buffer.view()),
            Self::Row(buffer) => Side::Row(buffer.view()),
        }
    }
}

/// Repeats a row up to a length that is a multiple of its own.
fn repeated<T: Pod>(row: &[T], length: usize) -> Result<Buffer, Failure> {
    let mut made = Buffer::of::<T>(length)?;
    for to in made.view_mut::<T>().chunks_mut(row.len().max(1)) {
        if let Some(row) = row.get(..to.len()) {
            to.copy_from_slice(row);
        }
    }
    Ok(made)
}

/// The elements, repeated by broadcasting to a shape.
fn spread<T: Pod>(array: &Array, shape: &[usize]) -> Result<Buffer, Failure> {
    let mut made = Buffer::of::<T>(count(shape)?)?;
    let from = ArrayViewD::from_shape(IxDyn(&array.shape), array.buffer.view::<T>());
    let to = ArrayViewMutD::from_shape(IxDyn(shape), made.view_mut::<T>());
    let (Ok(from), Ok(mut to)) = (from, to) else {
        return Err(value("an array of inconsistent length"));
    };
    let from = from
        .broadcast(IxDyn(shape))
        .ok_or_else(|| datatype(format!("{:?} does not broadcast to {shape:?}", array.shape)))?;
    to.assign(&from);
    Ok(made)
}

/// The shape that two arrays broadcast to.
fn broadcast(one: &[usize], other: &[usize]) -> Result<Vec<usize>, Failure> {
    let length = one.len().max(other.len());
    let padded = |dims: &[usize]| -> Vec<usize> {
        let missing = length.saturating_sub(dims.len());
        std::iter::repeat_n(1, missing)
            .chain(dims.iter().copied())
            .collect()
    };
    let pairs = padded(one).into_iter().zip(padded(other));
    let dims = pairs.map(|(a, b)| match (a, b) {
        (a, b) if a == b => Ok(a),
        (1, b) => Ok(b),
        (a, 1) => Ok(a),
        _ => Err(value(format!("{one:?} and {other:?} do not broadcast"))),
    });
    let dims = dims.collect::<Result<Vec<_>, _>>()?;
    count(&dims)?;
    Ok(dims)
}
