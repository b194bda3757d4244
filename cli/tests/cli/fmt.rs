//! `fmt`: files in canonical layout, comments and all, and files that are left as they are.

use crate::program::{Scratch, digits, run};

#[test]
fn the_policies_of_the_tree_are_in_canonical_layout() {
    let digits = digits();
    let ran = run(&["fmt".as_ref(), "--check".as_ref(), digits.as_os_str()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
}

#[test]
fn a_file_is_rewritten_once_and_keeps_its_comments_and_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    let file = scratch.file(
        "gate.yaml",
        "version:   1\nlisten:\n    # where\n    limits: { headers: 64 ,  body_bytes: 1MiB }  # bounds\n",
    );
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let fmt = |more: &[&str]| {
        let mut arguments = vec!["fmt".to_owned()];
        arguments.extend(more.iter().map(|&text| text.to_owned()));
        arguments.push(file.to_str().unwrap().to_owned());
        run(&arguments)
    };
    let checked = fmt(&["--check"]);
    assert_eq!(checked.code, 1, "{}", checked.stderr);
    assert!(checked.stdout.ends_with("gate.yaml: would change\n"));
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("version:   1")
    );
    let done = fmt(&["--json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("\"changed\":true"));
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "version: 1\nlisten:\n  # where\n  limits: {headers: 64, body_bytes: 1MiB}        # bounds\n"
    );
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o640
    );
    let again = fmt(&["--check"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, ""));
    assert_eq!(
        std::fs::read_dir(scratch.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn what_is_no_document_is_left_alone() {
    let scratch = Scratch::new();
    let text = "a:  1\na:  2\n";
    let file = scratch.file("gate.yaml", text);
    let ran = run(&["fmt".as_ref(), file.as_os_str()]);
    assert_eq!(ran.code, 2);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}
