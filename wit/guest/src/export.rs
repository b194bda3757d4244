//! What an author implements, and the macros that make it a component's export.

use crate::{Error, Payload, Tensor};

/// A handler before the model.
pub trait Preprocess {
    /// Makes the model's input tensors. They are checked against the model's `inputs` before they go anywhere.
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error>;
}

/// A handler after the model.
pub trait Postprocess {
    /// Makes the client's output tensors of the model's. They are checked against the policy's `returns`
    /// before they go anywhere.
    fn postprocess(outputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error>;
}

/// Makes a type that implements [`Preprocess`] this component's export. Once in a crate.
#[macro_export]
macro_rules! export_preprocess {
    ($handler:ty) => {
        const _: () = {
            struct World;
            impl $crate::bindings::preprocess::Guest for World {
                fn preprocess(
                    input: $crate::Payload,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::Tensor>, $crate::Error>
                {
                    $crate::log_panics();
                    <$handler as $crate::Preprocess>::preprocess(input)
                }
            }
            $crate::bindings::preprocess::export_preprocess_world!(
                World with_types_in $crate::bindings::preprocess
            );
        };
    };
}

/// Makes a type that implements [`Postprocess`] this component's export. Once in a crate.
#[macro_export]
macro_rules! export_postprocess {
    ($handler:ty) => {
        const _: () = {
            struct World;
            impl $crate::bindings::postprocess::Guest for World {
                fn postprocess(
                    outputs: ::std::vec::Vec<$crate::Tensor>,
                ) -> ::core::result::Result<::std::vec::Vec<$crate::Tensor>, $crate::Error>
                {
                    $crate::log_panics();
                    <$handler as $crate::Postprocess>::postprocess(outputs)
                }
            }
            $crate::bindings::postprocess::export_postprocess_world!(
                World with_types_in $crate::bindings::postprocess
            );
        };
    };
}

/// From here on a panic writes its message and place to the operator's log before it traps: a trap alone carries
/// neither. The export macros call this.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| crate::log::error(info.to_string())));
}
