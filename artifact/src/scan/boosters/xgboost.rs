//! Models of XGBoost: their members, and the numbers that loaders use as indices: children and
//! features of nodes, segments of categories, classes of trees.
//!
//! XGBoost compares the lengths of some lists and the range of no index. With a wrong one it reads
//! outside of its memory, or follows a circle of nodes.

use std::mem;

use super::document::Library;
use super::list::{Checked, Lists, ensure};
use crate::scan::json::ELEMENT;
use crate::scan::rules::{self, Rule};

/// Members of a model and of its learner, by XGBoost's schema.
pub(in crate::scan) const MEMBERS: [&str; 3] = ["learner", "version", "config"];
const LEARNER_MEMBERS: [&str; 9] = [
    "attributes",
    "cats",
    "feature_names",
    "feature_types",
    "generic_param",
    "gradient_booster",
    "learner_model_param",
    "learner_train_param",
    "objective",
];
/// XGBoost reads categories as `f32`.
const CATEGORIES_END: i64 = 1 << 24;

/// What is known of a model. Its trees are checked one after the other.
#[derive(Default)]
pub(super) struct XgBoost {
    has_learner: bool,
    has_vectors: bool,
    /// Parameters of the last tree.
    nodes: i64,
    leaf_size: i64,
    /// Parameters of the learner.
    features: i64,
    classes: i64,
    /// How many weights a linear model has.
    weights: Option<i64>,
    trees: i64,
    /// One more than the greatest feature of all trees, and than their greatest class.
    features_end: i64,
    classes_end: i64,
}

impl Library for XgBoost {
    const TRUNCATED: &'static Rule = rules::XGBOOST_TRUNCATED;
    const INDEX: &'static Rule = rules::XGBOOST_INDEX;
    const MEMBER: &'static Rule = rules::XGBOOST_MEMBER;
    const HAS_TEXTS: bool = true;

    fn is_member(path: &[String], key: &str) -> bool {
        match path {
            [] => MEMBERS.contains(&key),
            [parent] if parent == "learner" => LEARNER_MEMBERS.contains(&key),
            _ => true,
        }
    }

    fn check(&mut self, path: &[&str], object: &Lists) -> Checked<i64> {
        match path {
            [.., "trees", ELEMENT, "tree_param"] => {
                self.nodes = object.number("num_nodes", 0)?;
                self.leaf_size = object.number("size_leaf_vector", 0)?;
            }
            [.., "trees", ELEMENT] => self.check_tree(object)?,
            [.., "enc", ELEMENT] => return count_categories(object),
            [.., "cats"] => check_categories(object)?,
            ["learner", "gradient_booster", .., "model"] => {
                let weights = object.get("weights[]").map(|_| object.count("weights[]"));
                self.weights = self.weights.into_iter().chain(weights).min();
                let end = object.indices_end("tree_info[]")?;
                self.classes_end = self.classes_end.max(end);
            }
            ["learner", "learner_model_param"] => {
                self.features = object.number("num_feature", 0)?;
                let targets = object.number("num_target", 1)?;
                self.classes = object.number("num_class", 1)?.max(targets);
            }
            ["learner"] => self.check_learner()?,
            _ => {}
        }
        Ok(0)
    }

    fn unfollowed(&self) -> Option<&'static str> {
        if !self.has_learner {
            return Some("the document has no learner");
        }
        self.has_vectors
            .then_some("a tree has vectors in its leaves")
    }
}

impl XgBoost {
    fn check_tree(&mut self, tree: &Lists) -> Checked {
        let nodes = mem::take(&mut self.nodes);
        self.trees = self.trees.saturating_add(1);
        ensure(self.leaf_size >= 0, "size_leaf_vector")?;
        if self.leaf_size > 1 {
            self.has_vectors = true;
            return Ok(());
        }
        ensure(nodes > 0, "num_nodes")?;
        for name in [
            "base_weights[]",
            "default_left[]",
            "loss_changes[]",
            "split_conditions[]",
            "sum_hessian[]",
        ] {
            tree.list_of(name, nodes)?;
        }
        self.check_nodes(tree, nodes)?;
        check_splits(tree)
    }

    /// Checks that each node but the first has one parent.
    fn check_nodes(&mut self, tree: &Lists, nodes: i64) -> Checked {
        let parents = tree.list_of("parents[]", nodes)?;
        let mut others = parents.iter().skip(1);
        ensure(others.all(|node| (0..nodes).contains(node)), "parents[]")?;
        let children = tree.list_of("left_children[]", nodes)?.iter();
        let children = children.zip(tree.list_of("right_children[]", nodes)?);
        let features = tree.list_of("split_indices[]", nodes)?;
        for (node, ((left, right), feature)) in (0..).zip(children.zip(features)) {
            if *left == -1 {
                continue;
            }
            for child in [left, right] {
                let parent = usize::try_from(*child).map(|child| parents.get(child));
                let is_child = *child > 0 && parent == Ok(Some(&node));
                ensure(is_child && left != right, "left_children[]")?;
            }
            ensure(*feature >= 0, "split_indices[]")?;
            self.features_end = self.features_end.max(feature.saturating_add(1));
        }
        Ok(())
    }

    /// Checks what all trees share.
    fn check_learner(&mut self) -> Checked {
        self.has_learner = true;
        ensure(self.features_end <= self.features, "split_indices[]")?;
        let classes = self.classes.max(1);
        ensure(self.classes_end <= classes, "tree_info[]")?;
        ensure(self.trees == 0 || classes <= self.trees, "num_class")?;
        let needed = self.features.saturating_add(1).saturating_mul(classes);
        let is_complete = self.weights.is_none_or(|weights| needed <= weights);
        ensure(is_complete, "weights[]")
    }
}

/// How many categories a feature has. Names that are texts have offsets.
fn count_categories(column: &Lists) -> Checked<i64> {
    let names = column.count("values[]");
    match column.list("offsets[]") {
        [] => Ok(names),
        offsets @ [0, ..] if offsets.is_sorted() && offsets.last() == Some(&names) => {
            Ok(column.count("offsets[]").saturating_sub(1))
        }
        _ => Err("offsets[]"),
    }
}

/// Checks the categories that nodes split by.
fn check_splits(tree: &Lists) -> Checked {
    let end = tree.indices_end("categories[]")?;
    ensure(end <= CATEGORIES_END, "categories[]")?;
    let splits = tree.count("categories_nodes[]");
    let starts = tree.list_of("categories_segments[]", splits)?.iter();
    for (start, size) in starts.zip(tree.list_of("categories_sizes[]", splits)?) {
        let is_within = start.saturating_add(*size) <= tree.count("categories[]");
        ensure(*start >= 0 && *size > 0 && is_within, "categories_sizes[]")?;
    }
    let kinds = (0..).zip(tree.list("split_type[]"));
    let split = kinds.filter(|(_, kind)| **kind == 1).map(|(node, _)| node);
    let nodes = tree.list("categories_nodes[]").iter().copied();
    ensure(split.eq(nodes), "split_type[]")
}

/// Checks where the categories of each feature are in a list for all.
fn check_categories(cats: &Lists) -> Checked {
    let mut order = cats.list("sorted_idx[]").iter();
    let mut segments = cats.list("feature_segments[]").windows(2);
    for size in cats.list("enc[]{}") {
        let segment = segments.next().unwrap_or_default();
        let is_segment = matches!(segment, [start, end] if start.saturating_add(*size) == *end);
        ensure(is_segment, "feature_segments[]")?;
        for _ in 0..*size {
            let is_index = order.next().is_some_and(|index| (0..*size).contains(index));
            ensure(is_index, "sorted_idx[]")?;
        }
    }
    Ok(())
}
