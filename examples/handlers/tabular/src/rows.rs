//! Parses JSON rows one at a time. A row is converted to numbers before the next is parsed, so
//! memory is bounded by the answer. The parser bounds the depth, and a row's size bounds the rest.

use core::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use tensorgate_handler::Error;

use crate::columns::{Columns, Value};

/// The most bytes of a category's value.
const MAX_TEXT_BYTES: usize = 4096;

/// The numbers of all rows, one after another.
///
/// # Errors
/// Bad input if a text is not a row that fits the columns.
pub fn features(rows: &[&[u8]], columns: &Columns) -> Result<Vec<f32>, Error> {
    let mut table = Table {
        columns,
        features: Vec::new(),
    };
    for (at, row) in rows.iter().enumerate() {
        let mut json = serde_json::Deserializer::from_slice(row);
        Row(&mut table)
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| Error::bad_input(format!("row {at}: {error}")))?;
    }
    Ok(table.features)
}

struct Table<'a> {
    columns: &'a Columns,
    features: Vec<f32>,
}

/// One row: an object.
struct Row<'t, 'a>(&'t mut Table<'a>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a row: an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let table = self.0;
        let mut row: Vec<Option<Value>> = vec![None; table.columns.empty_row().len()];
        while let Some(key) = map.next_key::<String>()? {
            let place = table.columns.place(&key);
            let Some(cell) = place.and_then(|place| row.get_mut(place)) else {
                map.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom("a key that no column has"));
            };
            if cell.is_some() {
                return Err(A::Error::custom("a key that stands twice"));
            }
            *cell = Some(map.next_value_seed(Cell)?);
        }
        let row: Vec<Value> = row
            .into_iter()
            .map(|cell| cell.unwrap_or(Value::Missing))
            .collect();
        let done = table.columns.append(&row, &mut table.features);
        done.map_err(|error| A::Error::custom(error.log_text()))
    }
}

struct Cell;

impl<'de> DeserializeSeed<'de> for Cell {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Cell {
    type Value = Value;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a number, a text or null")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Missing)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as every reader of JSON into doubles"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "as every reader of JSON into doubles"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value as f64))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        if value.len() > MAX_TEXT_BYTES {
            return Err(E::custom("a text that is too long"));
        }
        Ok(Value::Text(value.to_owned()))
    }
}
