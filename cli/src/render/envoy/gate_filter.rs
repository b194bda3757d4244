//! The gate, or a chain of its parts, as HTTP filters: the VM's capabilities, configuration and
//! failure policy.

use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::{FilterConfiguration, FilterTarget, HeaderMode, Policy, Target};
use tensorgate_policy_compiler::Version;

use super::dynamic::Filter;
use super::{Driver, RenderError, RenderOptions, key_sets, text};
use crate::render::node::{Node, list, map};

/// Proxy-wasm functions that every VM may use. An empty list would allow everything.
///
/// The list contains no outbound call, socket or file, and of a response only its trailers. Calls
/// to other linked functions return an error. [`OUTWARD`] is added if the policy fetches key sets,
/// and [`STREAMING`] if a grant allows streams.
const CAPABILITIES: [&str; 32] = [
    // Callbacks from Envoy.
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
    // Calls to Envoy.
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
    // `verify_signature`, `declare_property` and Envoy's other foreign functions; none gives access
    // to the outside.
    "proxy_call_foreign_function",
    "proxy_get_shared_data",
    "proxy_set_shared_data",
    "proxy_send_local_response",
    "proxy_define_metric",
    "proxy_increment_metric",
    // Clocks, a timer for requests that get no other callback, and the context key.
    "proxy_on_tick",
    "proxy_set_tick_period_milliseconds",
    "proxy_set_effective_context",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
];

/// Functions to fetch key sets: calls to servers that have a cluster, and requests that wait for
/// responses.
const OUTWARD: [&str; 4] = [
    "proxy_on_http_call_response",
    "proxy_http_call",
    "proxy_continue_stream",
    "proxy_record_metric",
];
/// The callback in which answers of streams are counted. It costs a call for each part of a
/// response.
const STREAMING: [&str; 1] = ["proxy_on_response_body"];
/// VM configuration that differs by capabilities. Envoy shares a VM between filters with the same
/// id, module and configuration.
const OUTWARD_VM: &str = "outward";
const STREAMING_VM: &str = "streaming";

/// The HTTP filter at this position of the chain.
pub fn filter(
    filter: tensorgate_filter_core::filter::Filter,
    position: usize,
    version: &Version,
    options: &RenderOptions,
) -> Result<Filter, RenderError> {
    let plane = options.control_plane;
    let headers = plane.headers();
    // The module is the combined filter by default.
    let part = (filter != tensorgate_filter_core::filter::Filter::Gate).then(|| filter.name());
    let compiled = version.compile(Target::Filter(FilterTarget {
        name: part.map(str::to_owned),
        headers,
        host: options.sandbox_host,
        // An Envoy has one listener at an address. `--listen` gives the same policy another one.
        policy_id: version.policy.listen().address().to_string(),
    }));
    let encoded = FilterConfiguration::new(&compiled.to_bytes(), plane.max_policy_bytes())?;
    let configuration = string_value(&serde_json::to_string(&encoded)?);
    let typed_config = match options.driver {
        Driver::Wasm => wasm(filter, position, &version.policy, options, configuration)?,
        Driver::Module => native(filter, options, configuration)?,
    };
    Ok(Filter {
        name: plane.entry_name(filter.name(), position),
        typed_config,
    })
}

/// The filter as a native module.
fn native(
    filter: tensorgate_filter_core::filter::Filter,
    options: &RenderOptions,
    configuration: Node,
) -> Result<Node, RenderError> {
    if filter != tensorgate_filter_core::filter::Filter::Gate {
        return Err(RenderError::Chain);
    }
    let module = options.filters.join(options.driver.file());
    Ok(native_filter(text(&module)?, configuration))
}

/// The configuration of Envoy's filter for native modules.
pub fn native_filter(module: &str, configuration: Node) -> Node {
    map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config" => map! {
            "module" => map! {"local" => map! {"filename" => module}},
            // Its thread and what workers share stay, whatever configuration goes.
            "do_not_close" => true,
        },
        "filter_name" => tensorgate_filter_core::filter::Filter::Gate.name(),
        "filter_config" => configuration,
    }
}

/// The filter as a WebAssembly module. A proxy compiles it once for a whole chain.
fn wasm(
    filter: tensorgate_filter_core::filter::Filter,
    position: usize,
    policy: &Policy,
    options: &RenderOptions,
    configuration: Node,
) -> Result<Node, RenderError> {
    let plane = options.control_plane;
    let name = format!("tensorgate.{}", filter.name());
    let module = options.filters.join(options.driver.file());
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
        // The key is passed as an environment variable, so that a config dump shows only its name.
        (
            "environment_variables".to_owned(),
            map! {"host_env_keys" => list![CONTEXT_KEY_VARIABLE]},
        ),
    ]);
    let (kind, capabilities) = capabilities(filter, policy);
    // Only a plain bootstrap can hold headers and restrict the VM's capabilities.
    let mut restrictions = Vec::new();
    if plane.headers() == HeaderMode::Hold {
        if !kind.is_empty() {
            vm.push(("configuration".to_owned(), string_value(&kind)));
        }
        restrictions = vec![
            // The field is deprecated without a successor but still enforced. Envoy 1.40 logs a
            // warning at every start.
            (
                "capability_restriction_config".to_owned(),
                map! {"allowed_capabilities" => capabilities},
            ),
            // Without this field, Envoy delivers no body while headers are held.
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
    config.push(("configuration".to_owned(), configuration));
    Ok(map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
        "config" => Node::Map(config),
    })
}

/// The capabilities of a filter's VM under this policy, and a name for that set of capabilities.
fn capabilities(filter: tensorgate_filter_core::filter::Filter, policy: &Policy) -> (String, Node) {
    let fetches = filter.capabilities().identify && key_sets::fetched(policy).next().is_some();
    let streams = policy.takes_messages();
    let capabilities = CAPABILITIES
        .into_iter()
        .chain(OUTWARD.into_iter().filter(|_| fetches))
        .chain(STREAMING.into_iter().filter(|_| streams))
        .map(|name| (name.to_owned(), map! {}))
        .collect();
    let kinds = [(fetches, OUTWARD_VM), (streams, STREAMING_VM)];
    let kind: Vec<&str> = (kinds.into_iter())
        .filter_map(|(is, kind)| is.then_some(kind))
        .collect();
    (kind.join(","), Node::Map(capabilities))
}

/// A text as a message of Protobuf.
pub fn string_value(value: &str) -> Node {
    map! {
        "@type" => "type.googleapis.com/google.protobuf.StringValue",
        "value" => value,
    }
}

/// Tag extraction for the filter's counters.
///
/// They are named `tensorgate_requests;verdict=…;reason=…;`, `tensorgate_overloaded;cause=…;`,
/// `tensorgate_unconfirmed_tokens;cause=…;` and `tensorgate_key_sets;issuer=…;outcome=…;`.
pub fn stats_tags() -> Node {
    list![
        map! {"tag_name" => "verdict", "regex" => "(;verdict=([a-z]+))"},
        map! {"tag_name" => "reason", "regex" => "(;reason=([a-z-]+);)"},
        map! {"tag_name" => "cause", "regex" => "(;cause=([a-z-]+);)"},
        map! {"tag_name" => "issuer", "regex" => "(;issuer=([A-Za-z0-9._/-]+))"},
        map! {"tag_name" => "outcome", "regex" => "(;outcome=([a-z]+);)"},
    ]
}
