//! One handler in Rust whose config selects its behaviour. Each behaviour is ended by its own
//! bound, in the same way twice, and another handler answers after each.

use super::*;

/// How a behaviour may end.
enum Ends {
    /// By one of these faults.
    By(&'static [FaultCause]),
    /// It reports bad input.
    Rejects,
    /// With tensors, which the contract must reject.
    Answers,
}

use Ends::{Answers, By, Rejects};
use FaultCause::{Deadline, Fuel, HostCalls, Memory, Reported, Stack, Trap};

/// Each behaviour, whether it has little fuel, and how it ends.
const TABLE: [(&str, bool, Ends); 25] = [
    ("spin", false, By(&[Deadline])),
    ("spin", true, By(&[Fuel])),
    ("floats", true, By(&[Fuel])),
    ("floats", false, By(&[Deadline])),
    // Rust keeps its frames in memory, so either bound may be reached first.
    ("recurse", false, By(&[Stack, Trap])),
    ("hoard", false, By(&[Memory])),
    ("leak", false, By(&[Memory])),
    ("capacity", false, By(&[Memory])),
    ("text", false, By(&[Memory])),
    ("sort", true, By(&[Fuel])),
    ("log", false, By(&[HostCalls])),
    ("log-large", false, By(&[Deadline])),
    ("ask", false, By(&[HostCalls])),
    ("ask-large", false, By(&[Deadline, HostCalls])),
    ("index", false, By(&[Trap])),
    ("slice", false, By(&[Trap])),
    ("divide", false, By(&[Trap])),
    ("borrow", false, By(&[Trap])),
    ("reject", false, Rejects),
    ("fail", false, By(&[Reported])),
    ("nan", false, Answers),
    ("names", false, Answers),
    ("scalar-lists", false, Answers),
    ("unheard of", false, By(&[Reported])),
    ("", false, By(&[Reported])),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_behaviour_of_a_handler_in_rust_ends_by_its_own_bound_and_twice_in_the_same_way() {
    let sandbox = sandbox_of_one_client();
    let minute = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    let neighbour = load(
        &sandbox,
        "neighbour",
        &built("digit_labels"),
        Role::Postprocess,
        minute,
        &[],
    )
    .unwrap();
    let guest = built("hostile_behaviours");
    let mut wrong = Vec::new();
    for (behaviour, starved, ends) in TABLE {
        let hurried = matches!(&ends, By(causes) if causes.contains(&Deadline));
        let budget = Budget {
            fuel: if starved { 10_000_000 } else { BUDGET.fuel },
            timeout_ms: if hurried { BUDGET.timeout_ms } else { 60_000 },
            ..BUDGET
        };
        let config = [("behaviour", behaviour)];
        let handler = load(
            &sandbox,
            "hostile",
            &guest,
            Role::Preprocess,
            budget,
            &config,
        )
        .unwrap();
        let mut told = Vec::new();
        for _ in 0..2 {
            let outcome = handler.preprocess("request", tensors()).await;
            let right = match (&outcome, &ends) {
                (Err(HandlerError::Fault { cause, .. }), By(causes)) => causes.contains(cause),
                (Err(HandlerError::Rejected { text, .. }), Rejects) => !text.contains('\n'),
                (Ok(_), Answers) => true,
                _ => false,
            };
            let said = match outcome {
                Ok(called) => format!("{} fuel: {:?}", called.fuel_used, called.tensors),
                Err(error) => format!("{error:?}"),
            };
            if !right {
                wrong.push(format!("{behaviour:?}: {said}"));
            }
            told.push(said);
        }
        println!(
            "{behaviour:<14} {}",
            told[0].chars().take(100).collect::<String>()
        );
        // The time of a deadline depends on the machine; everything else depends on the guest.
        if !hurried && told[0] != told[1] {
            wrong.push(format!("{behaviour:?} came to {told:?}"));
        }
        neighbour::label(&neighbour, 3).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
