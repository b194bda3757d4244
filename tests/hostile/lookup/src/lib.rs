//! A handler that looks up its config's `features` and `keys` in `lookup`, `times` times.
//! It answers a column of doubles per feature, NaN where missing. Errors become bad input.

use tensorgate_handler::lookup::lookup;
use tensorgate_handler::ndarray::Array2;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

struct LookingUp;

impl Preprocess for LookingUp {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        let lines = |key: &str| {
            let text = config(key).unwrap_or_default();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let name = config("lookup").unwrap_or_default();
        let (features, mut keys) = (lines("features"), lines("keys"));
        if let Some(long) = config("long").and_then(|bytes| bytes.parse().ok()) {
            keys.push("x".repeat(long));
        }
        let times: u32 = config("times")
            .and_then(|times| times.parse().ok())
            .unwrap_or(1);
        let mut columns = Vec::new();
        for time in 0..times {
            if time > 0 {
                keys = vec![format!("k{time}")];
            }
            columns =
                lookup(&name, &features, &keys).map_err(|why| Error::bad_input(why.name()))?;
        }
        let rows: Vec<f64> = columns
            .iter()
            .flat_map(|column| column.values.iter().map(|value| value.unwrap_or(f64::NAN)))
            .collect();
        let keys = columns.first().map_or(0, |column| column.values.len());
        let table = Array2::from_shape_vec((columns.len(), keys), rows).map_err(Error::fault)?;
        Ok(vec![Tensor::from_array("came", table)?])
    }
}

export_preprocess!(LookingUp);
