//! Keys of dictionaries that are more than data where a value takes the dictionary as its state.
//!
//! A dictionary is known by its kind only. So a key counts from where it is stored to the end of
//! the stream, for all values that take a state.

use super::allowed::Global;
use super::value::Value;

/// The last position of a Mersenne Twister in its 624 numbers: all have been drawn.
pub(super) const MAX_TWISTER_POSITION: i64 = 624;
/// The last position of Philox in its buffer.
const MAX_PHILOX_POSITION: i64 = 4;

/// Beginnings of the attributes of any object that give readers of arrays an address.
const ARRAY_NAMES: [&str; 3] = ["__array", "__cuda_array", "__dlpack"];

/// What keys of dictionaries mean.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Keys {
    has_special_name: bool,
    has_array_name: bool,
    has_odd_position: bool,
}

impl Keys {
    /// Takes note of pairs of a key and a value.
    pub(super) fn note(&mut self, pairs: &[[Value; 2]]) {
        for [key, value] in pairs {
            match (key, key.text()) {
                (Value::Opaque | Value::Text(_), None) => {
                    self.has_array_name = true;
                    self.note_unknown();
                }
                (_, Some("pos")) => self.note_position(value, MAX_TWISTER_POSITION),
                (_, Some("buffer_pos")) => self.note_position(value, MAX_PHILOX_POSITION),
                // An attribute such as `__array_interface__`: readers of arrays take an address
                // of memory from it.
                (_, Some(name)) if name.starts_with("__") => {
                    self.has_special_name = true;
                    let mut names = ARRAY_NAMES.iter();
                    self.has_array_name |= names.any(|beginning| name.starts_with(beginning));
                }
                _ => {}
            }
        }
    }

    /// Takes note of a dictionary whose keys are not known.
    pub(super) const fn note_unknown(&mut self) {
        self.has_special_name = true;
        self.has_odd_position = true;
    }

    fn note_position(&mut self, position: &Value, most: i64) {
        let is_within = matches!(position, Value::Int(at) if (0..=most).contains(at));
        self.has_odd_position |= !is_within;
    }

    /// Whether a dictionary can have a name from which readers of arrays take an address.
    pub(super) const fn has_array_name(&self) -> bool {
        self.has_array_name
    }

    /// Whether a dictionary can have a position that a generator must not take.
    pub(super) const fn has_odd_position(&self) -> bool {
        self.has_odd_position
    }

    /// Why a call with a dictionary is not safe.
    pub(super) const fn unchecked(&self, global: Global) -> Option<&'static str> {
        match global {
            Global::ParameterWithState | Global::TensorOfType if self.has_special_name => {
                Some("sets attributes of a tensor with names that readers of arrays look for")
            }
            _ => None,
        }
    }
}
