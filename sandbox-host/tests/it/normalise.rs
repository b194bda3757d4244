//! The example `normalise` in the sandbox: its vector instructions compute what they stand for. Its
//! own tests run the code for other machines.

use tensorgate_base::payload::{Payload, Role};
use tensorgate_policy::Tensor;
use tensorgate_sandbox::{Sandbox, SandboxConfig};

use crate::support::guests::{self, BUDGET, Budget};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_any_size_is_normalised() {
    let sandbox = Sandbox::new(SandboxConfig::default()).unwrap();
    let component = guests::built("normalise");
    let budget = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    let role = Role::Preprocess;
    let handler = guests::load(&sandbox, "normalise", &component, role, budget, &[]).unwrap();
    // Less than a block of 16 pixels, whole blocks, and blocks with a rest.
    for (height, width) in [(1, 5), (4, 8), (7, 9)] {
        let count = usize::try_from(height * width * 3).unwrap();
        let pixels: Vec<u8> = (0..count).map(|at| (at * 7 % 256) as u8).collect();
        let photo = Tensor {
            name: "photo".into(),
            datatype: "UINT8".into(),
            shape: vec![1, height, width, 3],
            parameters: vec![],
            data: Ok(pixels.clone().into()),
        };
        let input = Payload::Tensors(vec![photo]);
        let made = handler.preprocess("request", input).await.unwrap();
        let image = made.tensors.first().unwrap().data.as_ref().unwrap();
        let (floats, _) = image.as_chunks::<4>();
        let area = pixels.len() / 3;
        for (channel, plane) in floats.chunks(area).enumerate() {
            for (at, float) in plane.iter().enumerate() {
                let share = f32::from(pixels[at * 3 + channel]) / 255.0;
                let expected = (share - MEAN[channel]) / DEVIATION[channel];
                let difference = f32::from_le_bytes(*float) - expected;
                assert!(difference.abs() < 1e-5, "{height}×{width}: {channel}, {at}");
            }
        }
        assert_eq!(floats.len(), pixels.len());
    }
}
