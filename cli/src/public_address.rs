//! Addresses that other machines can reach, at which readers need no credential.

use std::net::SocketAddr;

use tensorgate_cli_common::Failure;

/// Checks that an address is a loopback one, or that `--admin-public` allows others.
pub fn check(flag: &str, address: SocketAddr, is_allowed: bool) -> Result<(), Failure> {
    if is_allowed || address.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "other machines could reach {flag} {address}: add --admin-public to allow that"
    )))
}
