//! Requests of `tensorgate reload` to a running `tensorgate up`, and the answers: two files in the
//! state folder. A file of another user, or one that others can write, is ignored.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_own;
use tensorgate_cli_common::replace::{Mode, replace};
use tokio::time::sleep;

/// File name of a request in the state folder.
const REQUEST: &str = "reload-request.json";
/// File name of the answer to the last request.
const ANSWER: &str = "reload-answer.json";
/// Mode of both files: owner only.
const MODE: u32 = 0o600;
/// Largest file, bytes. An answer names the causes of at most a hundred models.
const MAX_BYTES: u64 = 256 << 10;
/// Longest cause in an answer, characters.
const MAX_WHY_CHARS: usize = 16 << 10;
/// Interval between looks for a request.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A request to read the policy again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Tells this request's answer from another one's.
    pub id: String,
    /// The version that may make ready models unready.
    pub accept: Option<String>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's id.
    pub id: String,
    /// The version in force.
    pub in_force: String,
    /// The version of the current files, if they are valid and not in force.
    pub waiting: Option<String>,
    /// Why the current files are not in force; none if they are.
    pub why: Option<String>,
}

/// The requests to the gate with a state folder.
#[derive(Debug)]
pub struct Requests {
    folder: PathBuf,
}

impl Requests {
    /// The requests from now on. One that an ended gate has left is discarded.
    pub fn of(state: &Path) -> Self {
        let requests = Self {
            folder: state.to_owned(),
        };
        let _ = requests.take();
        requests
    }

    /// Waits for a request. None is lost if this is cancelled.
    pub async fn next(&self) -> Request {
        loop {
            if let Some(request) = self.take() {
                return request;
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Takes the request, if there is one.
    fn take(&self) -> Option<Request> {
        let file = self.folder.join(REQUEST);
        let request = read(&file).ok()?;
        // A file that cannot be removed would be answered for ever.
        std::fs::remove_file(&file).ok()?;
        request
    }

    /// Answers a request.
    pub fn answer(&self, mut answer: Answer) -> Result<(), Failure> {
        let why = answer.why.take();
        answer.why = why.map(|why| why.chars().take(MAX_WHY_CHARS).collect());
        write(&self.folder.join(ANSWER), &answer)
    }
}

/// Sends a request to the gate with a state folder.
pub fn send(state: &Path, request: &Request) -> Result<(), Failure> {
    write(&state.join(REQUEST), request)
}

/// Withdraws a request that was not taken.
pub fn withdraw(state: &Path) {
    let _ = std::fs::remove_file(state.join(REQUEST));
}

/// The answer to a request, if it is there.
pub fn answer_to(state: &Path, request: &Request) -> Option<Answer> {
    let answer: Answer = read(&state.join(ANSWER)).ok()??;
    (answer.id == request.id).then_some(answer)
}

fn write(file: &Path, content: &impl Serialize) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::Failed(format!("cannot write {}: {why}", file.display()))
    };
    let text = serde_json::to_string(content).map_err(|error| failed(&error))?;
    replace(file, text, Mode::Exact(MODE)).map_err(|error| failed(&error))
}

/// Reads a file of this user. `None` if it has another content.
fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    let bytes = read_own(file, MAX_BYTES)?.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use tensorgate_cli_common::private_dir::PrivateDir;

    use super::*;

    fn request(id: &str) -> Request {
        Request {
            id: id.into(),
            accept: Some("0123456789abcdef".into()),
        }
    }

    #[test]
    fn a_request_is_taken_once_and_its_answer_is_for_it_alone() {
        let folder = PrivateDir::new().unwrap();
        let state = folder.path();
        send(state, &request("old")).unwrap();
        let requests = Requests::of(state);
        assert_eq!(requests.take(), None, "it was for an ended gate");
        send(state, &request("1")).unwrap();
        assert_eq!(requests.take(), Some(request("1")));
        assert_eq!(requests.take(), None);
        let answer = Answer {
            id: "1".into(),
            in_force: "f".into(),
            waiting: None,
            why: None,
        };
        requests.answer(answer).unwrap();
        assert!(answer_to(state, &request("1")).is_some());
        assert!(answer_to(state, &request("2")).is_none());
        send(state, &request("3")).unwrap();
        withdraw(state);
        assert_eq!(requests.take(), None);
    }

    #[test]
    fn a_request_that_others_could_have_written_is_ignored() {
        let folder = PrivateDir::new().unwrap();
        let state = folder.path();
        let requests = Requests::of(state);
        let file = state.join(REQUEST);
        send(state, &request("1")).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o620)).unwrap();
        assert_eq!(requests.take(), None, "its group can write it");
        let elsewhere = state.join("elsewhere");
        std::fs::rename(&file, &elsewhere).unwrap();
        std::fs::set_permissions(&elsewhere, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert_eq!(requests.take(), None, "a link");
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&elsewhere, &file).unwrap();
        assert_eq!(requests.take(), Some(request("1")));
        std::fs::write(&file, "{").unwrap();
        assert_eq!(requests.take(), None, "no request");
    }
}
