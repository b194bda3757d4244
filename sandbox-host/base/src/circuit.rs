//! An open circuit of a circuit breaker: no call is made for a while, then one at a time probes
//! whether the callee works again. Each probe that fails doubles the time.
//!
//! A call needs two circuits, the one of its client and the one of all clients. Which failures open
//! them is decided by the breaker of handlers (`tensorgate-sandbox`) and that of backends
//! (`tensorgate-host`). Time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time for which a circuit stays open, unless its initial time is longer.
pub const MAX_OPEN_TIME: Duration = Duration::from_secs(60);

/// An open circuit. No call is made before `until`, then one probe at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenCircuit {
    until: Instant,
    open_time: Duration,
    is_probing: bool,
}

/// The clients that a circuit stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Only the requesting client.
    Client,
    /// All clients.
    All,
}

/// Why a call is not permitted, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Whose circuit is open.
    pub scope: Scope,
    /// When a request may pass again.
    pub retry_after: Duration,
}

/// The permission to make one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// The call probes the client's circuit.
    pub probes_client: bool,
    /// The call probes the circuit for all.
    pub probes_shared: bool,
}

impl OpenCircuit {
    /// A circuit that opens now.
    pub fn new(now: Instant, open_time: Duration) -> Self {
        Self {
            until: now.checked_add(open_time).unwrap_or(now),
            open_time,
            is_probing: false,
        }
    }

    /// The same circuit, which may be probed at once.
    pub fn probed_from(self, now: Instant) -> Self {
        Self { until: now, ..self }
    }

    /// The circuit opens again after a failed probe, for twice as long.
    pub fn reopen(self, now: Instant) -> Self {
        let longest = MAX_OPEN_TIME.max(self.open_time);
        Self::new(now, self.open_time.saturating_mul(2).min(longest))
    }

    /// A probe ended without a result. The next call may probe.
    pub const fn end_probe(&mut self) {
        self.is_probing = false;
    }

    /// How long the circuit stays open in all.
    pub const fn open_time(&self) -> Duration {
        self.open_time
    }

    /// Whether a call could have probed it for [`MAX_OPEN_TIME`], and none has. It stops no one.
    pub fn is_unused(&self, now: Instant) -> bool {
        !self.is_probing && now.saturating_duration_since(self.until) >= MAX_OPEN_TIME
    }

    /// The time until a call may be made, zero while a probe is in flight. `None` if one may be
    /// made now.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        let left = self.until.saturating_duration_since(now);
        (self.is_probing || !left.is_zero()).then_some(left)
    }
}

/// Permits a call, unless one of its two circuits is open. The call probes the circuits whose time
/// is over. Its client may probe the shared circuit this much later than other clients.
pub fn admit(
    client: Option<&mut OpenCircuit>,
    shared: Option<&mut OpenCircuit>,
    later: Duration,
    now: Instant,
) -> Result<Permit, Rejection> {
    let rejection = |scope| move |retry_after| Err(Rejection { scope, retry_after });
    let left = client.as_deref().and_then(|open| open.remaining(now));
    left.map_or(Ok(()), rejection(Scope::Client))?;
    let delayed = shared.as_deref().map(|open| OpenCircuit {
        until: open.until.checked_add(later).unwrap_or(open.until),
        ..*open
    });
    let left = delayed.and_then(|open| open.remaining(now));
    left.map_or(Ok(()), rejection(Scope::All))?;
    let permit = Permit {
        probes_client: client.is_some(),
        probes_shared: shared.is_some(),
    };
    for open in client.into_iter().chain(shared) {
        open.is_probing = true;
    }
    Ok(permit)
}
