//! Envoy's overload manager. It resets the streams with the most memory before it rejects all
//! requests.

use super::bounds::Bounds;
use crate::render::node::{Node, list, map};

/// Envoy tracks streams with buffers of at least 2^17 bytes. A stream whose client does not read
/// its response exceeds that.
const ACCOUNTED_POWER_OF_TWO: u64 = 17;

/// Free memory that Envoy returns to the system per second, bytes. Memory freed after compiling a
/// module is returned within seconds, and the rate is too low to affect requests.
const GIVEN_BACK_BYTES: u64 = 8 << 20;

/// Memory release; Envoy's allocator does not return memory on its own.
pub fn allocator() -> Node {
    map! {"bytes_to_release" => GIVEN_BACK_BYTES, "memory_release_interval" => "1s"}
}

/// Memory of Envoy's heap. V8's memory, and so that of the filter's VMs, is outside.
const HEAP: &str = "envoy.resource_monitors.fixed_heap";
/// All memory of Envoy's container, of its limit. Envoy does not start where no cgroup counts it.
const CONTAINER: &str = "envoy.resource_monitors.cgroup_memory";

/// The overload manager's configuration. `own_cgroup`: Envoy is alone in a container.
pub fn manager(bounds: &Bounds, own_cgroup: bool) -> Node {
    let mut monitors = vec![
        map! {
            "name" => HEAP,
            "typed_config" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                "max_heap_size_bytes" => bounds.heap_bytes,
            },
        },
        map! {
            "name" => "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections" => u64::from(bounds.connections),
            },
        },
    ];
    let mut memory = vec![HEAP];
    if own_cgroup {
        memory.push(CONTAINER);
        // Without a maximum of its own it takes the limit of the container, also when that changes.
        monitors.push(map! {
            "name" => CONTAINER,
            "typed_config" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig",
            },
        });
    }
    let at = |name: &str, share: f64| {
        let trigger =
            |monitor: &&str| map! {"name" => *monitor, "threshold" => map! {"value" => share}};
        map! {"name" => name, "triggers" => memory.iter().map(trigger).collect::<Vec<_>>()}
    };
    map! {
        "refresh_interval" => "0.1s",
        "buffer_factory_config" => map! {"minimum_account_to_track_power_of_two" => ACCOUNTED_POWER_OF_TWO},
        "resource_monitors" => monitors,
        "actions" => list![
            at("envoy.overload_actions.shrink_heap", 0.80),
            // Only buffers in the heap are freed so.
            map! {
                "name" => "envoy.overload_actions.reset_high_memory_stream",
                "triggers" => list![map! {
                    "name" => HEAP,
                    "scaled" => map! {"scaling_threshold" => 0.85, "saturation_threshold" => 0.95},
                }],
            },
            at("envoy.overload_actions.disable_http_keepalive", 0.90),
            at("envoy.overload_actions.stop_accepting_requests", 0.95),
            at("envoy.overload_actions.stop_accepting_connections", 0.98),
        ],
    }
}
