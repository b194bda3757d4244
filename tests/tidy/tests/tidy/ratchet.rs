//! Recorded numbers of faults that remain in the tree. A recorded number may only fall.

use std::cmp::Ordering;

/// What is wrong if the number of faults differs from the recorded one. A smaller number is wrong
/// too: the record follows it, so that the number cannot rise again.
pub(crate) fn change(rule: &str, recorded: usize, found: &[String]) -> Option<String> {
    let now = found.len();
    let counts = format!("{rule}: now {now}, recorded {recorded}");
    match now.cmp(&recorded) {
        Ordering::Less => Some(format!("{counts}: lower it")),
        Ordering::Equal => None,
        Ordering::Greater => Some(format!("{counts}:\n    {}", found.join("\n    "))),
    }
}

#[test]
fn a_number_that_rises_or_falls_is_a_fault() {
    let found = ["a.rs".to_owned(), "b.rs".to_owned()];
    assert_eq!(change("files", 2, &found), None);
    assert_eq!(
        change("files", 1, &found).unwrap(),
        "files: now 2, recorded 1:\n    a.rs\n    b.rs"
    );
    assert_eq!(
        change("files", 3, &found).unwrap(),
        "files: now 2, recorded 3: lower it"
    );
}
