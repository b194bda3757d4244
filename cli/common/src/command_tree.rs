//! A program's verbs and their arguments as data. With it `tensorgate` completes the verbs of
//! `tensorgate-handler` and `tensorgate-model`, which it does not contain.

use clap::{Arg, ArgAction, Command, ValueHint};
use serde::{Deserialize, Serialize};

/// The hidden verb that prints a program's tree as JSON.
pub const VERB: &str = "command-tree";

/// A verb with its arguments and the verbs below it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandTree {
    name: String,
    about: String,
    arguments: Vec<Argument>,
    verbs: Vec<CommandTree>,
}

/// An argument of a verb: an option if it has a letter or a word, else a positional argument.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Argument {
    name: String,
    short: Option<char>,
    long: Option<String>,
    help: String,
    /// Whether it takes a value.
    takes_value: bool,
    /// Whether its value is a path.
    is_path: bool,
    /// All values that it may have, if there are few.
    values: Vec<String>,
}

impl From<&Command> for CommandTree {
    /// Leaves out hidden verbs, and arguments of every verb: both programs have the same ones.
    fn from(command: &Command) -> Self {
        let arguments = command.get_arguments();
        let verbs = command.get_subcommands();
        Self {
            name: command.get_name().to_owned(),
            about: command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default(),
            arguments: (arguments.filter(|argument| !argument.is_global_set()))
                .map(Argument::from)
                .collect(),
            verbs: (verbs.filter(|verb| !verb.is_hide_set()))
                .map(Self::from)
                .collect(),
        }
    }
}

impl From<&Arg> for Argument {
    fn from(argument: &Arg) -> Self {
        let values = argument.get_possible_values();
        Self {
            name: argument.get_id().to_string(),
            short: argument.get_short(),
            long: argument.get_long().map(str::to_owned),
            help: argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default(),
            takes_value: argument.get_action().takes_values(),
            is_path: argument.get_value_hint() == ValueHint::AnyPath,
            values: values
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect(),
        }
    }
}

impl CommandTree {
    /// The verbs and arguments as a command of this name, for the generator of completions.
    pub fn into_command(self, name: String) -> Command {
        let verbs = self.verbs.into_iter().map(|verb| {
            let name = verb.name.clone();
            verb.into_command(name)
        });
        Command::new(name)
            .about(self.about)
            .args(self.arguments.into_iter().map(Arg::from))
            .subcommands(verbs)
    }
}

impl From<Argument> for Arg {
    fn from(argument: Argument) -> Self {
        let mut arg = Self::new(argument.name).help(argument.help);
        if let Some(short) = argument.short {
            arg = arg.short(short);
        }
        if let Some(long) = argument.long {
            arg = arg.long(long);
        }
        if !argument.takes_value {
            return arg.action(ArgAction::SetTrue);
        }
        if argument.is_path {
            arg = arg.value_hint(ValueHint::AnyPath);
        }
        if argument.values.is_empty() {
            arg
        } else {
            arg.value_parser(argument.values)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_tree_survives_json_and_clap() {
        let command = Command::new("a")
            .arg(Arg::new("json").long("json").global(true))
            .subcommand(
                Command::new("new")
                    .about("Create")
                    .arg(
                        Arg::new("lang")
                            .long("lang")
                            .short('l')
                            .help("L")
                            .value_parser(["js"]),
                    )
                    .arg(Arg::new("force").long("force").action(ArgAction::SetTrue))
                    .arg(Arg::new("into").value_hint(ValueHint::AnyPath)),
            )
            .subcommand(Command::new("hidden").hide(true));
        let tree = CommandTree::from(&command);
        let json = serde_json::to_string(&tree).unwrap();
        assert!(
            !json.contains("hidden") && !json.contains("\"json\""),
            "{json}"
        );
        let read: CommandTree = serde_json::from_str(&json).unwrap();
        assert_eq!(read, tree);
        let again = read.into_command("a".to_owned());
        again.clone().debug_assert();
        assert_eq!(CommandTree::from(&again), tree);
    }
}
