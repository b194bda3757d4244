//! The record of what a folder was rendered from: the policy's text, its version and the command.
//!
//! Neither file has a name that kubectl, kustomize or Envoy reads. A chart lists both in
//! `.helmignore`. Equal inputs give equal bytes: the record has no time, user or machine, and no
//! name of the folder.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tensorgate_base::shell::quoted;
use tensorgate_cli_common::Failure;
use tensorgate_identity::api_key::{KEY_CHARS, parse_key};
use tensorgate_policy_load::load::Loaded;

use super::output::write_file;

/// File that says where the others come from.
pub const README: &str = "README.txt";
/// File with the policy's text.
pub const POLICY: &str = "gate.yaml.txt";

/// Beginning of tensorgate's own API keys.
const KEY_PREFIX: &str = "tg_";
/// Digits after it, with those of the checksum.
const KEY_DIGITS: usize = KEY_CHARS.saturating_sub(KEY_PREFIX.len());

/// The options that name the output folder.
const OUTPUT: [&str; 2] = ["-o", "--output"];

/// What a folder was rendered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRecord {
    readme: String,
    policy: String,
}

impl SourceRecord {
    /// The record of this run of the program.
    pub fn of_this_run(loaded: &Loaded) -> Self {
        Self::new(loaded, std::env::args_os().skip(1))
    }

    /// The record of a command with these arguments.
    pub fn new(loaded: &Loaded, arguments: impl Iterator<Item = OsString>) -> Self {
        let mut command = "tensorgate".to_owned();
        for argument in without_output(arguments) {
            command.push(' ');
            command.push_str(&quoted(&argument));
        }
        let generation = &loaded.version.generation;
        Self {
            readme: format!(
                "tensorgate wrote this folder. To change it, change the policy and render again.

policy      {POLICY} is its text. It has none of the files that it names.
generation  {generation}
command     {command}
            The option -o is left out: it names this folder.

These two files are for people. kubectl, kustomize, Helm and Envoy read neither.
"
            ),
            policy: without_keys(&loaded.source.text),
        }
    }

    /// Writes both files into the rendered folder.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), Failure> {
        for (name, text) in self.files() {
            write_file(&folder.join(name), text)?;
        }
        Ok(())
    }

    /// The files, by name.
    fn files(&self) -> [(&'static str, &str); 2] {
        [
            (README, self.readme.as_str()),
            (POLICY, self.policy.as_str()),
        ]
    }
}

/// Arguments without the one that names the output folder.
fn without_output(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if OUTPUT.iter().any(|option| argument == *option) {
            arguments.next();
            continue;
        }
        let bytes = argument.as_bytes();
        if !bytes.starts_with(b"--output=") && !bytes.starts_with(b"-o") {
            kept.push(argument);
        }
    }
    kept
}

/// A text in which tensorgate's API keys are hidden. A policy has only digests of keys, but a
/// comment may have anything. All else stays, because the text is what a rollback renders.
fn without_keys(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(KEY_PREFIX) {
        shown.push_str(before);
        shown.push_str(KEY_PREFIX);
        let key = after.split_at_checked(KEY_DIGITS);
        let key = key.filter(|(digits, _)| parse_key(&format!("{KEY_PREFIX}{digits}")).is_ok());
        rest = match key {
            Some((_, behind)) => {
                shown.push_str("***");
                behind
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use tensorgate_identity::api_key::format_key;

    use super::*;
    use crate::render::cluster::test_support::{loaded, policy};

    /// The record of a command.
    fn record(text: &str, arguments: &[&str]) -> SourceRecord {
        let arguments = arguments.iter().map(OsString::from);
        SourceRecord::new(&loaded(text), arguments)
    }

    #[test]
    fn a_record_has_the_text_the_generation_and_the_command() {
        let text = format!("# why: ticket 7\n{}", policy("a"));
        let record = record(&text, &["render", "kubernetes", "gate.yaml", "-o", "/x"]);
        let [(_, readme), (name, policy)] = record.files();
        assert_eq!((name, policy), ("gate.yaml.txt", text.as_str()));
        let generation = loaded(&text).version.generation;
        for line in [
            format!("generation  {generation}"),
            "command     tensorgate render kubernetes gate.yaml".to_owned(),
        ] {
            assert!(readme.lines().any(|it| it == line), "{line}: {readme}");
        }
    }

    #[test]
    fn the_output_folder_is_not_in_a_record() {
        let policy = policy("a");
        let usual = record(&policy, &["render", "helm", "--name", "a"]);
        for folder in [
            &["-o", "/there/x"] as &[&str],
            &["-o/there/x"],
            &["-o=/there/x"],
            &["--output", "/there/x"],
            &["--output=/there/x"],
        ] {
            let arguments = [&["render", "helm"], folder, &["--name", "a"]].concat();
            assert_eq!(record(&policy, &arguments), usual, "{folder:?}");
        }
    }

    #[test]
    fn a_hostile_argument_starts_no_line() {
        let policy = policy("a");
        let lines = |record: &SourceRecord| record.readme.lines().count();
        let usual = lines(&record(&policy, &["render"]));
        for argument in [
            "a\nkubectl delete ns ml",
            "a\r\u{2028}b",
            "'; id #",
            "\u{1b}[2J",
        ] {
            let record = record(&policy, &["render", argument]);
            assert_eq!(lines(&record), usual, "{argument:?}");
            assert!(!record.readme.contains(['\r', '\u{1b}', '\u{2028}']));
        }
    }

    #[test]
    fn an_api_key_in_a_comment_is_hidden_and_a_name_is_not() {
        let key = format_key(&[7; 20]);
        let names = "clients: {tg_internalbatchscoringteam1: {}} # tg_short ü tg_";
        for (text, expected) in [
            (
                format!("# {key}, ask Ann\na: 1\n"),
                "# tg_***, ask Ann\na: 1\n",
            ),
            (format!("tg_{key}0"), "tg_tg_***0"),
            (names.to_owned(), names),
        ] {
            assert_eq!(without_keys(&text), expected);
        }
    }
}
