//! The lines that `up` prints for changes that are held: files with the same cause share a line.

use tensorgate_cli_common::ui::printable;
use tensorgate_settings::sources::SourceState;

/// One line for each cause, with its files.
pub(super) fn held_lines(held: &[SourceState]) -> Vec<String> {
    let mut causes: Vec<(&str, Vec<String>)> = Vec::new();
    for SourceState { file, why } in held {
        let file = printable(&file.display().to_string());
        match causes.iter_mut().find(|(cause, _)| cause == why) {
            Some((_, files)) => files.push(file),
            None => causes.push((why.as_str(), vec![file])),
        }
    }
    let line = |(why, files): (&str, Vec<String>)| {
        let why = printable(why.lines().next().unwrap_or_default());
        format!("held: {}: {why}", files.join(", "))
    };
    causes.into_iter().map(line).collect()
}

/// The lines of a cause that these lines do not show.
pub(super) fn unshown<'w>(held: &[SourceState], why: &'w str) -> &'w str {
    if held.iter().any(|state| state.why == why) {
        why.split_once('\n').map_or("", |(_, others)| others)
    } else {
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_the_same_cause_share_a_line() {
        let state = |file: &str, why: &str| SourceState::new(file, why);
        let held = [
            state("scale.wasm", "line 8: differs"),
            state("a.txt", "changes\nmore"),
            state("gate.yaml", "line 8: differs"),
        ];
        let expected = [
            "held: scale.wasm, gate.yaml: line 8: differs",
            "held: a.txt: changes",
        ];
        assert_eq!(held_lines(&held), expected);
        assert_eq!(unshown(&held, "line 8: differs"), "");
        assert_eq!(unshown(&held, "changes\nmore"), "more");
        assert_eq!(unshown(&held, "another\none"), "another\none");
    }
}
