//! The messages that all signals of OTLP share, with the fields that are used here. The files of
//! opentelemetry-proto 1.7.0: `common/v1/common.proto`, `resource/v1/resource.proto`, and the
//! responses of `collector`.
#![allow(missing_docs, reason = "the protocol's files describe the fields")]

use std::time::{SystemTime, UNIX_EPOCH};

/// The version of this release. All crates have the same one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

/// `KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `AnyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub value: Option<Value>,
}

/// The alternatives of `AnyValue`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

/// The response to an export of logs or spans.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// What a receiver rejected: `ExportLogsPartialSuccess` or `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub rejected: i64,
    /// `error_message`. The receiver's text is not trusted to be UTF-8.
    #[prost(bytes = "vec", tag = "2")]
    pub error_message: Vec<u8>,
}

impl Resource {
    /// A service of this release, with further attributes.
    pub fn of_service(name: &str, more: impl IntoIterator<Item = KeyValue>) -> Self {
        let mut attributes = vec![
            KeyValue::text("service.name", name),
            KeyValue::text("service.version", VERSION),
        ];
        attributes.extend(more);
        Self { attributes }
    }
}

impl Scope {
    /// A part of this release.
    pub fn of_release(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: VERSION.to_owned(),
        }
    }
}

impl KeyValue {
    /// An attribute with a text.
    pub fn text(key: &str, value: impl Into<String>) -> Self {
        Self::new(key, Value::Text(value.into()))
    }

    /// An attribute.
    pub fn new(key: &str, value: Value) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }
}

/// A time as the messages have it: the nanoseconds since 1970, 0 for earlier times.
pub fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
