//! Fetches the key sets of issuers, on Envoy's main thread. The workers import them from the store.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use tensorgate_filter_core::host::{
    FetchOutcome, HasStore, HostFault, HttpCall, HttpResponse, Level, Outside, SharedStore,
};
use tensorgate_filter_core::root::GateRoot;
use tensorgate_policy::Now;
use tensorgate_policy::time::SECOND_NS;

use crate::abi::{self, ConfigurationCall, LogLevel};
use crate::clock;
use crate::configuration::Module;
use crate::key_requests::KeyRequests;
use crate::panics::{self, Hook, log_panic};
use crate::store::Store;
use crate::timer::{self, Due, Event, wake_at};
use crate::worker::is_of;

/// Period of ticks, ns.
const TICK_NS: u64 = SECOND_NS;

/// The key sets of a configuration on the main thread.
struct Fetcher {
    module: Weak<Module>,
    root: GateRoot,
    next: Option<Due>,
}

thread_local! {
    static FETCHERS: RefCell<Vec<Fetcher>> = const { RefCell::new(Vec::new()) };
}

/// Begins to fetch the key sets of a new configuration, if it has any.
pub fn begin(module: &Arc<Module>) {
    let Some(requests) = &module.key_requests else {
        return;
    };
    FETCHERS.with(|fetchers| {
        let mut fetchers = fetchers.borrow_mut();
        fetchers.retain(|other| other.module.strong_count() > 0);
        fetchers.push(Fetcher {
            module: Arc::downgrade(module),
            root: module.root(),
            next: None,
        });
    });
    requests.wakeable.wake(Event::Wait);
}

/// Ends with a configuration: its fetches are abandoned.
pub fn end(module: &Arc<Module>) {
    if let Some(requests) = &module.key_requests {
        requests.wakeable.end();
    }
    FETCHERS.with(|fetchers| {
        let mut fetchers = fetchers.borrow_mut();
        let own = fetchers
            .iter()
            .position(|fetcher| is_of(&fetcher.module, module));
        if let Some(fetcher) = own.map(|own| fetchers.swap_remove(own)) {
            timer::cancel(fetcher.next);
            fetcher.root.close(&mut Store);
        }
    });
}

/// Handles responses, and starts the fetches that are due.
pub fn tick(call: ConfigurationCall<'_>, module: &Arc<Module>) {
    let Some(requests) = &module.key_requests else {
        return;
    };
    FETCHERS.with(|fetchers| {
        let Ok(mut fetchers) = fetchers.try_borrow_mut() else {
            // Envoy has answered a fetch inside the function that starts it.
            return requests.wakeable.wake(Event::Wait);
        };
        let own = fetchers
            .iter_mut()
            .find(|fetcher| is_of(&fetcher.module, module));
        let Some(Fetcher { root, next, .. }) = own else {
            return;
        };
        // A timer is set whatever happens: keys that an issuer has removed must not stay.
        timer::cancel(next.take());
        let due_ns = clock::monotonic_ns().saturating_add(TICK_NS);
        *next = Some(wake_at(due_ns, &requests.wakeable, Event::Wait));
        let mut main = Main { call, requests };
        let work = AssertUnwindSafe(|| {
            panics::panic_if_named(Hook::KeyFetches);
            for (token, response) in requests.take_responses() {
                root.on_answer(&mut main, token, response.as_ref());
            }
            for issuer in requests.take() {
                root.request_keys(&issuer);
            }
            root.on_tick(&mut main);
        });
        if catch_unwind(work).is_err() {
            // It may have come in the middle of a change.
            *root = module.root();
            requests.count_panic(module.panics);
            log_panic(Hook::KeyFetches);
        }
    });
}

/// Handles the response to a fetch; `None` if there was none.
pub fn answered(
    call: ConfigurationCall<'_>,
    module: &Arc<Module>,
    id: u64,
    response: Option<HttpResponse>,
) {
    // An id that does not fit was rejected when the call was made.
    if let (Some(requests), Ok(token)) = (&module.key_requests, u32::try_from(id)) {
        requests.put_response(token, response);
        tick(call, module);
    }
}

/// Envoy's main thread.
struct Main<'h> {
    call: ConfigurationCall<'h>,
    requests: &'h KeyRequests,
}

impl HasStore for Main<'_> {
    fn store(&mut self) -> impl SharedStore {
        Store
    }
}

impl Outside for Main<'_> {
    fn clocks(&mut self) -> Result<Now, HostFault> {
        Ok(clock::now())
    }

    fn http_call(&mut self, call: &HttpCall<'_>) -> Result<u32, HostFault> {
        let id = self.call.http_call(call)?;
        u32::try_from(id).map_err(|_| abi::refused("http_call"))
    }

    fn log(&mut self, level: Level, line: &str) {
        abi::log(LogLevel::from(level), line);
    }

    fn count_fetch(&mut self, issuer: &str, fetched: FetchOutcome) {
        self.requests.count_fetch(issuer, fetched);
    }

    fn record_unused_keys(&mut self, issuer: &str, keys: usize) {
        self.requests.record_unused_keys(issuer, keys);
    }
}
