//! The `schema` verb: the policy's JSON Schema, for editors.

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy_compiler::raw;

/// Print the JSON Schema of a policy, for editors.
#[derive(Args)]
#[command(
    after_help = "For editors with yaml-language-server, begin gate.yaml with\n  # yaml-language-server: $schema=gate.schema.json\n\nExample: tensorgate schema > gate.schema.json"
)]
pub struct Schema {}

impl Schema {
    /// Prints the schema; with `--json` on one line.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let mut schema = schemars::schema_for!(raw::Policy);
        schema.insert("title".into(), "tensorgate policy (gate.yaml)".into());
        if ui.json {
            ui.json_line(&schema);
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&schema)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        ui.line(&text);
        Ok(())
    }
}
