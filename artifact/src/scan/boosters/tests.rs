//! Tests of the native files of XGBoost and LightGBM.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use super::*;
use crate::scan::Verdict;
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
    let mixed = b"{i\x07learner{i\x0aattributes[SU\x01aTFZ]}}";
    assert_eq!(ubjson(mixed), Verdict::Safe);
    assert_eq!(ubjson(b"{i\x07learner[]}"), Verdict::Unknown);
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
    assert_eq!(ubjson(endless), Verdict::Malformed);
    let limits = Limits {
        header_bytes: 10,
        ..Limits::default()
    };
    assert_eq!(ubjson_within(b"{i\x07learnerZ}", &limits), Verdict::Unknown);
}

#[test]
fn a_lightgbm_model_has_only_keys_with_values() {
    let model = b"tree\nversion=v4\nmax_feature_idx=0\nfeature_names=a b\n\nTree=0\nnum_leaves=2\n\
        split_feature=0\nthreshold=.5\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n\n\
        end of trees\n\n\
        feature_importances:\na=1\n\nparameters:\n[boosting: gbdt]\nend of parameters\n\n\
        pandas_categorical:null\n";
    assert_eq!(lightgbm(model), Verdict::Safe);
    // As releases before 2.2 wrote it, without an end of the trees.
    let old = b"tree\nnum_class=1\nboost_from_average\nfeature_names=a b\n\nTree=0\nnum_leaves=1\n\
        leaf_value=1\nshrinkage=1\n\n\nfeature importances:\na=1\n\npandas_categorical:null\n";
    assert_eq!(lightgbm(old), Verdict::Safe);
    let cut = old.windows(8).position(|line| line == b"feature ").unwrap();
    assert_eq!(lightgbm(&old[..cut]), Verdict::Malformed);
    for end in [0, 3] {
        assert_eq!(lightgbm(&model[..end]), Verdict::Malformed);
    }
    for broken in [
        &b"version=v4\n"[..],
        b"tree\nimport os\nend of trees\n",
        b"tree\nversion=v4\nTree=0\nnum_leaves=1\nleaf_value=1\n\n",
        b"tree\n<script a=1\nend of trees\n",
        b"tree\na=\x00\nend of trees\n",
        b"tree\na=1\nend of trees\nPK\x03\x04",
        b"tree\na=1\nfeature importances: import os\n",
    ] {
        assert_eq!(lightgbm(broken), Verdict::Malformed, "{broken:?}");
    }
}

/// Two trees of XGBoost, of which the first has five nodes. Node 2 splits by categories.
fn xgboost_model() -> String {
    let stump = r#"{"base_weights":[0.5],"categories":[],"categories_nodes":[],
        "categories_segments":[],"categories_sizes":[],"default_left":[0],"id":1,
        "left_children":[-1],"loss_changes":[0.0],"parents":[2147483647],"right_children":[-1],
        "split_conditions":[0.5],"split_indices":[0],"split_type":[0],"sum_hessian":[1.0],
        "tree_param":{"num_deleted":"0","num_feature":"3","num_nodes":"1",
        "size_leaf_vector":"1"}}"#;
    let tree = r#"{"base_weights":[0.1,0.2,0.3,0.4,0.5],"categories":[0,7],"categories_nodes":[2],
        "categories_segments":[0],"categories_sizes":[2],"default_left":[0,1,0,0,0],"id":0,
        "left_children":[1,-1,3,-1,-1],"loss_changes":[1.0,0.0,1.0,0.0,0.0],
        "parents":[2147483647,0,0,2,2],"right_children":[2,-1,4,-1,-1],
        "split_conditions":[0.5,NaN,1e-45,0.4,0.5],"split_indices":[2,2147483647,1,0,0],
        "split_type":[0,0,1,0,0],"sum_hessian":[4.0,1.0,3.0,2.0,1.0],
        "tree_param":{"num_deleted":"0","num_feature":"3","num_nodes":"5",
        "size_leaf_vector":"1"}}"#;
    let categories = r#"{"enc":[{"offsets":[],"values":[]},{"offsets":[0,3,4],"values":[1,2,3,4]},
        {"type":15,"values":[3,7]}],"feature_segments":[0,0,2,4],"sorted_idx":[0,1,1,0]}"#;
    format!(
        r#"{{"learner":{{"attributes":{{}},"gradient_booster":{{"model":{{"cats":{categories},
        "gbtree_model_param":{{"num_parallel_tree":"1","num_trees":"2"}},
        "iteration_indptr":[0,1,2],"tree_info":[0,1],"trees":[{tree},{stump}]}},
        "name":"gbtree"}},"learner_model_param":{{"base_score":"5E-1","num_class":"2",
        "num_feature":"3","num_target":"1"}},"objective":{{"name":"multi:softmax"}}}},
        "version":[3,2,0]}}"#
    )
}

#[test]
fn an_index_that_xgboost_follows_is_within_its_list() {
    let model = xgboost_model();
    assert_eq!(json(&model), Verdict::Safe);
    for (from, to) in [
        // A node with two parents, a circle, children that are not there.
        ("\"left_children\":[1,", "\"left_children\":[2,"),
        ("\"left_children\":[1,", "\"left_children\":[0,"),
        ("\"left_children\":[1,-1,3,", "\"left_children\":[1,-1,0,"),
        ("\"right_children\":[2,", "\"right_children\":[5,"),
        ("\"right_children\":[2,", "\"right_children\":[-2,"),
        ("\"right_children\":[2,", "\"right_children\":[4294967298,"),
        ("2147483647,0,0,2,2]", "2147483647,0,0,2,5]"),
        ("2147483647,0,0,2,2]", "2147483647,-1,0,2,2]"),
        // Features and classes.
        ("\"split_indices\":[2,", "\"split_indices\":[3,"),
        ("\"split_indices\":[2,", "\"split_indices\":[-1,"),
        ("\"split_indices\":[2,", "\"split_indices\":[1.5,"),
        (
            "\"num_feature\":\"3\",\"num_target",
            "\"num_feature\":\"2\",\"num_target",
        ),
        ("\"tree_info\":[0,1]", "\"tree_info\":[0,2]"),
        ("\"tree_info\":[0,1]", "\"tree_info\":[0,-1]"),
        ("\"num_class\":\"2\"", "\"num_class\":\"100000\""),
        // Lengths.
        ("\"num_nodes\":\"5\"", "\"num_nodes\":\"4\""),
        ("\"num_nodes\":\"5\"", "\"num_nodes\":\"5x\""),
        ("\"default_left\":[0,1,0,0,0]", "\"default_left\":[0,1,0,0]"),
        ("\"size_leaf_vector\":\"1\"", "\"size_leaf_vector\":\"-1\""),
        // Categories.
        ("\"categories\":[0,7]", "\"categories\":[0,-7]"),
        ("\"categories\":[0,7]", "\"categories\":[0,16777216]"),
        ("\"categories_nodes\":[2]", "\"categories_nodes\":[0]"),
        ("\"categories_segments\":[0]", "\"categories_segments\":[1]"),
        ("\"categories_segments\":[0]", "\"categories_segments\":[]"),
        ("\"categories_sizes\":[2]", "\"categories_sizes\":[3]"),
        ("\"split_type\":[0,0,1,0,0]", "\"split_type\":[1,0,1,0,0]"),
        ("\"offsets\":[0,3,4]", "\"offsets\":[0,5,4]"),
        ("\"offsets\":[0,3,4]", "\"offsets\":[0,3,5]"),
        (
            "\"feature_segments\":[0,0,2,4]",
            "\"feature_segments\":[0,0,3,4]",
        ),
        ("\"sorted_idx\":[0,1,1,0]", "\"sorted_idx\":[0,2,1,0]"),
    ] {
        let broken = model.replacen(from, to, 1);
        assert_ne!(broken, model, "{from}");
        assert_eq!(json(&broken), Verdict::Malformed, "{from} {to}");
    }
    // Leaves with lists of values, and a tree that is not read to its end.
    let vectors = model.replacen("vector\":\"1\"", "vector\":\"2\"", 1);
    let members: String = (0..70_000).map(|n| format!("\"a{n}\":0,")).collect();
    let large = model.replacen("\"base_weights\"", &format!("{members}\"base_weights\""), 1);
    for unknown in [vectors, large] {
        assert_eq!(json(&unknown), Verdict::Unknown);
    }
}

#[test]
fn linear_models_have_a_weight_for_each_feature() {
    for (weights, expected) in [
        ("0.1,0.2,0.3,0.4,0.5,0.6", Verdict::Safe),
        ("0.1,0.2,0.3,0.4,0.5", Verdict::Malformed),
    ] {
        let model = format!(
            r#"{{"learner":{{"gradient_booster":{{"model":{{"weights":[{weights}]}}}},
            "learner_model_param":{{"num_class":"2","num_feature":"2"}}}}}}"#
        );
        assert_eq!(json(&model), expected, "{weights}");
    }
}

/// A value of UBJSON with a key.
fn member(key: &str, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(key.len()).unwrap();
    [&b"U"[..], &[length], key.as_bytes(), value].concat()
}

fn object(members: &[Vec<u8>]) -> Vec<u8> {
    [&b"{"[..], &members.concat(), b"}"].concat()
}

/// Numbers of four bytes, with their type before them or before each.
fn numbers(numbers: &[i32], is_typed: bool) -> Vec<u8> {
    let count = i64::try_from(numbers.len()).unwrap().to_be_bytes();
    let mut list = if is_typed {
        b"[$l#L".to_vec()
    } else {
        b"[#L".to_vec()
    };
    list.extend_from_slice(&count);
    for number in numbers {
        if !is_typed {
            list.push(b'l');
        }
        list.extend_from_slice(&number.to_be_bytes());
    }
    list
}

#[test]
fn indices_of_ubjson_are_those_of_json() {
    let model = |children: [i32; 2], feature: i32, is_typed: bool| {
        let list = |key, values: &[i32]| member(key, &numbers(values, is_typed));
        let floats = [&b"[$d#U\x03"[..], &[0; 12]].concat();
        let tree = object(&[
            member("base_weights", &floats),
            member("default_left", b"[$U#U\x03\0\0\0"),
            list("left_children", &[children[0], -1, -1]),
            member("loss_changes", &floats),
            list("parents", &[i32::MAX, 0, 0]),
            list("right_children", &[children[1], -1, -1]),
            member("split_conditions", &floats),
            list("split_indices", &[feature, 0, 0]),
            member("sum_hessian", &floats),
            member("tree_param", &object(&[member("num_nodes", b"SU\x013")])),
        ]);
        let trees = [&b"[#U\x01"[..], &tree].concat();
        let booster = object(&[member("model", &object(&[member("trees", &trees)]))]);
        let parameters = object(&[member("num_feature", b"SU\x012")]);
        let learner = object(&[
            member("gradient_booster", &booster),
            member("learner_model_param", &parameters),
        ]);
        object(&[member("learner", &learner)])
    };
    for is_typed in [true, false] {
        assert_eq!(ubjson(&model([1, 2], 1, is_typed)), Verdict::Safe);
        for (children, feature) in [([1, 1], 1), ([1, 3], 1), ([0, 2], 1), ([1, 2], 2)] {
            let broken = model(children, feature, is_typed);
            assert_eq!(
                ubjson(&broken),
                Verdict::Malformed,
                "{children:?} {feature}"
            );
        }
    }
}

/// Two trees of LightGBM: one with a split by categories, and a linear one.
const TREES: [&str; 2] = [
    "Tree=0\nnum_leaves=3\nnum_cat=1\nsplit_feature=1 0\nsplit_gain=5 4\nthreshold=0 0.5\n\
    decision_type=9 2\nleft_child=-1 -2\nright_child=1 -3\nleaf_value=1 2 3\nleaf_weight=1 1 1\n\
    leaf_count=1 1 1\ninternal_value=0 0\ninternal_weight=3 2\ninternal_count=3 2\n\
    cat_boundaries=0 2\ncat_threshold=5 1\nis_linear=0\nshrinkage=1\n\n\n",
    "Tree=1\nnum_leaves=2\nnum_cat=0\nsplit_feature=0\nthreshold=0.5\ndecision_type=2\n\
    left_child=-1\nright_child=-2\nleaf_value=1 2\nleaf_weight=1 1\nis_linear=1\n\
    leaf_const=1 2\nnum_features=1 0\nleaf_features=1  \nleaf_coeff=0.5  \nshrinkage=1\n\n\n",
];

fn lightgbm_model(trees: &[String]) -> String {
    let sizes: Vec<_> = trees.iter().map(|tree| tree.len().to_string()).collect();
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\n\
        feature_names=left_child Tree\ntree_sizes={}\n\n{}end of trees\n\n\
        feature_importances:\nleft_child=2\nTree=1\n",
        sizes.join(" "),
        trees.concat()
    )
}

#[test]
fn an_index_that_lightgbm_follows_is_within_its_list() {
    let trees = TREES.map(str::to_owned);
    assert_eq!(lightgbm(lightgbm_model(&trees).as_bytes()), Verdict::Safe);
    for (tree, from, to) in [
        (0, "left_child=-1 -2", "left_child=0 -2"),
        (0, "left_child=-1 -2", "left_child=-1 1"),
        (0, "left_child=-1 -2", "left_child=-1 -1"),
        (0, "left_child=-1 -2", "left_child=-1 -4"),
        (0, "left_child=-1 -2", "left_child=-1"),
        (0, "left_child=-1 -2\n", ""),
        (0, "right_child=1 -3", "right_child=2 -3"),
        (0, "right_child=1 -3", "right_child=1x -3"),
        (0, "right_child=1 -3", "right_child=99999999999 -3"),
        (0, "right_child=1 -3", "right_child=1 -3\nright_child=1 -3"),
        (0, "split_feature=1 0", "split_feature=2 0"),
        (0, "split_feature=1 0", "split_feature=-1 0"),
        (0, "num_leaves=3", "num_leaves=0"),
        (0, "num_leaves=3", "num_leaves=4"),
        (0, "num_leaves=3\n", ""),
        (0, "num_cat=1\n", ""),
        (0, "num_cat=1", "num_cat=2"),
        (0, "num_cat=1", "num_cat=-1"),
        (0, "threshold=0 0.5", "threshold=1 0.5"),
        (0, "threshold=0 0.5", "threshold=0.5 0.5"),
        (0, "threshold=0 0.5", "threshold=0"),
        (0, "decision_type=9 2", "decision_type=9 1"),
        (0, "decision_type=9 2", "decision_type=9"),
        (0, "leaf_value=1 2 3", "leaf_value=1 2"),
        (0, "leaf_weight=1 1 1", "leaf_weight="),
        (0, "cat_boundaries=0 2", "cat_boundaries=0 3"),
        (0, "cat_boundaries=0 2", "cat_boundaries=3 2"),
        (0, "cat_boundaries=0 2", "cat_boundaries=-1 2"),
        (0, "cat_threshold=5 1", "cat_threshold=5"),
        (0, "shrinkage=1", "end of parameters"),
        (1, "num_features=1 0", "num_features=2 -1"),
        (1, "num_features=1 0", "num_features=1"),
        (1, "num_features=1 0", "num_features=2 0"),
        (1, "leaf_features=1  ", "leaf_features=2  "),
        (1, "leaf_coeff=0.5  ", "leaf_coeff=0.5 0.5"),
        (1, "leaf_const=1 2", "leaf_const="),
    ] {
        let mut trees = trees.clone();
        trees[tree] = trees[tree].replacen(from, to, 1);
        assert_ne!(trees[tree], TREES[tree], "{from}");
        let broken = lightgbm_model(&trees);
        assert_eq!(lightgbm(broken.as_bytes()), Verdict::Malformed, "{broken}");
    }
}

#[test]
fn the_header_of_lightgbm_is_that_of_the_trees() {
    let model = lightgbm_model(&TREES.map(str::to_owned));
    let size = TREES[0].len();
    let sizes = format!("tree_sizes={size} {}", TREES[1].len());
    for (from, to) in [
        (&*sizes, format!("tree_sizes={}", size + 1)),
        (&*sizes, format!("tree_sizes={size}")),
        (&*sizes, format!("{sizes} {size}")),
        (&*sizes, sizes.replace('=', "=-")),
        (
            "num_tree_per_iteration=1",
            "num_tree_per_iteration=0".to_owned(),
        ),
        (
            "num_tree_per_iteration=1",
            "num_tree_per_iteration=2".to_owned(),
        ),
        ("num_class=1\n", "num_class=3\n".to_owned()),
        ("max_feature_idx=1", "max_feature_idx=0".to_owned()),
    ] {
        let broken = model.replacen(from, &to, 1);
        assert_ne!(broken, model, "{from}");
        assert_eq!(lightgbm(broken.as_bytes()), Verdict::Malformed, "{to}");
    }
    let without = model.replacen(&format!("{sizes}\n"), "", 1);
    assert_eq!(lightgbm(without.as_bytes()), Verdict::Safe);
    // A tree that is not read to its end.
    let lists: String = (0..70_000).map(|n| format!("a{n}=0\n")).collect();
    let large = TREES[0].replacen("num_leaves", &format!("{lists}num_leaves"), 1);
    let model = lightgbm_model(&[large, TREES[1].to_owned()]);
    assert_eq!(lightgbm(model.as_bytes()), Verdict::Unknown);
}
