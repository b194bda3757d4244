//! The numbers of a LightGBM model that loaders use as indices: children, features and categories
//! of nodes, and where each tree begins.
//!
//! LightGBM looks at no index. A list of another length ends its process: the error comes from a
//! thread in which nothing handles it.

use crate::scan::boosters::list::{Checked, Lists, NO_INDEX, ensure};
use crate::scan::rules::{self, Rule};
use crate::scan::source::Stop;

const RULE: &Rule = rules::LIGHTGBM_INDEX;
/// Lists with a number for each node that is no leaf. A tree has all.
const NODE_LISTS: [&str; 4] = ["left_child", "right_child", "split_feature", "threshold"];
/// Such lists that a tree may have.
const MORE_NODE_LISTS: [&str; 5] = [
    "decision_type",
    "internal_count",
    "internal_value",
    "internal_weight",
    "split_gain",
];
/// Lists with a number for each leaf that a tree may have.
const LEAF_LISTS: [&str; 4] = ["leaf_const", "leaf_count", "leaf_weight", "num_features"];

/// How far each tree begins behind the one before it. No key is so.
const DISTANCES: &str = "Tree=";

/// Follows the lines of a model, and checks each tree at its end. Memory is bounded by the lists of
/// one tree.
#[derive(Default)]
pub(super) struct Trees {
    header: Lists,
    /// Lists of a tree that has not ended.
    tree: Option<Lists>,
    /// Where the last tree begins.
    tree_at: u64,
    /// One more than the greatest feature of all trees.
    features_end: i64,
}

impl Trees {
    /// A number of a line that begins so. Without digits, there is only its key.
    pub(super) fn add(&mut self, line: &[u8], number: &[u8]) {
        let key = line.split(|byte| *byte == b'=').next().unwrap_or_default();
        let digits = str::from_utf8(number).unwrap_or_default();
        let index = digits.parse().unwrap_or(NO_INDEX);
        let lists = self.tree.as_mut().unwrap_or(&mut self.header);
        let number = (!number.is_empty()).then_some(index);
        lists.push(String::from_utf8_lossy(key).into_owned(), number);
    }

    /// The end of a line.
    pub(super) fn line(&mut self, line: &[u8], at: u64) -> Result<(), Stop> {
        if let Some(tree) = self.tree.take_if(|_| line.is_empty()) {
            return tree.result(self.check_tree(&tree), at, RULE);
        }
        let is_line = self.tree.is_none() || line.contains(&b'=');
        if self.tree.is_none() && line.starts_with(b"Tree=") {
            let distance = i64::try_from(at.saturating_sub(self.tree_at)).ok();
            self.header.push(DISTANCES.to_owned(), distance);
            self.tree_at = at;
            self.tree = Some(Lists::default());
        }
        self.header.result(ensure(is_line, "a line"), at, RULE)
    }

    /// The line behind all trees.
    pub(super) fn end(&self, at: u64) -> Result<(), Stop> {
        self.header.result(self.check_header(), at, RULE)
    }

    fn check_tree(&mut self, tree: &Lists) -> Checked {
        let leaves = tree.number("num_leaves", 0)?;
        ensure(leaves > 0, "num_leaves")?;
        tree.list_of("leaf_value", leaves)?;
        if leaves == 1 && tree.number("is_linear", 0)? == 0 {
            return Ok(());
        }
        let nodes = leaves.saturating_sub(1);
        for name in NODE_LISTS {
            tree.list_of(name, nodes)?;
        }
        let more = MORE_NODE_LISTS.map(|name| (name, nodes));
        for (name, count) in more
            .into_iter()
            .chain(LEAF_LISTS.map(|name| (name, leaves)))
        {
            let is_complete = tree.get(name).is_none() || tree.count(name) == count;
            ensure(is_complete, name)?;
        }
        // Each node and leaf but the first node has one parent. A leaf is the complement of its
        // number.
        let mut children = [tree.list("left_child"), tree.list("right_child")].concat();
        children.sort_unstable();
        let parts = (leaves.saturating_neg()..nodes).filter(|part| *part != 0);
        let has_all = parts.take(children.len()).eq(children.iter().copied());
        ensure(has_all, "left_child")?;
        self.check_categories(tree)?;
        // How many features the linear model of each leaf has.
        let features = tree.indices_end("leaf_features")?;
        let features = features.max(tree.indices_end("split_feature")?);
        self.features_end = self.features_end.max(features);
        tree.indices_end("num_features")?;
        let count: i64 = tree.list("num_features").iter().sum();
        tree.list_of("leaf_coeff", count)?;
        tree.list_of("leaf_features", count).map(|_| ())
    }

    /// Checks where the categories of nodes are.
    fn check_categories(&self, tree: &Lists) -> Checked {
        if tree.get("num_cat").is_none() {
            // Before release 2.1. Later readers do not read such a tree.
            return ensure(self.header.get("tree_sizes").is_none(), "num_cat");
        }
        let count = tree.number("num_cat", 0)?;
        let kinds = tree.list("decision_type").iter();
        let mut splits = kinds.zip(tree.list("threshold"));
        // The lowest bit is that of categories.
        let is_within = splits.all(|(kind, at)| kind & 1 == 0 || (0..count).contains(at));
        ensure(is_within, "threshold")?;
        let ends = tree.list("cat_boundaries");
        let is_list = ends.first() >= Some(&0)
            && ends.is_sorted()
            && ends.last() == Some(&tree.count("cat_threshold"))
            && tree.count("cat_boundaries").checked_sub(1) == Some(count);
        ensure(count == 0 || is_list, "cat_boundaries")
    }

    /// Checks what all trees share.
    fn check_header(&self) -> Checked {
        ensure(self.tree.is_none(), "the last tree")?;
        let classes = self.header.number("num_class", 1)?;
        let each = self.header.number("num_tree_per_iteration", classes)?;
        let trees = self.header.count(DISTANCES);
        let is_complete = classes > 0 && trees.checked_rem(classes) == Some(0);
        ensure(is_complete && each == classes, "num_tree_per_iteration")?;
        let feature = self.header.number("max_feature_idx", -1)?;
        ensure(
            self.features_end <= feature.saturating_add(1),
            "split_feature",
        )?;
        let Some(sizes) = self.header.get("tree_sizes") else {
            return Ok(());
        };
        // LightGBM jumps over as many bytes.
        let distances = self.header.list(DISTANCES).iter().skip(1);
        let is_same = distances
            .zip(sizes)
            .all(|(distance, size)| distance == size);
        let is_complete = self.header.count("tree_sizes") == trees;
        ensure(is_same && is_complete, "tree_sizes")
    }
}
