//! How a gate is started for a test.

/// The number of Envoy's workers unless a test asks for another.
pub(super) const WORKERS: u16 = 2;
/// The variable with the control plane of a test that names none, as `--as` takes it. The default
/// is `plain`.
const CONTROL_PLANE: &str = "TENSORGATE_TEST_AS";
/// The variable with the driver of a test that names none, as `--driver` takes it. The default is
/// `wasm`.
const DRIVER: &str = "TENSORGATE_TEST_DRIVER";

/// How a gate is started.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Files that the policy names; they are put beside it.
    pub files: &'a [(&'a str, &'a str)],
    /// Filters, as `--chain` takes them.
    pub chain: &'a str,
    /// The control plane that loads them, as `--as` takes it.
    pub control_plane: Option<&'a str>,
    /// How Envoy runs the filters, as `--driver` takes it.
    pub driver: Option<&'a str>,
    /// Envoy's workers.
    pub workers: u16,
    /// Whether the gate traps at the end of the body of a request that has the field `x-test-trap`.
    /// The native module panics in the hook that the field `x-test-panic` names.
    pub faulty: bool,
    /// Whether the gate ends with the test process, rather than with the [`Stack`](super::Stack).
    pub ends_with_tests: bool,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            files: &[],
            chain: "gate",
            control_plane: None,
            driver: None,
            workers: WORKERS,
            faulty: false,
            ends_with_tests: false,
        }
    }
}

impl Setup<'_> {
    /// Whether the listener is the one that `render` writes for a plain Envoy. It rejects more by
    /// itself than the listeners of meshes do.
    pub fn has_own_listener(&self) -> bool {
        self.control_plane() == "plain"
    }

    /// Whether the filters are disabled on the listener, and enabled for each route.
    pub fn enables_for_routes(&self) -> bool {
        self.control_plane() == "envoy-gateway"
    }

    /// How Envoy runs the filters, as `--driver` takes it. Only the wasm module is a chain, or has
    /// faults.
    pub(super) fn driver(&self) -> String {
        let requested = std::env::var(DRIVER).ok();
        let requested = requested.filter(|_| self.chain == "gate" && !self.faulty);
        let named = self.driver.map(str::to_owned);
        named.or(requested).unwrap_or_else(|| "wasm".to_owned())
    }

    /// The control plane, as `--as` takes it.
    pub(super) fn control_plane(&self) -> String {
        let named = self.control_plane.map(str::to_owned);
        named
            .or_else(|| std::env::var(CONTROL_PLANE).ok())
            .unwrap_or_else(|| "plain".to_owned())
    }
}
