//! How Istio loads the filter: by a `TrafficExtension`, or a `WasmPlugin` in 1.29, or as a native
//! module by an `EnvoyFilter`.
//!
//! Istio gives objects of the first two kinds with the same name one name in the proxy, so only one
//! of them is rendered.

use clap::ValueEnum;
use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;

use super::envoy_filter::Listener;
use crate::render::Unrenderable;
use crate::render::cluster::filter_source::FilterImage;
use crate::render::cluster::workload::{FILTERS, Workload};
use crate::render::envoy::Driver;
use crate::render::envoy::gate_filter::{self, string_value};
use crate::render::node::{Node, entries, list, map};

/// API version of both kinds.
const EXTENSIONS: &str = "extensions.istio.io/v1alpha1";
/// The filter's name for itself, as in other configurations.
const ROOT_ID: &str = "tensorgate.gate";
/// Order within the phase: filters with a higher number come first.
const PRIORITY: u64 = 10;

/// Istio's versions that differ in the object that loads a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Release {
    /// 1.29: `WasmPlugin`. Its Envoy is 1.37, the first that the filter runs in. `FAIL_RELOAD`
    /// exists since 1.27.
    #[value(name = "1.29")]
    V1_29,
    /// 1.30: `TrafficExtension`.
    #[value(name = "1.30")]
    V1_30,
    /// 1.31.
    #[default]
    #[value(name = "1.31")]
    V1_31,
}

impl FilterImage {
    /// File name and object for the proxies that have these labels.
    pub fn object(
        &self,
        release: Release,
        workload: &Workload,
        name: &str,
        selected: &Node,
        at: Listener,
        configuration: Node,
    ) -> (&'static str, Node) {
        let order = map! {
            "selector" => map! {"matchLabels" => selected.clone()},
            // After Istio has verified tokens and the peer's certificate.
            "phase" => "AUTHZ",
            "priority" => PRIORITY,
            "match" => list![matched(at)],
        };
        let mut spec = entries(order);
        let module = self.module(configuration);
        let (file, kind) = if release < Release::V1_30 {
            spec.extend(entries(module));
            ("wasmplugin", "WasmPlugin")
        } else {
            spec.push(("wasm".to_owned(), module));
            ("trafficextension", "TrafficExtension")
        };
        let rest = map! {"spec" => Node::Map(spec)};
        (file, workload.object(EXTENSIONS, kind, name, rest))
    }

    /// The module, its configuration, and its environment.
    fn module(&self, configuration: Node) -> Node {
        let mut module = entries(map! {
            "url" => format!("oci://{}", self.image),
            "sha256" => self.image.digest(),
            "imagePullPolicy" => "IfNotPresent",
        });
        if let Some(secret) = &self.pull_secret {
            module.push(("imagePullSecret".to_owned(), secret.as_str().into()));
        }
        module.extend(entries(map! {
            "type" => "HTTP",
            // A trap answers 503 until the VM has been rebuilt. It never lets requests pass.
            "failStrategy" => "FAIL_RELOAD",
            "pluginName" => ROOT_ID,
            "vmConfig" => map! {
                "env" => list![map! {"name" => CONTEXT_KEY_VARIABLE, "valueFrom" => "HOST"}],
            },
            "pluginConfig" => configuration,
        }));
        Node::Map(module)
    }
}

/// The filter as a native module, which is in the volume of the proxy's pod.
///
/// # Errors
/// The configuration cannot be written as JSON.
pub fn native(configuration: &Node) -> Result<Node, Unrenderable> {
    let configuration = serde_json::to_string(configuration)
        .map_err(|error| Unrenderable::Other(error.to_string()))?;
    let path = format!("{FILTERS}/{}", Driver::Module.file());
    Ok(map! {
        "name" => ROOT_ID,
        "typed_config" => gate_filter::native_filter(&path, string_value(&configuration)),
    })
}

/// The listeners that get the filter.
fn matched(at: Listener) -> Node {
    match at {
        // Without it, the filter would see the calls of the pods themselves.
        Listener::Sidecar { port } => map! {
            "mode" => "SERVER",
            "ports" => list![map! {"number" => u32::from(port)}],
        },
        // To Istio, a gateway's listeners are those of a client. `SERVER` matches none of them,
        // and the gateway would have no filter. No port: each listener has the filter.
        Listener::Gateway => map! {"mode" => "CLIENT"},
    }
}
