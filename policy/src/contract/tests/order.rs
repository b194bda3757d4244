//! Every reason, and which of two is reported.

use super::*;
use crate::contract::Narrowed;

/// A contract with a tensor for each fault, so that any two faults can be in one request.
fn wide() -> Contract {
    let floats =
        |name: &str| json!({"name": name, "datatype": "FP32", "shape": [2], "range": [-1, 1]});
    let mut inputs: Vec<Value> = ["twice", "left-out", "kind", "flat", "short", "huge", "wild"]
        .into_iter()
        .map(floats)
        .collect();
    inputs.push(json!({"name": "long", "datatype": "BYTES", "shape": [1], "max_item_bytes": 5}));
    contract(json!(inputs))
}

type Fault = (Reason, &'static str, fn(&mut InferRequest<'static>));

/// At least one fault for each reason, each in its own field.
const FAULTS: [Fault; 17] = {
    use Reason as R;
    [
        (R::Parameter, r#"parameter "x""#, |r| {
            r.parameters
                .push(parameter("x", ParameterValue::Bool(true)))
        }),
        (
            R::Parameter,
            r#"input "wild": parameter "shared_memory_region""#,
            |r| {
                edit(r, "wild", |t| {
                    t.parameters
                        .push(parameter("shared_memory_region", ParameterValue::Int64(0)))
                });
            },
        ),
        (R::OutputNotAllowed, r#"output "secret""#, |r| {
            r.outputs.push(output("secret"))
        }),
        (R::OutputNotAllowed, r#"output "label""#, |r| {
            r.outputs.extend([output("label"), output("label")])
        }),
        (R::UnknownInput, r#"input "other""#, |r| {
            r.inputs.push(floats("other", &[0.0, 0.0]))
        }),
        (R::DuplicateInput, r#"input "twice""#, |r| {
            r.inputs.push(floats("twice", &[0.0, 0.0]))
        }),
        (R::MissingInput, r#"input "left-out""#, |r| {
            r.inputs.retain(|input| input.name != "left-out")
        }),
        (R::Datatype, r#"input "kind""#, |r| {
            edit(r, "kind", |t| t.datatype = "FP64".into())
        }),
        (R::Datatype, r#"input "kind""#, |r| {
            edit(r, "kind", |t| t.data = Err(DataFault::Kind { index: 1 }))
        }),
        (R::Shape, r#"input "flat": dim 0"#, |r| {
            edit(r, "flat", |t| t.shape = vec![3])
        }),
        (R::Shape, r#"input "flat""#, |r| {
            edit(r, "flat", |t| t.shape = vec![2, 1])
        }),
        (R::SizeMismatch, r#"input "short""#, |r| {
            edit(r, "short", |t| t.data = Ok(vec![0; 7].into()))
        }),
        (R::ItemTooLong, r#"input "long""#, |r| {
            edit(r, "long", |t| t.data = text(&["sixsix"]).data)
        }),
        (R::NotFinite, r#"input "huge""#, |r| {
            edit(r, "huge", |t| t.data = floats("", &[0.0, f32::NAN]).data)
        }),
        (R::NotFinite, r#"input "huge""#, |r| {
            edit(r, "huge", |t| {
                t.data = Err(DataFault::NotFinite { index: 0 })
            })
        }),
        (R::OutOfRange, r#"input "wild""#, |r| {
            edit(r, "wild", |t| t.data = floats("", &[0.0, 1.5]).data)
        }),
        (R::OutOfRange, r#"input "wild""#, |r| {
            edit(r, "wild", |t| {
                t.data = Err(DataFault::Overflow { index: 0 })
            })
        }),
    ]
};

fn wide_request() -> InferRequest<'static> {
    let names = ["twice", "left-out", "kind", "flat", "short", "huge", "wild"];
    let mut inputs: Vec<_> = names
        .into_iter()
        .map(|name| floats(name, &[0.5, -1.0]))
        .collect();
    inputs.push(Tensor {
        name: "long".into(),
        ..text(&["five!"])
    });
    request(inputs)
}

#[test]
fn a_good_request_passes_with_or_without_what_is_optional() {
    check(&good(), None);
    check(&request(vec![b(&[3]), a(&[0.5, 0.5])]), None);
    assert_eq!(outcome(&wide(), &wide_request()), None);
}

#[test]
fn a_grant_and_its_handlers_restrict_the_outputs() {
    let contract = standard();
    let label = Narrowed {
        outputs: Some(vec!["label".into()]),
        ..Narrowed::default()
    };
    let allows = |scope: OutputScope<'_>, name: &'static str| {
        let mut infer = request(vec![a(&[0.5, 0.5]), b(&[3])]);
        infer.outputs.push(output(name));
        contract.check(&scope, &infer, &mut Err).is_ok()
    };
    let narrowed = OutputScope {
        narrowed: Some(&label),
        returns: None,
    };
    assert!(allows(narrowed, "label") && !allows(narrowed, "probabilities"));
    // The handlers of a grant return other outputs than the model.
    let returned = OutputScope {
        narrowed: None,
        returns: contract.inputs().get(..1),
    };
    assert!(allows(returned, "a") && !allows(returned, "b") && !allows(returned, "label"));
}

#[test]
fn a_contract_names_its_parameters() {
    let contract = standard();
    assert!(contract.lists_parameter("mode") && !contract.lists_parameter("other"));
}

#[test]
fn every_fault_has_its_reason_and_names_the_callers_field() {
    for (reason, field, fault) in FAULTS {
        let mut request = wide_request();
        fault(&mut request);
        assert_eq!(
            outcome(&wide(), &request),
            Some((reason, field.into())),
            "{request:?}"
        );
    }
}

#[test]
fn of_two_faults_the_reason_with_the_higher_priority_is_reported() {
    let contract = wide();
    let mut pairs = 0;
    for (first, _, one) in FAULTS {
        for (second, _, two) in FAULTS {
            if first >= second {
                continue;
            }
            for (order, turn) in [
                ([one, two], 0),
                ([one, two], 4),
                ([two, one], 0),
                ([two, one], 4),
            ] {
                let mut request = wide_request();
                request.inputs.rotate_left(turn);
                order.into_iter().for_each(|fault| fault(&mut request));
                assert_eq!(
                    outcome(&contract, &request).map(|(reason, _)| reason),
                    Some(first),
                    "{request:?}"
                );
                pairs += 1;
            }
        }
    }
    assert!(pairs > 400, "{pairs}");
}
