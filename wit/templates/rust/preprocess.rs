//! Before the model: subtracts `mean` from each element of `image` (FP32, any shape) and multiplies
//! by `scale`. Both are set in the configuration.

use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

struct Handler;

impl Preprocess for Handler {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected tensors, not a body"));
        };
        let [image] = tensors.as_slice() else {
            return Err(Error::bad_input("expected one tensor"));
        };
        let (mean, scale) = (number("mean", 0.0)?, number("scale", 1.0)?);
        let pixels = image.view::<f32>()?;
        let scaled = pixels.mapv(|pixel| (pixel - mean) * scale);
        Ok(vec![Tensor::from_array("image", scaled)?])
    }
}

export_preprocess!(Handler);

/// A number of the configuration, or the default if it is not set.
fn number(key: &str, otherwise: f32) -> Result<f32, Error> {
    match config(key) {
        Some(text) => text
            .parse()
            .map_err(|_| Error::fault(format!("config {key}: {text:?} is not a number"))),
        None => Ok(otherwise),
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_handler::testing::set_config;

    use super::*;

    #[test]
    fn the_configuration_is_read() {
        set_config([("mean", "0.5")]);
        assert!(matches!(number("mean", 0.0), Ok(0.5)));
        assert!(matches!(number("scale", 1.0), Ok(1.0)));
        set_config([("mean", "half")]);
        assert!(matches!(number("mean", 0.0), Err(Error::Fault(_))));
    }
}
