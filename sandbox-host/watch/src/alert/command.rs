//! The command that an operator runs on an alert, with all names filled in. Names are those of a
//! policy, and a client may have chosen an ID, so each is quoted for a POSIX shell.

use tensorgate_base::shell::quoted;
use tensorgate_policy::values::WatchRule;
use tensorgate_policy::values::safe_text::printable_prefix;

use super::Subject;

/// The longest word that a command has.
const MAX_WORD_BYTES: usize = 256;

pub(super) fn command(rule: WatchRule, subject: &Subject, request_id: Option<&str>) -> String {
    let name = match subject {
        Subject::Client(name) | Subject::Model(name) => Some(word(name)),
        Subject::Source(_) | Subject::Others | Subject::Gateway | Subject::Part(_) => None,
    };
    match (rule, subject, name) {
        (WatchRule::ClientBlocked, _, Some(name)) => format!("tensorgate unblock -- {name}"),
        (WatchRule::ModelRejected | WatchRule::ScannerFailed, _, _) => {
            "tensorgate audit query --events=artifact --since 1d".to_owned()
        }
        (rule, ..) if rule.is_about_gate() => "tensorgate status".to_owned(),
        (rule, Subject::Client(_), Some(name)) => {
            format!("tensorgate block --for 1h --reason 'alert {rule}' -- {name}")
        }
        (_, Subject::Model(_), Some(name)) => {
            format!("tensorgate audit query --since 1h --model={name}")
        }
        // In a flood of unknown callers a request may be counted only, so its ID explains nothing.
        (_, Subject::Gateway, _) => {
            "tensorgate audit query --since 1h --verdict deny --count-by reason,source".to_owned()
        }
        (_, Subject::Source(_) | Subject::Others | Subject::Part(_), _)
        | (_, Subject::Client(_) | Subject::Model(_), None) => match request_id {
            Some(id) => format!("tensorgate explain -- {}", word(id)),
            None => "tensorgate audit query --since 1h --verdict deny".to_owned(),
        },
    }
}

/// A text as one word of a POSIX shell: without hidden characters, `quoted` needs no escapes.
fn word(text: &str) -> String {
    quoted(printable_prefix(text, MAX_WORD_BYTES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_name_as_one_word() {
        for name in [
            "scorer",
            "risk/engine",
            "-rf",
            "a b",
            "$(id)",
            "`id`",
            "it's",
            "';id;'",
            "a\\",
            "*",
            "~",
            "",
        ] {
            let script = format!(
                "for word in {}; do printf '[%s]' \"$word\"; done",
                word(name)
            );
            let ran = Command::new("sh").args(["-c", &script]).output().unwrap();
            let expected = format!("[{}]", printable_prefix(name, MAX_WORD_BYTES));
            assert_eq!(String::from_utf8(ran.stdout).unwrap(), expected, "{name}");
        }
        assert!(!word("a\nb\u{1b}[31m").contains(['\n', '\u{1b}']));
    }

    #[test]
    fn each_alert_has_the_command_that_acts_on_it() {
        let client = Subject::Client("-rf".to_owned());
        let model = Subject::Model("risk/fraud".to_owned());
        let command = |rule, subject: &Subject| command(rule, subject, Some("id-1"));
        for (rule, subject, expected) in [
            (
                WatchRule::Volume,
                &client,
                "tensorgate block --for 1h --reason 'alert volume' -- -rf",
            ),
            (
                WatchRule::ClientBlocked,
                &client,
                "tensorgate unblock -- -rf",
            ),
            (
                WatchRule::Latency,
                &model,
                "tensorgate audit query --since 1h --model=risk/fraud",
            ),
            (WatchRule::ModelUnready, &model, "tensorgate status"),
            (
                WatchRule::SprayingSources,
                &Subject::Gateway,
                "tensorgate audit query --since 1h --verdict deny --count-by reason,source",
            ),
            (
                WatchRule::SprayingClients,
                &Subject::Source("192.0.2.7".parse().unwrap()),
                "tensorgate explain -- id-1",
            ),
        ] {
            assert_eq!(command(rule, subject), expected);
        }
    }
}
