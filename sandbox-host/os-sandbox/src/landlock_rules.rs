//! The Landlock rules: which folders and TCP ports are accessible.

use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    NetPort, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::Enforcement;
use super::access::Access;

/// The requested features: files, ports (4), devices (5), abstract sockets and signals (6).
const WANTED_ABI: ABI = ABI::V6;

/// The first version that restricts ports.
const PORTS_ABI: ABI = ABI::V4;

/// What became of the rules.
pub(super) struct Landlock {
    /// How far they are enforced, for the operator.
    pub(super) enforcement: Enforcement,
    /// Whether those of files are enforced.
    pub(super) restricts_files: bool,
    /// Whether those of ports are enforced.
    pub(super) restricts_ports: bool,
}

/// Restricts this thread to these files and ports.
pub(super) fn restrict(reach: &Access) -> Landlock {
    let status = match enforce(reach) {
        Ok(status) => status,
        Err(error) => {
            return Landlock {
                enforcement: Enforcement::Partial(error.to_string()),
                restricts_files: false,
                restricts_ports: false,
            };
        }
    };
    let restricts_files = status.ruleset != RulesetStatus::NotEnforced;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => Some(effective_abi),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    };
    Landlock {
        enforcement: enforcement(&status, reach),
        restricts_files,
        restricts_ports: restricts_files && abi.is_some_and(|abi| abi >= PORTS_ABI),
    }
}

fn enforcement(status: &RestrictionStatus, reach: &Access) -> Enforcement {
    if !status.no_new_privs {
        return Enforcement::Partial("no_new_privs is not set".to_owned());
    }
    match status.ruleset {
        RulesetStatus::FullyEnforced => Enforcement::Full(describe(reach)),
        RulesetStatus::PartiallyEnforced => Enforcement::Partial(format!(
            "this kernel's Landlock lacks some of the rules ({:?}): {}",
            status.landlock,
            describe(reach)
        )),
        RulesetStatus::NotEnforced => {
            Enforcement::Partial("this kernel has no Landlock".to_owned())
        }
    }
}

fn enforce(reach: &Access) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(WANTED_ABI))?
        .handle_access(AccessNet::from_all(WANTED_ABI))?
        .scope(Scope::from_all(WANTED_ABI))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // All but executing, and creating devices.
    let write = AccessFs::from_all(WANTED_ABI)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    for (paths, access) in [(&reach.read, read), (&reach.write, write)] {
        for path in paths {
            // A missing path needs no rule. Its user reports the error.
            let Ok(opened) = PathFd::new(path) else {
                continue;
            };
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(WANTED_ABI)
            };
            rules = rules.add_rule(PathBeneath::new(opened, access))?;
        }
    }
    let ports = |ports: &[u16], access: AccessNet| -> Vec<(u16, BitFlags<AccessNet>)> {
        ports.iter().map(|port| (*port, access.into())).collect()
    };
    let connect = ports(&reach.connect, AccessNet::ConnectTcp);
    for (port, access) in connect
        .into_iter()
        .chain(ports(&reach.bind, AccessNet::BindTcp))
    {
        rules = rules.add_rule(NetPort::new(port, access))?;
    }
    rules.restrict_self()
}

fn describe(reach: &Access) -> String {
    let paths = |paths: &[PathBuf]| {
        let paths = paths.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    };
    let Access {
        read,
        write,
        connect,
        bind,
    } = reach;
    format!(
        "read [{}], write [{}], connect to TCP {connect:?}, listen at TCP {bind:?}, no signals and no abstract sockets beyond this process",
        paths(read),
        paths(write)
    )
}
