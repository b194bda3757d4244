//! Runs before an image model: from `photo` UINT8 `[1, height, width, 3]` to `image` FP32 `[1, 3,
//! height, width]`, each channel normalised by its mean and deviation, as for models of ImageNet.
//!
//! It works on blocks of 16 pixels, because metering counts the operations of a loop's body, and a
//! vector operation counts as one.

mod planes;

use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

pub use crate::planes::{CHANNELS, planes};

struct Normalise;

impl Preprocess for Normalise {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected a tensor, not a body"));
        };
        let [photo] = tensors.as_slice() else {
            return Err(Error::bad_input("expected one tensor"));
        };
        let &[1, height, width, channels] = photo.shape.as_slice() else {
            return Err(Error::bad_input("expected [1, height, width, channels]"));
        };
        if usize::try_from(channels) != Ok(CHANNELS) {
            return Err(Error::bad_input("expected three channels"));
        }
        let (height, width) = (whole(height)?, whole(width)?);
        let pixels = photo.view::<u8>()?;
        let pixels = pixels
            .as_slice()
            .ok_or_else(|| Error::fault("a photograph of inconsistent length"))?;
        let image = Tensor::fill("image", &[1, CHANNELS, height, width], |mut image| {
            let image = image
                .as_slice_mut()
                .ok_or_else(|| Error::fault("an image of inconsistent length"))?;
            planes(pixels, image);
            Ok(())
        })?;
        Ok(vec![image])
    }
}

// The memory for a photograph of 224 × 224: a byte and a float for each channel.
export_preprocess!(Normalise, arena: 224 * 224 * 3 * (1 + 4));

fn whole(dim: u64) -> Result<usize, Error> {
    usize::try_from(dim).map_err(Error::bad_input)
}
