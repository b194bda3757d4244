//! `audit query --count-by`: how many requests have the same values of some fields.

use std::cmp::Reverse;
use std::collections::HashMap;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use tensorgate_audit::record::{Decision, MAX_NAME_BYTES};
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy::values::safe_text::printable_prefix;

/// Maximum number of groups. Requests of further ones are counted together.
const MAX_GROUPS: usize = 10_000;
/// The name of the requests of further groups.
const OTHERS: &str = "(others)";

/// A field by which requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CountField {
    /// The verdict
    Verdict,
    /// The reason
    Reason,
    /// The client
    Client,
    /// The model
    Model,
    /// The grant
    Rule,
    /// The source address
    Source,
    /// What decided: gate, host or envoy
    By,
    /// The HTTP status
    Status,
    /// The gRPC status
    GrpcStatus,
}

impl CountField {
    /// The name of the field in the log.
    const fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Reason => "reason",
            Self::Client => "client",
            Self::Model => "model",
            Self::Rule => "rule",
            Self::Source => "source",
            Self::By => "by",
            Self::Status => "status",
            Self::GrpcStatus => "grpc_status",
        }
    }

    /// The value of a request.
    fn value(self, decision: &Decision) -> Option<String> {
        let text = |text: &str| printable_prefix(text, MAX_NAME_BYTES);
        let optional = |value: &Option<String>| value.as_deref().map(text);
        match self {
            Self::Verdict => Some(decision.verdict.name().to_owned()),
            Self::Reason => Some(text(&decision.reason)),
            Self::Client => optional(&decision.client),
            Self::Model => optional(&decision.model),
            Self::Rule => optional(&decision.rule),
            Self::Source => optional(&decision.source),
            Self::By => Some(decision.by.name().to_owned()),
            Self::Status => Some(decision.status.to_string()),
            Self::GrpcStatus => decision.grpc_status.map(|status| status.to_string()),
        }
    }
}

/// The values of the fields of a group.
type Group = Vec<Option<String>>;

/// The counts of requests.
pub struct Counts<'f> {
    fields: &'f [CountField],
    groups: HashMap<Group, u64>,
    /// The number of requests of further groups.
    others: u64,
}

impl<'f> Counts<'f> {
    /// Counts by these fields.
    pub fn new(fields: &'f [CountField]) -> Self {
        Self {
            fields,
            groups: HashMap::new(),
            others: 0,
        }
    }

    /// Counts a request.
    pub fn add(&mut self, decision: &Decision) {
        let group: Group = (self.fields.iter())
            .map(|field| field.value(decision))
            .collect();
        if let Some(count) = self.groups.get_mut(&group) {
            *count = count.saturating_add(1);
        } else if self.groups.len() < MAX_GROUPS {
            self.groups.insert(group, 1);
        } else {
            self.others = self.others.saturating_add(1);
        }
    }

    /// Prints the counts, most first, as a table or as one JSON object a line.
    pub fn print(self, ui: &Ui) {
        let (fields, others) = (self.fields, self.others);
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        groups.sort_by_key(|(group, count)| (Reverse(*count), group.clone()));
        if ui.json {
            for (group, count) in groups {
                ui.json_line(&to_json(fields, group, count));
            }
            if others > 0 {
                ui.json_line(&json!({"count": others, "others": true}));
            }
            return;
        }
        // As the columns of requests are named.
        let names = fields.iter().map(|field| field.name().replace('_', "-"));
        let names = std::iter::once("count".to_owned()).chain(names);
        let mut rows = vec![names.collect::<Vec<_>>()];
        for (group, count) in groups {
            let values = group
                .into_iter()
                .map(|value| value.unwrap_or_else(|| "-".to_owned()));
            rows.push(std::iter::once(count.to_string()).chain(values).collect());
        }
        if others > 0 {
            rows.push(vec![others.to_string(), OTHERS.to_owned()]);
            ui.note(&format!(
                "warning: only the first {MAX_GROUPS} groups are counted separately; {OTHERS} has the requests of all further ones"
            ));
        }
        for row in aligned(&rows) {
            ui.line(&row);
        }
    }
}

fn to_json(fields: &[CountField], group: Group, count: u64) -> Value {
    let mut members = Map::from_iter([("count".to_owned(), json!(count))]);
    let values = fields.iter().zip(group);
    members.extend(values.map(|(field, value)| (field.name().to_owned(), json!(value))));
    Value::Object(members)
}

/// Rows whose columns begin at the same place.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let padded = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(padded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_beyond_the_bound_are_counted_together() {
        let fields = [CountField::Client, CountField::Model];
        let mut counts = Counts::new(&fields);
        let of = |client: String| Decision {
            client: Some(client),
            ..Decision::default()
        };
        for number in 0..MAX_GROUPS.saturating_add(5) {
            counts.add(&of(number.to_string()));
        }
        counts.add(&of("0".to_owned()));
        assert_eq!((counts.groups.len(), counts.others), (MAX_GROUPS, 5));
        let first = vec![Some("0".to_owned()), None];
        assert_eq!(counts.groups.get(&first), Some(&2));
        let long = CountField::Client.value(&of("x".repeat(1 << 20)));
        assert_eq!(long.map(|text| text.len()), Some(MAX_NAME_BYTES));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["count", "reason"], ["12", "rate-limited"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), ["count  reason", "12     rate-limited"]);
    }
}
