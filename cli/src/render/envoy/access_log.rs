//! One JSON line for every outcome, Envoy's own included. Verdict and reason come from the filter; of what a client
//! chose only the method and the path without its query are written, escaped and cut.

use tensorgate_glue::record::property;

use crate::render::node::{Node, list, map};

/// The access log.
pub fn file(path: &str) -> Node {
    list![map! {
        "name" => "envoy.access_loggers.file",
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path" => path,
            "log_format" => map! {"json_format" => map! {
                "time" => "%START_TIME%",
                "request_id" => "%REQ(X-REQUEST-ID)%",
                "source" => "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                "protocol" => "%PROTOCOL%",
                "method" => "%REQ(:METHOD)%",
                "path" => "%PATH(NQ):512%",
                "verdict" => gate(property::VERDICT),
                "reason" => gate(property::REASON),
                "client" => gate(property::CLIENT),
                "credential" => gate(property::CREDENTIAL),
                "model" => gate(property::MODEL),
                "rule" => gate(property::RULE),
                "status" => "%RESPONSE_CODE%",
                "grpc_status" => "%GRPC_STATUS_NUMBER%",
                "flags" => "%RESPONSE_FLAGS%",
                "details" => "%RESPONSE_CODE_DETAILS%",
                "bytes_received" => "%BYTES_RECEIVED%",
                "bytes_sent" => "%BYTES_SENT%",
                "duration_ms" => "%DURATION%",
            }},
        },
    }]
}

/// What the filter says of a request, by its property's name.
fn gate(property: &str) -> String {
    format!("%FILTER_STATE(wasm.{property}:PLAIN)%")
}
