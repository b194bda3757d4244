//! Extreme documents: everything wrong at once, every value at its limit. Validation reports the
//! errors in order and never panics.

use std::collections::BTreeMap;

use tensorgate_policy::policy::Limit;

use super::*;
use crate::raw::{
    ApiKey, Artifact, Budget, ByteSize, Chain, Cost, Dim, Input, Output, ParameterRule, Period,
    Rate, VersionRule, Versions,
};

#[test]
fn every_fault_is_reported_at_once_in_document_order() {
    let document = json!({
        "version": 3,
        "listen": {"address": "nowhere", "health": "public", "limits": {"header_bytes": 0}},
        "clients": {"a b": {"api_keys": [{"sha256": "x", "not_after": "y"}, {}]}},
        "groups": {"g": ["unknown"]},
        "backends": {"b": {"queue": 0}},
        "handlers": {"h": {"fuel": 0}},
        "models": {"m": {"inputs": [{"shape": [{}, "n"]}]}},
        "grants": [{"clients": ["x"], "models": ["y"], "operations": ["z"], "rate": {}}]
    });
    let paths: Vec<String> = faults(document)
        .into_iter()
        .map(|fault| fault.path)
        .collect();
    assert_eq!(
        paths,
        [
            "version",
            "listen.address",
            "listen.health",
            "listen.limits.header_bytes",
            "clients.\"a b\"",
            "clients.\"a b\".api_keys[0].sha256",
            "clients.\"a b\".api_keys[0].not_after",
            "clients.\"a b\".api_keys[1].sha256",
            "clients.\"a b\"",
            "groups.g[0]",
            "groups.g",
            "backends.b.kind",
            "backends.b.queue",
            "backends.b",
            "handlers.h.component",
            "handlers.h.sha256",
            "handlers.h.fuel",
            "handlers.h",
            "models.m.backend",
            "models.m.versions",
            "models.m.protocols",
            "models.m.inputs[0].name",
            "models.m.inputs[0].datatype",
            "models.m.inputs[0].shape[0]",
            "models.m.inputs[0].shape[1]",
            "models.m.outputs",
            "models.m",
            "grants[0].name",
            "grants[0].clients[0]",
            "grants[0].models[0]",
            "grants[0].operations[0]",
            "grants[0].rate.quota",
            "grants[0].rate.window_s",
        ]
    );
}

#[test]
fn an_empty_document_lacks_only_its_version() {
    assert_eq!(errors(json!({})), ["version: is missing (version: 1)"]);
    assert_eq!(errors(json!({"version": 1})), Vec::<String>::new());
}

#[test]
fn messages_are_lowercase_and_without_a_full_stop() {
    let mut seen = 0;
    for extreme in extremes() {
        for fault in validate(&extreme).map_or_else(|faults| faults, |(_, warnings)| warnings) {
            let message = &fault.message;
            assert!(!message.is_empty() && !message.ends_with('.'), "{fault}");
            let first = message.chars().next().unwrap();
            // A datatype's name may start a sentence.
            assert!(
                !first.is_uppercase()
                    || message.starts_with("BYTES")
                    || message.starts_with("BOOL"),
                "{fault}"
            );
            assert!(
                message.chars().all(|character| !character.is_control()),
                "{fault:?}"
            );
            seen += 1;
        }
    }
    assert!(seen > 1_000, "{seen}");
}

#[test]
fn no_document_makes_validation_panic_or_pass_an_unbounded_contract() {
    for extreme in extremes() {
        if let Ok((policy, _)) = validate(&extreme) {
            for model in policy.models() {
                for rule in model.backend_inputs().iter().chain(model.returns()) {
                    assert!(
                        rule.shape()
                            .iter()
                            .all(|dim| dim.min <= dim.max && dim.max <= i64::MAX.unsigned_abs())
                    );
                }
            }
            for (_, _, allowance) in policy.allowances() {
                assert!(allowance.most() > 0 && allowance.window_s() > 0);
                let Limit::Window(rate) = allowance.limit else {
                    continue;
                };
                let bucket = rate.bucket();
                assert!(bucket.interval_ns > 0 && bucket.per > 0);
                let fills_ns = u128::from(bucket.interval_ns) * u128::from(bucket.burst)
                    / u128::from(bucket.per);
                assert!(i64::try_from(fills_ns).is_ok(), "{bucket:?}");
            }
        }
    }
}

/// The fixture with one field after another at each of its extreme values, in one place and in
/// all models.
fn extremes() -> Vec<crate::raw::Policy> {
    const NUMBERS: [u64; 6] = [0, 1, 2, u32::MAX as u64, i64::MAX as u64 + 1, u64::MAX];
    const FLOATS: [f64; 8] = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        0.0,
        -0.0,
        5e-324,
    ];
    const DATATYPES: [&str; 7] = [
        "FP32", "FP16", "INT64", "UINT8", "BYTES", "BOOL", "nonsense",
    ];
    let texts = || {
        [
            "",
            ".",
            "..",
            "/",
            "a",
            "digits",
            "a.b[0]\"\\",
            "\u{0}\n\u{7f}",
            "é\u{202e}",
            "*",
            "@",
            "a@",
            "group:",
            "/*",
        ]
        .map(String::from)
        .into_iter()
        .chain([String::from("x").repeat(100_000)])
    };
    let base = raw(document());
    let mut all = Vec::new();
    let mut push = |change: &dyn Fn(&mut crate::raw::Policy)| {
        let mut policy = base.clone();
        change(&mut policy);
        all.push(policy);
    };
    for number in NUMBERS {
        push(&|p| p.version = Some(number));
        push(&|p| p.listen.limits.header_bytes = number.into());
        push(&|p| p.listen.limits.body_bytes = number.into());
        push(&|p| p.listen.limits.buffered_bytes = number.into());
        push(&|p| p.listen.limits.timeout_ms = number.into());
        push(&|p| p.listen.limits.stream_ms = number.into());
        push(&|p| p.listen.limits.handshake_ms = number.into());
        push(&|p| p.listen.limits.idle_ms = number.into());
        push(&|p| p.listen.limits.connections = number.into());
        push(&|p| {
            p.backends.values_mut().for_each(|b| {
                (b.queue, b.max_in_flight, b.timeout_ms) =
                    (number.into(), number.into(), number.into())
            })
        });
        push(&|p| {
            p.handlers.values_mut().for_each(|h| {
                (h.fuel, h.timeout_ms, h.memory_bytes) =
                    (number.into(), number.into(), number.into())
            })
        });
        for other in NUMBERS {
            push(&|p| {
                p.grants[0].rate = Some(Rate {
                    quota: Some(number.into()),
                    window_s: Some(other.into()),
                    burst: None,
                    ..Rate::default()
                })
            });
            push(&|p| {
                p.grants[0].rate = Some(Rate {
                    quota: Some(number.into()),
                    window_s: Some(1.into()),
                    burst: Some(other.into()),
                    ..Rate::default()
                })
            });
            push(&|p| {
                p.grants[0].cost = Some(Cost {
                    elements: Some(number),
                    bytes: Some(ByteSize(number)),
                    tokens: Some(other),
                    window_s: Some(other.into()),
                    ..Cost::default()
                })
            });
            push(&|p| {
                p.grants[0].budget = Some(Budget {
                    requests: Some(number),
                    elements: Some(other),
                    bytes: Some(ByteSize(number)),
                    tokens: Some(number),
                    per: Some(Period::Day),
                    ..Budget::default()
                })
            });
            for datatype in DATATYPES {
                let shape = vec![
                    Dim::Bounded {
                        name: Some("n".into()),
                        min: Some(number),
                        max: Some(other),
                    },
                    Dim::Fixed(other),
                    Dim::Same("n".into()),
                ];
                push(&|p| {
                    p.models.values_mut().for_each(|m| {
                        m.inputs[0] = Input {
                            shape: Some(shape.clone()),
                            datatype: Some(datatype.into()),
                            max_item_bytes: Some(ByteSize(number)),
                            ..m.inputs[0].clone()
                        };
                        m.outputs[0] = Output {
                            shape: Some(shape.clone()),
                            datatype: Some(datatype.into()),
                            ..m.outputs[0].clone()
                        };
                    })
                });
            }
        }
    }
    for low in FLOATS {
        for high in FLOATS {
            for datatype in DATATYPES {
                push(&|p| {
                    p.models.values_mut().for_each(|m| {
                        m.inputs[0].datatype = Some(datatype.into());
                        m.inputs[0].range = Some((low, high));
                        m.parameters.insert(
                            "f".into(),
                            ParameterRule {
                                float: Some((low, high)),
                                ..ParameterRule::default()
                            },
                        );
                    })
                });
            }
        }
    }
    for text in texts() {
        push(&|p| p.listen.address = text.clone());
        push(&|p| {
            p.clients.values_mut().for_each(|c| {
                c.api_keys = vec![
                    ApiKey {
                        sha256: Some(text.clone()),
                        not_after: Some(text.as_str().into()),
                        ..ApiKey::default()
                    };
                    2
                ]
            })
        });
        push(&|p| p.groups = [(text.clone(), vec![text.clone(), text.clone()])].into());
        push(&|p| {
            let client = p.clients.remove("scorer").unwrap();
            p.clients.insert(text.clone(), client);
        });
        push(&|p| {
            p.backends.values_mut().for_each(|b| {
                (b.kind, b.endpoints) = (
                    Some(tensorgate_policy::values::BackendKind::OpenInference),
                    vec![text.clone(), format!("http://{text}:1")],
                )
            })
        });
        push(&|p| {
            p.handlers.values_mut().for_each(|h| {
                (h.component, h.sha256) = (Some(text.clone()), Some(text.clone()));
                h.config.insert(text.clone(), text.clone());
            })
        });
        let own = |models: [&str; 3]| {
            let chain = Chain(vec![text.clone(); 3]);
            let handlers = crate::raw::GrantHandlers {
                preprocess: Some(chain.clone()),
                postprocess: Some(chain),
                returns: None,
            };
            models
                .map(|name| (String::from(name), handlers.clone()))
                .into()
        };
        push(&|p| {
            p.grants[0] = crate::raw::Grant {
                name: Some(text.clone()),
                clients: vec![text.clone(), format!("group:{text}")],
                models: vec![
                    text.clone(),
                    format!("{text}@1"),
                    format!("{text}/*"),
                    format!("digits@{text}"),
                ],
                operations: vec![text.clone()],
                rate: None,
                per_user: None,
                per_source: None,
                mode: None,
                cost: None,
                budget: None,
                concurrency: None,
                outputs: Some(vec![text.clone(); 2]),
                round_decimals: Some(99.into()),
                top_k: Some(0.into()),
                handlers: own([&text, "digits", "picture"]),
            }
        });
        push(&|p| p.grants[0].handlers = own([&text, "digits", "picture"]));
        push(&|p| {
            let tensors: BTreeMap<_, _> = [&*text, "image", "probabilities"]
                .map(|name| (String::from(name), text.clone()))
                .into();
            let step = |model: &str| crate::raw::EnsembleStep {
                model: Some(model.into()),
                inputs: tensors.clone(),
                outputs: tensors.clone(),
            };
            for model in p.models.values_mut() {
                let steps = vec![step(&text), step("digits"), step("digits@1")];
                model.ensemble = Some(crate::raw::Ensemble { steps });
            }
        });
        push(&|p| {
            let mut model = p.models["picture"].clone();
            (model.backend, model.backend_model) = (Some(text.clone()), Some(text.clone()));
            (model.versions, model.protocols) =
                (Versions::Listed(vec![text.clone(); 2]), vec![text.clone()]);
            (model.inputs[0].name, model.inputs[0].datatype) =
                (Some(text.clone()), Some(text.clone()));
            model.inputs[0].shape = Some(vec![
                Dim::Same(text.clone()),
                Dim::Bounded {
                    name: Some(text.clone()),
                    min: None,
                    max: Some(1),
                },
            ]);
            model
                .accepts
                .as_mut()
                .unwrap()
                .raw
                .as_mut()
                .unwrap()
                .content_types = vec![text.clone(), format!("{text}/x")];
            model.parameters.insert(
                text.clone(),
                ParameterRule {
                    one_of: Some(vec![text.clone()]),
                    ..ParameterRule::default()
                },
            );
            let chain = || Some(Chain([text.clone(), text.clone()].into()));
            (model.preprocess, model.postprocess) = (chain(), chain());
            p.models.insert(text.clone(), model);
        });
        push(&|p| {
            let rule = || VersionRule {
                weight: Some(u64::MAX.into()),
                shadow: true,
                percent: Some(0.into()),
                tolerance: Some(f64::NAN),
                artifact: Some(Artifact::default()),
            };
            let mut model = p.models["twice"].clone();
            model.versions = Versions::Ruled([(text.clone(), rule())].into());
            p.models.insert(text.clone(), model);
        });
    }
    all
}
