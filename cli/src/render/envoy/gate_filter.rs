//! The gate, or a chain of its parts, as HTTP filters: what a VM may do, what it is told, and what happens when it fails.

use tensorgate_glue::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::Bundle;

use super::dynamic::Filter;
use super::{Places, RenderError, text};
use crate::render::node::{Node, list, map};

/// All that the VM may call or be called for; a list that is empty would allow everything. No outbound call, no socket, no
/// file, no timer, no response: what the filter is linked to beyond these answers that it is not allowed.
const CAPABILITIES: [&str; 27] = [
    // What Envoy calls.
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_delete",
    // What the filter calls.
    "proxy_log",
    "proxy_get_buffer_bytes",
    "proxy_set_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_set_header_map_pairs",
    "proxy_replace_header_map_value",
    "proxy_remove_header_map_value",
    "proxy_get_property",
    "proxy_set_property",
    // `verify_signature`, `declare_property`, and whatever else Envoy exports by name: nothing that reaches outside.
    "proxy_call_foreign_function",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_send_local_response",
    "proxy_define_metric",
    "proxy_increment_metric",
    // Its clocks and its context key.
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
];

/// One filter: its name in the chain, and what Envoy makes it of.
pub fn filter(
    filter: tensorgate_glue::filter::Filter,
    bundle: &Bundle,
    places: &Places,
) -> Result<Filter, RenderError> {
    let name = format!("tensorgate.{}", filter.name());
    let module = places.filters.join(format!("{}.wasm", filter.name()));
    let capabilities = CAPABILITIES
        .iter()
        .map(|name| ((*name).to_owned(), map! {}))
        .collect();
    Ok(Filter {
        name: name.clone(),
        typed_config: map! {
            "@type" => "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config" => map! {
                "name" => name.as_str(),
                "root_id" => name.as_str(),
                "vm_config" => map! {
                    // Buckets and counts are kept by this name: a chain has the gate's.
                    "vm_id" => "tensorgate",
                    "runtime" => "envoy.wasm.runtime.v8",
                    "code" => map! {"local" => map! {"filename" => text(&module)?}},
                    // The key comes by environment: a config dump shows the variable's name, never its value.
                    "environment_variables" => map! {"host_env_keys" => list![CONTEXT_KEY_VARIABLE]},
                },
                // A trap answers 503 until the VM is built anew, at most this much later; never unfiltered.
                "failure_policy" => "FAIL_RELOAD",
                "reload_config" => map! {"backoff" => map! {"base_interval" => "0.2s"}},
                // Marked deprecated without a successor, and still enforced: Envoy 1.40 says so in its log at every start.
                "capability_restriction_config" => map! {"allowed_capabilities" => Node::Map(capabilities)},
                // Holds the headers back while the body is judged: nothing reaches the host before the verdict.
                "allow_on_headers_stop_iteration" => true,
                "configuration" => map! {
                    "@type" => "type.googleapis.com/google.protobuf.StringValue",
                    "value" => serde_json::to_string(bundle)?,
                },
            },
        },
    })
}

/// How the filter's counters, `tensorgate_requests;verdict=…;reason=…;`, become names with labels.
pub fn stats_tags() -> Node {
    list![
        map! {"tag_name" => "verdict", "regex" => "(;verdict=([a-z]+))"},
        map! {"tag_name" => "reason", "regex" => "(;reason=([a-z-]+);)"},
    ]
}
