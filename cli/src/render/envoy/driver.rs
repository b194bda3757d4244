//! How Envoy runs the filters.

use clap::ValueEnum;

/// What Envoy loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// A WebAssembly module, which Envoy contains.
    #[default]
    Wasm,
    /// A native module of Envoy 1.38 to 1.40. It costs less, and a fault in it can end Envoy.
    Module,
}

impl Driver {
    /// File name of the module. Every filter is this module with another configuration.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Wasm => "gate.wasm",
            Self::Module => "libtensorgate_gate.so",
        }
    }

    /// The releases of Envoy that it is tested in; `None`: all that the gate supports.
    pub const fn releases(self) -> Option<&'static [(u32, u32)]> {
        match self {
            Self::Wasm => None,
            Self::Module => Some(&[(1, 38), (1, 39), (1, 40)]),
        }
    }

    /// Name of Envoy's logger that has the filter's lines.
    pub const fn logger(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Module => "dynamic_modules",
        }
    }
}
