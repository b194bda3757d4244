//! A hostile handler whose output does not fit the model. Its config's `lie` selects the fault;
//! without one it returns a well-formed tensor with one dim too many.

use tensorgate_handler::{Datatype, Error, Payload, Preprocess, Tensor, config, export_preprocess};

struct WrongShape;

impl Preprocess for WrongShape {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        let image = |shape: Vec<u64>, bytes: usize| Tensor {
            name: "image".into(),
            datatype: Datatype::Fp32,
            shape,
            data: vec![0; bytes],
        };
        Ok(match config("lie").as_deref() {
            None => vec![image(vec![1, 1, 8, 8, 1], 256)],
            Some("short-data") => vec![image(vec![1, 1, 8, 8], 252)],
            Some("huge-dim") => vec![image(vec![u64::MAX], 0)],
            Some("overflow") => vec![image(vec![1 << 62, 1 << 62], 0)],
            Some("many-dims") => vec![image(vec![1; 4096], 4)],
            Some("many-tensors") => (0..4096).map(|_| image(vec![1], 4)).collect(),
            Some("large-data") => vec![image(vec![1], 48 << 20), image(vec![1], 48 << 20)],
            Some("long-name") => vec![Tensor {
                name: "x".repeat(1 << 20),
                ..image(vec![1], 4)
            }],
            Some("nothing") => Vec::new(),
            Some("panic") => return Err(Error::fault(provoke_panic())),
            Some(other) => return Err(Error::fault(format!("no lie is called {other}"))),
        })
    }
}

#[expect(clippy::panic, reason = "a panic is what this is for")]
fn provoke_panic() -> String {
    panic!("a hostile\npanic")
}

export_preprocess!(WrongShape);
