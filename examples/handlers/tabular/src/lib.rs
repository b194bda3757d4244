//! Before a model of tables: `rows` BYTES `[n]`, each an object of JSON, to `features` FP32 `[n, width]`, in the order, scale and
//! coding that the model learnt. A row is `{"age": 39, "job": "clerk"}`.
//!
//! | config | unless set | |
//! |---|---|---|
//! | `columns` | (must be set) | what the model takes, as a list of JSON, in its order |
//! | `max_rows` | 256 | of one request |
//! | `input` | features | the model's name of it |
//!
//! A column is `{"name": "age", "number": {"mean": 38.6, "scale": 13.6, "missing": 37}}`: the number less `mean`, over `scale`
//! (0 and 1 unless set); or `{"name": "job", "category": {"values": ["clerk", "nurse"], "unknown": "zeros", "missing": "clerk"}}`: a 1 in
//! the place of its value, 0 in the others', and for a value that is none of them zeros, or a refusal unless `"unknown": "zeros"`. What a row lacks,
//! or has as `null`, is `missing`; a column without that must be there. So do scikit-learn's `SimpleImputer`, `StandardScaler` and
//! `OneHotEncoder` in a `ColumnTransformer`, and the numbers are theirs.
//!
//! A key that stands twice or that no column has is refused: what one parser reads, another must not read otherwise.

mod columns;
mod rows;

use handler_settings::{name, number};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

pub use crate::columns::Columns;

/// Beyond this `max_rows` is a mistake.
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
