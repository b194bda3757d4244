//! Runs before a tabular model: from `rows` BYTES `[n]`, each a JSON object such as `{"age": 39,
//! "job": "clerk"}`, to `features` FP32 `[n, width]`, in the model's order, scale and encoding.
//!
//! | config | default | |
//! |---|---|---|
//! | `columns` | (must be set) | the model's columns in its order, as a JSON list |
//! | `max_rows` | 256 | of one request |
//! | `input` | features | the name of the model's input |
//!
//! There are two kinds of columns:
//! - `{"name": "age", "number": {"mean": 38.6, "scale": 13.6, "missing": 37}}`: the number minus
//!   `mean`, divided by `scale` (defaults 0 and 1).
//! - `{"name": "job", "category": {"values": ["clerk", "nurse"], "unknown": "zeros", "missing":
//!   "clerk"}}`: one-hot encoding. Unknown values are rejected, or are zeros with `"unknown":
//!   "zeros"`.
//!
//! `missing` replaces an absent value or `null`; without it such a row is rejected. The results are
//! those of scikit-learn's `SimpleImputer`, `StandardScaler` and `OneHotEncoder` in a
//! `ColumnTransformer`.
//!
//! Duplicate keys and unknown keys are rejected, because parsers treat them differently.

mod columns;
mod rows;

use handler_settings::{name, number};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

pub use crate::columns::Columns;

/// The greatest sensible `max_rows`.
const GREATEST_ROWS: usize = 65_536;

struct Tabular;

impl Preprocess for Tabular {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected a tensor, not a body"));
        };
        let max_rows = number("max_rows", 256, 1..=GREATEST_ROWS)?;
        let columns = config("columns").ok_or_else(|| Error::fault("config columns: not set"))?;
        let columns = Columns::read(&columns)?;
        let [rows] = tensors.as_slice() else {
            return Err(Error::bad_input("expected one tensor"));
        };
        let items = rows.items()?;
        if rows.shape.len() != 1 || items.is_empty() || items.len() > max_rows {
            return Err(Error::bad_input(format!(
                "expected [n], n up to {max_rows}"
            )));
        }
        let features = rows::features(&items, &columns)?;
        let shape = [items.len(), columns.width()];
        let tensor = Tensor::fill(name("input", "features"), &shape, |mut array| {
            array
                .iter_mut()
                .zip(features)
                .for_each(|(cell, feature)| *cell = feature);
            Ok(())
        })?;
        Ok(vec![tensor])
    }
}

export_preprocess!(Tabular);

#[cfg(test)]
mod tests;
