//! A hostile handler that never ends. Raw bodies make it call the host for ever; tensors: spin.

use tensorgate_handler::{Error, Payload, Preprocess, Tensor, config, export_preprocess};

struct Loop;

impl Preprocess for Loop {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let calls_the_host = matches!(input, Payload::Raw(_));
        loop {
            if calls_the_host {
                core::hint::black_box(config("nothing"));
            } else {
                core::hint::spin_loop();
            }
        }
    }
}

export_preprocess!(Loop);
