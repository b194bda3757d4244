//! Tensors as they come, and a body as one tensor: BYTES `[1]`, for a model that decodes it itself.
//!
//! | config | unless set | |
//! |---|---|---|
//! | `name` | body | what a body's tensor is called |

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
