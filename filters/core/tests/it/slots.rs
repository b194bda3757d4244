//! Slots of the shared store: how many there may be, and the number of a virtual machine.
#![allow(clippy::unwrap_used, reason = "tests")]

use tensorgate_filter_core::host::SharedStore as _;
use tensorgate_filter_core::report::WorkerNumbers;
use tensorgate_filter_core::store::{MAX_SLOTS, SlotFault, make_slot};
use tensorgate_in_memory_proxy::Store;

const MADE: &str = "tensorgate/v4/slots";

#[test]
fn slot_names_of_many_policies_are_counted_once_and_bounded() {
    let mut store = Store::default();
    let count = |store: &mut Store| {
        let value = store.get(MADE).ok().flatten().map(|slot| slot.value);
        u64::from_le_bytes(
            value
                .and_then(|value| value.try_into().ok())
                .unwrap_or_default(),
        )
    };
    for policy in 0..1_000 {
        assert_eq!(make_slot(&mut store, "kept", b"in use"), Ok(()));
        assert_eq!(
            make_slot(&mut store, &format!("new-{policy}"), b"fresh"),
            Ok(())
        );
    }
    assert_eq!(count(&mut store), 1_001);
    store.overwrite(MADE, &(MAX_SLOTS - 1).to_le_bytes());
    assert_eq!(make_slot(&mut store, "last", b"fresh"), Ok(()));
    assert_eq!(
        make_slot(&mut store, "beyond", b"fresh"),
        Err(SlotFault::Full)
    );
    assert_eq!(
        make_slot(&mut store, "last", b"fresh"),
        Ok(()),
        "there is one"
    );
    assert_eq!(store.get("beyond"), Ok(None));
}

#[test]
fn every_vm_and_every_process_has_a_different_number() {
    let mut store = Store::default();
    let mut numbers = Vec::new();
    for now_ns in [1_000, 5_000, 900] {
        numbers.push(WorkerNumbers::allocate(&mut store, now_ns).unwrap());
    }
    numbers.push(WorkerNumbers::allocate(&mut Store::default(), 9_000).unwrap());
    for (numbers, worker) in numbers.iter().zip([1_001, 1_002, 1_003, 9_001]) {
        for entry in 1..=2 {
            let expected = format!("{worker:016x}.{entry}");
            assert_eq!(numbers.next_sequence_number(), expected);
        }
    }
}
