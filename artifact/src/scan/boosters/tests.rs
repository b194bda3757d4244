//! Tests of the native files of XGBoost and LightGBM.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use std::io::Cursor;

fn json(document: &str) -> Verdict {
    let mut file = Cursor::new(document.as_bytes().to_vec());
    scan_xgboost_json(&mut file, &Limits::default())
        .unwrap()
        .verdict
}

fn ubjson_within(document: &[u8], limits: &Limits) -> Verdict {
    let mut file = Cursor::new(document.to_vec());
    scan_xgboost_ubjson(&mut file, limits).unwrap().verdict
}

fn ubjson(document: &[u8]) -> Verdict {
    ubjson_within(document, &Limits::default())
}

fn lightgbm(text: &[u8]) -> Verdict {
    let mut file = Cursor::new(text.to_vec());
    scan_lightgbm(&mut file, &Limits::default())
        .unwrap()
        .verdict
}

#[test]
fn members_of_a_json_model_are_those_of_the_schema() {
    for (document, expected) in [
        (
            r#"{"learner":{"objective":{"name":"x"}},"version":[2,0,0]}"#,
            Verdict::Safe,
        ),
        (
            r#"{"learner":{"attributes":{"any":"thing"}}}"#,
            Verdict::Safe,
        ),
        (r#"{"learner":{},"payload":1}"#, Verdict::Unknown),
        (r#"{"learner":{"payload":1}}"#, Verdict::Unknown),
        (r#"{"version":[2,0,0]}"#, Verdict::Unknown),
        (r#"{"learner":{},"learner":{}}"#, Verdict::Malformed),
        (r#"{"learner":{}} x"#, Verdict::Malformed),
    ] {
        assert_eq!(json(document), expected, "{document}");
    }
}

#[test]
fn a_ubjson_model_is_followed_to_its_last_byte() {
    let typed = b"{L\0\0\0\0\0\0\0\x07learner{i\x0aattributes{}i\x09objective[$d#L\
        \0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0]}i\x07version[#i\x02i\x01U\x02}";
    // A list with a count has no bracket at its end.
    assert_eq!(ubjson(typed), Verdict::Malformed);
    let plain = b"{L\0\0\0\0\0\0\0\x07learner{i\x0aattributes{}i\x09objective[$d#L\
        \0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0}i\x07version[#i\x02i\x01U\x02}";
    assert_eq!(ubjson(plain), Verdict::Safe);
    for end in 0..plain.len() {
        assert_eq!(ubjson(&plain[..end]), Verdict::Malformed, "{end}");
    }
    assert_eq!(ubjson(&[&plain[..], b"x"].concat()), Verdict::Malformed);
    assert_eq!(ubjson(b"{i\x07learner[SU\x01aTFZ]}"), Verdict::Safe);
}

#[test]
fn broken_ubjson_is_malformed() {
    for document in [
        &b"[]"[..],
        b"{i\x07learnerN}",
        b"{i\x07learnerX}",
        b"{i\xfflearnerZ}",
        b"{i\x01aZi\x01aZ}",
        b"{i\x07learner[$d}",
        b"{i\x07learner[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff}",
        b"{i\x07learnerSL\x7f\xff\xff\xff\xff\xff\xff\xff}",
        b"{L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"{i\x01\xffZ}",
    ] {
        assert_eq!(ubjson(document), Verdict::Malformed, "{document:?}");
    }
    let deep = [&b"{i\x07learner"[..], &[b'['; 100]].concat();
    assert_eq!(ubjson(&deep), Verdict::Malformed);
    assert_eq!(ubjson(b"{i\x01aZ}"), Verdict::Unknown);
    // A small file that describes endless values without bytes.
    let endless = b"{i\x07learner[$Z#L\x7f\xff\xff\xff\xff\xff\xff\xff}";
    let limits = Limits {
        operations: 1_000,
        ..Limits::default()
    };
    assert_eq!(ubjson_within(endless, &limits), Verdict::Unknown);
    let limits = Limits {
        header_bytes: 10,
        ..Limits::default()
    };
    assert_eq!(ubjson_within(b"{i\x07learnerZ}", &limits), Verdict::Unknown);
}

#[test]
fn a_lightgbm_model_has_only_keys_with_values() {
    let model =
        b"tree\nversion=v4\nfeature_names=a b\n\nTree=0\nleaf_value=1 2\n\nend of trees\n\n\
        feature_importances:\na=1\n\nparameters:\n[boosting: gbdt]\nend of parameters\n\n\
        pandas_categorical:null\n";
    assert_eq!(lightgbm(model), Verdict::Safe);
    // As releases before 2.2 wrote it, without an end of the trees.
    let old = b"tree\nnum_class=1\nboost_from_average\nfeature_names=a b\n\nTree=0\nshrinkage=1\n\
        \n\nfeature importances:\na=1\n\npandas_categorical:null\n";
    assert_eq!(lightgbm(old), Verdict::Safe);
    let cut = old.windows(8).position(|line| line == b"feature ").unwrap();
    assert_eq!(lightgbm(&old[..cut]), Verdict::Malformed);
    for end in [0, 3] {
        assert_eq!(lightgbm(&model[..end]), Verdict::Malformed);
    }
    for broken in [
        &b"version=v4\n"[..],
        b"tree\nimport os\nend of trees\n",
        b"tree\nversion=v4\nTree=0\n",
        b"tree\n<script a=1\nend of trees\n",
        b"tree\na=\x00\nend of trees\n",
        b"tree\na=1\nend of trees\nPK\x03\x04",
        b"tree\na=1\nfeature importances: import os\n",
    ] {
        assert_eq!(lightgbm(broken), Verdict::Malformed, "{broken:?}");
    }
}
