//! The list of blocked clients: the file beside the bundle, and what the running gate says of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tensorgate_base::unix_time::now_unix_ms;
use tensorgate_cli_common::replace::update_locked;
use tensorgate_cli_common::state_folder::StateFolder;
use tensorgate_cli_common::ui::printable;
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_watch::blocks::{BlockFile, BlockRecord, BlocksShown, ListedBlock};
use tokio::time::{Instant, sleep};

use crate::similar_name::most_similar;
use crate::stack::probe::{Target, ask};
use crate::stack::running::Running;
use crate::stack::site::{bundle, bundle_file};

/// Timeout for a gate's confirmation. It takes at most a second, unless a process hangs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between queries.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Similarity of a name that is suggested, from 0 to 1.
const SIMILAR: f64 = 0.8;

/// How to name the list.
#[derive(Args)]
pub(super) struct ListLocation {
    #[command(flatten)]
    state: StateFolder,
    /// List of a host that `up` did not start: `blocks.json` beside its bundle. No gate confirms.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// The list of a gate.
pub(super) struct ListFile {
    file: PathBuf,
    /// The state folder, unless the file was named.
    state: Option<PathBuf>,
    /// The running gate.
    gate: Option<Running>,
}

impl ListLocation {
    /// Finds the list, and the gate that reads it.
    pub(super) fn find(&self) -> Result<ListFile, Failure> {
        if let Some(file) = &self.file {
            return Ok(ListFile {
                file: file.clone(),
                state: None,
                gate: None,
            });
        }
        let state = self.state.find()?;
        let gate = Running::find_own(&state)?;
        let bundle = bundle_file(&state);
        // A list that no gate will read would look like one that is in force.
        if gate.is_none() && !bundle.is_file() {
            return Err(Failure::Input(format!(
                "{} is no gate's state folder: name it with --state, or a list with --file",
                state.display()
            )));
        }
        Ok(ListFile {
            file: BlockFile::beside(&bundle),
            state: Some(state),
            gate,
        })
    }
}

impl ListFile {
    /// The file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether a gate is expected to confirm changes.
    pub(super) const fn has_gate(&self) -> bool {
        self.state.is_some()
    }

    /// Checks that the policy in force has a client. Without a policy, every name passes.
    pub(super) fn check_client(&self, client: &str) -> Result<(), Failure> {
        let Some(bundle) = self.state.as_deref().map(bundle).transpose()?.flatten() else {
            return Ok(());
        };
        if bundle.policy.client_id(client).is_some() {
            return Ok(());
        }
        let clients = bundle.policy.clients().iter();
        let names: Vec<_> = clients.map(|client| client.name().to_owned()).collect();
        let similar = most_similar(client, &names, SIMILAR);
        let suggestion = similar.map(|known| format!("; did you mean {known}?"));
        Err(Failure::Input(format!(
            "the policy in force has no client {}{}",
            printable(client),
            suggestion.unwrap_or_default()
        )))
    }

    /// Every record: of the running gate, or else of the file.
    pub(super) fn listed(&self) -> Result<Vec<ListedBlock>, Failure> {
        if let Some(target) = self.target() {
            return runtime()?.block_on(of_gate(&target)).map_err(|why| {
                Failure::Failed(format!("the gate does not list its blocks: {why}"))
            });
        }
        let now = now_unix_ms();
        let blocks = self.read()?.blocks.into_iter();
        let listed = blocks.map(|block| ListedBlock {
            in_force: now < block.until_ms,
            block,
        });
        Ok(listed.collect())
    }

    /// Puts a record about a client on the list, which is made from the latest one about it.
    pub(super) fn put(
        &self,
        client: &str,
        make: impl FnOnce(Option<&BlockRecord>, u64) -> BlockRecord,
    ) -> Result<BlockRecord, Failure> {
        update_locked(&self.file, BlockFile::read, |list| {
            let known = self.known(list);
            let now = now_unix_ms();
            let of_client = known.iter().filter(|record| record.client == client);
            let record = make(of_client.max_by_key(|record| record.version()), now);
            list.put(record.clone(), now);
            list.check().map_err(|cause| {
                Failure::Input(format!("cannot add to {}: {cause}", self.file.display()))
            })?;
            Ok(record)
        })
    }

    /// Waits until the gate has a record.
    ///
    /// # Errors
    /// Returns why it does not.
    pub(super) fn confirm(&self, record: &BlockRecord) -> Result<(), String> {
        let Some(target) = self.target() else {
            return Err("no gate runs, and one that starts later reads this list".to_owned());
        };
        let runtime = runtime().map_err(|failure| failure.to_string())?;
        let give_up = Instant::now().checked_add(TIMEOUT);
        runtime.block_on(async {
            loop {
                let why = match of_gate(&target).await {
                    Ok(listed) if has(&listed, record) => return Ok(()),
                    Ok(_) => "it has not read the list; its log says why".to_owned(),
                    Err(why) => why,
                };
                if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
                    return Err(why);
                }
                sleep(POLL_INTERVAL).await;
            }
        })
    }

    /// The records of the file and of the running gate, which also has those of other gateways.
    fn known(&self, list: &BlockFile) -> Vec<BlockRecord> {
        let listed = self.target().and_then(|target| {
            let listed = runtime().ok()?.block_on(of_gate(&target));
            listed.ok()
        });
        let listed = listed.unwrap_or_default().into_iter();
        let from_gate = listed.map(|listed| listed.block);
        list.blocks.iter().cloned().chain(from_gate).collect()
    }

    fn read(&self) -> Result<BlockFile, Failure> {
        BlockFile::read(&self.file).map_err(Failure::Input)
    }

    fn target(&self) -> Option<Target> {
        self.gate.as_ref()?.admin.map(Target::Tcp)
    }
}

/// The records of a running gate.
async fn of_gate(target: &Target) -> Result<Vec<ListedBlock>, String> {
    let text = ask(target, "GET", "/blocks").await;
    let text = text.map_err(|error| error.to_string())?;
    let shown: BlocksShown = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(shown.blocks)
}

/// Whether a list has a record, or a later one about its client.
fn has(listed: &[ListedBlock], record: &BlockRecord) -> bool {
    let mut of_client = listed
        .iter()
        .filter(|listed| listed.block.client == record.client);
    of_client.any(|listed| listed.block.version() >= record.version())
}
