//! The `diff` verb: the effects of replacing one policy with another.
//!
//! Gains and losses of clients come from the grants of the two validated policies. Every other
//! difference is reported as a change of the canonical form, or of the compiled form if one of them
//! is compiled.

mod answers;
mod limits;
mod proofs;
mod reached;
mod rendered;
mod side;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::arguments::is_standard_input;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Policy;
use tensorgate_policy_text::path::push_key;

use crate::render::cluster::sizes::MAX_REPLICAS;
use limits::Allows;
use proofs::ProofsOfClients;
use side::Side;

/// Longest value in the text output, characters; `--json` shows complete values.
const MAX_SHOWN: usize = 120;

/// Show who gains and who loses between two policies, and what else changes.
///
/// Each may be a policy file, a folder that `render` wrote, or a file with an object of the
/// cluster: the ConfigMap NAME-policy, or the object that loads the filter. `-` reads one from
/// standard input. Then the generations of both are printed, too.
#[derive(Args)]
#[command(
    after_help = "Exits 0 if the policies are equal, 1 if not, 2 if one of them has faults.\n\nExample: tensorgate diff gate.yaml gate.next.yaml\n\nExample: kubectl -n tensorgate get configmap tensorgate-policy -o json | tensorgate diff - gate.yaml"
)]
pub struct Diff {
    /// The current policy.
    #[arg(value_name = "A")]
    before: PathBuf,
    /// The new policy.
    #[arg(value_name = "B")]
    after: PathBuf,
    /// Number of pods, by which `render` has divided limits with `local_share`. Policy files are
    /// divided by it.
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REPLICAS))
    )]
    replicas: Option<u32>,
}

/// A difference.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
enum Change {
    /// An access that only the new policy grants.
    Gains(Access),
    /// An access that only the old policy grants.
    Loses(Access),
    /// A model that only the new policy reaches through a granted ensemble.
    Reaches(reached::Reached),
    /// A model that only the old policy reaches.
    ReachesNoMore(reached::Reached),
    /// An access that another grant gives, and so another rate limit bucket.
    Moves {
        #[serde(flatten)]
        access: Access,
        before: String,
    },
    /// A limit that changes for an access granted in both.
    Limit(limits::Changed),
    /// An output that changes for an access granted in both.
    Answer(answers::Changed),
    /// Required proofs that change for an access granted in both.
    Proof(proofs::Changed),
    /// A value of the canonical or compiled form.
    Value {
        path: String,
        before: Option<Value>,
        after: Option<Value>,
    },
}

/// An operation that a grant allows a client.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Access {
    client: String,
    model: String,
    version: String,
    operation: &'static str,
    grant: String,
}

type Key = (String, String, String, &'static str);

impl Diff {
    /// Compares the policies.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        if [&self.before, &self.after]
            .iter()
            .all(|path| is_standard_input(path))
        {
            let text = "standard input has one of the policies: name the other one";
            return Err(Failure::Input(text.into()));
        }
        let before = Side::read(&self.before, self.replicas)?;
        let after = Side::read(&self.after, self.replicas)?;
        let sides = [(&before, &self.before), (&after, &self.after)];
        if sides.iter().any(|(side, _)| side.raw.is_none()) {
            for (side, path) in sides {
                side.note(ui, path);
            }
            if sides.iter().any(|(side, _)| side.is_undivided) {
                ui.note("note: render divides limits with local_share by the number of pods: name it with --replicas");
            }
        }
        let changes = changes(&before, &after)?;
        for change in &changes {
            if ui.json {
                ui.json_line(change);
            } else {
                ui.line(&describe(ui, change));
            }
        }
        if changes.is_empty() {
            Ok(())
        } else {
            Err(Failure::No)
        }
    }
}

fn changes(before: &Side, after: &Side) -> Result<Vec<Change>, Failure> {
    let mut changes = accesses(&before.policy, &after.policy);
    let (more, less) = reached::changed(&before.policy, &after.policy);
    changes.extend(more.into_iter().map(Change::Reaches));
    changes.extend(less.into_iter().map(Change::ReachesNoMore));
    changes.extend(
        limits::changed(&before.policy, &after.policy)
            .into_iter()
            .map(Change::Limit),
    );
    let answers = answers::changed(&before.policy, &after.policy);
    changes.extend(answers.into_iter().map(Change::Answer));
    let proofs = proofs::changed(&before.policy, &after.policy);
    changes.extend(proofs.into_iter().map(Change::Proof));
    let failed = |error: serde_json::Error| Failure::Failed(error.to_string());
    let (before_values, after_values) = match (&before.raw, &after.raw) {
        (Some(before), Some(after)) => (serde_json::to_value(before), serde_json::to_value(after)),
        _ => {
            let filter_part = before.is_filter_part || after.is_filter_part;
            (before.values(filter_part), after.values(filter_part))
        }
    };
    values(
        "",
        Some(&before_values.map_err(failed)?),
        Some(&after_values.map_err(failed)?),
        &mut changes,
    );
    if changes.is_empty() && before.generation != after.generation {
        changes.push(Change::Value {
            path: "generation".to_owned(),
            before: Some(before.generation.as_str().into()),
            after: Some(after.generation.as_str().into()),
        });
    }
    Ok(changes)
}

/// Every allowed access, with its grant. Clients that cannot have the proofs that a model requires
/// are left out.
fn granted(policy: &Policy) -> BTreeMap<Key, String> {
    let proofs = ProofsOfClients::of(policy);
    policy
        .granted()
        .filter_map(|(id, model, version, operation, grant)| {
            let model = policy.model(model)?;
            let client = policy.client(id)?;
            if !proofs.can_meet(id, model) {
                return None;
            }
            let version = model.versions().get(usize::try_from(version).ok()?)?;
            let key = (
                client.name().to_owned(),
                model.name().to_owned(),
                version.clone(),
                operation.name(),
            );
            Some((key, policy.grant(grant)?.name().to_owned()))
        })
        .collect()
}

fn accesses(before: &Policy, after: &Policy) -> Vec<Change> {
    let (before, after) = (granted(before), granted(after));
    let access = |key: &Key, grant: &String| Access {
        client: key.0.clone(),
        model: key.1.clone(),
        version: key.2.clone(),
        operation: key.3,
        grant: grant.clone(),
    };
    let gains = after
        .iter()
        .filter(|(key, _)| !before.contains_key(*key))
        .map(|(key, grant)| Change::Gains(access(key, grant)));
    let loses = before
        .iter()
        .filter(|(key, _)| !after.contains_key(*key))
        .map(|(key, grant)| Change::Loses(access(key, grant)));
    let moves = after.iter().filter_map(|(key, grant)| {
        let was = before.get(key).filter(|was| *was != grant)?;
        Some(Change::Moves {
            access: access(key, grant),
            before: was.clone(),
        })
    });
    gains.chain(loses).chain(moves).collect()
}

/// Adds every value that differs. List items are matched by their names, if they have any. The
/// parser bounds the depth of the policy, and so the recursion.
fn values(path: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    if before == after {
        return;
    }
    let named = match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => Some((
            before
                .iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect(),
            after
                .iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect(),
            false,
        )),
        (Some(Value::Array(before)), Some(Value::Array(after))) => by_name(before)
            .zip(by_name(after))
            .map(|(before, after)| (before, after, true)),
        _ => None,
    };
    let Some((before_by, after_by, list)) = named else {
        changes.push(Change::Value {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        });
        return;
    };
    let before_by: BTreeMap<&str, &Value> = before_by;
    let after_by: BTreeMap<&str, &Value> = after_by;
    let mut names: Vec<&str> = before_by.keys().chain(after_by.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let count = changes.len();
    for name in names {
        let mut at = path.to_owned();
        if list {
            at.push_str(&format!("[{name}]"));
        } else {
            push_key(&mut at, name);
        }
        values(
            &at,
            before_by.get(name).copied(),
            after_by.get(name).copied(),
            changes,
        );
    }
    if changes.len() == count {
        // Only the order differs, which can be a change of meaning.
        changes.push(Change::Value {
            path: path.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        });
    }
}

/// List items by name or digest; `None` unless each of them has a unique one.
fn by_name(items: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    let mut by_name = BTreeMap::new();
    for item in items {
        let name = ["name", "sha256"]
            .iter()
            .find_map(|key| item.get(key)?.as_str())?;
        if by_name.insert(name, item).is_some() {
            return None;
        }
    }
    Some(by_name)
}

fn through(reached: &reached::Reached, how: &str) -> String {
    let reached::Reached {
        client,
        model,
        version,
        through,
        grant,
    } = reached;
    format!("{client} {how} {model}@{version} through {through} (grant {grant})")
}

fn describe(ui: &Ui, change: &Change) -> String {
    let on = |access: &Access| {
        let Access {
            client: _,
            model,
            version,
            operation,
            grant: _,
        } = access;
        format!("{operation} on {model}@{version}")
    };
    let (style, sign, text) = match change {
        Change::Gains(gained) => {
            let (client, on, grant) = (&gained.client, on(gained), &gained.grant);
            ("1;32", '+', format!("{client} gains {on} (grant {grant})"))
        }
        Change::Loses(lost) => {
            let (client, on, grant) = (&lost.client, on(lost), &lost.grant);
            ("1;31", '-', format!("{client} loses {on} (grant {grant})"))
        }
        Change::Reaches(reached) => ("1;32", '+', through(reached, "reaches")),
        Change::ReachesNoMore(reached) => ("1;31", '-', through(reached, "no longer reaches")),
        Change::Moves { access, before } => {
            let (client, on, grant) = (&access.client, on(access), &access.grant);
            (
                "1;33",
                '~',
                format!("{client} has {on} by grant {grant}, not {before}"),
            )
        }
        Change::Limit(changed) => {
            let limits::Changed {
                grant,
                client,
                limit: _,
                before,
                after,
                allows,
            } = changed;
            let (style, sign) = mark(*allows);
            let how = match allows {
                Some(Allows::More) => "may have more",
                Some(Allows::Less) => "may have less",
                None => "has another limit",
            };
            let text = |limit: &Option<String>| limit.clone().unwrap_or_else(|| "no limit".into());
            let (before, after) = (text(before), text(after));
            (
                style,
                sign,
                format!("{client} {how} (grant {grant}): {before} -> {after}"),
            )
        }
        Change::Answer(changed) => {
            let answers::Changed {
                grant,
                client,
                model,
                output,
                before,
                after,
                allows,
            } = changed;
            let (style, sign) = mark(*allows);
            let how = match allows {
                Some(Allows::More) => "sees more",
                Some(Allows::Less) => "sees less",
                None => "sees something else",
            };
            let text = |given: &Option<String>| given.clone().unwrap_or_else(|| "nothing".into());
            let (before, after) = (text(before), text(after));
            (
                style,
                sign,
                format!("{client} {how} (grant {grant}): {output} of {model}: {before} -> {after}"),
            )
        }
        Change::Proof(changed) => {
            let proofs::Changed {
                client,
                model,
                before,
                after,
                allows,
            } = changed;
            let (style, sign) = mark(*allows);
            let how = match allows {
                Some(Allows::More) => "needs fewer proofs",
                Some(Allows::Less) => "needs more proofs",
                None => "needs other proofs",
            };
            let text = format!("{client} {how} for {model}: {before} -> {after}");
            (style, sign, text)
        }
        Change::Value {
            path,
            before,
            after,
        } => {
            let text = match (before, after) {
                (None, Some(after)) => format!("{path}: new, {}", shown(after)),
                (Some(before), None) => format!("{path}: gone, was {}", shown(before)),
                (Some(before), Some(after)) => {
                    format!("{path}: {} -> {}", shown(before), shown(after))
                }
                (None, None) => path.clone(),
            };
            ("1;33", '~', text)
        }
    };
    format!(
        "{} {}",
        ui.paint(style, &sign.to_string()),
        printable(&text)
    )
}

/// Colour and sign of a change.
const fn mark(allows: Option<Allows>) -> (&'static str, char) {
    match allows {
        Some(Allows::More) => ("1;32", '+'),
        Some(Allows::Less) => ("1;31", '-'),
        None => ("1;33", '~'),
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    format!("{cut}…")
}
