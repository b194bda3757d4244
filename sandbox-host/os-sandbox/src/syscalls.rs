//! The seccomp filter: denies system calls that a host does not need. They fail with an error.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

use super::Enforcement;

/// Always denied: starting programs, tracing others, mounting, loading into the kernel, kernel
/// tracing, keyrings, changing the machine.
const FORBIDDEN: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_mknodat,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_mbind,
    libc::SYS_lookup_dcookie,
    libc::SYS_process_mrelease,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

/// New namespaces by `clone`, one flag each.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
];

/// Calls that a thread may only apply to itself. The first argument is the thread ID, and 0 is the
/// caller.
const OWN_PROCESS_ONLY: [libc::c_long; 5] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
];
/// Such calls with a kind of ID before the ID. The value for a process is 0 for the first and 1 for
/// the second.
const OWN_ONLY_BY_KIND: [(libc::c_long, u64); 2] =
    [(libc::SYS_setpriority, 0), (libc::SYS_ioprio_set, 1)];

/// The socket families of a host: local, internet, and netlink for a resolver's address list.
const FAMILIES: [libc::c_int; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];

/// Requests that write into a terminal, which may belong to the user who started the host.
const TERMINALS: [u64; 2] = [0x5412, 0x541c];

/// The x32 calls of an x86-64 kernel: the same numbers with this bit, and some of their own.
#[cfg(target_arch = "x86_64")]
const X32_BIT: i64 = 0x4000_0000;
/// The x32 numbers of `execve`, `ptrace`, `kexec_load`, `move_pages`, `process_vm_readv`,
/// `process_vm_writev`, `execveat`.
#[cfg(target_arch = "x86_64")]
const X32_NEVER: [i64; 7] = [520, 521, 528, 533, 539, 540, 545];

/// The kind of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessKind {
    /// A host, which needs sockets.
    Host,
    /// A compiler, which needs none.
    Compiler,
}

/// Denies the calls above for this thread and all that it starts.
pub(super) fn restrict(kind: ProcessKind) -> Enforcement {
    let restricted = filters(kind)
        .and_then(|filters| filters.iter().try_for_each(|filter| apply_filter(filter)));
    match restricted {
        Ok(()) => Enforcement::Full(format!(
            "{} blocked, and new namespaces, {} sockets, limits and scheduling of others, writable executable memory, new privileges",
            FORBIDDEN.len(),
            match kind {
                ProcessKind::Host => "foreign",
                ProcessKind::Compiler => "all",
            }
        )),
        Err(error) => Enforcement::Partial(error.to_string()),
    }
}

fn filters(kind: ProcessKind) -> Result<[BpfProgram; 2], Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in FORBIDDEN {
        rules.insert(*call, Vec::new());
    }
    let if_all = |conditions: Vec<SeccompCondition>| SeccompRule::new(conditions);
    let argument = |index, operator, value: u64| {
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
    };
    let namespaces = NAMESPACES.iter().map(|flag| {
        let flag = u64::from(flag.cast_unsigned());
        if_all(vec![argument(0, SeccompCmpOp::MaskedEq(flag), flag)?])
    });
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    let foreign = FAMILIES
        .iter()
        .map(|family| argument(0, SeccompCmpOp::Ne, u64::from(family.cast_unsigned())))
        .collect::<Result<_, _>>()?;
    let raw = u64::from(libc::SOCK_RAW.cast_unsigned());
    let of_the_net = |family: libc::c_int| {
        if_all(vec![
            argument(0, SeccompCmpOp::Eq, u64::from(family.cast_unsigned()))?,
            argument(1, SeccompCmpOp::MaskedEq(0xf), raw)?,
        ])
    };
    // Of netlink only the route family is allowed. Another one lists all sockets of the machine.
    let other_list = if_all(vec![
        argument(
            0,
            SeccompCmpOp::Eq,
            u64::from(libc::AF_NETLINK.cast_unsigned()),
        )?,
        argument(
            2,
            SeccompCmpOp::Ne,
            u64::from(libc::NETLINK_ROUTE.cast_unsigned()),
        )?,
    ])?;
    let of_a_host = vec![
        if_all(foreign)?,
        of_the_net(libc::AF_INET)?,
        of_the_net(libc::AF_INET6)?,
        other_list,
    ];
    match kind {
        ProcessKind::Host => {
            rules.insert(libc::SYS_socket, of_a_host);
        }
        ProcessKind::Compiler => {
            for call in [libc::SYS_socket, libc::SYS_socketpair] {
                rules.insert(call, Vec::new());
            }
        }
    }
    for call in OWN_PROCESS_ONLY {
        let another = if_all(vec![argument(0, SeccompCmpOp::Ne, 0)?])?;
        rules.insert(call, vec![another]);
    }
    for (call, kind) in OWN_ONLY_BY_KIND {
        let of_many = if_all(vec![argument(0, SeccompCmpOp::Ne, kind)?])?;
        let another = if_all(vec![argument(1, SeccompCmpOp::Ne, 0)?])?;
        rules.insert(call, vec![of_many, another]);
    }
    let terminals = TERMINALS
        .iter()
        .map(|request| if_all(vec![argument(1, SeccompCmpOp::Eq, *request)?]));
    rules.insert(libc::SYS_ioctl, terminals.collect::<Result<_, _>>()?);
    let both = u64::from((libc::PROT_WRITE | libc::PROT_EXEC).cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        let written_and_run = if_all(vec![argument(2, SeccompCmpOp::MaskedEq(both), both)?])?;
        rules.insert(call, vec![written_and_run]);
    }
    #[cfg(target_arch = "x86_64")]
    {
        let x32: Vec<_> = (rules.iter())
            .map(|(call, rules)| (call | X32_BIT, rules.clone()))
            .chain(X32_NEVER.map(|call| (call | X32_BIT, Vec::new())))
            .collect();
        rules.extend(x32);
    }
    // Its flags are in memory, which a filter cannot read. A caller that gets ENOSYS uses `clone`.
    let newer = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let refused = |code: libc::c_int| SeccompAction::Errno(code.cast_unsigned());
    Ok([
        program(rules, refused(libc::EPERM))?,
        program(newer, refused(libc::ENOSYS))?,
    ])
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    refused: SeccompAction,
) -> Result<BpfProgram, Error> {
    let here = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, here)?;
    Ok(filter.try_into()?)
}
