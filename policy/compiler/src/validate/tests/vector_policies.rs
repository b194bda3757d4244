//! The policies of the decision vectors are valid, and are unchanged in canonical form.

use std::path::Path;

use crate::raw;
use crate::validate::validate;

#[test]
fn every_vector_policy_is_valid_and_canonical() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vectors/policies");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let policy: raw::Policy = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        validate(&policy).unwrap_or_else(|faults| panic!("{}: {faults:#?}", path.display()));
        let canonical = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            serde_json::from_str::<raw::Policy>(&canonical).unwrap(),
            policy,
            "{}",
            path.display()
        );
        checked += 1;
    }
    assert!(checked > 0);
}
