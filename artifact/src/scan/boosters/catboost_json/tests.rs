//! Tests of CatBoost's models in JSON. The hostile documents crash CatBoost 1.2.10, or make it read
//! beyond its tables.

#![allow(clippy::unwrap_used, reason = "tests")]

use crate::scan::boosters::scan_catboost_json;
use crate::scan::{Limits, Report, Verdict};
use std::io::Cursor;

/// Trees of one split a depth, over a number, a category and a statistic of it.
const OBLIVIOUS: &str = r#"{"ctr_data":{"{\"identifier\":[],\"type\":\"Borders\"}":{
"counter_denominator":0,"hash_map":["7",1,2,"18446744073709551615",3,4],"hash_stride":3}},
"features_info":{"cat_features_hash":null,"float_features":[
{"borders":[0.5,1.5],"feature_id":"a.b","feature_index":0,"flat_feature_index":0,
"has_nans":false,"nan_value_treatment":"AsIs"},
{"borders":[],"feature_id":"","feature_index":1,"flat_feature_index":1,"has_nans":false}],
"categorical_features":[{"feature_index":0,"flat_feature_index":2,"values":[5]}],
"ctrs":[{"borders":[2.5],"ctr_type":"Borders","elements":[],"identifier":"x",
"prior_denomerator":1,"prior_numerator":0,"scale":15,"shift":0,"target_border_idx":0}]},
"model_info":{"params":{"system_options":{"file_with_hosts":"hosts.txt"}}},
"oblivious_trees":[{"leaf_values":[0.1,-0.2,0,1],"leaf_weights":[1,2,3,4],"splits":[
{"border":0.5,"float_feature_index":0,"split_index":0,"split_type":"FloatFeature"},
{"border":2.5,"ctr_target_border_idx":0,"split_index":3,"split_type":"OnlineCtr"}]},
{"leaf_values":[0.5],"leaf_weights":[10],"splits":null}],
"scale_and_bias":[1,[0]]}"#;
/// Other trees, with two values a leaf.
const TREES: &str = r#"{"features_info":{"float_features":[
{"borders":[0.5],"feature_id":"","feature_index":0,"flat_feature_index":0,"has_nans":false}]},
"model_info":{},"scale_and_bias":[1,[0,0]],"trees":[
{"left":{"value":[0.1,0.2],"weight":3},"right":{"value":[1,2],"weight":4},
"split":{"border":0.5,"float_feature_index":0,"split_index":0,"split_type":"FloatFeature"}}]}"#;

fn report(document: &str) -> Report {
    let mut file = Cursor::new(document.as_bytes().to_vec());
    scan_catboost_json(&mut file, &Limits::default()).unwrap()
}

/// Replaces what has to be in the document, and scans it.
fn changed(document: &str, from: &str, to: &str) -> Verdict {
    assert!(document.contains(from), "{from}");
    report(&document.replacen(from, to, 1)).verdict
}

#[test]
fn models_as_catboost_writes_them_are_safe() {
    for document in [OBLIVIOUS, TREES] {
        let report = report(document);
        assert_eq!(report.verdict, Verdict::Safe, "{:?}", report.findings);
    }
    for (from, to) in [
        // The last split, another form of no splits, and an older release.
        ("\"split_index\":0", "\"split_index\":3"),
        ("\"splits\":null", "\"splits\":[]"),
        (",\n\"scale_and_bias\":[1,[0]]", ""),
        ("\"leaf_weights\":[10],", ""),
        ("[1,[0]]", "[1,0]"),
    ] {
        assert_eq!(changed(OBLIVIOUS, from, to), Verdict::Safe, "{to}");
    }
    for to in ["0.5", "-1", "[0.1]", "[NaN,1]"] {
        assert_eq!(changed(TREES, "[0.1,0.2]", to), Verdict::Safe, "{to}");
    }
}

#[test]
fn indices_beyond_what_they_are_of_are_malformed() {
    for (from, to) in [
        ("\"split_index\":0", "\"split_index\":4"),
        ("\"split_index\":0", "\"split_index\":-1"),
        ("\"split_index\":3", "\"split_index\":1000000000"),
        ("\"borders\":[0.5,1.5]", "\"borders\":[0.5]"),
        ("\"borders\":[0.5,1.5]", "\"borders\":{\"a\":1,\"b\":2}"),
        ("\"values\":[5]", "\"values\":[]"),
        ("\"borders\":[2.5]", "\"borders\":null"),
        ("\"feature_index\":1", "\"feature_index\":0"),
        ("\"flat_feature_index\":1", "\"flat_feature_index\":-1"),
        ("\"feature_index\":0", "\"feature_index\":-2147483648"),
        // A list of the members in place of the object.
        (
            "[{\"feature_index\":0",
            "[[0,2,null,[5]],{\"feature_index\":1",
        ),
        ("[0.1,-0.2,0,1]", "[0.1,-0.2,0]"),
        ("[0.1,-0.2,0,1]", "[]"),
        ("[0.1,-0.2,0,1]", "[0.1,-0.2,0,1,{},{},{},{}]"),
        ("\"splits\":null", "\"splits\":5"),
        ("\"splits\":null", "\"splits\":{}"),
        (
            "\"oblivious_trees\":[",
            "\"trees\":{},\"oblivious_trees\":[",
        ),
        ("\"hash_map\":[", "\"hash_map\":[{},{},{},"),
        ("[0.1,-0.2,0,1]", "[0,1,2,3,4,5,6,7]"),
        ("\"leaf_values\":[0.5]", "\"leaf_values\":[]"),
        ("\"splits\":null", "\"splits\":[{\"split_index\":0}]"),
        ("\"splits\":null", "\"splits\":[{}]"),
        ("[1,[0]]", "[]"),
        ("[1,[0]]", "null"),
        ("\"hash_stride\":3", "\"hash_stride\":0"),
        ("\"hash_stride\":3", "\"hash_stride\":[3]"),
        ("\"ctr_data\":{", "\"ctr_data\":{\"x\":[],"),
        ("\"hash_stride\":3", "\"hash_stride\":100"),
        ("\"hash_stride\":3", "\"hash_stride\":1"),
        (",3,4],\"hash_stride\"", ",3],\"hash_stride\""),
        ("\\\"type\\\":\\\"Borders", "\\\"type\\\":\\\"Counter"),
        ("\"target_border_idx\":0", "\"target_border_idx\":2"),
        ("\"target_border_idx\":0", "\"target_border_idx\":-1"),
    ] {
        assert_eq!(changed(OBLIVIOUS, from, to), Verdict::Malformed, "{to}");
    }
    let (_, rest) = OBLIVIOUS.split_once("\"features_info").unwrap();
    let without_tables = format!("{{\"features_info{rest}");
    assert_eq!(report(&without_tables).verdict, Verdict::Malformed);
}

#[test]
fn nodes_without_children_or_values_are_malformed() {
    for (from, to) in [
        ("\"split_index\":0", "\"split_index\":1"),
        ("\"left\":{\"value\":[0.1,0.2],\"weight\":3},", ""),
        (
            "\"left\":{\"value\":[0.1,0.2],\"weight\":3},",
            "\"left\":null,",
        ),
        (
            "{\"value\":[0.1,0.2],\"weight\":3}",
            "[[0.1,0.2],null,null,null]",
        ),
        ("\"value\":[0.1,0.2]", "\"value\":[]"),
        ("[\n{\"left\"", "[null,{\"left\""),
        ("[\n{\"left\"", "[{},{\"left\""),
    ] {
        assert_eq!(changed(TREES, from, to), Verdict::Malformed, "{to}");
    }
    // As many nodes to the left as a distance of 16 bits can pass over, and twice as many.
    let leaf = r#"{"value":1}"#;
    let balanced = |depth| {
        (0..depth).fold(leaf.to_owned(), |tree, _| {
            format!(r#"{{"split":{{"split_index":0}},"left":{tree},"right":{tree}}}"#)
        })
    };
    let left = "{\"value\":[0.1,0.2],\"weight\":3}";
    assert_eq!(changed(TREES, left, &balanced(14)), Verdict::Safe);
    assert_eq!(changed(TREES, left, &balanced(15)), Verdict::Malformed);
    let deep = format!(
        "{}{leaf}",
        r#"{"split":{"split_index":0},"left":"#.repeat(100_000)
    );
    assert_eq!(changed(TREES, left, &deep), Verdict::Malformed);
}

#[test]
fn what_is_no_member_of_catboost_is_unknown() {
    let to = "\"model\":{\"engine\":\"x\"},\"model_info\"";
    assert_eq!(changed(TREES, "\"model_info\"", to), Verdict::Unknown);
    assert_eq!(report(r#"{"features_info":{}}"#).verdict, Verdict::Unknown);
    assert_eq!(
        report(r#"{"oblivious_trees":null}"#).verdict,
        Verdict::Unknown
    );
    assert_eq!(report(r"{}").verdict, Verdict::Unknown);
    assert_eq!(report(r"[[],{}]").verdict, Verdict::Unknown);
    // Names that would stand for lists and objects.
    for (from, to) in [
        ("\"borders\":[0.5,1.5]", "\"borders\":{\"[]\":1}"),
        ("\"borders\":[0.5,1.5]", "\"borders[]\":1,\"borders\":[]"),
        (
            "\"leaf_weights\":[1",
            "\"splits[]{}\":0,\"leaf_weights\":[1",
        ),
    ] {
        assert_ne!(changed(OBLIVIOUS, from, to), Verdict::Safe, "{to}");
    }
    // Which of two tables a statistic takes is not followed.
    let other = r#""{\"type\":\"Buckets\"}":{"hash_map":["7",1],"hash_stride":2},"#;
    let with_other = OBLIVIOUS.replacen("\"ctr_data\":{", &format!("\"ctr_data\":{{{other}"), 1);
    let verdict = |index| {
        let index = format!("\"target_border_idx\":{index}");
        changed(&with_other, "\"target_border_idx\":0", &index)
    };
    assert_eq!(verdict(0), Verdict::Safe);
    assert_eq!(verdict(1), Verdict::Unknown);
    assert_eq!(verdict(2), Verdict::Malformed);
}
