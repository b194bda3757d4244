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

/// The overload manager's configuration.
pub fn manager(bounds: &Bounds) -> Node {
    map! {
        "refresh_interval" => "0.1s",
        "buffer_factory_config" => map! {"minimum_account_to_track_power_of_two" => ACCOUNTED_POWER_OF_TWO},
        "resource_monitors" => list![
            map! {
                "name" => "envoy.resource_monitors.fixed_heap",
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
        ],
        "actions" => list![
            at("envoy.overload_actions.shrink_heap", 0.80),
            map! {
                "name" => "envoy.overload_actions.reset_high_memory_stream",
                "triggers" => list![map! {
                    "name" => "envoy.resource_monitors.fixed_heap",
                    "scaled" => map! {"scaling_threshold" => 0.85, "saturation_threshold" => 0.95},
                }],
            },
            at("envoy.overload_actions.disable_http_keepalive", 0.90),
            at("envoy.overload_actions.stop_accepting_requests", 0.95),
            at("envoy.overload_actions.stop_accepting_connections", 0.98),
        ],
    }
}

/// An action that is triggered at a share of the heap.
fn at(name: &str, share: f64) -> Node {
    map! {
        "name" => name,
        "triggers" => list![map! {
            "name" => "envoy.resource_monitors.fixed_heap",
            "threshold" => map! {"value" => share},
        }],
    }
}
