//! Why a signed context is not accepted.

/// Why a context is rejected; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ContextFault {
    #[error("context is not in the form that a gate writes")]
    Form,
    #[error("context signature does not verify")]
    Signature,
    #[error("context was signed by a gateway of another release")]
    Release,
    #[error("context was issued for another method or path")]
    Request,
    #[error("context is too old or from the future")]
    Age,
}
