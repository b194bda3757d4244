//! What is still checked after shadow mode has let a fault pass.

use super::*;
use crate::contract::Part;
use crate::denial::Denial;

#[test]
fn a_blocked_url_is_found_after_a_fault_that_passes() {
    let contract = contract(json!([{
        "name": "text", "datatype": "BYTES", "shape": [{"max": 3}], "max_item_bytes": 64,
        "min_item_bytes": 24, "url": {"hosts": ["a.example.com"]}
    }]));
    // The first URL is allowed but too short, the last one is long enough but blocked.
    let urls = text(&[
        "https://a.example.com/",
        "https://a.example.com/1.png",
        "https://b.example.com/2.png",
    ]);
    let data = urls.data.clone().unwrap();
    let scope = OutputScope::default();
    let mut passed = Vec::new();
    let mut on_value_fault = |denial: Denial| -> Result<(), Denial> {
        passed.push(denial.reason);
        Ok(())
    };

    let buffered = contract.check(&scope, &request(vec![urls]), &mut on_value_fault);
    assert_eq!(buffered.unwrap_err().reason, Reason::UrlBlocked);

    let head = request(vec![tensor("text", "BYTES", &[3], vec![])]);
    let elements = [Elements::Streamed(Some(data.len()))];
    let mut streaming = contract
        .check_head(&scope, &head, &elements, &mut on_value_fault)
        .unwrap();
    let bytes = data.len();
    let streamed = [Part::Begin { bytes }, Part::Chunk(&data), Part::End]
        .into_iter()
        .try_for_each(|part| contract.check_part(&mut streaming, part, &mut on_value_fault));
    assert_eq!(streamed.unwrap_err().reason, Reason::UrlBlocked);

    // The short URL, once for each of the two requests.
    assert_eq!(passed, [Reason::OutOfRange, Reason::OutOfRange]);
}
