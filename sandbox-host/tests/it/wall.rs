//! The OS sandbox, applied to a thread of this test, and attempts to get around it: what it must
//! forbid, and what it must allow.
#![allow(
    unsafe_code,
    reason = "no safe function makes the calls that are forbidden"
)]

use std::fs::File;
use std::io::{Error, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use tensorgate_os_sandbox as os_sandbox;
use tensorgate_os_sandbox::{Access, OsSandbox};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tg-wall-{name}-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// Runs something on a thread in the sandbox: Landlock, seccomp and capabilities apply per thread.
fn behind<T: Send + 'static>(
    reach: Access,
    work: impl FnOnce(OsSandbox) -> T + Send + 'static,
) -> T {
    std::thread::spawn(move || work(os_sandbox::apply(&reach)))
        .join()
        .unwrap()
}

/// The kernel's error for a call by its number.
fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> Option<i32> {
    let [a, b, c, d] = arguments;
    // SAFETY: a kernel without a sandbox rejects every call here for its arguments, or it has no
    // effect.
    let answer = unsafe { libc::syscall(number, a, b, c, d) };
    (answer < 0).then(|| Error::last_os_error().raw_os_error().unwrap_or_default())
}

fn refusal<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn system_calls_that_a_host_does_not_need_are_blocked() {
    let there = folder("refused");
    std::fs::write(there.join("secret"), "").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let found = behind(Access::default(), move |wall| {
        println!("{}", wall.describe());
        assert!(wall.is_full(), "{}", wall.describe());
        let page = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        vec![
            (
                "to read /etc/passwd",
                refusal(File::open("/etc/passwd")),
                libc::EACCES,
            ),
            (
                "to read a file beside",
                refusal(File::open(there.join("secret"))),
                libc::EACCES,
            ),
            (
                "to write a file",
                refusal(File::create(there.join("new"))),
                libc::EACCES,
            ),
            (
                "to remove a file",
                refusal(std::fs::remove_file(there.join("secret"))),
                libc::EACCES,
            ),
            (
                "to list a folder",
                refusal(std::fs::read_dir("/")),
                libc::EACCES,
            ),
            (
                "to start a program",
                refusal(Command::new("/bin/true").status()),
                libc::EPERM,
            ),
            (
                "to connect",
                refusal(TcpStream::connect(address)),
                libc::EACCES,
            ),
            (
                "to listen",
                refusal(TcpListener::bind("127.0.0.1:0")),
                libc::EACCES,
            ),
            (
                "to trace",
                call(
                    libc::SYS_ptrace,
                    [libc::c_long::from(libc::PTRACE_TRACEME), 0, 0, 0],
                ),
                libc::EPERM,
            ),
            (
                "to read another's memory",
                call(libc::SYS_process_vm_readv, [1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "a namespace",
                call(
                    libc::SYS_unshare,
                    [libc::c_long::from(libc::CLONE_NEWUSER), 0, 0, 0],
                ),
                libc::EPERM,
            ),
            (
                "a namespace for a child",
                call(
                    libc::SYS_clone,
                    [
                        libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD),
                        0,
                        0,
                        0,
                    ],
                ),
                libc::EPERM,
            ),
            (
                "to join a namespace",
                call(libc::SYS_setns, [-1, 0, 0, 0]),
                libc::EPERM,
            ),
            ("to mount", call(libc::SYS_mount, [0; 4]), libc::EPERM),
            ("another root", call(libc::SYS_chroot, [0; 4]), libc::EPERM),
            (
                "a module",
                call(libc::SYS_finit_module, [-1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "a program in the kernel",
                call(libc::SYS_bpf, [0; 4]),
                libc::EPERM,
            ),
            (
                "to watch the machine",
                call(libc::SYS_perf_event_open, [0; 4]),
                libc::EPERM,
            ),
            ("a key", call(libc::SYS_keyctl, [0; 4]), libc::EPERM),
            (
                "io_uring",
                call(libc::SYS_io_uring_setup, [1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "to handle faults of others",
                call(libc::SYS_userfaultfd, [0; 4]),
                libc::EPERM,
            ),
            (
                "a socket below TCP",
                call(
                    libc::SYS_socket,
                    [
                        libc::c_long::from(libc::AF_INET),
                        libc::c_long::from(libc::SOCK_RAW),
                        1,
                        0,
                    ],
                ),
                libc::EPERM,
            ),
            (
                "a socket of packets",
                call(
                    libc::SYS_socket,
                    [
                        libc::c_long::from(libc::AF_PACKET),
                        libc::c_long::from(libc::SOCK_DGRAM),
                        0,
                        0,
                    ],
                ),
                libc::EPERM,
            ),
            (
                "a socket to the machine's host",
                call(
                    libc::SYS_socket,
                    [
                        libc::c_long::from(libc::AF_VSOCK),
                        libc::c_long::from(libc::SOCK_STREAM),
                        0,
                        0,
                    ],
                ),
                libc::EPERM,
            ),
            (
                "to type into a terminal",
                call(libc::SYS_ioctl, [0, 0x5412, 0, 0]),
                libc::EPERM,
            ),
            (
                "memory that is written and run",
                call(
                    libc::SYS_mmap,
                    [
                        0,
                        4096,
                        libc::c_long::from(page),
                        libc::c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
                    ],
                ),
                libc::EPERM,
            ),
            (
                "the clock",
                call(libc::SYS_clock_settime, [0; 4]),
                libc::EPERM,
            ),
            (
                "to signal another",
                call(libc::SYS_kill, [1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "another's bounds",
                call(libc::SYS_prlimit64, [1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "another's cores",
                call(libc::SYS_sched_setaffinity, [1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "another's turn",
                call(libc::SYS_setpriority, [0, 1, 19, 0]),
                libc::EPERM,
            ),
            (
                "a whole user's turn",
                call(libc::SYS_setpriority, [2, 0, 19, 0]),
                libc::EPERM,
            ),
            (
                "another's turn at a disk",
                call(libc::SYS_ioprio_set, [1, 1, 0, 0]),
                libc::EPERM,
            ),
            (
                "another's scheduler",
                call(libc::SYS_sched_setscheduler, [1, 0, 0, 0]),
                libc::EPERM,
            ),
            (
                "the kernel's list of all sockets",
                call(
                    libc::SYS_socket,
                    [
                        libc::c_long::from(libc::AF_NETLINK),
                        libc::c_long::from(libc::SOCK_RAW),
                        libc::c_long::from(libc::NETLINK_SOCK_DIAG),
                        0,
                    ],
                ),
                libc::EPERM,
            ),
            (
                "the newer clone",
                call(libc::SYS_clone3, [0; 4]),
                libc::ENOSYS,
            ),
        ]
    });
    let let_through: Vec<_> = (found.iter())
        .filter(|(_, found, expected)| *found != Some(*expected))
        .collect();
    assert!(
        let_through.is_empty(),
        "(what, errno, expected): {let_through:?}"
    );
    assert!(
        TcpStream::connect(address).is_ok(),
        "this side of it, all is as before"
    );
}

#[test]
fn a_compiler_has_no_socket_of_any_kind() {
    let found = std::thread::spawn(|| {
        let wall = os_sandbox::apply_to_compiler();
        assert!(wall.is_full(), "{}", wall.describe());
        let families = [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
        ];
        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM];
        let mut found = Vec::new();
        for (family, kind) in families
            .into_iter()
            .flat_map(|family| kinds.map(|kind| (family, kind)))
        {
            let (family, kind) = (libc::c_long::from(family), libc::c_long::from(kind));
            found.push(call(libc::SYS_socket, [family, kind, 0, 0]));
            found.push(call(libc::SYS_socketpair, [family, kind, 0, 0]));
        }
        found
    });
    let found = found.join().unwrap();
    assert!(
        found.iter().all(|found| *found == Some(libc::EPERM)),
        "{found:?}"
    );
}

#[test]
fn system_calls_that_a_host_needs_are_allowed() {
    let there = folder("needed");
    let (read, write) = (there.join("read"), there.join("write"));
    for folder in [&read, &write] {
        std::fs::create_dir(folder).unwrap();
    }
    std::fs::write(read.join("ca.pem"), "old").unwrap();
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap();
    let reach = Access {
        read: vec![read.clone()],
        write: vec![write.clone()],
        connect: vec![address.port()],
        bind: vec![0],
    };
    let renewed = read.clone();
    behind(reach, move |_| {
        let log = write.join("log");
        let mut file = File::create(&log).unwrap();
        file.write_all(b"line").unwrap();
        file.sync_all().unwrap();
        file.set_len(2).unwrap();
        std::fs::rename(&log, write.join("log.1")).unwrap();
        std::fs::remove_file(write.join("log.1")).unwrap();
        let socket = UnixListener::bind(write.join("socket")).unwrap();
        UnixStream::connect(write.join("socket")).unwrap();
        drop(socket);
        TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(address).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(std::fs::read_to_string(read.join("ca.pem")).unwrap(), "old");
        // It may read its own limits and scheduling.
        assert_eq!(call(libc::SYS_prlimit64, [0, 0, 0, 0]), None);
        assert_eq!(call(libc::SYS_setpriority, [0, 0, 19, 0]), None);
        // A thread and an async runtime start as usual.
        assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async { tokio::time::sleep(std::time::Duration::from_millis(1)).await });
        // A readable file can be read again after another file was renamed over it.
        let renewal = std::fs::write(read.join("ca.pem.new"), "new");
        assert!(renewal.is_err(), "the wall lets it be read, not written");
    });
    std::fs::write(renewed.join("ca.pem"), "new").unwrap();
    std::fs::remove_dir_all(there).unwrap();
}

#[test]
fn no_privilege_is_left_and_none_can_be_gained() {
    let status = behind(
        Access {
            read: vec!["/proc".into()],
            ..Access::default()
        },
        |_| {
            // Children are in the sandbox too.
            std::thread::spawn(|| std::fs::read_to_string("/proc/thread-self/status").unwrap())
                .join()
                .unwrap()
        },
    );
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {status}")).trim()
    };
    for (name, expected) in [
        ("CapEff:", "0000000000000000"),
        ("CapPrm:", "0000000000000000"),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
    ] {
        assert_eq!(field(name), expected, "{name}");
    }
    assert!(Path::new("/proc/self").exists());
}
