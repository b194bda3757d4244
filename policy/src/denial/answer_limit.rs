//! The bounds that end an answer or a stream after it has begun. The client reads which one it was,
//! because the model is not at fault.

/// A bound on an answer or a stream that has begun. All but the client's deadline are the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerLimit {
    /// The number of answers to one message of a decoupled model.
    Answers,
    /// The bytes of all answers to one message of a decoupled model.
    Bytes,
    /// The bytes of an answer of OpenAI's API.
    AnswerBytes,
    /// The time between two answers to one message.
    Gap,
    /// The time of all answers to one message.
    Time,
    /// The time of a stream.
    Stream,
    /// The time without data of the client.
    Idle,
    /// The client's own deadline.
    ClientDeadline,
}

impl AnswerLimit {
    /// What the client reads in place of the reason's title. It names the limit, not its value.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Answers => "there are more answers than the policy allows: max_answers",
            Self::Bytes => "the answers have more bytes than the policy allows: max_bytes",
            Self::AnswerBytes => {
                "the answer has more bytes than the policy allows: max_answer_bytes"
            }
            Self::Gap => "no further answer came in the time that the policy allows: gap_ms",
            Self::Time => "the answers took longer than the policy allows: max_ms",
            Self::Stream => "the stream lasted longer than the policy allows: stream_ms",
            Self::Idle => "nothing arrived for longer than the policy allows: timeout_ms",
            Self::ClientDeadline => "the deadline that the client has set passed: grpc-timeout",
        }
    }
}
