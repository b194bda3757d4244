//! Errors: their path, their text, and all reported at once.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::string::{String, ToString};

use serde_json::{Value, json};
use tensorgate_policy::policy::Model;
use tensorgate_policy::values::fault::{Fault, Severity};

use super::validate;
use crate::fixture::{digest, document, policy, raw};

/// The document with one value set or, for `null`, removed. `at` is a JSON pointer.
fn with(at: &str, value: Value) -> Value {
    let mut document = document();
    put(&mut document, at, value);
    document
}

fn put(document: &mut Value, at: &str, value: Value) {
    let (parent, key) = at.rsplit_once('/').unwrap();
    let parent = document
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("no {at}"));
    match (parent, value) {
        (Value::Object(map), Value::Null) => {
            map.remove(key);
        }
        (Value::Object(map), value) => {
            map.insert(key.into(), value);
        }
        (Value::Array(list), value) => {
            let index: usize = key.parse().unwrap();
            if index == list.len() {
                list.push(value)
            } else {
                list[index] = value
            }
        }
        _ => panic!("no {at}"),
    }
}

fn faults(document: Value) -> Vec<Fault> {
    let found = match validate(&raw(document.clone())) {
        Ok((_, warnings)) => warnings,
        Err(faults) => faults,
    };
    fixes::check(&document, &found);
    found
}

fn errors(document: Value) -> Vec<String> {
    faults(document)
        .iter()
        .filter(|fault| fault.severity == Severity::Error)
        .map(ToString::to_string)
        .collect()
}

fn warnings(document: Value) -> Vec<String> {
    let validated = validate(&raw(document.clone()));
    let (_, faults) = validated.unwrap_or_else(|faults| panic!("{faults:#?}"));
    fixes::check(&document, &faults);
    faults.iter().map(ToString::to_string).collect()
}

/// One change to the fixture gives exactly one error: its path and a part of its text.
fn check(at: &str, value: Value, path: &str, text: &str) {
    let shown = format!("{at} = {value}");
    let errors = errors(with(at, value));
    let [error] = errors.as_slice() else {
        panic!("{shown}: {errors:#?}")
    };
    assert!(error.starts_with(&format!("{path}: ")), "{shown}: {error}");
    assert!(error.contains(text), "{shown}: {error}");
}

/// One change to the fixture leaves it valid.
fn accept(at: &str, value: Value) {
    let shown = format!("{at} = {value}");
    let errors = errors(with(at, value));
    assert!(errors.is_empty(), "{shown}: {errors:#?}");
}

fn warn(at: &str, value: Value, path: &str, text: &str) {
    let shown = format!("{at} = {value}");
    let warnings = warnings(with(at, value));
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with(&format!("{path}: ")) && warning.contains(text)),
        "{shown}: {warnings:#?}"
    );
}

mod artifact;
mod backend_json;
mod backend_protocols;
mod backends;
mod capture;
mod composition;
mod concurrency;
mod contents;
mod contracts;
mod costs;
mod credentials;
mod decoupled;
mod egress;
mod ensembles;
mod fixes;
mod grant_handlers;
mod grants;
mod guardrail;
mod hostile;
mod modes;
mod openai;
mod openai_members;
mod protocols;
mod sections;
mod service;
mod signing;
mod template;
mod tensors;
mod tracing;
mod vector_policies;
mod watch;

fn model(document: Value, name: &str) -> Model {
    let policy = policy(document);
    policy
        .model(policy.model_id(name).unwrap())
        .unwrap()
        .clone()
}

#[test]
fn the_fixture_is_valid_and_has_nothing_weak_in_it() {
    assert_eq!(warnings(document()), Vec::<String>::new());
}
