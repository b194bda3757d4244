//! The request that a call belongs to.

pub use crate::bindings::preprocess::tensorgate::handler::context::{
    Input, Parameter, Request, TensorShape,
};

/// The request that the call belongs to. A replay of the call gets the same values.
#[cfg(target_arch = "wasm32")]
pub fn context() -> Request {
    crate::bindings::preprocess::tensorgate::handler::context::get()
}

/// The request that [`crate::testing::set_context`] sets. There is no host here.
#[cfg(not(target_arch = "wasm32"))]
pub fn context() -> Request {
    crate::testing::context()
}

impl Request {
    /// The value of a parameter of the request, if it has the parameter and the policy lists it for
    /// this handler.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        let mut parameters = self.parameters.iter();
        parameters.find_map(|(known, value)| (known == name).then_some(value))
    }
}
