//! Returns tensors unchanged, and a raw body as one tensor BYTES `[1]`, for a model that decodes it
//! itself.
//!
//! | config | default | |
//! |---|---|---|
//! | `name` | body | the name of a body's tensor |

use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

struct Passthrough;

impl Preprocess for Passthrough {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        match input {
            Payload::Tensors(tensors) => Ok(tensors),
            Payload::Raw(body) => {
                let name = config("name").unwrap_or_else(|| "body".to_owned());
                Ok(vec![Tensor::from_items(&name, &[1], [body.data])?])
            }
        }
    }
}

export_preprocess!(Passthrough);
