//! Bounds the request bodies that one worker reads side by side, so that each ends in time.
//!
//! A worker that reads the bodies of too many streams at once finishes none before its client gives
//! up. By Little's law a body takes as long as the bytes in progress divided by the bytes that the
//! worker delivers per second. So while the worker is late, no more bytes are in progress than it
//! delivers within [`TARGET_NS`]. Further requests are refused at their heads.
//!
//! A head that is refused costs the worker little, and a body that is not finished in time costs as
//! much as one that is. Waiting heads would not help: the proxy reads their bodies meanwhile.
//!
//! Slow clients distort neither measure. The worker is late if its ticks are: a client that sends
//! slowly makes no tick late. The rate counts bytes that have arrived, and only while the worker is
//! late, which is when the rate is the worker's and not that of its clients. A body counts whole at
//! first, and then what arrives of it in twice the target time, so a slow one counts little. One of
//! which nothing arrives does not count at all. While the worker is not late, nothing is refused.
//!
//! It is a plain table without clock, lock or allocation. All of it is in one worker's VM.

use std::cell::RefCell;
use std::rc::Rc;

use tensorgate_policy::time::{MILLISECOND_NS, SECOND_NS};

use super::small_bodies::CLIENT_COUNTS as CLIENTS;

/// The longest time that a body should take, ns. The host's admission control has the same target.
const TARGET_NS: u64 = 200_000_000;
/// Bodies of which bytes have arrived within this time are counted together, ns.
const SLOT_NS: u64 = 50_000_000;
/// Number of such slots that count.
const SLOTS: usize = 8;
/// An overdue tick was not requested again if it is overdue by this, ns.
const LOST_NS: u64 = SECOND_NS;
/// Tick period while bodies are watched, ms.
pub(crate) const PERIOD_MS: u32 = 5;
const PERIOD_NS: u64 = PERIOD_MS as u64 * MILLISECOND_NS;
/// A tick that is overdue by this shows a late worker at once, ns.
const OVERDUE_NS: u64 = 25 * MILLISECOND_NS;
/// Time over which lateness and rate are measured, ns.
const WINDOW_NS: u64 = 100_000_000;
/// What a head costs, in bytes of body that cost as much.
const HEAD_BYTES: u64 = 16 << 10;
/// The least and the most that one unfinished body counts, bytes. A large body lasts, but needs no
/// more at a time than its window.
const MIN_BODY_BYTES: u64 = 16 << 10;
const MAX_BODY_BYTES: u64 = 1 << 20;
/// What arrives in two slots, times this, arrives in twice the target time.
const PACE: u64 = 4;
/// The rate until one was measured, and its bounds, bytes per second. The least rate keeps a worker
/// that was slow once from refusing all that would show its recovery.
const FIRST_RATE: u64 = 128 << 20;
const MIN_RATE: u64 = 16 << 20;
const MAX_RATE: u64 = 8 << 30;
/// With fewer bytes in progress nothing can be refused, so no tick is needed: half of the least
/// limit.
const WATCHED_BYTES: u64 = MIN_RATE / 10;
/// A client may have this many times what is left, once others are active.
const TIMES_LEFT: u64 = 7;
/// This part of the limit is kept for clients that have nothing in progress, and at least one body.
const RESERVE: u64 = 8;
/// A client counts as active for this time after a request, ns.
const RECENT_NS: u64 = 60_000_000_000;

/// The limiter of one worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyLimiter(Rc<RefCell<State>>);

/// The worker has as many bodies in progress as it finishes in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

#[derive(Debug)]
struct State {
    slots: [Slot; SLOTS],
    /// Number of the newest slot.
    newest: u64,
    /// Sums over the slots. Clients with the same counter are one client here.
    all: u64,
    clients: [u64; CLIENTS],
    /// The last active client and the last different one.
    last: Option<(usize, u64)>,
    other: Option<(usize, u64)>,
    /// When the next tick is due; `None`: no tick was requested.
    due_ns: Option<u64>,
    window: Window,
    /// Whether the last window was late.
    is_late: bool,
    rate: u64,
    /// Mean size of finished bodies, for those that declare none.
    typical: u64,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    bytes: u64,
    clients: [u64; CLIENTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    start_ns: u64,
    late_ns: u64,
    delivered: u64,
}

/// A body in progress. Dropped, it counts no more.
#[derive(Debug)]
pub(crate) struct BodyProgress {
    state: Rc<RefCell<State>>,
    slot: u64,
    client: usize,
    expected: u64,
    received: u64,
    /// Bytes that arrived lately. Halved with each slot, so at a steady pace they are those of two
    /// slots.
    recent: u64,
    counted: u64,
    /// Bytes that the proxy shows again with the next callback.
    shown_before: u64,
}

impl Slot {
    const EMPTY: Self = Self {
        bytes: 0,
        clients: [0; CLIENTS],
    };
}

impl Default for State {
    fn default() -> Self {
        Self {
            slots: [Slot::EMPTY; SLOTS],
            newest: 0,
            all: 0,
            clients: [0; CLIENTS],
            last: None,
            other: None,
            due_ns: None,
            window: Window::default(),
            is_late: false,
            rate: FIRST_RATE,
            typical: MIN_BODY_BYTES,
        }
    }
}

impl BodyLimiter {
    /// Admits a request whose head was accepted. `client` is the number of its counter, `declared`
    /// the length that it declares.
    ///
    /// # Errors
    /// The worker is late and has too much in progress, or the client more than its share.
    pub(crate) fn admit(
        &self,
        client: usize,
        declared: Option<u64>,
        now_ns: u64,
    ) -> Result<BodyProgress, Refused> {
        let mut state = self.0.borrow_mut();
        state.advance(now_ns);
        state.record(client, now_ns);
        let expected = declared.unwrap_or(state.typical);
        let counted = counted_bytes(expected);
        if state.is_late_at(now_ns) && !state.has_room(client, counted, now_ns) {
            return Err(Refused);
        }
        let slot = state.newest;
        state.change(slot, client, 0, counted);
        state.deliver(HEAD_BYTES);
        drop(state);
        Ok(BodyProgress {
            state: Rc::clone(&self.0),
            slot,
            client,
            expected,
            received: 0,
            recent: 0,
            counted,
            shown_before: 0,
        })
    }

    /// Whether bodies are to be watched and no tick is due: then the caller requests one.
    pub(crate) fn needs_tick(&self, now_ns: u64) -> bool {
        let mut state = self.0.borrow_mut();
        let is_lost = |due_ns| now_ns.saturating_sub(due_ns) >= LOST_NS;
        let needs = state.is_watched() && state.due_ns.is_none_or(is_lost);
        if needs {
            state.due_ns = Some(now_ns.saturating_add(PERIOD_NS));
        }
        needs
    }

    /// The tick that is due does not come.
    pub(crate) fn forget_tick(&self) {
        self.0.borrow_mut().due_ns = None;
    }

    /// Measures how late a tick is. While bodies are watched, the next one is due after
    /// [`PERIOD_NS`].
    pub(crate) fn on_tick(&self, now_ns: u64) {
        let mut state = self.0.borrow_mut();
        if let Some(due_ns) = state.due_ns.take() {
            // A tick that comes early, for other work, is in time.
            let late_ns = now_ns.saturating_sub(due_ns);
            state.window.late_ns = state.window.late_ns.saturating_add(late_ns);
        }
        state.advance(now_ns);
        let is_watched = state.is_watched();
        state.due_ns = is_watched.then(|| now_ns.saturating_add(PERIOD_NS));
    }

    /// Bytes of a rejected request were read, and are not kept.
    pub(crate) fn discard(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.0.borrow_mut().deliver(bytes);
    }

    /// Whether ticks are due.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.borrow().due_ns.is_some()
    }
}

impl State {
    /// Ends the slots and the window that are over.
    fn advance(&mut self, now_ns: u64) {
        let newest = now_ns.checked_div(SLOT_NS).unwrap_or_default();
        // A clock that goes back changes nothing.
        let steps = newest.saturating_sub(self.newest).min(SLOTS as u64);
        let first = newest.saturating_sub(steps).saturating_add(1);
        for number in (first..=newest).take(usize::try_from(steps).unwrap_or(SLOTS)) {
            let Some(slot) = self.slots.get_mut(index(number)) else {
                continue;
            };
            let ended = core::mem::replace(slot, Slot::EMPTY);
            self.all = self.all.saturating_sub(ended.bytes);
            for (all, ended) in self.clients.iter_mut().zip(ended.clients) {
                *all = all.saturating_sub(ended);
            }
        }
        self.newest = self.newest.max(newest);
        let elapsed_ns = now_ns.saturating_sub(self.window.start_ns);
        if elapsed_ns < WINDOW_NS {
            return;
        }
        let window = core::mem::replace(
            &mut self.window,
            Window {
                start_ns: now_ns,
                ..Window::default()
            },
        );
        // A long window says nothing about now: there were no ticks, or the machine was suspended.
        let is_recent = elapsed_ns < WINDOW_NS.saturating_mul(4);
        self.is_late = is_recent && window.late_ns.saturating_mul(3) >= elapsed_ns;
        if self.is_late {
            let delivered = u128::from(window.delivered).saturating_mul(1_000_000_000);
            let rate = delivered.checked_div(u128::from(elapsed_ns)).unwrap_or(0);
            let rate = u64::try_from(rate).unwrap_or(MAX_RATE);
            // With little in progress the worker could deliver more than its clients send.
            let is_full = self.all >= self.limit() / 2;
            if rate > self.rate || is_full {
                self.rate = mean(self.rate, rate).clamp(MIN_RATE, MAX_RATE);
            }
        }
    }

    /// Counts bytes that the worker has read.
    const fn deliver(&mut self, bytes: u64) {
        self.window.delivered = self.window.delivered.saturating_add(bytes);
    }

    /// Whether so much is in progress that ticks are needed.
    const fn is_watched(&self) -> bool {
        self.all >= WATCHED_BYTES
    }

    fn is_late_at(&self, now_ns: u64) -> bool {
        let overdue = |due_ns| (OVERDUE_NS..LOST_NS).contains(&now_ns.saturating_sub(due_ns));
        self.is_late || self.due_ns.is_some_and(overdue)
    }

    /// Bytes that the worker delivers within the target time.
    fn limit(&self) -> u64 {
        let bytes = u128::from(self.rate).saturating_mul(u128::from(TARGET_NS));
        u64::try_from(bytes / 1_000_000_000).unwrap_or(u64::MAX)
    }

    fn has_room(&self, client: usize, more: u64, now_ns: u64) -> bool {
        let limit = self.limit();
        let all = self.all.saturating_add(more);
        let own = self.clients.get(client).copied().unwrap_or(u64::MAX);
        if own == 0 {
            let one = MAX_BODY_BYTES.saturating_add(HEAD_BYTES);
            return all <= limit.saturating_add(one.max(limit / RESERVE));
        }
        let left = limit.saturating_sub(all);
        let is_share = own.saturating_add(more) <= left.saturating_mul(TIMES_LEFT);
        all <= limit && (is_share || !self.has_others(client, now_ns))
    }

    fn record(&mut self, client: usize, now_ns: u64) {
        if let Some(last) = self.last.filter(|(last, _)| *last != client) {
            self.other = Some(last);
        }
        self.last = Some((client, now_ns));
    }

    fn has_others(&self, client: usize, now_ns: u64) -> bool {
        let is_other = |seen: &Option<(usize, u64)>| {
            seen.is_some_and(|(number, at_ns)| {
                number != client && now_ns.saturating_sub(at_ns) < RECENT_NS
            })
        };
        is_other(&self.last) || is_other(&self.other)
    }

    /// Replaces what a body counts, unless its slot has ended.
    fn change(&mut self, slot: u64, client: usize, before: u64, after: u64) {
        if slot.saturating_add(SLOTS as u64) <= self.newest {
            return;
        }
        let replace = |sum: &mut u64| *sum = sum.saturating_sub(before).saturating_add(after);
        replace(&mut self.all);
        if let Some(of_client) = self.clients.get_mut(client) {
            replace(of_client);
        }
        if let Some(slot) = self.slots.get_mut(index(slot)) {
            replace(&mut slot.bytes);
            if let Some(of_client) = slot.clients.get_mut(client) {
                replace(of_client);
            }
        }
    }
}

impl BodyProgress {
    /// A callback shows `bytes` of the body. If it pauses the request, the proxy shows them again
    /// with the next callback.
    pub(crate) fn on_body(&mut self, bytes: usize, is_paused: bool) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.receive(bytes.saturating_sub(self.shown_before));
        self.shown_before = if is_paused { bytes } else { 0 };
    }

    /// More of the body has arrived: `bytes` new bytes.
    fn receive(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.received = self.received.saturating_add(bytes);
        let mut state = self.state.borrow_mut();
        state.deliver(bytes);
        let slots = state.newest.saturating_sub(self.slot);
        let halved = u32::try_from(slots).map_or(0, |n| self.recent.checked_shr(n).unwrap_or(0));
        self.recent = halved.saturating_add(bytes);
        let paced = self.recent.saturating_mul(PACE).saturating_add(HEAD_BYTES);
        let mut counted = counted_bytes(self.expected.max(self.received)).min(paced);
        if slots == 0 {
            // No less than before within the same slot.
            counted = counted.max(self.counted);
        }
        // It counts from now on, however old it is.
        state.change(self.slot, self.client, self.counted, 0);
        self.slot = state.newest;
        state.change(self.slot, self.client, 0, counted);
        self.counted = counted;
    }

    /// The body is complete.
    pub(crate) fn finish(self) {
        let mut state = self.state.borrow_mut();
        let bytes = self.received.clamp(MIN_BODY_BYTES, MAX_BODY_BYTES);
        state.typical = mean(state.typical, bytes);
        // A small one counts as that much, so it must be worth as much to the rate.
        state.deliver(MIN_BODY_BYTES.saturating_sub(self.received));
    }
}

impl Drop for BodyProgress {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.change(self.slot, self.client, self.counted, 0);
    }
}

/// What an unfinished body of this length counts, with its head.
fn counted_bytes(expected: u64) -> u64 {
    let body = expected.clamp(MIN_BODY_BYTES, MAX_BODY_BYTES);
    body.saturating_add(HEAD_BYTES)
}

/// Index of a slot in the ring.
fn index(number: u64) -> usize {
    let index = number.checked_rem(SLOTS as u64).unwrap_or_default();
    usize::try_from(index).unwrap_or_default()
}

/// A moving mean, of which a new value is a quarter.
const fn mean(before: u64, value: u64) -> u64 {
    (before / 4).saturating_mul(3).saturating_add(value / 4)
}

#[cfg(test)]
mod tests;
