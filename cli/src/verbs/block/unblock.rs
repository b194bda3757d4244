//! The `unblock` verb.

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};

use super::change;
use super::list_file::ListLocation;

/// End a block or throttle of a client, whether an operator or an anomaly rule began it.
#[derive(Args)]
#[command(
    after_help = "No anomaly rule blocks the client again before the time at which its block would have ended.\n\nExits 1 if the client is not blocked, or if the gate does not confirm within 10 seconds.\n\nExample: tensorgate unblock web-app"
)]
pub struct Unblock {
    /// Name of the client in the policy.
    client: String,
    #[command(flatten)]
    location: ListLocation,
    /// Write the list without waiting for the gate.
    #[arg(long)]
    no_wait: bool,
}

impl Unblock {
    /// Ends a block.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let list = self.location.find()?;
        let listed = list.listed()?;
        let mut in_force = listed.iter().filter(|listed| listed.in_force);
        if !in_force.any(|listed| listed.block.client == self.client) {
            let client = printable(&self.client);
            return Err(Failure::Failed(format!(
                "client {client} is not blocked; `tensorgate block --list` lists those that are"
            )));
        }
        change(ui, &list, &self.client, 0, "", self.no_wait)
    }
}
