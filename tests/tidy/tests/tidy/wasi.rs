//! The interfaces of WASI that a host links and those that a build accepts. The two crates do not
//! depend on each other, so each has a list.

use crate::root;

/// The strings of an array constant in a source file, in order.
fn strings(file: &str, constant: &str) -> Vec<String> {
    let source = std::fs::read_to_string(root().join(file)).unwrap();
    let declaration = format!("\nconst {constant}: [&str; ");
    let (_, rest) = source.split_once(&declaration).unwrap();
    let (items, _) = rest.split_once("];").unwrap();
    let quoted = items.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn a_build_accepts_the_interfaces_of_wasi_that_a_host_links() {
    let linked = strings("sandbox-host/sandbox/src/wasi.rs", "INTERFACES");
    let accepted = strings("wit/componentize/src/imports.rs", "WASI");
    assert!(linked.iter().all(|name| name.starts_with("wasi:")));
    assert!(!linked.is_empty());
    assert_eq!(accepted, linked);
}
