//! The program: listen addresses, start-up errors, shutdown.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tensorgate_wire::proto::ServerReadyRequest;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::{connect, models};

/// The time limit of a start that must fail.
const START_LIMIT: Duration = Duration::from_secs(60);

fn program(models: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tensorgate-embedded"));
    command
        .arg("--models")
        .arg(models)
        .args(["--listen", listen])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Starts the program, reads its readiness line, and returns the address in it.
async fn started(listen: &str) -> (Child, String) {
    let mut child = program(&models(), listen)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    (
        child,
        line.strip_prefix("tensorgate-embedded ready at ")
            .unwrap()
            .to_owned(),
    )
}

async fn signalled(child: &mut Child, signal: &str) -> Option<i32> {
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    child.wait().await.unwrap().code()
}

/// A start that must fail with status 2; returns the message.
async fn refused(models: &Path, listen: &str) -> String {
    let ended = tokio::time::timeout(START_LIMIT, program(models, listen).output());
    let output = ended
        .await
        .unwrap_or_else(|_| panic!("it started: {listen}"))
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn a_unix_socket_is_private_and_goes_with_the_server() {
    for signal in ["-TERM", "-INT"] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("cpu.sock");
        // The stale socket of a server that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let (mut child, address) = started(&format!("unix:{}", path.display())).await;
        assert_eq!(address, format!("unix:{}", path.display()));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut client = connect(address).await;
        assert!(
            client
                .server_ready(ServerReadyRequest {})
                .await
                .unwrap()
                .into_inner()
                .ready
        );
        // An open connection without a request does not delay the shutdown.
        assert_eq!(signalled(&mut child, signal).await, Some(0));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "files are left behind"
        );
    }
}

#[tokio::test]
async fn a_loopback_port_is_chosen_and_said() {
    let (mut child, address) = started("127.0.0.1:0").await;
    assert!(!address.ends_with(":0"), "{address}");
    let mut client = connect(format!("http://{address}")).await;
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    assert_eq!(signalled(&mut child, "-TERM").await, Some(0));
}

#[tokio::test]
async fn only_private_addresses_are_listened_on() {
    let folder = TempDir::new().unwrap();
    let text = folder.path().join("file");
    fs::write(&text, "mine").unwrap();
    let taken = folder.path().join("taken.sock");
    let _other = UnixListener::bind(&taken).unwrap();
    for (listen, reason) in [
        ("0.0.0.0:0".to_owned(), "not a loopback address"),
        ("[::]:0".to_owned(), "not a loopback address"),
        ("192.0.2.1:80".to_owned(), "not a loopback address"),
        (
            "localhost:0".to_owned(),
            "neither unix:/path nor address:port",
        ),
        ("unix:".to_owned(), "neither unix:/path nor address:port"),
        (
            "https://127.0.0.1:1".to_owned(),
            "neither unix:/path nor address:port",
        ),
        (format!("unix:{}", text.display()), "is not a socket"),
        (
            format!("unix:{}", taken.display()),
            "another server listens",
        ),
        (
            format!("unix:{}/none/cpu.sock", folder.path().display()),
            "cannot listen at",
        ),
        (
            format!("unix:{}/{}", folder.path().display(), "s".repeat(120)),
            "cannot listen at",
        ),
    ] {
        let said = refused(&models(), &listen).await;
        assert!(said.contains(reason), "{listen}: {said}");
    }
    assert_eq!(fs::read_to_string(&text).unwrap(), "mine");
    assert!(taken.exists());
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        2,
        "files are left behind"
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_served_stops_the_start() {
    let good = fs::read(models().join("digits/1/model.onnx")).unwrap();
    let cut = good[..good.len() / 2].to_vec();
    type Case<'a> = (&'a str, Option<&'a str>, Option<&'a [u8]>, &'a str);
    // The content of the model repository: nothing, a folder, or a file with these bytes.
    let cases: [Case<'_>; 9] = [
        ("no folder", None, None, "cannot read"),
        ("nothing in it", Some(""), None, "holds no model"),
        (
            "a model without a version",
            Some("digits"),
            None,
            "holds no version",
        ),
        (
            "a version that is no number",
            Some("digits/latest/model.onnx"),
            Some(&good),
            "holds no version",
        ),
        (
            "a version without a file",
            Some("digits/1"),
            None,
            "cannot read",
        ),
        (
            "a folder in place of the file",
            Some("digits/1/model.onnx"),
            None,
            "is not a file",
        ),
        (
            "an empty file",
            Some("digits/1/model.onnx"),
            Some(b""),
            "cannot load",
        ),
        (
            "a page of HTML",
            Some("digits/1/model.onnx"),
            Some(b"<!doctype html><title>404</title>"),
            "cannot load",
        ),
        (
            "half a model",
            Some("digits/1/model.onnx"),
            Some(&cut),
            "cannot load",
        ),
    ];
    for (name, path, bytes, reason) in cases {
        let folder = TempDir::new().unwrap();
        let models = folder.path().join("models");
        match (path.map(|path| models.join(path)), bytes) {
            (None, _) => {}
            (Some(path), None) => fs::create_dir_all(path).unwrap(),
            (Some(path), Some(bytes)) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        let said = refused(
            &models,
            &format!("unix:{}", folder.path().join("s").display()),
        )
        .await;
        assert!(said.contains(reason), "{name}: {said}");
        // One line, with the path of the invalid file or folder.
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("tensorgate-embedded: ") && last.contains("models"),
            "{name}: {said}"
        );
    }
}

#[tokio::test]
async fn a_model_that_is_not_the_verified_one_stops_the_start() {
    let folder = TempDir::new().unwrap();
    let listen = format!("unix:{}", folder.path().join("s").display());
    let required = format!("digits/1={}", "0".repeat(64));
    let mut program = program(&models(), &listen);
    let ended = program.args(["--sha256", &required]).output();
    let output = tokio::time::timeout(START_LIMIT, ended)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("is not the file that was verified"), "{text}");
}
