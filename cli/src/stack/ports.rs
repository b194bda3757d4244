//! Checks that the addresses of a gate are free, before anything starts. Otherwise the host or
//! Envoy would fail later, and only a log would say why. Ports that the system chooses are reserved
//! for the whole run, so that a process that is started again has the same.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tensorgate_cli_common::Failure;
use tokio::net::TcpSocket;

/// What to change if the listen address of the policy is in use.
pub const LISTEN: &str = "change listen.address of the policy, or give another one with --listen";
/// What to change if the listen address of the command line is in use.
pub const LISTEN_FLAG: &str = "give another one with --listen";
/// What to change if the admin address is in use.
const ADMIN: &str = "give another one with --admin";
/// What to change if the address of Envoy's counters is in use.
const STATS: &str = "give another one with --stats";

/// Addresses with the ports that the system chose.
#[derive(Debug)]
pub struct Reserved {
    /// The gate's address, if its port was 0.
    pub listen: Option<SocketAddr>,
    /// The host's admin address.
    pub admin: SocketAddr,
    /// The host's admin address on loopback, if the other one does not serve all of it to everyone
    /// on this machine.
    pub admin_local: Option<SocketAddr>,
    /// Sockets at these addresses that do not listen. With them the system gives the ports to no
    /// other process. Envoy and the host can still listen there.
    _sockets: Vec<TcpSocket>,
}

/// Listens on all addresses at the same time, then releases them, apart from ports that the system
/// has chosen. `fix` is for the first one. `needs_secret`: whether readers at the admin address
/// need one.
pub fn check(
    listen: SocketAddr,
    fix: &str,
    (admin, needs_secret): (SocketAddr, bool),
    stats: Option<SocketAddr>,
) -> Result<Reserved, Failure> {
    let mut sockets = Vec::new();
    let mut choose = |address: SocketAddr, fix: &str| -> Result<Option<SocketAddr>, Failure> {
        if address.port() != 0 {
            return Ok(None);
        }
        let (socket, chosen) = reserve(address).map_err(|error| taken(address, &error, fix))?;
        sockets.push(socket);
        Ok(Some(chosen))
    };
    let (chosen_listen, chosen_admin) = (choose(listen, fix)?, choose(admin, ADMIN)?);
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let admin_local = match admin.ip().is_loopback() && !needs_secret {
        true => None,
        false => choose(local, ADMIN)?,
    };
    // Envoy's socket on `[::]` leaves IPv4 to others, this one would not.
    let is_everywhere = listen.ip().is_unspecified() && listen.is_ipv6();
    let _gate = match chosen_listen.is_some() || is_everywhere {
        true => None,
        false => bind(listen, fix)?,
    };
    let _stats = stats.map(|stats| bind(stats, STATS)).transpose()?;
    let _admin = match chosen_admin {
        Some(_) => None,
        None => bind(admin, ADMIN)?,
    };
    Ok(Reserved {
        listen: chosen_listen,
        admin: chosen_admin.unwrap_or(admin),
        admin_local,
        _sockets: sockets,
    })
}

/// A socket at a port that the system chooses, and its address. It shares its address with one
/// socket that listens, because both are set to.
fn reserve(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let chosen = socket.local_addr()?;
    Ok((socket, chosen))
}

/// Listens, unless this process lacks the privilege: Envoy's program may have it.
fn bind(address: SocketAddr, fix: &str) -> Result<Option<TcpListener>, Failure> {
    match TcpListener::bind(address) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(taken(address, &error, fix)),
    }
}

/// An address that cannot be used.
fn taken(address: SocketAddr, error: &io::Error, fix: &str) -> Failure {
    let why = match error.kind() {
        ErrorKind::AddrInUse => "the address is in use".to_owned(),
        _ => error.to_string(),
    };
    Failure::Input(format!("cannot listen on {address}: {why}; {fix}"))
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
            let failure = check(listen, LISTEN_FLAG, (admin, false), Some(stats)).unwrap_err();
            let expected = format!("cannot listen on {used}: the address is in use; {fix}");
            assert_eq!(failure.to_string(), expected);
        }
    }

    #[test]
    fn an_admin_address_that_does_not_serve_all_has_one_on_loopback_besides() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let local = |admin| check(free, LISTEN_FLAG, admin, None).unwrap().admin_local;
        assert_eq!(local((free, false)), None);
        for admin in [(everywhere, false), (everywhere, true), (free, true)] {
            let local = local(admin).unwrap();
            assert!(local.ip().is_loopback() && local.port() != 0, "{local}");
        }
    }

    #[test]
    fn a_port_that_the_system_chose_is_reserved_for_those_who_know_it() {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let reserved = check(free, LISTEN_FLAG, (free, false), Some(free)).unwrap();
        for address in [reserved.listen.unwrap(), reserved.admin] {
            assert_ne!(address.port(), 0);
            // No process listens there, and one after another can.
            assert!(std::net::TcpStream::connect(address).is_err());
            for _ in 0..2 {
                drop(TcpListener::bind(address).unwrap());
            }
            // No other process gets it.
            let other = TcpSocket::new_v4().unwrap();
            assert!(other.bind(address).is_err());
        }
    }
}
