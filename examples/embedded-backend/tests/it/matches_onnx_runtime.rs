//! Compares every held-out image with ONNX Runtime, whose results the training script recorded.

use tensorgate_embedded::Limits;

use crate::harness::{CLASSES, Server, Split, models, probabilities, raw, typed};

/// The tolerance of a probability.
const TOLERANCE: f32 = 1e-4;

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    // `max` would ignore a NaN.
    found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs())
        .fold(0.0, |worst, gap| if gap <= worst { worst } else { gap })
}

#[tokio::test]
async fn every_held_out_image_alone_gets_onnx_runtimes_answer_and_the_recorded_accuracy() {
    let mut server = Server::start(Limits::default()).await;
    let split = Split::load();
    let (mut correct, mut gap) = (0, 0.0_f32);
    for (index, label) in split.labels.iter().enumerate() {
        let response = server
            .client
            .model_infer(raw(&split.pixels(index, 1)))
            .await
            .unwrap()
            .into_inner();
        let found = probabilities(&response);
        let worst = worst(&found, split.answers(index, 1));
        assert!(worst <= TOLERANCE, "image {index} is off by {worst}");
        gap = gap.max(worst);
        let (best, _) = found
            .iter()
            .enumerate()
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .unwrap();
        correct += usize::from(best == usize::from(*label));
    }
    println!(
        "{correct} of {} right, at most {gap:e} from onnx runtime",
        split.labels.len()
    );

    let record = std::fs::read(models().join("digits/model.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["held_out"], split.labels.len());
    assert_eq!(record["correct"], correct);
    server.stop().await;
}

#[tokio::test]
async fn batches_and_typed_contents_get_the_same_answers() {
    let mut server = Server::start(Limits::default()).await;
    let split = Split::load();
    for (first, count) in [(0, 1), (1, 2), (3, 31), (34, 32), (0, 450)] {
        let pixels = split.pixels(first, count);
        for (kind, request) in [("raw", raw(&pixels)), ("typed", typed(&pixels))] {
            let response = server
                .client
                .model_infer(request)
                .await
                .unwrap()
                .into_inner();
            let found = probabilities(&response);
            assert_eq!(found.len(), count * CLASSES);
            let worst = worst(&found, split.answers(first, count));
            assert!(
                worst <= TOLERANCE,
                "{kind} batch of {count} from {first} is off by {worst}"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn requests_at_once_do_not_mix_their_answers() {
    let server = Server::start(Limits {
        compute: 4,
        ..Limits::default()
    })
    .await;
    let split = Split::load();
    let mut running = tokio::task::JoinSet::new();
    for index in 0..64 {
        let (mut client, pixels) = (server.client.clone(), split.pixels(index, 1));
        running.spawn(async move {
            let request = tensorgate_wire::proto::ModelInferRequest {
                id: index.to_string(),
                ..raw(&pixels)
            };
            (
                index,
                client.model_infer(request).await.unwrap().into_inner(),
            )
        });
    }
    while let Some(done) = running.join_next().await {
        let (index, response) = done.unwrap();
        assert_eq!(response.id, index.to_string());
        assert!(
            worst(&probabilities(&response), split.answers(index, 1)) <= TOLERANCE,
            "image {index}"
        );
    }
    server.stop().await;
}
