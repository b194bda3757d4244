//! Checks that the addresses of a gate are free, before anything starts. Otherwise the host or
//! Envoy would fail later, and only a log would say why.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use tensorgate_cli_common::Failure;

/// What to change if the listen address of the policy is in use.
pub const LISTEN: &str = "change listen.address of the policy, or give another one with --listen";
/// What to change if the listen address of the command line is in use.
pub const LISTEN_FLAG: &str = "give another one with --listen";
/// What to change if the admin address is in use.
const ADMIN: &str = "give another one with --admin";
/// What to change if the address of Envoy's counters is in use.
const STATS: &str = "give another one with --stats";

/// Listens on all addresses at the same time, then releases them. `fix` is for the first one.
/// Returns the admin address; if its port was 0, with the port that the system has chosen.
pub fn check(
    listen: SocketAddr,
    fix: &str,
    admin: SocketAddr,
    stats: Option<SocketAddr>,
) -> Result<SocketAddr, Failure> {
    // Envoy's socket on `[::]` leaves IPv4 to others, this one would not.
    let _gate = match listen.ip().is_unspecified() && listen.is_ipv6() {
        true => None,
        false => bind(listen, fix)?,
    };
    let _stats = stats.map(|stats| bind(stats, STATS)).transpose()?;
    let bound = bind(admin, ADMIN)?;
    let chosen = bound.and_then(|bound| bound.local_addr().ok());
    Ok(chosen.unwrap_or(admin))
}

/// Listens, unless this process lacks the privilege: Envoy's program may have it.
fn bind(address: SocketAddr, fix: &str) -> Result<Option<TcpListener>, Failure> {
    match TcpListener::bind(address) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::AddrInUse => "the address is in use".to_owned(),
                _ => error.to_string(),
            };
            Err(Failure::Input(format!(
                "cannot listen on {address}: {why}; {fix}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_address_in_use_is_named_with_what_to_change() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let used = listener.local_addr().unwrap();
        let free = SocketAddr::new(used.ip(), 0);
        for (listen, admin, stats, fix) in [
            (used, free, free, LISTEN_FLAG),
            (free, used, free, ADMIN),
            (free, free, used, STATS),
        ] {
            let failure = check(listen, LISTEN_FLAG, admin, Some(stats)).unwrap_err();
            let expected = format!("cannot listen on {used}: the address is in use; {fix}");
            assert_eq!(failure.to_string(), expected);
        }
        let admin = check(free, LISTEN_FLAG, free, Some(free)).unwrap();
        assert_ne!(admin.port(), 0);
    }
}
