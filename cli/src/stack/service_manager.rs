//! Tells the service manager that started `up` when the gate is ready, as systemd's `sd_notify`
//! does. Without such a manager it does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The environment variable with the manager's socket. A name after `@` is abstract.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The gate serves requests.
pub const READY: &str = "READY=1";
/// The gate ends.
pub const STOPPING: &str = "STOPPING=1";

/// Sends a state to the service manager. If it cannot be told, it notices by its own timeouts.
pub fn notify(state: &str) {
    if let Some(socket) = std::env::var_os(SOCKET) {
        let _ = send(&socket, state);
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(state.as_bytes(), &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_manager_gets_states_at_a_path_and_at_an_abstract_name() {
        let name = format!("tensorgate-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let at_path = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let at_name = UnixDatagram::bind_addr(&address).unwrap();
        let abstract_name = format!("@{name}");
        for (manager, socket) in [
            (at_path, path.as_os_str()),
            (at_name, OsStr::new(&abstract_name)),
        ] {
            send(socket, READY).unwrap();
            let mut message = [0; 32];
            let length = manager.recv(&mut message).unwrap();
            assert_eq!(message.get(..length), Some(READY.as_bytes()));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send(path.as_os_str(), READY).is_err(), "no process listens");
    }
}
