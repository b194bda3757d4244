//! The export of a component, in any version of the handler interface. The version decides how a
//! call fails; tensors and bodies are the same in all of them.

use tensorgate_base::payload::Role;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::bindings::postprocess::PostprocessPre;
use crate::bindings::preprocess::tensorgate::handler::errors::{Error, Rejection};
use crate::bindings::preprocess::{Payload, PreprocessPre};
use crate::bindings::v0_1;
use crate::bindings::v0_1::preprocess::tensorgate::handler::types;
use crate::call_state::CallState;
use crate::cause::Phase;

/// The export of a compiled component.
pub(super) enum Export {
    /// The export of a preprocess handler.
    Preprocess(PreprocessPre<CallState>),
    /// The export of a postprocess handler.
    Postprocess(PostprocessPre<CallState>),
    /// The export of a preprocess handler of version 0.1.
    FirstPreprocess(v0_1::preprocess::PreprocessPre<CallState>),
    /// The export of a postprocess handler of version 0.1.
    FirstPostprocess(v0_1::postprocess::PostprocessPre<CallState>),
}

/// The arguments of a call.
pub(super) enum Arguments<'a> {
    /// Tensors.
    Tensors(&'a [types::TensorParam<'a>]),
    /// A body that is not parsed.
    Raw(types::RawBody<'a>),
}

/// What the export returns, if the guest returns.
pub(super) type Answer = Result<Vec<types::TensorResult>, Error>;

impl Export {
    /// The export of a role, in the version that it has.
    ///
    /// # Errors
    /// Returns an error if the component has no such export in any version.
    pub(super) fn new(role: Role, linked: InstancePre<CallState>) -> wasmtime::Result<Self> {
        let first = linked.clone();
        match role {
            Role::Preprocess => match PreprocessPre::new(linked) {
                Ok(export) => Ok(Self::Preprocess(export)),
                Err(error) => v0_1::preprocess::PreprocessPre::new(first)
                    .map(Self::FirstPreprocess)
                    .map_err(|_| error),
            },
            Role::Postprocess => match PostprocessPre::new(linked) {
                Ok(export) => Ok(Self::Postprocess(export)),
                Err(error) => v0_1::postprocess::PostprocessPre::new(first)
                    .map(Self::FirstPostprocess)
                    .map_err(|_| error),
            },
        }
    }

    /// The role of the handler.
    pub(super) const fn role(&self) -> Role {
        match self {
            Self::Preprocess(_) | Self::FirstPreprocess(_) => Role::Preprocess,
            Self::Postprocess(_) | Self::FirstPostprocess(_) => Role::Postprocess,
        }
    }

    /// Instantiates the component without calling it.
    ///
    /// # Errors
    /// Returns the engine's error.
    pub(super) fn instantiate(&self, store: &mut Store<CallState>) -> wasmtime::Result<()> {
        match self {
            Self::Preprocess(export) => export.instantiate(store).map(drop),
            Self::Postprocess(export) => export.instantiate(store).map(drop),
            Self::FirstPreprocess(export) => export.instantiate(store).map(drop),
            Self::FirstPostprocess(export) => export.instantiate(store).map(drop),
        }
    }

    /// Instantiates and calls.
    ///
    /// # Errors
    /// Returns the engine's error, with the phase in which it occurred.
    pub(super) fn call(
        &self,
        store: &mut Store<CallState>,
        arguments: Arguments<'_>,
    ) -> Result<Answer, (wasmtime::Error, Phase)> {
        let start = |error| (error, Phase::Instantiate);
        let run = |error| (error, Phase::Call);
        match (self, arguments) {
            (Self::Preprocess(export), arguments) => {
                let input = match arguments {
                    Arguments::Tensors(tensors) => Payload::Tensors(tensors),
                    Arguments::Raw(body) => Payload::Raw(body),
                };
                let instance = export.instantiate(&mut *store).map_err(start)?;
                instance.call_preprocess(&mut *store, input).map_err(run)
            }
            (Self::FirstPreprocess(export), arguments) => {
                let input = match arguments {
                    Arguments::Tensors(tensors) => v0_1::preprocess::Payload::Tensors(tensors),
                    Arguments::Raw(body) => v0_1::preprocess::Payload::Raw(body),
                };
                let instance = export.instantiate(&mut *store).map_err(start)?;
                let answer = instance.call_preprocess(&mut *store, input).map_err(run)?;
                Ok(answer.map_err(renewed))
            }
            (Self::Postprocess(export), Arguments::Tensors(outputs)) => {
                let instance = export.instantiate(&mut *store).map_err(start)?;
                instance.call_postprocess(&mut *store, outputs).map_err(run)
            }
            (Self::FirstPostprocess(export), Arguments::Tensors(outputs)) => {
                let instance = export.instantiate(&mut *store).map_err(start)?;
                let answer = instance
                    .call_postprocess(&mut *store, outputs)
                    .map_err(run)?;
                Ok(answer.map_err(renewed))
            }
            (Self::Postprocess(_) | Self::FirstPostprocess(_), Arguments::Raw(_)) => Ok(Err(
                Error::Fault("a postprocess handler received a body".to_owned()),
            )),
        }
    }
}

/// An error of version 0.1, which has no text for the caller.
fn renewed(error: types::Error) -> Error {
    match error {
        types::Error::BadInput(log) => Error::BadInput(Rejection { log, caller: None }),
        types::Error::Fault(text) => Error::Fault(text),
    }
}
