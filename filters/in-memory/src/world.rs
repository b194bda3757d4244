//! The in-memory environment outside of requests. HTTP calls of filters are recorded, and the test
//! delivers the responses.

use tensorgate_filter_core::host::{
    FetchOutcome, HasStore, HostFault, HttpCall, Level, Outside, SharedStore,
};
use tensorgate_policy::Now;

use crate::store::Store;

/// An HTTP call of a filter that waits for its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingHttpCall {
    /// Token of the response.
    pub token: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// The request's fields.
    pub headers: Vec<(String, String)>,
    /// Timeout, in milliseconds.
    pub timeout_ms: u64,
}

/// The environment.
#[derive(Debug)]
pub struct World {
    store: Store,
    /// The current time.
    pub now: Now,
    /// Whether servers are reachable.
    pub reachable: bool,
    /// HTTP calls that the test has not taken yet.
    pub http_calls: Vec<PendingHttpCall>,
    /// Log lines.
    pub lines: Vec<(Level, String)>,
    /// Outcomes of key fetches, by issuer.
    pub fetched: Vec<(String, FetchOutcome)>,
    /// Numbers of keys that cannot be used, by issuer.
    pub unused_keys: Vec<(String, usize)>,
    last_token: u32,
}

/// proxy-wasm's `BAD_ARGUMENT`: unknown cluster.
const BAD_ARGUMENT: u32 = 2;

impl World {
    pub(super) const fn new(store: Store, now: Now) -> Self {
        Self {
            store,
            now,
            reachable: true,
            http_calls: Vec::new(),
            lines: Vec::new(),
            fetched: Vec::new(),
            unused_keys: Vec::new(),
            last_token: 0,
        }
    }
}

impl HasStore for World {
    fn store(&mut self) -> impl SharedStore {
        self.store.clone()
    }
}

impl Outside for World {
    fn clocks(&mut self) -> Result<Now, HostFault> {
        Ok(self.now)
    }

    fn http_call(&mut self, call: &HttpCall<'_>) -> Result<u32, HostFault> {
        if !self.reachable {
            return Err(HostFault {
                call: "http_call",
                status: BAD_ARGUMENT,
            });
        }
        self.last_token = self.last_token.saturating_add(1);
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.http_calls.push(PendingHttpCall {
            token: self.last_token,
            cluster: call.cluster.to_owned(),
            headers: call.headers.iter().map(text).collect(),
            timeout_ms: call.timeout_ms,
        });
        Ok(self.last_token)
    }

    fn log(&mut self, level: Level, line: &str) {
        self.lines.push((level, line.to_owned()));
    }

    fn count_fetch(&mut self, issuer: &str, fetched: FetchOutcome) {
        self.fetched.push((issuer.to_owned(), fetched));
    }

    fn record_unused_keys(&mut self, issuer: &str, keys: usize) {
        self.unused_keys.push((issuer.to_owned(), keys));
    }
}
