//! Detects lost and repeated entries of Envoy's access log by their sequence numbers. Each filter
//! VM numbers the outcomes that only Envoy's access log reports, from 1 and in order. A gap means
//! that entries were lost. An earlier number means that Envoy has sent an entry again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// The most VMs: one for each worker, and those that they replaced, of a machine with 256
/// processors. The one without entries for longest is dropped first.
const MAX_VMS: usize = 512;
/// The most marks in a record, of the VMs with the latest entries. All fit into one line of the
/// log.
const MAX_MARKS: usize = 256;
/// The hex digits of a VM's name.
const NAME_DIGITS: usize = 16;

/// The last number of each VM, as records contain it.
pub type Marks = BTreeMap<String, u64>;

/// The meaning of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// The next one.
    Next,
    /// A repeated one.
    Again,
    /// Entries before it are missing.
    After {
        /// The first missing number.
        first: u64,
        /// How many are missing.
        count: u64,
    },
}

/// The last number of each VM.
#[derive(Clone, Debug, Default)]
pub struct SequenceTracker {
    /// The number, and its position in the order of arrival.
    vms: HashMap<String, (u64, u64)>,
    turn: u64,
}

impl SequenceTracker {
    /// Restores the state from a log.
    pub fn new(marks: &Marks) -> Self {
        let mut heard = Self::default();
        for (vm, last) in marks {
            heard.set(vm, *last);
        }
        heard
    }

    /// Records an entry `VM.NUMBER`. Anything else counts as the next one.
    pub fn observe(&mut self, entry: &str) -> SequenceCheck {
        let Some((vm, number)) = read(entry) else {
            return SequenceCheck::Next;
        };
        let last = self.vms.get(vm).map_or(0, |(last, _)| *last);
        if number <= last {
            return SequenceCheck::Again;
        }
        self.set(vm, number);
        let first = last.saturating_add(1);
        match number.saturating_sub(first) {
            0 => SequenceCheck::Next,
            count => SequenceCheck::After { first, count },
        }
    }

    /// Marks everything of a VM up to a number as known.
    pub fn set(&mut self, vm: &str, number: u64) {
        self.turn = self.turn.saturating_add(1);
        let turn = self.turn;
        if let Some((last, at)) = self.vms.get_mut(vm) {
            (*last, *at) = (number.max(*last), turn);
            return;
        }
        if self.vms.len() >= MAX_VMS {
            let silent = self.vms.iter().min_by_key(|(_, (_, at))| *at);
            if let Some(vm) = silent.map(|(vm, _)| vm.clone()) {
                self.vms.remove(&vm);
            }
        }
        self.vms.insert(vm.to_owned(), (number, turn));
    }

    /// Marks an entry as known.
    pub(crate) fn set_entry(&mut self, entry: &str) {
        if let Some((vm, number)) = read(entry) {
            self.set(vm, number);
        }
    }

    /// The marks for a record.
    pub fn marks(&self) -> Marks {
        let mut vms: Vec<_> = self.vms.iter().collect();
        vms.sort_unstable_by_key(|(_, (_, at))| Reverse(*at));
        let latest = vms.into_iter().take(MAX_MARKS);
        latest.map(|(vm, (last, _))| (vm.clone(), *last)).collect()
    }
}

/// Parses the VM and the number of an entry.
pub fn read(entry: &str) -> Option<(&str, u64)> {
    let (vm, number) = entry.split_once('.')?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let named = vm.len() == NAME_DIGITS && vm.bytes().all(hex);
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|number| digits && *number > 0)?;
    named.then_some((vm, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "00000000000000aa";

    fn entry(vm: u64, number: u64) -> String {
        format!("{vm:016x}.{number}")
    }

    #[test]
    fn a_number_says_what_is_missing_before_it_and_what_came_before() {
        let mut heard = SequenceTracker::new(&Marks::from([(VM.to_owned(), 7)]));
        for (vm, number, expected) in [
            (0xaa, 8, SequenceCheck::Next),
            (0xaa, 8, SequenceCheck::Again),
            (0xaa, 3, SequenceCheck::Again),
            (0xaa, 12, SequenceCheck::After { first: 9, count: 3 }),
            (0xaa, 10, SequenceCheck::Again),
            (0xaa, 13, SequenceCheck::Next),
            (0xbb, 1, SequenceCheck::Next),
            (0xcc, 5, SequenceCheck::After { first: 1, count: 4 }),
        ] {
            assert_eq!(
                heard.observe(&entry(vm, number)),
                expected,
                "{vm:x}.{number}"
            );
        }
        assert_eq!(heard.marks().get(VM), Some(&13));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in [
            "",
            ".",
            "00000000000000aa",
            "00000000000000aa.",
            "00000000000000aa.0",
            "00000000000000aa.+1",
            "00000000000000aa.1.2",
            "00000000000000AA.1",
            "aa.1",
            "00000000000000aa.99999999999999999999",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(
            read("00000000000000aa.18446744073709551615"),
            Some((VM, u64::MAX))
        );
    }

    #[test]
    fn the_vm_that_was_silent_longest_is_forgotten_first() {
        let mut heard = SequenceTracker::default();
        let vms = u64::try_from(MAX_VMS).unwrap_or_default();
        for vm in 0..vms {
            heard.observe(&entry(vm, 1));
        }
        heard.observe(&entry(0, 2));
        heard.observe(&entry(vms, 1));
        let marks = heard.marks();
        assert_eq!(marks.len(), MAX_MARKS);
        for vm in [0, 511, 512] {
            assert!(marks.contains_key(&format!("{vm:016x}")), "{vm}");
        }
        assert_eq!(heard.observe(&entry(0, 3)), SequenceCheck::Next);
        assert_eq!(
            heard.observe(&entry(1, 2)),
            SequenceCheck::After { first: 1, count: 1 }
        );
    }

    #[test]
    fn a_new_policy_on_the_largest_machine_loses_no_entry() {
        let mut heard = SequenceTracker::default();
        // Each worker gets another VM while the earlier one has running requests.
        for number in 1..3 {
            for vm in 0..512 {
                assert_eq!(heard.observe(&entry(vm, number)), SequenceCheck::Next);
            }
        }
    }
}
