//! Guests whose answer is invalid.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_tensor_is_bad_output_and_a_well_formed_one_is_left_to_the_contract() {
    let guest = built("hostile_wrong_shape");
    let budget = Budget {
        timeout_ms: 60_000,
        memory_bytes: 256 << 20,
        ..BUDGET
    };
    for (lie, expected) in [
        ("huge-dim", FaultCause::BadOutput),
        ("many-dims", FaultCause::BadOutput),
        ("many-tensors", FaultCause::BadOutput),
        ("large-data", FaultCause::BadOutput),
        ("long-name", FaultCause::BadOutput),
        ("panic", FaultCause::Trap),
        ("unheard of", FaultCause::Reported),
    ] {
        let outcome = call(&guest, budget, &[("lie", lie)], tensors()).await;
        assert_eq!(cause(&outcome), Some(expected), "{lie}: {outcome:?}");
    }
    for (config, shape, bytes) in [
        (vec![], vec![1, 1, 8, 8, 1], 256),
        (vec![("lie", "short-data")], vec![1, 1, 8, 8], 252),
        (vec![("lie", "overflow")], vec![1 << 62, 1 << 62], 0),
    ] {
        let called = call(&guest, budget, &config, tensors()).await.unwrap();
        let image = &called.tensors[0];
        assert_eq!(
            (&image.shape, image.data.as_ref().unwrap().len()),
            (&shape, bytes),
            "{config:?}"
        );
    }
    assert!(
        call(&guest, budget, &[("lie", "nothing")], tensors())
            .await
            .unwrap()
            .tensors
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_lie_about_memory_are_bad_output() {
    let one = |datatype: &str, data: &str, bytes: &str| {
        format!(
            "(call $tensor (i32.const 2048) (i32.const {datatype}) (i32.const {data}) (i32.const {bytes})) (call $ok (i32.const 2048) (i32.const 1))"
        )
    };
    // 64 tensors that share the same 16 MiB of data: 1 GiB to copy from a guest of 17 MiB.
    let aliases = "(drop (memory.grow (i32.const 260)))
        (loop $l
            (call $tensor (i32.add (i32.const 2048) (i32.mul (local.get $i) (i32.const 28))) (i32.const 1) (i32.const 65536) (i32.const 16777216))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 64))))
        (call $ok (i32.const 2048) (i32.const 64))";
    for (name, body) in [
        ("too many tensors for memory", "(call $ok (i32.const 2048) (i32.const 268435455))".to_owned()),
        ("a count that overflows", "(call $ok (i32.const 2048) (i32.const -1))".to_owned()),
        ("an address past memory", "(call $ok (i32.const -32) (i32.const 1))".to_owned()),
        ("an unaligned address", "(call $ok (i32.const 2049) (i32.const 1))".to_owned()),
        ("an answer past memory", "(i32.const -8)".to_owned()),
        ("data past memory", one("1", "-16", "100")),
        ("data that overflows", one("1", "65536", "-1")),
        ("unknown datatype", one("200", "65536", "4")),
        ("a name that is no text", format!("(i32.store8 (i32.const 0) (i32.const 255)) {}", one("1", "65536", "4"))),
        ("no such result", "(drop (call $ok (i32.const 2048) (i32.const 0))) (i32.store8 (i32.const 1024) (i32.const 7)) (i32.const 1024)".to_owned()),
        ("aliases", aliases.to_owned()),
    ] {
        check(name, &preprocess(&body), Budget { timeout_ms: 60_000, ..BUDGET }, FaultCause::BadOutput, "").await;
    }
    let elsewhere = preprocess_with_realloc("(unreachable)", "(i32.const -16)");
    let patient = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    check("realloc", &elsewhere, patient, FaultCause::BadOutput, "").await;
}
