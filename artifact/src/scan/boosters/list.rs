//! Lists of numbers in a model, of which loaders use some as indices.

use std::collections::BTreeMap;

use crate::scan::rules::Rule;
use crate::scan::source::Stop;

/// How many numbers and names the lists of an object may have. A tree has about ten lists.
const MAX_NUMBERS: u64 = 1 << 21;
const MAX_NAMES: usize = 1 << 16;
/// The longest name, bytes.
const MAX_NAME_BYTES: usize = 1 << 10;
/// Stands for a number that is no index.
pub(super) const NO_INDEX: i64 = i64::MIN;

/// The result of a check. The error is the name of a list that is wrong.
pub(super) type Checked<T = ()> = Result<T, &'static str>;

/// Lists by their names. A number that stands alone is a list of one.
#[derive(Default)]
pub(super) struct Lists {
    lists: BTreeMap<String, Vec<i64>>,
    /// How many numbers and names were added.
    pub(super) added: u64,
    /// How many keys an object has.
    pub(super) keys: i64,
}

impl Lists {
    /// Adds a name, and the number behind it if there is one.
    pub(super) fn push(&mut self, name: String, number: Option<i64>) {
        self.added = self.added.saturating_add(1);
        if !self.is_cut() && name.len() <= MAX_NAME_BYTES {
            let index = number.map(|number| i32::try_from(number).map_or(NO_INDEX, i64::from));
            self.lists.entry(name).or_default().extend(index);
        }
    }

    fn is_cut(&self) -> bool {
        self.added > MAX_NUMBERS || self.lists.len() > MAX_NAMES
    }

    /// The numbers under a name, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<&[i64]> {
        self.lists.get(name).map(Vec::as_slice)
    }

    pub(super) fn list(&self, name: &str) -> &[i64] {
        self.get(name).unwrap_or_default()
    }

    /// How many numbers a list has.
    pub(super) fn count(&self, name: &str) -> i64 {
        i64::try_from(self.list(name).len()).unwrap_or(i64::MAX)
    }

    /// A list of so many numbers.
    pub(super) fn list_of(&self, name: &'static str, count: i64) -> Checked<&[i64]> {
        ensure(self.count(name) == count, name)?;
        Ok(self.list(name))
    }

    /// The number that stands alone under a name, or another one if there is none.
    pub(super) fn number(&self, name: &'static str, otherwise: i64) -> Checked<i64> {
        match self.list(name) {
            [] => Ok(otherwise),
            [number] if *number != NO_INDEX => Ok(*number),
            _ => Err(name),
        }
    }

    /// One more than the greatest of a list of indices.
    pub(super) fn indices_end(&self, name: &'static str) -> Checked<i64> {
        let indices = self.list(name).iter();
        ensure(indices.clone().all(|index| *index >= 0), name)?;
        Ok(indices.max().map_or(0, |index| index.saturating_add(1)))
    }

    /// The number after an index that stands alone.
    pub(super) fn index_end(&self, name: &'static str) -> Checked<i64> {
        ensure(self.count(name) == 1, name)?;
        self.indices_end(name)
    }

    /// The result of a check of these lists.
    pub(super) fn result(
        &self,
        checked: Checked,
        at: u64,
        rule: &'static Rule,
    ) -> Result<(), Stop> {
        if self.is_cut() {
            let detail = "an object has more numbers than this scan follows";
            return Err(Stop::unknown(at, rule, detail));
        }
        checked.map_err(|name| {
            let detail = format!("an index or the length of {name} is wrong");
            Stop::malformed(at, rule, detail)
        })
    }
}

/// Fails with the name of a list unless something holds.
pub(super) fn ensure(holds: bool, name: &'static str) -> Checked {
    holds.then_some(()).ok_or(name)
}
