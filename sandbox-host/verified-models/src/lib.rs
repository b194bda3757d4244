//! Verifies the files of models before requests are sent to their servers.
//!
//! A model version with an `artifact` in the policy is ready only while its files are the verified
//! ones. Its [`Status`] changes by what is observed:
//!
//! | status | the files changed | a check passed | a check failed |
//! |---|---|---|---|
//! | checking | checking | verified | rejected |
//! | verified | checking | verified | rejected |
//! | rejected | checking | verified | rejected |
//!
//! A check that failed for another cause than the files, such as a full disk, is repeated after
//! growing pauses. Other rejected files are verified again when they change. A look that fails is
//! no change: the version is checked again, and compared with the states from before.
//!
//! Some threads look at the states of all files several times a second, each at one owner's. Others
//! verify: signature or digest of the manifest, every file's digest, a scan of every file in a
//! process without rights, the digest that this version had before. Nothing is served on an error.
//!
//! Files that changed may have been loaded meanwhile. So a version whose files are verified again
//! also needs a load that began later (`load_state`).

mod acceptance;
mod beside;
mod check;
mod check_turns;
mod confirmations;
mod endpoint_loads;
mod first_digests;
mod load_state;
mod lock;
mod registry;
mod reporter;
mod retry;
mod servers;
mod status;
mod threads;
mod trust;

pub use check::Checker;
pub use confirmations::{Confirmation, ConfirmationFile, Confirmations};
pub use endpoint_loads::Sighting;
pub use first_digests::FirstDigests;
pub use load_state::{AWAITING_LOAD, confirm_options};
pub use registry::{Followed, ModelArtifacts};
pub use servers::ModelServers;
pub use status::{Accepted, Cause, Identity, Status};
pub use threads::Threads;
pub use trust::trusted_files;
