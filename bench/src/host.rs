//! The sandbox host as a process.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::process::Command;

use crate::child::Process;
use crate::cores::CoreSet;
use crate::lab::Lab;
use crate::load::Address;
use crate::outcome::Outcome;
use crate::proxy::Rendered;

/// A running host.
pub struct Host {
    /// The process.
    pub process: Process,
    /// The address of its admin server.
    pub admin: Address,
}

impl Host {
    /// Starts the host with a rendered policy and waits until its backend is ready.
    pub async fn start(lab: &Lab, rendered: &Rendered, name: &str) -> Outcome<Self> {
        Self::start_with(lab, rendered, name, &[]).await
    }

    /// The same with the runtime of Python, whose code a build has compiled.
    pub async fn with_runtimes(lab: &Lab, rendered: &Rendered, name: &str) -> Outcome<Self> {
        let (runtimes, code) = (lab.runtimes(), lab.compiled_code());
        let more = [
            "--runtimes".as_ref(),
            runtimes.as_ref(),
            "--cache-folder".as_ref(),
            code.as_ref(),
        ];
        Self::start_with(lab, rendered, name, &more).await
    }

    async fn start_with(
        lab: &Lab,
        rendered: &Rendered,
        name: &str,
        more: &[&OsStr],
    ) -> Outcome<Self> {
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(lab.bin.join("tensorgate-host"));
        command
            .arg("--bundle")
            .arg(&rendered.bundle)
            .arg("--root")
            .arg(&rendered.folder)
            .arg("--socket")
            .arg(&rendered.socket)
            .arg("--audit-socket")
            .arg(&rendered.audit)
            .arg("--audit-folder")
            .arg(&rendered.folder)
            .arg("--context-key-file")
            .arg(lab.key_file()?)
            .arg("--admin")
            .arg(admin.to_string())
            .args(["--log", "json"])
            .args(more);
        let log = lab.path(&format!("host-{name}.log"));
        let mut process = Process::start(name, &lab.cores, CoreSet::Subject, &command, &log)?;
        let admin = Address::Tcp(admin);
        process
            .until(async || {
                let said = crate::admin::ask(&admin, http::Method::GET, "/readyz").await;
                // The body has no line about a model that is not ready.
                said.ok().filter(|said| said.as_ref() == b"ready\n")
            })
            .await?;
        Ok(Self { process, admin })
    }
}
