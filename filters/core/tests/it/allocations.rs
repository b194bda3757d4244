//! How often a gate allocates memory for a small request.

use crate::support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashMap;
use std::hint::black_box;
use std::rc::Rc;

use support::{CONTEXT_KEY, NOW, bundle, field, rest};
use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{
    Action, ChangeFault, Fields, HostFault, Level, LimitCallOutcome, Proxy, Shared, SharedStore,
    Verdict,
};
use tensorgate_filter_core::quota::make_slots;
use tensorgate_filter_core::report::WorkerNumbers;
use tensorgate_filter_core::root::GateRoot;
use tensorgate_identity::{ConfirmationFault, Verifier, VerifyFault};
use tensorgate_in_memory_proxy::configuration;
use tensorgate_policy::Now;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::limits::StateBytes;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_wire::Answer;
use tensorgate_wire::context::Key;

/// The system's allocator, which counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed to the system's allocator unchanged.
#[expect(unsafe_code, reason = "an allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller follows the rules of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller follows the rules of `GlobalAlloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller follows the rules of `GlobalAlloc`.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// A proxy whose own calls allocate no more than those of Envoy's native module.
struct Lean {
    headers: Fields,
    body: Vec<u8>,
    store: HashMap<String, (Vec<u8>, u32)>,
    numbers: WorkerNumbers,
}

impl SharedStore for Lean {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        let known = self.store.get(key);
        Ok(known.map(|(value, token)| Shared {
            value: value.clone(),
            token: *token,
        }))
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        let known = self.store.get_mut(key).filter(|(_, known)| *known == token);
        Ok(known.is_some_and(|(known, token)| {
            value.clone_into(known);
            *token += 1;
            true
        }))
    }

    fn change(
        &mut self,
        key: &str,
        change: &mut dyn FnMut(&[u8]) -> Option<StateBytes>,
    ) -> Result<(), ChangeFault> {
        let (known, _) = self.store.get_mut(key).ok_or(ChangeFault::Missing)?;
        if let Some(new) = change(known) {
            known.copy_from_slice(&new);
        }
        Ok(())
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        self.store.insert(key.to_owned(), (value.to_vec(), 1));
        Ok(())
    }
}

impl Verifier for Lean {
    fn verify(&mut self, _: &KeyMaterial, _: &[u8], _: &[u8]) -> Result<bool, VerifyFault> {
        panic!("no tokens")
    }
}

impl Proxy for Lean {
    fn request_headers(&mut self) -> Result<Fields, HostFault> {
        Ok(self.headers.clone())
    }

    fn replace_request_headers(&mut self, _: &[(&str, &str)]) -> Result<(), HostFault> {
        panic!("few fields change")
    }

    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        black_box((name, value));
        Ok(())
    }

    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault> {
        black_box(name);
        Ok(())
    }

    fn set_request_trailers(&mut self, _: &[(&str, &str)]) -> Result<(), HostFault> {
        Ok(())
    }

    fn take_response_trailer(&mut self, _: &str) -> Result<Option<String>, HostFault> {
        Ok(None)
    }

    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault> {
        Ok(self.body[start..start + max_bytes].to_vec())
    }

    fn response_body(&mut self, _: usize, _: usize) -> Result<Vec<u8>, HostFault> {
        Ok(Vec::new())
    }

    fn replace_request_body(&mut self, _: &[u8]) -> Result<(), HostFault> {
        Ok(())
    }

    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault> {
        panic!("{answer:?}")
    }

    fn resume(&mut self) -> Result<(), HostFault> {
        Ok(())
    }

    fn tick_soon(&mut self) {}

    fn now(&mut self) -> Result<Now, HostFault> {
        Ok(NOW)
    }

    fn source_address(&mut self) -> Option<String> {
        Some("10.0.0.1:80".into())
    }

    fn log(&mut self, _: Level, line: &str) {
        panic!("{line}")
    }

    fn count(&mut self, _: Verdict) {}

    fn count_overload(&mut self, _: OverloadCause) {}

    fn call_rate_limit_service(&mut self, _: &[u8], _: u64) -> Result<u32, HostFault> {
        panic!("there is a host")
    }

    fn count_limit_call(&mut self, _: LimitCallOutcome) {}

    fn count_unconfirmed(&mut self, _: ConfirmationFault) {}

    fn count_shadow(&mut self, _: &str) {}

    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault> {
        let details = (path == ["response", "code_details"]).then(|| b"via_upstream".to_vec());
        Ok(details)
    }

    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault> {
        black_box((name, value));
        Ok(())
    }

    fn new_request_id(&mut self, key: Option<&Key>) -> String {
        self.numbers.new_request_id(key)
    }

    fn next_sequence_number(&mut self) -> Option<String> {
        Some(self.numbers.next_sequence_number())
    }
}

/// Plays a request.
fn play(root: &Rc<GateRoot>, proxy: &mut Lean) {
    let bytes = proxy.body.len();
    let mut gate = Gate::new(Rc::clone(root));
    assert_eq!(gate.on_request_headers(proxy, false), Action::Pause);
    assert_eq!(gate.on_request_body(proxy, bytes, true), Action::Continue);
    gate.on_log(proxy);
    gate.on_done(proxy);
}

/// A gate, and a proxy with a request of about 1 KB.
fn small() -> (Rc<GateRoot>, Lean) {
    let policy = bundle()
        .replacen('{', r#"{"headers": "hold", "#, 1)
        .replace(
            r#""quota": 60, "window_s": 60, "burst": 3"#,
            r#""quota": 1000000, "window_s": 1, "burst": 1000000"#,
        );
    let (root, _) = GateRoot::configure(configuration(policy).unwrap(), Some(CONTEXT_KEY))
        .unwrap_or_else(|faults| panic!("{faults:?}"));
    let data = (0..60).map(|at| format!("0.{at:05}")).collect::<Vec<_>>();
    let body = format!(
        r#"{{"id": "7", "inputs": [{{"name": "x", "shape": [30, 2], "datatype": "FP32", "data": [{}]}}]}}"#,
        data.join(", ")
    );
    let mut headers = rest("limited").headers;
    headers.extend([
        field("content-length", body.len().to_string()),
        field("user-agent", "python-requests/2.32.3"),
        field("accept", "*/*"),
        field("accept-encoding", "gzip, deflate"),
        field("x-forwarded-proto", "http"),
        field("x-request-id", "1f3b5d7e-0000-4000-8000-000000000000"),
    ]);
    let mut proxy = Lean {
        headers: headers.into_iter().collect(),
        body: body.into_bytes(),
        store: HashMap::new(),
        numbers: WorkerNumbers::allocate(&mut tensorgate_in_memory_proxy::Store::default(), 1)
            .unwrap(),
    };
    make_slots(&mut proxy, root.key_prefix(), root.policy(), true).unwrap();
    (Rc::new(root), proxy)
}

#[test]
fn a_small_request_takes_few_allocations() {
    const REQUESTS: usize = 1000;
    let (root, mut proxy) = small();
    play(&root, &mut proxy);
    let before = ALLOCATIONS.get();
    for _ in 0..REQUESTS {
        play(&root, &mut proxy);
    }
    let count = ALLOCATIONS.get() - before;
    assert!(count <= 20 * REQUESTS, "{count} in {REQUESTS} requests");
}
