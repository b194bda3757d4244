//! Constants: the values of globals that are never set, and the offsets of segments.

use wasm_encoder::{ConstExpr, Instruction};
use wasmparser::Operator;

use super::module::at;

/// A numeric constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    I32(i32),
    I64(i64),
    F32(wasm_encoder::Ieee32),
    F64(wasm_encoder::Ieee64),
}

impl Value {
    /// Evaluates an expression with these values of globals. `None` if it is not numeric, or
    /// depends on an unknown value.
    pub(super) fn of(
        expression: &wasmparser::ConstExpr<'_>,
        globals: &[Option<Self>],
    ) -> Option<Self> {
        let mut stack = Vec::new();
        for operator in expression.get_operators_reader() {
            match operator.ok()? {
                Operator::I32Const { value } => stack.push(Self::I32(value)),
                Operator::I64Const { value } => stack.push(Self::I64(value)),
                Operator::F32Const { value } => {
                    stack.push(Self::F32(wasm_encoder::Ieee32::new(value.bits())));
                }
                Operator::F64Const { value } => {
                    stack.push(Self::F64(wasm_encoder::Ieee64::new(value.bits())));
                }
                Operator::GlobalGet { global_index } => stack.push((*at(globals, global_index)?)?),
                operator @ (Operator::I32Add
                | Operator::I32Sub
                | Operator::I32Mul
                | Operator::I64Add
                | Operator::I64Sub
                | Operator::I64Mul) => {
                    let right = stack.pop()?;
                    let left = stack.pop()?;
                    stack.push(computed(&operator, left, right)?);
                }
                Operator::End => {}
                _ => return None,
            }
        }
        let value = stack.pop()?;
        stack.is_empty().then_some(value)
    }

    pub(super) fn instruction(self) -> Instruction<'static> {
        match self {
            Self::I32(value) => Instruction::I32Const(value),
            Self::I64(value) => Instruction::I64Const(value),
            Self::F32(value) => Instruction::F32Const(value),
            Self::F64(value) => Instruction::F64Const(value),
        }
    }

    pub(super) fn expression(self) -> ConstExpr {
        match self {
            Self::I32(value) => ConstExpr::i32_const(value),
            Self::I64(value) => ConstExpr::i64_const(value),
            Self::F32(value) => ConstExpr::f32_const(value),
            Self::F64(value) => ConstExpr::f64_const(value),
        }
    }

    /// The value as an offset in a table or a memory.
    pub(super) fn offset(self) -> Option<u64> {
        match self {
            Self::I32(value) => Some(u64::from(value.cast_unsigned())),
            Self::I64(value) => Some(value.cast_unsigned()),
            Self::F32(_) | Self::F64(_) => None,
        }
    }
}

fn computed(operator: &Operator<'_>, left: Value, right: Value) -> Option<Value> {
    Some(match (operator, left, right) {
        (Operator::I32Add, Value::I32(left), Value::I32(right)) => {
            Value::I32(left.wrapping_add(right))
        }
        (Operator::I32Sub, Value::I32(left), Value::I32(right)) => {
            Value::I32(left.wrapping_sub(right))
        }
        (Operator::I32Mul, Value::I32(left), Value::I32(right)) => {
            Value::I32(left.wrapping_mul(right))
        }
        (Operator::I64Add, Value::I64(left), Value::I64(right)) => {
            Value::I64(left.wrapping_add(right))
        }
        (Operator::I64Sub, Value::I64(left), Value::I64(right)) => {
            Value::I64(left.wrapping_sub(right))
        }
        (Operator::I64Mul, Value::I64(left), Value::I64(right)) => {
            Value::I64(left.wrapping_mul(right))
        }
        _ => return None,
    })
}
