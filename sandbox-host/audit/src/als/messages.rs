//! The messages of Envoy's access log (`envoy.service.accesslog.v3` and `envoy.data.accesslog.v3`),
//! with the fields that are used here. Other fields are skipped. Strings that a client can
//! influence are bytes here, whatever Envoy declares: invalid UTF-8 must not lose the entry, and a
//! malformed entry must not lose its neighbours.

use std::collections::HashMap;

/// `StreamAccessLogsMessage`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(message, optional, tag = "2")]
    pub(crate) http_logs: Option<HttpLogs>,
    #[prost(message, optional, tag = "3")]
    pub(crate) tcp_logs: Option<TcpLogs>,
}

/// `HTTPAccessLogEntries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HttpLogs {
    /// [`HttpEntry`] messages, each decoded separately.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) log_entry: Vec<Vec<u8>>,
}

/// `TCPAccessLogEntries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TcpLogs {
    /// [`TcpEntry`] messages, each decoded separately.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) log_entry: Vec<Vec<u8>>,
}

/// `TCPAccessLogEntry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TcpEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<Common>,
}

/// `HTTPAccessLogEntry`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpEntry {
    #[prost(message, optional, tag = "1")]
    pub(super) common_properties: Option<Common>,
    #[prost(int32, tag = "2")]
    pub(super) protocol_version: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) request: Option<HttpRequest>,
    #[prost(message, optional, tag = "4")]
    pub(super) response: Option<HttpResponse>,
}

/// `AccessLogCommon`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Common {
    #[prost(message, optional, tag = "2")]
    pub(super) downstream_remote_address: Option<Address>,
    #[prost(message, optional, tag = "5")]
    pub(super) start_time: Option<Timestamp>,
    #[prost(message, optional, tag = "12")]
    pub(super) time_to_last_downstream_tx_byte: Option<Span>,
    #[prost(message, optional, tag = "16")]
    pub(super) response_flags: Option<Flags>,
    #[prost(map = "string, message", tag = "21")]
    pub(super) filter_state_objects: HashMap<String, Any>,
    #[prost(message, optional, tag = "23")]
    pub(super) duration: Option<Span>,
    #[prost(bytes = "vec", tag = "25")]
    pub(super) connection_termination_details: Vec<u8>,
    #[prost(bool, tag = "27")]
    pub(super) intermediate_log_entry: bool,
    #[prost(bytes = "vec", tag = "28")]
    pub(super) downstream_transport_failure_reason: Vec<u8>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Span {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(super) socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SocketAddress {
    #[prost(string, tag = "2")]
    pub(super) address: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `google.protobuf.BytesValue`, and `StringValue` as well.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Wrapped {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) value: Vec<u8>,
}

/// `HTTPRequestProperties`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpRequest {
    #[prost(bytes = "vec", tag = "5")]
    pub(super) path: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) request_id: Vec<u8>,
    #[prost(uint64, tag = "12")]
    pub(super) request_body_bytes: u64,
    #[prost(map = "string, bytes", tag = "13")]
    pub(super) request_headers: HashMap<String, Vec<u8>>,
}

/// `HTTPResponseProperties`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HttpResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) response_code: Option<Number>,
    #[prost(uint64, tag = "3")]
    pub(super) response_body_bytes: u64,
    #[prost(map = "string, bytes", tag = "4")]
    pub(super) response_headers: HashMap<String, Vec<u8>>,
    #[prost(map = "string, bytes", tag = "5")]
    pub(super) response_trailers: HashMap<String, Vec<u8>>,
    #[prost(bytes = "vec", tag = "6")]
    pub(super) response_code_details: Vec<u8>,
}

/// `google.protobuf.UInt32Value`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Number {
    #[prost(uint32, tag = "1")]
    pub(super) value: u32,
}

/// `ResponseFlags`, with a name for each in [`Flags::names`].
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Flags {
    #[prost(bool, tag = "1")]
    pub(super) failed_local_healthcheck: bool,
    #[prost(bool, tag = "2")]
    pub(super) no_healthy_upstream: bool,
    #[prost(bool, tag = "3")]
    pub(super) upstream_request_timeout: bool,
    #[prost(bool, tag = "4")]
    pub(super) local_reset: bool,
    #[prost(bool, tag = "5")]
    pub(super) upstream_remote_reset: bool,
    #[prost(bool, tag = "6")]
    pub(super) upstream_connection_failure: bool,
    #[prost(bool, tag = "7")]
    pub(super) upstream_connection_termination: bool,
    #[prost(bool, tag = "8")]
    pub(super) upstream_overflow: bool,
    #[prost(bool, tag = "9")]
    pub(super) no_route_found: bool,
    #[prost(bool, tag = "15")]
    pub(super) downstream_connection_termination: bool,
    #[prost(bool, tag = "16")]
    pub(super) upstream_retry_limit_exceeded: bool,
    #[prost(bool, tag = "17")]
    pub(super) stream_idle_timeout: bool,
    #[prost(bool, tag = "19")]
    pub(super) downstream_protocol_error: bool,
    #[prost(bool, tag = "20")]
    pub(super) upstream_max_stream_duration_reached: bool,
    #[prost(bool, tag = "22")]
    pub(super) no_filter_config_found: bool,
    #[prost(bool, tag = "23")]
    pub(super) duration_timeout: bool,
    #[prost(bool, tag = "24")]
    pub(super) upstream_protocol_error: bool,
    #[prost(bool, tag = "25")]
    pub(super) no_cluster_found: bool,
    #[prost(bool, tag = "26")]
    pub(super) overload_manager: bool,
    #[prost(bool, tag = "28")]
    pub(super) downstream_remote_reset: bool,
}

impl Flags {
    /// The names of the flags that are set, in Envoy's abbreviations.
    pub(super) fn names(&self) -> Vec<String> {
        let flags = [
            (self.failed_local_healthcheck, "LH"),
            (self.no_healthy_upstream, "UH"),
            (self.upstream_request_timeout, "UT"),
            (self.local_reset, "LR"),
            (self.upstream_remote_reset, "UR"),
            (self.upstream_connection_failure, "UF"),
            (self.upstream_connection_termination, "UC"),
            (self.upstream_overflow, "UO"),
            (self.no_route_found, "NR"),
            (self.downstream_connection_termination, "DC"),
            (self.upstream_retry_limit_exceeded, "URX"),
            (self.stream_idle_timeout, "SI"),
            (self.downstream_protocol_error, "DPE"),
            (self.upstream_max_stream_duration_reached, "UMSDR"),
            (self.no_filter_config_found, "NFCF"),
            (self.duration_timeout, "DT"),
            (self.upstream_protocol_error, "UPE"),
            (self.no_cluster_found, "NC"),
            (self.overload_manager, "OM"),
            (self.downstream_remote_reset, "DR"),
        ];
        let set = flags.into_iter().filter(|(set, _)| *set);
        set.map(|(_, name)| name.to_owned()).collect()
    }
}
