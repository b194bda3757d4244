//! CatBoost's models in JSON: trees, the features that they compare with values, and tables of the
//! statistics of categories ("CTR").
//!
//! CatBoost takes indices and lengths of the document as they are, and crashes where they do not
//! fit. It takes a value of another type for an empty list or for zero.

use serde::Deserialize;

use super::document::Library;
use super::list::{Checked, Lists, ensure};
use crate::scan::json::ELEMENT;
use crate::scan::rules::{self, Rule};

const MEMBERS: [&str; 6] = [
    "ctr_data",
    "features_info",
    "model_info",
    "oblivious_trees",
    "scale_and_bias",
    "trees",
];
/// The right child of a node lies behind all nodes of the left one, at a distance of 16 bits.
const MAX_LEFT_NODES: i64 = 0xfffe;
/// Stands for the classes of a table without any.
const ANY_CLASSES: i64 = 1 << 30;

/// The key of a table, which is JSON in a text.
#[derive(Deserialize)]
struct TableKey {
    r#type: String,
}

/// What is known of a model.
#[derive(Default)]
pub(super) struct CatBoost {
    has_trees: bool,
    /// How many indices the features have for splits, and one more than the greatest of a split.
    splits: i64,
    splits_end: i64,
    /// For how many classes each table has statistics.
    classes: Vec<i64>,
    /// One more than the greatest class that a statistic reads.
    classes_end: i64,
}

impl Library for CatBoost {
    const TRUNCATED: &'static Rule = rules::CATBOOST_DOCUMENT;
    const INDEX: &'static Rule = rules::CATBOOST_DOCUMENT;
    const MEMBER: &'static Rule = rules::CATBOOST_MEMBER;
    const HAS_TEXTS: bool = false;

    fn is_member(path: &[String], key: &str) -> bool {
        !path.is_empty() || MEMBERS.contains(&key)
    }

    fn check(&mut self, path: &[&str], object: &Lists) -> Checked<i64> {
        match path {
            [] => self.check_model(object)?,
            ["ctr_data"] => {
                let count = i64::try_from(self.classes.len());
                ensure(count == Ok(object.keys), "ctr_data")?;
            }
            ["ctr_data", key] => self.classes.push(count_classes(key, object)?),
            ["features_info"] => check_order(object)?,
            ["features_info", "categorical_features", ELEMENT] => {
                self.splits = self.splits.saturating_add(object.count("values[]"));
                return check_feature(object);
            }
            ["features_info", kind @ ("float_features" | "ctrs"), ELEMENT] => {
                self.splits = self.splits.saturating_add(object.count("borders[]"));
                if *kind == "float_features" {
                    return check_feature(object);
                }
                let end = object.index_end("target_border_idx")?;
                self.classes_end = self.classes_end.max(end);
            }
            ["oblivious_trees", ELEMENT] => {
                for name in ["splits", "splits[]", "splits{}", "leaf_values[]{}"] {
                    object.list_of(name, 0)?;
                }
                let depth = u32::try_from(object.count("splits[]{}")).unwrap_or(u32::MAX);
                let values = object.count("leaf_values[]");
                let is_complete = values > 0 && values.trailing_zeros() >= depth;
                ensure(is_complete, "leaf_values[]")?;
                return Ok(values.checked_shr(depth).unwrap_or_default());
            }
            ["oblivious_trees", ELEMENT, "splits", ELEMENT] | ["trees", ELEMENT, .., "split"] => {
                let end = object.index_end("split_index")?;
                self.splits_end = self.splits_end.max(end);
            }
            ["trees", ELEMENT] | ["trees", ELEMENT, .., "left" | "right"] => {
                let left = object.number("left{}", 0)?;
                let right = object.number("right{}", 0)?;
                let has_children = (1..=MAX_LEFT_NODES).contains(&left) && right > 0;
                let is_split = has_children && object.count("split{}") > 0;
                let is_leaf = object.count("value") > 0 || object.count("value[]") > 0;
                ensure(is_split || is_leaf, "trees[]")?;
                return Ok(left.saturating_add(right).saturating_add(1));
            }
            _ => {}
        }
        Ok(0)
    }

    fn unfollowed(&self) -> Option<&'static str> {
        if !self.has_trees {
            return Some("the document has no trees");
        }
        let is_short = |classes: &i64| *classes < self.classes_end;
        let detail = "which table a statistic takes is not followed";
        self.classes.iter().any(is_short).then_some(detail)
    }
}

impl CatBoost {
    /// Compares the indices with the number of what they are of.
    fn check_model(&mut self, model: &Lists) -> Checked {
        for name in [
            "oblivious_trees",
            "oblivious_trees[]",
            "oblivious_trees{}",
            "trees",
            "trees[]",
            "trees{}",
        ] {
            model.list_of(name, 0)?;
        }
        // Each leaf has as many values as those of other trees.
        let dimensions = model.list("oblivious_trees[]{}");
        self.has_trees = !dimensions.is_empty() || model.count("trees[]{}") > 0;
        let (fewest, greatest) = (dimensions.iter().min(), dimensions.iter().max());
        ensure(fewest == greatest, "leaf_values[]")?;
        // CatBoost reads two numbers, whatever the length.
        let scale = "scale_and_bias[]";
        let has_scale = model.get("scale_and_bias").is_none() || model.count(scale) == 2;
        ensure(has_scale, scale)?;
        ensure(self.splits_end <= self.splits, "split_index")?;
        let classes = self.classes.iter().max().copied().unwrap_or_default();
        ensure(self.classes_end <= classes, "target_border_idx")
    }
}

fn check_feature(feature: &Lists) -> Checked<i64> {
    feature.index_end("flat_feature_index")?;
    feature.index_end("feature_index")
}

/// Checks that features have the order of their indices. The last one says how many a request has
/// to have.
fn check_order(info: &Lists) -> Checked {
    for name in ["float_features[]", "categorical_features[]", "ctrs[]"] {
        info.list_of(name, 0)?;
    }
    for name in ["float_features[]{}", "categorical_features[]{}"] {
        let is_next = |index: &i64, next: &i64| index < next;
        ensure(info.list(name).is_sorted_by(is_next), name)?;
    }
    Ok(())
}

/// For how many classes a table has statistics. It is a list with the hash of each category before
/// them.
fn count_classes(key: &str, table: &Lists) -> Checked<i64> {
    let stride = table.number("hash_stride", 0)?;
    let kind = serde_json::from_str(key).map(|TableKey { r#type }| r#type);
    let classes = match (kind.as_deref(), stride) {
        (Ok("Counter" | "FeatureFreq"), 2)
        | (Ok("BinarizedTargetMeanValue" | "FloatTargetMeanValue"), 3) => ANY_CLASSES,
        (Ok("Borders" | "Buckets"), 2..) => stride.saturating_sub(1),
        _ => return Err("hash_stride"),
    };
    let values = table.count("hash_map[]");
    let is_complete = values > 0 && values.checked_rem(stride) == Some(0);
    table.list_of("hash_map[]{}", 0)?;
    ensure(is_complete, "hash_map[]").map(|()| classes)
}

#[cfg(test)]
mod tests;
