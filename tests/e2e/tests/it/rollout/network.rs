//! A network of the test's own: each node has a network namespace and an address, and a bridge
//! connects them, as on several machines.
//!
//! Nothing of it is visible outside: the bridge is in a namespace too, which only the thread of the
//! test and the threads that it starts are in. The kernel removes all of it when the last process
//! has left. Where namespaces cannot be made, nodes share the loopback address of the machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tensorgate_client::run::{free_port, skip};

/// The address of the test. The nodes have the addresses after it.
const TEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// A namespace, and the process that keeps it: `cat`, which ends with this value or with the test.
struct Namespace(Child);

impl Namespace {
    fn new() -> Result<Self, String> {
        let holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut namespace = Self(holder.map_err(|error| format!("unshare: {error}"))?);
        let answer = namespace.echo();
        answer.map_err(|error| format!("unshare --net made no namespace: {error}"))?;
        Ok(namespace)
    }

    /// Waits for an answer of `cat`, which comes from inside the namespace.
    fn echo(&mut self) -> std::io::Result<()> {
        let (input, output) = (&mut self.0.stdin, &mut self.0.stdout);
        input.as_mut().expect("piped").write_all(b"\n")?;
        output.as_mut().expect("piped").read_exact(&mut [0])
    }

    fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// A command that runs a program in this namespace. It becomes the program, so signals reach
    /// it.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.file()));
        command.arg("--").arg(program);
        command
    }

    /// Runs `ip` in this namespace.
    fn ip(&self, arguments: &str) -> Result<(), String> {
        let ran = self.command("ip").args(arguments.split(' ')).output();
        let ran = ran.map_err(|error| format!("nsenter: {error}"))?;
        if ran.status.success() {
            return Ok(());
        }
        let error = String::from_utf8_lossy(&ran.stderr);
        Err(format!("ip {arguments}: {}", error.trim()))
    }

    /// Moves this thread into the namespace.
    fn enter(&self) -> Result<(), String> {
        let file = self.file();
        let opened = File::open(&file).map_err(|error| format!("{file}: {error}"))?;
        move_into_link_name_space(opened.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("setns: {error}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where a process of the test runs.
pub struct Node {
    address: IpAddr,
    namespace: Option<Namespace>,
}

impl Node {
    /// A node on the machine itself.
    fn on_loopback() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            namespace: None,
        }
    }

    /// A node with a namespace that is connected to the bridge in `test`.
    fn connected(test: &Namespace, address: Ipv4Addr) -> Result<Self, String> {
        let namespace = Namespace::new()?;
        let (holder, [.., number]) = (namespace.0.id(), address.octets());
        test.ip(&format!(
            "link add node{number} type veth peer name eth0 netns {holder}"
        ))?;
        test.ip(&format!("link set node{number} master bridge up"))?;
        namespace.ip(&format!("address add {address}/24 dev eth0"))?;
        namespace.ip("link set eth0 up")?;
        namespace.ip("link set lo up")?;
        Ok(Self {
            address: address.into(),
            namespace: Some(namespace),
        })
    }

    /// An address of this node that no process listens on.
    pub fn free_address(&self) -> SocketAddr {
        (self.address, free_port()).into()
    }

    /// A command that runs a program on this node.
    pub fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        match &self.namespace {
            Some(namespace) => namespace.command(program).into(),
            None => tokio::process::Command::new(program),
        }
    }
}

/// The nodes, and the address at which they reach the test.
pub struct Network<const NODES: usize> {
    /// The address of the test.
    pub test: IpAddr,
    /// The nodes.
    pub nodes: [Node; NODES],
}

impl<const NODES: usize> Network<NODES> {
    /// A network for this thread and the threads that it starts.
    ///
    /// # Panics
    ///
    /// If it cannot be made where it has to be: as root with `STRICT` set, as in `make ci-long`.
    pub fn new() -> Self {
        Self::in_namespaces().unwrap_or_else(|error| {
            let is_strict = std::env::var_os("STRICT").is_some();
            let must = is_strict && rustix::process::geteuid().is_root();
            assert!(!must, "no network namespaces: {error}");
            skip(&format!(
                "the rollout in network namespaces, it runs on loopback ({error})"
            ));
            Self {
                test: Ipv4Addr::LOCALHOST.into(),
                nodes: std::array::from_fn(|_| Node::on_loopback()),
            }
        })
    }

    fn in_namespaces() -> Result<Self, String> {
        let test = Namespace::new()?;
        test.ip("link set lo up")?;
        test.ip("link add bridge type bridge")?;
        test.ip(&format!("address add {TEST}/24 dev bridge"))?;
        test.ip("link set bridge up")?;
        let [a, b, c, first] = TEST.octets();
        let nodes: Vec<Node> = (1..=NODES)
            .map(|number| Ipv4Addr::new(a, b, c, first + number as u8))
            .map(|address| Node::connected(&test, address))
            .collect::<Result<_, _>>()?;
        // The last step, because a thread that has left the machine's namespace stays outside.
        test.enter()?;
        Ok(Self {
            test: TEST.into(),
            nodes: nodes.try_into().ok().expect("one for each address"),
        })
    }
}

/// Runs a test with a network, on a thread of its own: no other test may get into its namespace.
pub fn run<const NODES: usize, F: Future<Output = ()>>(
    test: impl FnOnce(Network<NODES>) -> F + Send,
) {
    let on_thread = move || {
        let network = Network::new();
        // The threads of the runtime are in the namespace of the thread that starts them.
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(test(network));
    };
    if let Err(panic) = std::thread::scope(|scope| scope.spawn(on_thread).join()) {
        std::panic::resume_unwind(panic);
    }
}
