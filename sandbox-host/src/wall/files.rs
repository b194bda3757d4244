//! Landlock: which folders and which TCP ports.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort,
    PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetError, RulesetStatus, Scope,
};

use super::{Reach, Stands};

/// What is asked for: files, ports (4), devices (5), abstract sockets and signals (6).
const MEANT: ABI = ABI::V6;

/// Leaves this thread the files and ports of a reach.
pub(super) fn restrict(reach: &Reach) -> Stands {
    match enforce(reach) {
        Ok(status) if !status.no_new_privs => {
            Stands::Less("a program may gain privileges".to_owned())
        }
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => Stands::Whole(told(reach)),
            RulesetStatus::PartiallyEnforced => Stands::Less(format!(
                "this kernel's Landlock has less than was asked for ({:?}): {}",
                status.landlock,
                told(reach)
            )),
            RulesetStatus::NotEnforced => Stands::Less("this kernel has no Landlock".to_owned()),
        },
        Err(error) => Stands::Less(error.to_string()),
    }
}

fn enforce(reach: &Reach) -> Result<RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(MEANT))?
        .handle_access(AccessNet::from_all(MEANT))?
        .scope(Scope::from_all(MEANT))?
        .create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // All but to execute, and to make devices.
    let write = AccessFs::from_all(MEANT)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    for (paths, access) in [(&reach.read, read), (&reach.write, write)] {
        for path in paths {
            // What is not there needs no rule: whoever needs it says so.
            let Ok(opened) = PathFd::new(path) else {
                continue;
            };
            let access = if path.is_dir() {
                access
            } else {
                access & AccessFs::from_file(MEANT)
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

fn told(reach: &Reach) -> String {
    let paths = |paths: &[std::path::PathBuf]| {
        let paths = paths.iter().map(|path| path.display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    };
    let Reach {
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
