//! How fragments of policies complete a policy ([`tensorgate_tidy::fragment`]).

use tensorgate_tidy::book::blocks;
use tensorgate_tidy::fragment::{BASES, complete};

use crate::root;

#[test]
fn a_fragment_is_merged_by_key_and_by_name() {
    let base = "a:\n  b: 1\n  c: [1]\nlist:\n  - name: x\n    d: 1\n  - {name: y, d: 1}\n";
    let list = "list:\n  -\n    name: x\n    d: 1\n  - {name: y, d: 1}\n";
    let mappings = [
        ("a:\n  e: 2\n", "a:\n  b: 1\n  c: [1]\n  e: 2\n"),
        ("a:   # a comment\n  c: [2]\n", "a:\n  b: 1\n  c: [2]\n"),
        ("a: {b: 2}\n", "a: {b: 2}\n"),
        (
            "# alone\n\n\"a\":\n  b:\n    f: 1\n",
            "a:\n  b:\n    f: 1\n  c: [1]\n",
        ),
    ];
    for (fragment, head) in mappings {
        assert_eq!(complete(base, fragment), format!("{head}{list}"));
    }
    let head = "a:\n  b: 1\n  c: [1]\n";
    let lists = [
        (
            "list:\n  - name: x\n    e: 2\n",
            "list:\n  -\n    name: x\n    d: 1\n    e: 2\n  - {name: y, d: 1}\n",
        ),
        (
            "list:\n  - {name: y, e: 2}\n  - name: z\n",
            "list:\n  -\n    name: x\n    d: 1\n  - {name: y, e: 2}\n  -\n    name: z\n",
        ),
        (
            "list:\n  - z\n  - z\n",
            "list:\n  -\n    name: x\n    d: 1\n  - {name: y, d: 1}\n  - z\n  - z\n",
        ),
        (
            "list: []\nnew:\n  - \"a: b\"\n",
            "list: []\nnew:\n  - \"a: b\"\n",
        ),
    ];
    for (fragment, tail) in lists {
        assert_eq!(complete(base, fragment), format!("{head}{tail}"));
    }
}

#[test]
fn values_over_several_lines_are_replaced_whole() {
    let base = "a:\n  b: {c: 1,\n    d: 2}\n  \"1\": {e: 3}\n";
    assert_eq!(
        complete(base, "a:\n  b: {c: 3,\n      f: 4}\n"),
        "a:\n  b: {c: 3,\n    f: 4}\n  \"1\": {e: 3}\n"
    );
    assert_eq!(
        complete(base, "a:\n  \"1\": {e: 4}\n"),
        "a:\n  b: {c: 1,\n    d: 2}\n  \"1\": {e: 4}\n"
    );
}

#[test]
fn a_block_is_the_policy_that_it_completes() {
    let text = "```yaml fragment=tensors file=gate.yaml\nlockout: {failures: 10}\n```\n\n\
                ```yaml\nversion: 1\nlisten: {}\n```\n\n```yaml\nlockout: {}\n```\n";
    let policies: Vec<_> = blocks(text).iter().map(|block| block.policy()).collect();
    let [Some(completed), Some(whole), None] = policies.as_slice() else {
        panic!("{policies:?}");
    };
    assert!(completed.starts_with("version: 1\n"), "{completed}");
    assert!(
        completed.ends_with("\nlockout: {failures: 10}\n"),
        "{completed}"
    );
    assert_eq!(whole, "version: 1\nlisten: {}");
}

#[test]
fn each_base_is_a_file() {
    let folder = std::fs::read_dir(root().join("docs/policies")).unwrap();
    let mut names: Vec<_> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, BASES.map(|name| format!("{name}.yaml")));
}
