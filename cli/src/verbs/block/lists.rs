//! The output of `block --list`.

use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_watch::blocks::BlockAction;

use super::list_file::ListFile;

/// A client that is blocked or throttled.
#[derive(Serialize)]
struct Row<'a> {
    client: &'a str,
    action: BlockAction,
    until: String,
    by: &'a str,
    reason: &'a str,
}

/// Prints the clients that are blocked or throttled, one per line.
pub(super) fn print(ui: &Ui, list: &ListFile) -> Result<(), Failure> {
    let listed = list.listed()?;
    let mut is_empty = true;
    for listed in listed.iter().filter(|listed| listed.in_force) {
        is_empty = false;
        let block = &listed.block;
        let row = Row {
            client: &block.client,
            action: block.action,
            until: block.until(),
            by: &block.by,
            reason: &block.reason,
        };
        if ui.json {
            ui.json_line(&row);
            continue;
        }
        let is = match row.action {
            BlockAction::Block => "blocked",
            BlockAction::Throttle => "throttled",
        };
        let colon = if row.reason.is_empty() { "" } else { ": " };
        let line = format!(
            "{}: {is} until {} by {}{colon}{}",
            row.client, row.until, row.by, row.reason
        );
        ui.line(&printable(&line));
    }
    if is_empty {
        ui.note("no client is blocked or throttled");
    }
    Ok(())
}
