//! Writes the `models:` section.
//!
//! Text from a server is quoted wherever YAML could read it as something else. Missing bounds are
//! left out, so that `check` rejects the policy, and marked with a comment. Everything else that
//! `check` would reject is marked, too.

use serde_json::{Value, json};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::{Datatype, Severity};
use tensorgate_policy_load::load::faults;
use tensorgate_policy_text::Located;

use super::{Described, Dim, Tensor};

/// Comment beside a dimension without a bound. Without `max`, the contract is invalid.
const FILL_DIM: &str = "# no bound is known: give it a max";
/// A dimension without a bound.
const OPEN_DIM: &str = "{min: 1}";
/// Comment beside a `BYTES` tensor, whose item size servers do not bound.
const FILL_ITEM: &str = "# no bound is known: add max_item_bytes";
/// Maximum answers of a decoupled model to one message, and their bytes. A default: servers have no
/// such limits.
const MAX_ANSWERS: u64 = 64;
const MAX_ANSWER_BYTES: &str = "4MiB";
/// Comment beside these limits.
const ADJUST_LIMITS: &str = "# defaults: adjust them to the model";

/// Prefix of a comment about another fault that `check` reports.
const MARK: &str = "# check:";
/// What a policy needs beside the section, so that `check` judges the section alone.
const REST: &str = "version: 1
clients:
  app: {api_keys: [{sha256: 0000000000000000000000000000000000000000000000000000000000000000}]}
";

/// Prints the section as YAML, or as one JSON value with `--json`.
pub fn models(ui: &Ui, models: &[Described], backend: &str) -> Result<(), Failure> {
    let (mut lines, open) = section(models, backend);
    let faults = other_faults(&lines, backend);
    if ui.json {
        let section: serde_json::Map<String, Value> = models
            .iter()
            .map(|model| (model.name.clone(), value(model, backend)))
            .collect();
        ui.json_line(&json!({"models": section}));
    } else {
        mark(&mut lines, &faults);
        ui.line(&lines.join("\n"));
    }
    ui.note(&hints(models, open).join("; "));
    for fault in &faults {
        ui.note(&format!(
            "`check` will reject {}: {}",
            printable(&fault.path),
            printable(&fault.message)
        ));
    }
    Ok(())
}

/// What is left to do.
fn hints(models: &[Described], open: usize) -> Vec<String> {
    let mut hints = match open {
        0 => Vec::new(),
        1 => vec!["1 bound is missing".to_owned()],
        open => vec![format!("{open} bounds are missing")],
    };
    let has_range = |input: &Tensor| !matches!(input.datatype, Datatype::Bool | Datatype::Bytes);
    if models.iter().flat_map(|model| &model.inputs).any(has_range) {
        let hint = "servers do not report sensible values: add a range to each numeric input";
        hints.push(hint.to_owned());
    }
    let (decoupled, others): (Vec<_>, Vec<_>) = models.iter().partition(|model| model.decoupled);
    if !others.is_empty() {
        let models = if others.len() == 1 { "model" } else { "models" };
        hints.push(format!("name the {models} in a grant"));
    }
    for model in decoupled {
        hints.push(format!(
            "adjust `decoupled` of {} and grant it `stream`, not `infer`",
            printable(&model.name)
        ));
    }
    hints
}

/// The names of the protocols that serve a model.
fn protocols(model: &Described) -> &'static [&'static str] {
    if model.decoupled {
        &["oip-grpc"]
    } else {
        &["oip-rest", "oip-grpc"]
    }
}

/// The lines of the section, and the number of missing bounds.
pub fn section(models: &[Described], backend: &str) -> (Vec<String>, usize) {
    let mut yaml = String::from("models:\n");
    let mut open = 0_usize;
    for model in models {
        let versions: Vec<String> = model.versions.iter().map(|v| quoted(v)).collect();
        yaml.push_str(&format!(
            "  {}:\n    backend: {}\n    versions: [{}]\n    protocols: [{}]\n",
            plain(&model.name),
            plain(backend),
            versions.join(", "),
            protocols(model).join(", ")
        ));
        if model.decoupled {
            yaml.push_str(&format!(
                "    decoupled: {{max_answers: {MAX_ANSWERS}, max_bytes: {MAX_ANSWER_BYTES}}}  {ADJUST_LIMITS}\n"
            ));
        }
        for (key, tensors) in [("inputs", &model.inputs), ("outputs", &model.outputs)] {
            yaml.push_str(&format!("    {key}:\n"));
            for tensor in tensors {
                open = open.saturating_add(write_tensor(&mut yaml, tensor));
            }
        }
    }
    (yaml.lines().map(str::to_owned).collect(), open)
}

/// The faults that `check` would report in the section, apart from the missing bounds.
fn other_faults(lines: &[String], backend: &str) -> Vec<Located> {
    let bounded = |line: &String| match line.strip_suffix(FILL_DIM) {
        Some(line) => line.replace(OPEN_DIM, "1"),
        None => line.clone(),
    };
    let mut text: Vec<String> = lines.iter().map(bounded).collect();
    text.push(REST.to_owned());
    text.push(format!(
        "backends:\n  {}: {{kind: open-inference, endpoints: [\"http://127.0.0.1:8001\"], max_in_flight: 1, queue: 1, timeout_ms: 1000}}\n",
        plain(backend)
    ));
    let mut faults = faults(&text.join("\n"));
    faults.retain(|fault| {
        fault.severity == Severity::Error
            && (1..=lines.len()).contains(&fault.span.line)
            && (fault.path.is_empty() || fault.path.starts_with("models"))
            && !fault.path.ends_with(".max_item_bytes")
    });
    faults
}

/// Adds each fault to its line, as a comment.
fn mark(lines: &mut [String], faults: &[Located]) {
    for fault in faults {
        let Some(line) = lines.get_mut(fault.span.line.saturating_sub(1)) else {
            continue;
        };
        let message: String = (fault.message.chars())
            .map(|c| {
                if c == ' ' || c.is_ascii_graphic() {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        line.push_str(&format!("  {MARK} {message}"));
    }
}

/// Writes a tensor; returns the number of missing bounds.
fn write_tensor(yaml: &mut String, tensor: &Tensor) -> usize {
    let mut open = 0_usize;
    yaml.push_str(&format!("      - name: {}\n", plain(&tensor.name)));
    yaml.push_str(&format!("        datatype: {}", tensor.datatype.name()));
    if tensor.datatype == Datatype::Bytes {
        open = open.saturating_add(1);
        yaml.push_str(&format!("  {FILL_ITEM}"));
    }
    yaml.push('\n');
    if tensor.shape.contains(&Dim::Dynamic) {
        yaml.push_str("        shape:\n");
        for dim in &tensor.shape {
            let fill = if *dim == Dim::Dynamic {
                open = open.saturating_add(1);
                format!("  {FILL_DIM}")
            } else {
                String::new()
            };
            yaml.push_str(&format!("          - {}{fill}\n", dim_text(dim)));
        }
    } else {
        let dims: Vec<String> = tensor.shape.iter().map(dim_text).collect();
        yaml.push_str(&format!("        shape: [{}]\n", dims.join(", ")));
    }
    if tensor.optional {
        yaml.push_str("        optional: true\n");
    }
    open
}

fn dim_text(dim: &Dim) -> String {
    match dim {
        Dim::Fixed(size) => size.to_string(),
        Dim::Batch(max) => format!("{{name: batch, max: {max}}}"),
        Dim::Dynamic => OPEN_DIM.to_owned(),
    }
}

fn value(model: &Described, backend: &str) -> Value {
    let tensors = |tensors: &[Tensor]| -> Vec<Value> {
        tensors
            .iter()
            .map(|tensor| {
                let shape: Vec<Value> = tensor
                    .shape
                    .iter()
                    .map(|dim| match dim {
                        Dim::Fixed(size) => json!(size),
                        Dim::Batch(max) => json!({"name": "batch", "max": max}),
                        Dim::Dynamic => json!({"min": 1}),
                    })
                    .collect();
                let mut value = json!({"name": tensor.name, "datatype": tensor.datatype.name(), "shape": shape});
                if let (true, Some(value)) = (tensor.optional, value.as_object_mut()) {
                    value.insert("optional".into(), json!(true));
                }
                value
            })
            .collect()
    };
    let mut value = json!({
        "backend": backend,
        "versions": model.versions,
        "protocols": protocols(model),
        "inputs": tensors(&model.inputs),
        "outputs": tensors(&model.outputs),
    });
    if let (true, Some(value)) = (model.decoupled, value.as_object_mut()) {
        let limits = json!({"max_answers": MAX_ANSWERS, "max_bytes": MAX_ANSWER_BYTES});
        value.insert("decoupled".into(), limits);
    }
    value
}

/// A name, quoted unless every YAML version reads it as text.
pub fn plain(name: &str) -> String {
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic());
    let rest = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'));
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word));
    if first && rest && !word {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A text in double quotes. Characters beyond printable ASCII are escaped, so that none is
/// invisible.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_graphic() || c == ' ' => quoted.push(c),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_servers_are_always_text() {
        for (name, expected) in [
            ("image", "image"),
            ("INPUT__0", "INPUT__0"),
            ("0", "\"0\""),
            ("no", "\"no\""),
            ("a: b", "\"a: b\""),
            ("a\n  admin: x", "\"a\\U0000000A  admin: x\""),
            ("\u{202e}x", "\"\\U0000202Ex\""),
            ("\"\\", "\"\\\"\\\\\""),
            ("", "\"\""),
        ] {
            assert_eq!(plain(name), expected, "{name:?}");
        }
    }
}
