//! Which entry of each filter VM came last. A VM numbers what only Envoy's access log tells of, from 1, and a worker tells in order: a
//! number that is not the next says how many entries were lost, one that came before says that Envoy has sent it again.

use std::collections::{BTreeMap, HashMap};

/// VMs that are remembered: one a worker, and those that they replaced. The one that was silent longest is forgotten first.
const MAX_VMS: usize = 512;
/// Hex digits of a VM's name.
const NAME_DIGITS: usize = 16;

/// The last number of each VM, as lines of the log carry it.
pub type Marks = BTreeMap<String, u64>;

/// What a number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing is missing.
    Next,
    /// It came before.
    Again,
    /// So many are missing before it, from this number on.
    After {
        /// The first that is missing.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// The last number of each VM.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The number, and when it came, by `turn`.
    vms: HashMap<String, (u64, u64)>,
    turn: u64,
}

impl Heard {
    /// As a log left it.
    pub fn new(marks: &Marks) -> Self {
        let mut heard = Self::default();
        for (vm, last) in marks {
            heard.mark(vm, *last);
        }
        heard
    }

    /// An entry came: `VM.NUMBER`. What is none counts as nothing missing.
    pub fn take(&mut self, entry: &str) -> Told {
        let Some((vm, number)) = read(entry) else {
            return Told::Next;
        };
        let last = self.vms.get(vm).map_or(0, |(last, _)| *last);
        if number <= last {
            return Told::Again;
        }
        self.mark(vm, number);
        let first = last.saturating_add(1);
        match number.saturating_sub(first) {
            0 => Told::Next,
            count => Told::After { first, count },
        }
    }

    /// Everything of a VM up to a number is settled.
    pub fn mark(&mut self, vm: &str, number: u64) {
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

    /// The same for an entry.
    pub fn mark_entry(&mut self, entry: &str) {
        if let Some((vm, number)) = read(entry) {
            self.mark(vm, number);
        }
    }

    /// For a line of the log.
    pub fn marks(&self) -> Marks {
        let vms = self.vms.iter();
        vms.map(|(vm, (last, _))| (vm.clone(), *last)).collect()
    }
}

/// The VM and the number of an entry.
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
        let mut heard = Heard::new(&Marks::from([(VM.to_owned(), 7)]));
        for (vm, number, expected) in [
            (0xaa, 8, Told::Next),
            (0xaa, 8, Told::Again),
            (0xaa, 3, Told::Again),
            (0xaa, 12, Told::After { first: 9, count: 3 }),
            (0xaa, 10, Told::Again),
            (0xaa, 13, Told::Next),
            (0xbb, 1, Told::Next),
            (0xcc, 5, Told::After { first: 1, count: 4 }),
        ] {
            assert_eq!(heard.take(&entry(vm, number)), expected, "{vm:x}.{number}");
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
        let mut heard = Heard::default();
        let vms = u64::try_from(MAX_VMS).unwrap_or_default();
        for vm in 0..vms {
            heard.take(&entry(vm, 1));
        }
        heard.take(&entry(0, 2));
        heard.take(&entry(vms, 1));
        assert_eq!(heard.marks().len(), MAX_VMS);
        assert_eq!(heard.take(&entry(0, 3)), Told::Next);
        assert_eq!(heard.take(&entry(1, 2)), Told::After { first: 1, count: 1 });
    }
}
