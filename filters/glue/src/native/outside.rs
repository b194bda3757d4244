//! The world outside of any request, in memory: questions to other servers are noted down, and whoever plays the world answers them.

use tensorgate_policy::Now;

use super::store::{Store, Stored};
use crate::host::{Call, Fetched, HostFault, Level, Outside};

/// A question that a filter asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The token of its answer.
    pub token: u32,
    /// Which way it went.
    pub cluster: String,
    /// The request's fields.
    pub headers: Vec<(String, String)>,
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
}

/// The world.
#[derive(Debug)]
pub struct World {
    store: Store,
    /// What time it is.
    pub now: Now,
    /// Whether there is a way to any server.
    pub reachable: bool,
    /// Questions that nobody has looked at yet.
    pub asked: Vec<Asked>,
    /// Log lines.
    pub lines: Vec<(Level, String)>,
    /// What fetches came to, by issuer.
    pub fetched: Vec<(String, Fetched)>,
    last_token: u32,
}

/// proxy-wasm's `BAD_ARGUMENT`: no cluster has that name.
const BAD_ARGUMENT: u32 = 2;

impl World {
    pub(super) const fn new(store: Store, now: Now) -> Self {
        Self {
            store,
            now,
            reachable: true,
            asked: Vec::new(),
            lines: Vec::new(),
            fetched: Vec::new(),
            last_token: 0,
        }
    }
}

impl Stored for World {
    fn store(&mut self) -> &mut Store {
        &mut self.store
    }
}

impl Outside for World {
    fn clocks(&mut self) -> Result<Now, HostFault> {
        Ok(self.now)
    }

    fn ask(&mut self, call: &Call<'_>) -> Result<u32, HostFault> {
        if !self.reachable {
            return Err(HostFault {
                call: "http_call",
                status: BAD_ARGUMENT,
            });
        }
        self.last_token = self.last_token.saturating_add(1);
        let text = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.asked.push(Asked {
            token: self.last_token,
            cluster: call.cluster.to_owned(),
            headers: call.headers.iter().map(text).collect(),
            timeout_ms: call.timeout_ms,
        });
        Ok(self.last_token)
    }

    fn tell(&mut self, level: Level, line: &str) {
        self.lines.push((level, line.to_owned()));
    }

    fn count_fetch(&mut self, issuer: &str, fetched: Fetched) {
        self.fetched.push((issuer.to_owned(), fetched));
    }
}
