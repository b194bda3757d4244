//! A local server around one handler: decodes a request, calls the handler in the host's sandbox,
//! and answers with its tensors. It follows the project's files.

mod follow;
mod http;
mod requests;
mod terminal_log;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_cli_common::ui::Ui;
use tensorgate_cli_common::{Failure, runtime};
use tensorgate_sandbox::LoadedHandler;
use tokio::net::TcpListener;

use crate::project::{Project, World};

/// The handler in force.
#[derive(Clone)]
struct Live {
    name: String,
    world: World,
    handler: LoadedHandler,
}

/// What the server can do with a request.
#[derive(Clone)]
enum State {
    /// The first build is running.
    Building,
    /// Requests go to this handler.
    Live(Box<Live>),
    /// The last build failed, with this text.
    Failed(String),
}

/// The state, which the builds set and the requests read.
#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn get(&self) -> State {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    fn set(&self, state: State) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// Serves a project on this machine until the process is stopped.
///
/// # Errors
/// The project's manifest has faults now, or the port is not free.
pub fn serve(ui: Ui, folder: &Path, port: u16) -> Result<(), Failure> {
    let project = Project::open(folder)?;
    terminal_log::print_handlers_lines(ui);
    let runtime = runtime()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let failed = |cause: std::io::Error| {
        Failure::Failed(format!(
            "cannot listen on {address}: {cause}; choose another port with --port"
        ))
    };
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    if ui.json {
        ui.json_line(
            &serde_json::json!({"serving": project.name, "url": format!("http://{address}")}),
        );
    } else {
        ui.line(&format!("serving {} on http://{address}", project.name));
    }
    if project.has_fetch() || project.has_lookups() {
        ui.note("note: here, each fetch and lookup of the handler fails as unavailable");
    }
    let shared = Shared(Arc::new(Mutex::new(State::Building)));
    let (builds, folder) = (shared.clone(), folder.to_owned());
    std::thread::spawn(move || follow::follow(ui, &folder, &builds));
    runtime
        .block_on(http::answer_all(listener, ui, shared))
        .map_err(|cause| Failure::Failed(format!("cannot serve: {cause}")))
}
