//! Each rejection as overloaded names its cause, so that metrics count it as what it is. The
//! compiler accepts a denial without one.

use crate::none;
use crate::sources::rust;

/// How far behind the reason the cause may stand, in bytes.
const REACH_BYTES: usize = 260;

/// How many rejections as overloaded have neither a named cause nor a text that begins as a bug's.
fn without_cause(text: &str) -> usize {
    let calls = text.split("Denial::new(").skip(1);
    calls
        .filter_map(|arguments| arguments.trim_start().strip_prefix("Reason::Overloaded"))
        .map(|rest| rest.split_at(rest.floor_char_boundary(REACH_BYTES)).0)
        .filter(|near| !near.contains("overloaded_by(") && !near.contains("\"internal: "))
        .count()
}

#[test]
fn rejections_as_overloaded_name_their_causes() {
    // Benches and tests count nothing.
    let shipped = rust().into_iter().filter(|(file, _)| {
        let folder = file.split("/src/").next();
        folder != Some("bench") && file.contains("/src/") && !file.contains("tests")
    });
    let faults = shipped
        .filter(|(_, text)| without_cause(text) > 0)
        .map(|(file, _)| file)
        .collect();
    none("rejections as overloaded without a cause", faults);
}

#[test]
fn rejections_without_a_cause_are_found() {
    let named = "Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Memory)";
    let bug = "Denial::new(\n    Reason::Overloaded,\n    \"internal: no step\",\n)";
    let other = "Denial::new(Reason::Malformed, cause)";
    let unnamed = "Denial::new(Reason::Overloaded, cause);\n";
    assert_eq!(without_cause(&[named, bug, other].concat()), 0);
    assert_eq!(without_cause(&[unnamed, named, unnamed].concat()), 2);
}
