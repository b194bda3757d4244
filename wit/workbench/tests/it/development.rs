//! Builds for development, and the local server that follows a project.

use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::mistakes::{self, Mistake, Outcome};
use super::{Project, binary, lines, story};

/// The server of a project.
struct Server {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start(project: &Project) -> Self {
        let mut process = Command::new(binary())
            .args(["--json", "serve", "--port", "0"])
            .arg(project.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut server = Self {
            process,
            lines,
            address: String::new(),
        };
        let url = server.next("url");
        let address = url.as_str().unwrap().strip_prefix("http://");
        server.address = address.unwrap().to_owned();
        server
    }

    /// The value of a member in the next line that has it.
    fn next(&mut self, member: &str) -> Value {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            let mut line: Value = serde_json::from_str(&line).unwrap();
            if let Some(value) = line.get_mut(member) {
                return value.take();
            }
        }
    }

    /// The status and the document of a response.
    fn post(&self, content_type: &str, body: &str) -> (u16, Value) {
        self.post_to("127.0.0.1", content_type, body)
    }

    /// The same for a request that names a host.
    fn post_to(&self, host: &str, content_type: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /any/path HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap())
    }
}

/// Three versions of a handler: one that returns its input and logs, one that fails in its third
/// line, and one that is no program. Returns the server with the first one.
fn followed(project: &Project, file: &str, versions: [&str; 3]) -> Server {
    let [works, fails, broken] = versions;
    project.write(file, works);
    let tensor = json!({"name": "t", "datatype": "FP32", "shape": [1], "data": [1.5]});
    let body = json!({"inputs": [tensor]}).to_string();
    let mut server = Server::start(project);
    assert_eq!(server.next("live"), true, "{file}");
    let (status, document) = server.post("application/json", &body);
    assert_eq!(status, 200, "{document}");
    assert_eq!(document["outputs"][0]["data"], json!([1.5]), "{document}");
    assert_eq!(server.next("log"), "one tensor");
    // The name of a page that leads to this machine.
    let (status, document) = server.post_to("page.example", "application/json", &body);
    assert_eq!(status, 421, "{document}");
    let (status, document) = server.post("text/plain", "words");
    assert_eq!(status, 400, "{document}");
    assert!(document["error"].to_string().contains("text/plain"));
    project.write(file, fails);
    assert_eq!(server.next("live"), true, "{file}");
    let (status, document) = server.post("application/json", &body);
    assert_eq!(status, 500, "{document}");
    let line = format!("{file}:3");
    assert!(document["error"].to_string().contains(&line), "{document}");
    project.write(file, broken);
    assert_eq!(server.next("live"), false, "{file}");
    let (status, document) = server.post("application/json", &body);
    assert_eq!(status, 503, "{document}");
    project.write(file, works);
    assert_eq!(server.next("live"), true, "{file}");
    let ran = project.verb("build", &["--dev"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let component = lines(&ran).remove(0)["component"].to_string();
    assert!(component.contains("build/followed.dev.wasm"), "{component}");
    assert!(!project.component().exists(), "an ordinary build");
    server
}

/// Makes each mistake in the source of a project that a server follows, and sends a request.
fn make(project: &Project, file: &str, server: &mut Server, list: &[Mistake]) {
    let tensor = json!({"name": "t", "datatype": "FP32", "shape": [1], "data": [1.5]});
    let body = json!({"inputs": [tensor]}).to_string();
    for Mistake {
        source,
        outcome,
        line,
        text,
    } in list
    {
        mistakes::documented(text);
        project.write(file, source);
        let is_built = *outcome != Outcome::Unbuilt;
        assert_eq!(server.next("live"), is_built, "{source}");
        let (status, document) = server.post("application/json", &body);
        let found = match status {
            200 => Outcome::Answered,
            400 => Outcome::Rejected,
            500 => Outcome::Fault,
            _ => Outcome::Unbuilt,
        };
        assert_eq!(found, *outcome, "{source}: {document}");
        if found == Outcome::Answered {
            let (_, printed) = text.split_once(": ").unwrap();
            assert_eq!(server.next("log"), printed);
            continue;
        }
        let error = document["error"].as_str().unwrap();
        assert!(error.contains(text), "{source}: {error}");
        assert!(error.contains(line), "{source}: {error}");
    }
}

#[test]
fn a_project_in_python_is_followed_and_its_mistakes_are_named() {
    let project = Project::unbuilt("followed", "python", "preprocess");
    // Fuel ends a loop, on a busy machine too.
    project.give_time();
    let mut server = followed(
        &project,
        "handler.py",
        [
            "import colorsys\nfrom tensorgate import BadInput, Raw, log\n\ndef preprocess(input):\n    if isinstance(input, Raw):\n        raise BadInput(input.content_type)\n    log.info('one tensor')\n    return input\n",
            "def preprocess(input):\n    first = input[0]\n    return first.no_such\n",
            "def preprocess(input:\n",
        ],
    );
    make(&project, "handler.py", &mut server, &mistakes::PYTHON);
}

#[test]
fn a_project_in_javascript_is_followed_and_its_mistakes_are_named() {
    let project = Project::unbuilt("followed", "js", "preprocess");
    let mut server = followed(
        &project,
        "handler.js",
        [
            "import { BadInput, Raw, log } from \"./tensorgate.js\";\nexport function preprocess(input) {\n  if (input instanceof Raw) throw new BadInput(input.contentType);\n  log.info(\"one tensor\");\n  return input;\n}\n",
            "export function preprocess(input) {\n  const first = input[0];\n  return first.no.such;\n}\n",
            "export const process = (input) => input;\n",
        ],
    );
    make(&project, "handler.js", &mut server, &mistakes::JAVASCRIPT);
}
