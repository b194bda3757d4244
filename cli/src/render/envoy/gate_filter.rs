//! The gate, or a chain of its parts, as HTTP filters: what a VM may do, what it is told, and what happens when it fails.

use std::collections::BTreeSet;

use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::{Bundle, FilterConfiguration, HeaderMode, Policy};

use super::dynamic::Filter;
use super::{Places, RenderError, key_sets, text};
use crate::render::node::{Node, list, map};

/// All that the VM may call or be called for; a list that is empty would allow everything. No outbound call, no socket, no
/// file, no timer, of an answer its trailers alone: what the filter is linked to beyond these answers that it is not allowed. [`OUTWARD`] is allowed
/// besides where the policy has something to fetch, and [`ASKING`] where gateways share a limit.
const CAPABILITIES: [&str; 29] = [
    // What Envoy calls.
    "proxy_on_vm_start",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_trailers",
    "proxy_on_done",
    "proxy_on_log",
    "proxy_on_delete",
    // What the filter calls.
    "proxy_log",
    "proxy_get_buffer_bytes",
    "proxy_set_buffer_bytes",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_value",
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

/// What the VM needs to fetch key sets: a timer, calls to the servers that Envoy has a cluster for, and requests that wait for their answers.
const OUTWARD: [&str; 7] = [
    "proxy_on_tick",
    "proxy_on_http_call_response",
    "proxy_set_tick_period_milliseconds",
    "proxy_http_call",
    "proxy_set_effective_context",
    "proxy_continue_stream",
    "proxy_record_metric",
];
/// What the VM needs to ask the rate limit service, and to have requests wait for its answers.
const ASKING: [&str; 5] = [
    "proxy_on_grpc_receive",
    "proxy_on_grpc_close",
    "proxy_grpc_call",
    "proxy_set_effective_context",
    "proxy_continue_stream",
];
/// Tell VMs apart by what they are allowed: Envoy makes another of the same name and module only where these differ.
const OUTWARD_VM: &str = "outward";
const ASKING_VM: &str = "asking";

/// The filter at this position of the chain: its name there, and what Envoy makes it of.
pub fn filter(
    filter: tensorgate_filter_core::filter::Filter,
    position: usize,
    policy: &Policy,
    bundle: &Bundle,
    places: &Places,
) -> Result<Filter, RenderError> {
    let plane = places.control_plane;
    let name = format!("tensorgate.{}", filter.name());
    let module = places.filters.join(format!("{}.wasm", filter.name()));
    let mut vm = Vec::new();
    if let Some(id) = plane.vm_id(position) {
        vm.push(("vm_id".to_owned(), id.into()));
    }
    vm.extend([
        ("runtime".to_owned(), "envoy.wasm.runtime.v8".into()),
        (
            "code".to_owned(),
            map! {"local" => map! {"filename" => text(&module)?}},
        ),
        // The key comes by environment: a config dump shows the variable's name, never its value.
        (
            "environment_variables".to_owned(),
            map! {"host_env_keys" => list![CONTEXT_KEY_VARIABLE]},
        ),
    ]);
    let headers = plane.headers();
    let (kind, capabilities) = capabilities(filter, policy);
    // Only a proxy that can be told to holds headers, and restricts what a VM may do.
    let mut restrictions = Vec::new();
    if headers == HeaderMode::Hold {
        if !kind.is_empty() {
            vm.push(("configuration".to_owned(), string(&kind)));
        }
        restrictions = vec![
            // Marked deprecated without a successor, and still enforced: Envoy 1.40 says so in its log at every start.
            (
                "capability_restriction_config".to_owned(),
                map! {"allowed_capabilities" => capabilities},
            ),
            // Without it Envoy delivers no body while headers are held.
            ("allow_on_headers_stop_iteration".to_owned(), true.into()),
        ];
    }
    let mut config = vec![
        ("name".to_owned(), name.as_str().into()),
        ("root_id".to_owned(), name.as_str().into()),
        ("vm_config".to_owned(), Node::Map(vm)),
    ];
    config.extend(plane.failure());
    config.extend(restrictions);
    let configuration = FilterConfiguration { bundle, headers };
    let configuration = serde_json::to_string(&configuration)?;
    config.push(("configuration".to_owned(), string(&configuration)));
    Ok(Filter {
        name: plane.entry_name(filter.name(), position),
        typed_config: map! {
            "@type" => "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config" => Node::Map(config),
        },
    })
}

/// What a filter's VM may do under this policy, and the name of VMs that may do so.
fn capabilities(filter: tensorgate_filter_core::filter::Filter, policy: &Policy) -> (String, Node) {
    let duties = filter.capabilities();
    let fetches = duties.identify && key_sets::of(policy).next().is_some();
    let asks = policy.rate_limit_service().is_some() && (duties.charge || duties.check);
    let allowed: BTreeSet<&str> = (OUTWARD.iter().filter(|_| fetches))
        .chain(ASKING.iter().filter(|_| asks))
        .copied()
        .collect();
    let capabilities = (CAPABILITIES.into_iter().chain(allowed))
        .map(|name| (name.to_owned(), map! {}))
        .collect();
    let kinds = [(fetches, OUTWARD_VM), (asks, ASKING_VM)];
    let kind: Vec<&str> = (kinds.into_iter())
        .filter_map(|(is, kind)| is.then_some(kind))
        .collect();
    (kind.join(","), Node::Map(capabilities))
}

fn string(value: &str) -> Node {
    map! {
        "@type" => "type.googleapis.com/google.protobuf.StringValue",
        "value" => value,
    }
}

/// How the filter's counters, `tensorgate_requests;verdict=…;reason=…;` and `tensorgate_key_sets;issuer=…;outcome=…;`, become names with labels.
pub fn stats_tags() -> Node {
    list![
        map! {"tag_name" => "verdict", "regex" => "(;verdict=([a-z]+))"},
        map! {"tag_name" => "reason", "regex" => "(;reason=([a-z-]+);)"},
        map! {"tag_name" => "issuer", "regex" => "(;issuer=([A-Za-z0-9._/-]+))"},
        map! {"tag_name" => "outcome", "regex" => "(;outcome=([a-z]+);)"},
    ]
}
