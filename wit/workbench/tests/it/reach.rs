//! Files and features for handlers in Python and JavaScript: requested in one run, present in the
//! next. Asking in another way gives no more. And tables that are made while a component is built.

use serde_json::{Value, json};

use super::{Project, handler, lines, story};

/// What a policy would grant.
pub(super) const GRANTS: &str = "fetch: {hosts: [a.example], content_types: [text/plain], max_bytes: 24, max_requests: 4}\nlookups: {customers: {kind: feast, endpoint: \"https://features.example:6567\", entity: customer, features: [\"stats:age\", \"stats:debt\"], max_requests: 2}}\n";

const PYTHON: &str = r#"from tensorgate import Fault, Missing, Tensor, config, fetch, lookup

kept = []
table = {f"word {n}": n for n in range(ENTRIES)}


def told(file):
    return file.why if isinstance(file, Missing) else f"{file.content_type} {file.data.decode()}"


def came(items):
    return [Tensor.of_items("came", [str(item) for item in items])]


def files():
    return came(told(file) for file in fetch(config("urls").split()))


def chain():
    at, seen = "https://a.example/1", []
    while at:
        (file,) = fetch([at])
        seen.append(told(file))
        at = None if isinstance(file, Missing) else file.data.decode().partition(" ")[2]
    return came(seen)


def swallow():
    try:
        return came(told(file) for file in fetch(["https://a.example/1"]))
    except BaseException:
        raise Fault("caught") from None


def columns():
    table = lookup("customers", ["stats:age", "stats:debt"], config("keys").split())
    return came([*table["stats:age"], *table["stats:debt"]])


def unlisted():
    return came(lookup("customers", ["stats:secret"], ["7"]))


def unnamed():
    return came(lookup("secrets", ["stats:age"], ["7"]))


def often():
    return came(lookup("customers", ["stats:age"], [str(key)])["stats:age"][0] for key in range(1000))


def greedy():
    return came(told(fetch([f"https://a.example/{at}"])[0]) for at in range(1000))


def many():
    return came(fetch(["https://a.example/1"] * 10_000))


def one_text():
    return came(fetch("https://a.example/1"))


class Asking:
    """Fetches as much as it can while it is iterated."""

    def __iter__(self):
        fetch([f"https://a.example/while/{at}" for at in range(5)])
        return iter([1])

    def __del__(self):
        fetch([f"https://a.example/after/{at}" for at in range(5)])


def taken():
    return [Tensor("came", "BYTES", Asking(), b"\0\0\0\0")]


def left():
    kept.append(Asking())
    return came(["answered"])


def found():
    return came(table.get(word, "none") for word in ("word 0", "word 7", "no word"))


def preprocess(_):
    acts = [found, files, chain, swallow, columns, unlisted, unnamed, often, greedy, many, one_text, taken, left]
    return {act.__name__: act for act in acts}[config("do")]()
"#;

const JS: &str = r#"import { Missing, fetch, lookup } from "./reach.js";
import { Fault, Tensor, config, text } from "./tensorgate.js";

const told = (file) => (file instanceof Missing ? file.why : `${file.contentType} ${text(file.data)}`);
const came = (items) => [Tensor.ofItems("came", items.map(String))];
const five = (when) => [...Array(5).keys()].map((at) => `https://a.example/${when}/${at}`);
const words = (key) => config(key).split(" ");
const table = new Map(Array.from({ length: ENTRIES }, (_, n) => [`word ${n}`, n]));
const python = (value) => (value === null ? "None" : value.toFixed(1));

const acts = {
  found: () => came(["word 0", "word 7", "no word"].map((word) => table.get(word) ?? "none")),
  files: () => came(fetch(words("urls")).map(told)),
  chain() {
    let at = "https://a.example/1";
    const seen = [];
    while (at) {
      const [file] = fetch([at]);
      seen.push(told(file));
      at = file instanceof Missing ? "" : text(file.data).split(" ")[1];
    }
    return came(seen);
  },
  swallow() {
    try {
      return came(fetch(["https://a.example/1"]).map(told));
    } catch {
      throw new Fault("caught");
    }
  },
  columns() {
    const table = lookup("customers", ["stats:age", "stats:debt"], words("keys"));
    return came([...table["stats:age"], ...table["stats:debt"]].map(python));
  },
  unlisted: () => came(Object.keys(lookup("customers", ["stats:secret"], ["7"]))),
  unnamed: () => came(Object.keys(lookup("secrets", ["stats:age"], ["7"]))),
  often: () => came([...Array(1000).keys()].map((key) => lookup("customers", ["stats:age"], [key])["stats:age"][0])),
  greedy: () => came([...Array(1000).keys()].map((at) => told(fetch([`https://a.example/${at}`])[0]))),
  many: () => came(fetch(Array(10_000).fill("https://a.example/1")).map(told)),
  one_text: () => came(fetch("https://a.example/1").map(told)),
  taken: () => [
    {
      name: "came",
      datatype: "BYTES",
      shape: [1],
      get data() {
        fetch(five("while"));
        return new Uint8Array(4);
      },
    },
  ],
  left() {
    Promise.resolve().then(() => fetch(five("after")));
    return came(["answered"]);
  },
};

export const preprocess = () => acts[config("do")]();
"#;

/// Entries of a small table and of a large one.
const FEW: u32 = 10;
const MANY: u32 = 100_000;

/// A project whose calls have enough time on a busy machine: fuel and counts end them.
fn unbuilt(name: &'static str, lang: &str) -> Project {
    let project = Project::unbuilt(name, lang, "preprocess");
    let given = if lang == "js" {
        "timeout_ms: 200"
    } else {
        "timeout_ms: 500"
    };
    project.edit("handler.yaml", given, "timeout_ms: 20000");
    project
}

/// Writes a case: its configuration, and the expected result.
fn case(project: &Project, name: &str, config: Value, expect: Value) {
    let text = |text: &str| json!({"content_type": "text/plain", "text": text});
    let case = json!({
        "config": config,
        "files": {
            "https://a.example/1": text("one https://a.example/2"),
            "https://a.example/2": text("two https://a.example/3"),
            "https://a.example/s": text("small"),
            "https://a.example/h": {"content_type": "text/html", "text": "a page"},
            "https://a.example/l": text("more than twenty-four bytes"),
            "https://b.example/s": text("elsewhere"),
        },
        "features": {"customers": {"stats:age": {"7": 41.5, "8": 20}, "stats:debt": {"8": 0.5}, "stats:secret": {"7": 1}}},
        "input": {"tensors": []},
        "expect": expect,
    });
    project.write(&format!("cases/own-{name}.json"), &case.to_string());
}

fn answers(items: &[&str]) -> Value {
    json!({"tensors": [{"name": "came", "datatype": "BYTES", "shape": [items.len()], "data": items}]})
}

fn refused(cause: &str, message: &str) -> Value {
    json!({"refused": cause, "says": message})
}

/// Checks what both languages have in common.
fn asks(lang: &str, file: &str, source: &str) {
    let project = unbuilt("reach", lang);
    let manifest = std::fs::read_to_string(project.folder().join("handler.yaml")).unwrap();
    project.write("handler.yaml", &format!("{manifest}{GRANTS}"));
    let few = source.replace("ENTRIES", &format!("{FEW:>6}"));
    project.write(file, &few);
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let report = lines(&project.verb("inspect", &[])).remove(0);
    assert_eq!(report["needs"], json!(["fetch", "lookups"]), "{report}");

    let act = |act: &str| json!({"do": act});
    let urls = |urls: &str| json!({"do": "files", "urls": urls});
    case(
        &project,
        "some",
        urls("https://a.example/s https://a.example/none https://a.example/s"),
        answers(&["text/plain small", "not-found", "text/plain small"]),
    );
    case(
        &project,
        "refusals",
        urls("https://b.example/s http://a.example/s https://a.example/h https://a.example/l"),
        answers(&["refused", "refused", "wrong-type", "too-large"]),
    );
    case(
        &project,
        "chain",
        act("chain"),
        answers(&[
            "text/plain one https://a.example/2",
            "text/plain two https://a.example/3",
            "not-found",
        ]),
    );
    case(
        &project,
        "swallow",
        act("swallow"),
        answers(&["text/plain one https://a.example/2"]),
    );
    case(
        &project,
        "columns",
        json!({"do": "columns", "keys": "7 8 9"}),
        answers(&["41.5", "20.0", "None", "None", "0.5", "None"]),
    );
    case(
        &project,
        "unlisted",
        act("unlisted"),
        refused("reported", "Missing: refused"),
    );
    case(
        &project,
        "one-text",
        act("one_text"),
        refused("reported", "TypeError"),
    );
    for greedy in ["unnamed", "often", "greedy", "many", "taken"] {
        case(&project, greedy, act(greedy), refused("asks", ""));
    }
    case(&project, "left", act("left"), answers(&["answered"]));
    case(
        &project,
        "found",
        act("found"),
        answers(&["0", "7", "none"]),
    );
    let few = fuel(&project, "own-");

    // The source has the same length, because the component contains it.
    project.write(file, &source.replace("ENTRIES", &format!("{MANY:>6}")));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let many = fuel(&project, "own-found");
    // The position of a word in the table adds little, whatever the number of words. Making the
    // table takes a thousand times as much.
    assert!(many.abs_diff(few) * 10 < few, "{few} and {many}");
}

/// The fuel of the case that looks words up, in a run in which no case fails.
fn fuel(project: &Project, only: &str) -> u64 {
    let ran = project.verb("test", &["--only", only]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let results = lines(&ran);
    let found = results.iter().find(|line| line["case"] == "own-found");
    found.unwrap()["fuel"].as_u64().unwrap()
}

#[test]
fn a_handler_in_python_gets_only_granted_resources_and_its_table_costs_nothing() {
    asks("python", "handler.py", PYTHON);
}

#[test]
fn a_handler_in_javascript_gets_only_granted_resources_and_its_table_costs_nothing() {
    asks("js", "handler.js", JS);
}

#[test]
fn undeclared_resources_are_absent_and_ungranted_ones_fail_the_load() {
    let project = unbuilt("ungranted", "js");
    project.write("handler.js", &JS.replace("ENTRIES", "1"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let report = lines(&project.verb("inspect", &[])).remove(0);
    assert_eq!(report["needs"], json!([]), "{report}");
    for (name, interface) in [("greedy", "fetch"), ("unnamed", "lookups")] {
        let message = format!("built without a `{interface}:`");
        case(
            &project,
            name,
            json!({"do": name}),
            refused("reported", &message),
        );
    }
    assert_eq!(project.failed("own-"), Vec::<String>::new());
    let manifest = project.folder().join("handler.yaml");
    let plain = std::fs::read_to_string(&manifest).unwrap();
    project.write("handler.yaml", &format!("{plain}{GRANTS}"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    project.write("handler.yaml", &plain);
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(
        ran.stderr.contains("tensorgate:handler/fetch@0.2.0"),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_old_project_gets_the_list_of_files_it_lacks() {
    let project = Project::unbuilt("older", "js", "preprocess");
    let manifest = std::fs::read_to_string(project.folder().join("handler.yaml")).unwrap();
    project.write("handler.yaml", &format!("{manifest}{GRANTS}"));
    std::fs::remove_file(project.folder().join("reach.js")).unwrap();
    let ran = handler(&["build", project.folder().to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    assert!(ran.stderr.contains("older than reach.js"), "{}", ran.stderr);
}
