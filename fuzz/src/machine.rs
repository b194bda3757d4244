//! Fuzz target: the decision, called in any order with any facts.
//!
//! It must never panic. After a denial, each later call must return it. Nothing may be forwarded
//! that was not started, charged and checked. Equal calls must give equal steps. Of two causes, the
//! earlier must be reported.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tensorgate_policy::decision::{AcquireOutcome, Addressee, PermitScope, PermitUnit};
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::request::{
    CallerDigests, Coding, ContentType, Encoding, Head, Identity, Operation, Proofs, Protocol,
    Route, ServerQuery,
};
use tensorgate_policy::tensor::{Parameter, ParameterValue, RequestedOutput};
use tensorgate_policy::{
    ChargeOutcome, Decision, Denial, InferRequest, Policy, Reason, RequestHash, Step, Tensor,
};

use crate::support::{POLICIES, remaining_quota};

/// Names that the policies have, and some that they do not.
const MODELS: [&str; 8] = [
    "vec", "digits", "pair", "types", "limited", "png", "nothing", "",
];
const CLIENTS: [&str; 7] = [
    "scorer", "reader", "nobody", "old", "rate-1", "cost-1", "stranger",
];

/// One call.
enum Call<'a> {
    Charged(ChargeOutcome),
    Acquired(AcquireOutcome),
    Body(usize, Option<Addressee<'a>>),
    Message(Box<InferRequest<'a>>),
    Check(Box<InferRequest<'a>>),
    Refuse(Reason),
}

/// Runs one input.
pub fn run(data: &[u8]) {
    // Running out of input is not a finding.
    let _ = play(&mut Unstructured::new(data));
}

fn play(data: &mut Unstructured<'_>) -> Result<()> {
    let policy = data.choose(&*POLICIES)?;
    let head = head(data)?;
    let mut calls = Vec::new();
    for _ in 0..data.int_in_range(0..=8_usize)? {
        calls.push(call(data)?);
    }
    let steps = replay(policy, &head, &calls);
    assert_eq!(
        steps,
        replay(policy, &head, &calls),
        "two runs of one request differ"
    );
    precedence(policy, &head, steps.first());
    Ok(())
}

fn replay(policy: &Policy, head: &Head<'_>, calls: &[Call<'_>]) -> Vec<Step> {
    let (mut decision, first) = Decision::begin(policy, head);
    let mut charged = matches!(first, Step::Charge(_)).then_some(false);
    let mut placed = matches!(first, Step::Acquire(_)).then_some(false);
    let mut steps = vec![first];
    let mut checked = false;
    for call in calls {
        let before = decision.denial().cloned();
        let step = match call {
            Call::Charged(outcome) => {
                charged = charged.map(|_| matches!(outcome, ChargeOutcome::Charged(_)));
                decision.charged(policy, outcome.clone())
            }
            Call::Acquired(outcome) => {
                placed = placed.map(|_| *outcome == AcquireOutcome::Acquired);
                decision.acquired(policy, outcome)
            }
            Call::Body(bytes, addressee) => decision.body(policy, *bytes, addressee.clone()),
            Call::Message(request) => decision.message(policy, request),
            Call::Check(request) => {
                checked = true;
                decision.check(policy, request)
            }
            Call::Refuse(reason) => decision.refuse(policy, Denial::new(*reason, "the driver's")),
        };
        if let Some(denial) = before {
            assert_eq!(
                step,
                Step::Deny(denial),
                "a later call did not return the denial"
            );
        }
        match &step {
            Step::Charge(charge) => {
                let limit_charges = &charge.limit_charges;
                assert!(
                    !limit_charges.is_empty()
                        && limit_charges
                            .iter()
                            .all(|limit_charge| limit_charge.amount > 0)
                );
                charged = Some(false);
            }
            Step::Acquire(acquire) => {
                let permits = &acquire.permits;
                assert!(!permits.is_empty() && permits.iter().all(|permit| permit.amount > 0));
                placed = Some(false);
            }
            Step::Forward => {
                assert!(
                    checked && charged != Some(false),
                    "forwarded unchecked or uncharged"
                );
                assert!(placed != Some(false), "forwarded without its permits");
                assert!(decision.client().is_some() && decision.grant().is_some());
                assert!(decision.version(policy).is_some(), "no explicit version");
            }
            Step::Deny(denial) => assert_eq!(decision.denial(), Some(denial)),
            Step::Answer(..)
            | Step::ReadBody(_)
            | Step::ReadMessages(_)
            | Step::Decode
            | Step::Check => {}
        }
        steps.push(step);
    }
    steps
}

/// Adds an earlier cause to a head, and checks that it is reported.
fn precedence(policy: &Policy, head: &Head<'_>, first: Option<&Step>) {
    let reason = |head: &Head<'_>| match Decision::begin(policy, head).1 {
        Step::Deny(denial) => Some(denial.reason),
        _ => None,
    };
    let given = match first {
        Some(Step::Deny(denial)) => Some(denial.reason),
        _ => None,
    };
    let worse = [
        (
            Reason::HeaderTooLarge,
            Head {
                header_bytes: usize::MAX,
                ..head.clone()
            },
        ),
        (
            Reason::AmbiguousRequest,
            Head {
                ambiguous: Some("a second reading"),
                ..head.clone()
            },
        ),
    ];
    for (cause, head) in worse {
        let expected = given.filter(|given| *given < cause).unwrap_or(cause);
        assert_eq!(reason(&head), Some(expected));
    }
    let encoded = reason(&Head {
        encoding: Encoding::Unknown,
        ..head.clone()
    });
    let expected = given
        .filter(|given| *given < Reason::UnsupportedEncoding)
        .unwrap_or(Reason::UnsupportedEncoding);
    // A content type that only some models accept is judged after the encoding, when the model is
    // known to be the caller's.
    let by_model =
        given == Some(Reason::UnsupportedMediaType) && encoded == Some(Reason::UnsupportedEncoding);
    // So is the route of a model's statistics, for a caller that may read those of another model.
    let statistics = matches!(
        head.route,
        Route::Model {
            operation: Operation::Statistics,
            ..
        }
    );
    let by_model = by_model
        || statistics
            && given == Some(Reason::NotAnInferenceRoute)
            && encoded == Some(Reason::UnsupportedEncoding);
    assert!(
        by_model || encoded == Some(expected),
        "{encoded:?}, not {expected:?}"
    );
}

fn head<'a>(data: &mut Unstructured<'a>) -> Result<Head<'a>> {
    let protocol = *data.choose(&[Protocol::OipRest, Protocol::OipGrpc])?;
    let operation = *data.choose(&[
        Operation::Infer,
        Operation::Metadata,
        Operation::Ready,
        Operation::Statistics,
    ])?;
    let route = match data.int_in_range(0..=9)? {
        0 => Route::Unknown { protocol },
        1 => Route::WrongMethod {
            protocol,
            allow: "POST",
        },
        2 => Route::Server {
            protocol,
            question: *data.choose(&[
                ServerQuery::Live,
                ServerQuery::Ready,
                ServerQuery::Health,
                ServerQuery::Metadata,
            ])?,
        },
        _ => Route::Model {
            protocol,
            operation,
            model: if data.arbitrary()? {
                Some((*data.choose(&MODELS)?).into())
            } else {
                None
            },
            version: data.arbitrary::<Option<&str>>()?.map(Into::into),
        },
    };
    Ok(Head {
        header_bytes: data.int_in_range(0..=10_000)?,
        header_count: data.int_in_range(0..=50)?,
        ambiguous: data.ratio(1, 20)?.then_some("two readings"),
        identity: match data.int_in_range(0..=9)? {
            0 => Identity::Missing,
            1 => Identity::Refused("wrong"),
            _ => Identity::Client((*data.choose(&CLIENTS)?).into()),
        },
        proofs: Proofs::from_bits(data.int_in_range(0..=15)?).unwrap_or_default(),
        withheld: [Operation::Infer, Operation::Metadata]
            .into_iter()
            .take(data.int_in_range(0..=2)?)
            .collect(),
        caller: CallerDigests::default(),
        request_hash: RequestHash::from_request_id(data.choose(&["a", "b", "c"])?),
        route,
        query: None,
        chunked: data.ratio(1, 8)?,
        content_type: match data.int_in_range(0..=4)? {
            0 => ContentType::Absent,
            1 => ContentType::Json,
            2 => ContentType::Grpc,
            3 => ContentType::Malformed,
            _ => ContentType::Other("image/png".into()),
        },
        encoding: *data.choose(&[
            Encoding::Identity,
            Encoding::Identity,
            Encoding::Identity,
            Encoding::Coded(Coding::Gzip),
            Encoding::Unknown,
        ])?,
        content_length: data.arbitrary()?,
        json_length: if data.ratio(1, 8)? {
            data.arbitrary()?
        } else {
            None
        },
        end_of_stream: data.arbitrary()?,
    })
}

fn call<'a>(data: &mut Unstructured<'a>) -> Result<Call<'a>> {
    Ok(match data.int_in_range(0..=9)? {
        7 => Call::Acquired(match data.int_in_range(0..=3)? {
            0 => AcquireOutcome::Failed,
            1 => AcquireOutcome::Refused {
                scope: PermitScope::Client("scorer".to_owned()),
                unit: PermitUnit::Requests,
            },
            _ => AcquireOutcome::Acquired,
        }),
        8 | 9 => Call::Body(
            data.int_in_range(0..=100_000)?,
            if data.arbitrary()? {
                Some(Addressee {
                    model: (*data.choose(&MODELS)?).into(),
                    version: data.arbitrary::<Option<&str>>()?.map(Into::into),
                    streams: data.arbitrary()?,
                })
            } else {
                None
            },
        ),
        0 | 1 => Call::Charged(match data.int_in_range(0..=3)? {
            0 => ChargeOutcome::Exceeded(levels(data)?),
            1 => ChargeOutcome::Failed,
            _ => ChargeOutcome::Charged(levels(data)?),
        }),
        2 | 3 => Call::Message(Box::new(request(data)?)),
        4 | 5 => Call::Check(Box::new(request(data)?)),
        _ => Call::Refuse(*data.choose(&Reason::ALL)?),
    })
}

/// Remaining quotas, of the right number or not.
fn levels(data: &mut Unstructured<'_>) -> Result<Vec<RemainingQuota>> {
    let mut levels = Vec::new();
    for _ in 0..data.int_in_range(0..=5_u8)? {
        levels.push(remaining_quota(data)?);
    }
    Ok(levels)
}

fn request<'a>(data: &mut Unstructured<'a>) -> Result<InferRequest<'a>> {
    let mut request = InferRequest {
        model: if data.arbitrary()? {
            Some((*data.choose(&MODELS)?).into())
        } else {
            None
        },
        version: data.arbitrary::<Option<&str>>()?.map(Into::into),
        ..InferRequest::default()
    };
    for _ in 0..data.int_in_range(0..=3)? {
        let mut shape = Vec::new();
        for _ in 0..data.int_in_range(0..=4)? {
            shape.push(if data.ratio(1, 8)? {
                data.arbitrary()?
            } else {
                data.int_in_range(0..=8)?
            });
        }
        request.inputs.push(Tensor {
            name: (*data.choose(&["x", "image", "a", "b", "c", "bool", "fp16", "bytes"])?).into(),
            datatype: (*data.choose(&["FP32", "BOOL", "FP16", "INT32", "BYTES", "", "fp32"])?)
                .into(),
            shape,
            parameters: parameters(data)?,
            data: Ok(data.arbitrary::<&[u8]>()?.into()),
        });
    }
    for _ in 0..data.int_in_range(0..=2)? {
        request.outputs.push(RequestedOutput {
            name: (*data.choose(&["y", "z", "probabilities", "other"])?).into(),
            parameters: parameters(data)?,
            binary_data: data.arbitrary()?,
        });
    }
    request.parameters = parameters(data)?;
    Ok(request)
}

fn parameters<'a>(data: &mut Unstructured<'a>) -> Result<Vec<Parameter<'a>>> {
    let mut parameters = Vec::new();
    if data.ratio(1, 4)? {
        parameters.push(Parameter {
            name: (*data.choose(&["priority", "temperature", "explain", "mode", "other"])?).into(),
            value: match data.int_in_range(0..=4)? {
                0 => ParameterValue::Bool(data.arbitrary()?),
                1 => ParameterValue::Int64(data.arbitrary()?),
                2 => ParameterValue::Uint64(data.arbitrary()?),
                3 => ParameterValue::Double(data.arbitrary()?),
                _ => ParameterValue::String(data.arbitrary::<&str>()?.into()),
            },
        });
    }
    Ok(parameters)
}
