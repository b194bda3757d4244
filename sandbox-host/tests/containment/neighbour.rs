//! An honest handler beside hostile ones.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_keeps_answering_during_every_attack() {
    let sandbox = sandbox();
    let budget = Budget {
        timeout_ms: 100,
        ..BUDGET
    };
    let hostile = ["hostile_loop", "hostile_memory_bomb", "hostile_wrong_shape"]
        .map(|name| load(&sandbox, name, &built(name), Role::Preprocess, budget, &[]).unwrap());
    let neighbour = load(
        &sandbox,
        "neighbour",
        &built("digit_labels"),
        Role::Postprocess,
        Budget {
            timeout_ms: 5_000,
            ..BUDGET
        },
        &[],
    )
    .unwrap();

    label(&neighbour, 0).await;
    let attack = tokio::spawn(attack(hostile));
    let mut times = Vec::new();
    for digit in (0..10).cycle().take(200) {
        let started = Instant::now();
        label(&neighbour, digit).await;
        times.push(started.elapsed());
    }
    assert!(
        !attack.is_finished(),
        "the attack outlasts the neighbour's calls"
    );
    attack.abort();
    times.sort();
    println!(
        "neighbour under attack: p50 {:?}, p99 {:?}, worst {:?}",
        times[100], times[198], times[199]
    );
}

/// Keeps eight calls of every hostile handler in flight, for ever.
async fn attack(hostile: [LoadedHandler; 3]) {
    let mut calls = tokio::task::JoinSet::new();
    for guest in hostile {
        for number in 0..8 {
            let guest = guest.clone();
            calls.spawn(async move {
                loop {
                    let outcome = guest
                        .preprocess("attack", if number % 2 == 0 { tensors() } else { raw() })
                        .await;
                    assert!(
                        !matches!(outcome, Err(HandlerError::Rejected(_))),
                        "{outcome:?}"
                    );
                }
            });
        }
    }
    while calls.join_next().await.is_some() {}
}

/// One honest call, whose answer must be right.
async fn label(neighbour: &LoadedHandler, digit: usize) {
    let scores: Vec<u8> = (0..10)
        .flat_map(|class| if class == digit { 0.75_f32 } else { 0.01 }.to_le_bytes())
        .collect();
    let probabilities = Tensor {
        name: "probabilities".into(),
        datatype: "FP32".into(),
        shape: vec![1, 10],
        parameters: vec![],
        data: Ok(Cow::Owned(scores)),
    };
    let called = neighbour
        .postprocess("neighbour", vec![probabilities])
        .await
        .unwrap();
    let label = called
        .tensors
        .iter()
        .find(|tensor| tensor.name == "label")
        .unwrap();
    assert_eq!(
        label.data.as_ref().unwrap().as_ref(),
        [1, 0, 0, 0, b'0' + u8::try_from(digit).unwrap()]
    );
}
