//! Many sources, each with its own unknown credential, leave no data behind.

use tensorgate_filter_core::host::SharedStore as _;
use tensorgate_identity::api_key::format_key;
use tensorgate_in_memory_proxy::Peer;
use tensorgate_vectors::is_long;

use super::*;

/// Distinct sources, and as many credentials; and those of the long form.
const SOURCES: u32 = 100_000;
const LONG_SOURCES: u32 = 1_000_000;
/// Threads that send requests.
const WORKERS: u32 = 4;

/// Slots of a store, and the bytes in them.
fn size(store: &Store) -> (usize, usize) {
    let keys = store.keys();
    let mut reader = store.clone();
    let value = |key: &String| reader.get(key).unwrap().map_or(0, |slot| slot.value.len());
    let bytes = keys.iter().map(String::len).sum::<usize>();
    (keys.len(), bytes + keys.iter().map(value).sum::<usize>())
}

#[test]
fn unknown_sources_leave_no_data_and_make_no_calls() {
    let sources = if is_long() { LONG_SOURCES } else { SOURCES };
    let policy = with(FIVE, "").replace(
        "\"version\": 1,",
        r#""version": 1, "lockout": {"failures": 20, "window_s": 60, "for_s": 300},"#,
    );
    let (limiter, store) = (Limiter::default(), Store::default());
    let mut own = gateway_on(&[Gate], &policy, &limiter, store.clone());
    assert_eq!(ask(&mut own, &rest("limited"), NOW), "ok");
    let before = size(&store);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (limiter, store, policy) = (limiter.clone(), store.clone(), &policy);
            scope.spawn(move || {
                let mut gate = gateway_on(&[Gate], policy, &limiter, store);
                for at in (worker..sources).step_by(WORKERS as usize) {
                    let [a, b, c, d] = at.to_be_bytes();
                    gate.set_peer(Peer {
                        address: format!("10.{b}.{c}.{d}:5000"),
                        ..Peer::default()
                    });
                    let mut request = rest("limited");
                    let mut random = [8; 20];
                    random[..4].copy_from_slice(&[a, b, c, d]);
                    request.headers.retain(|(name, _)| name != b"x-api-key");
                    request
                        .headers
                        .push(field("x-api-key", format_key(&random)));
                    assert_eq!(ask(&mut gate, &request, NOW), "unauthenticated");
                }
            });
        }
    });
    let (slots, bytes) = size(&store);
    assert_eq!(slots, before.0);
    // A page never exceeds 16 marks.
    assert!(bytes <= before.1 + slots * 512, "{bytes} from {}", before.1);
    assert!(bytes < 1 << 20, "{bytes}");
    assert_eq!(limiter.asked(), 1, "no stranger costs a question");
    assert_eq!(ask(&mut own, &rest("limited"), NOW), "ok");
}
