//! Fuzz target: the signed trailer that reports the tokens that a response used. An unsigned one
//! must never verify. A signed one must be read back completely, and a change of any byte must be
//! detected. A trailer must never verify as a context.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tensorgate_wire::context::{Context, Key};
use tensorgate_wire::settlement::{Settlement, SettlementFault};

use crate::support::{CONTEXT_KEY, NOW_UNIX_S};

/// The most bytes of a trailer's value.
const MAX_BYTES: usize = 512;

/// Runs one input.
pub fn run(data: &[u8]) {
    let key = Key::from_hex(CONTEXT_KEY).expect("a key");
    let forged = Settlement::verify(&String::from_utf8_lossy(data), &key);
    assert!(forged.is_err(), "accepted without a signature: {forged:?}");
    // Running out of input is not a finding.
    let _ = signed(&mut Unstructured::new(data), &key);
}

fn signed(data: &mut Unstructured<'_>, key: &Key) -> Result<()> {
    let change = (data.arbitrary::<u16>()?, data.arbitrary::<u8>()?);
    let settlement = Settlement {
        tokens: data.arbitrary()?,
        request_id: data.arbitrary()?,
    };
    let value = settlement.sign(key);
    match Settlement::verify(&value, key) {
        Ok(read) => assert_eq!(read, settlement),
        Err(SettlementFault::Form) => assert!(value.len() > MAX_BYTES, "{value}"),
        Err(fault) => panic!("{fault}: {value}"),
    }
    let context = Context::verify(&value, key, "POST", "/v2/models/m/infer", NOW_UNIX_S, 30);
    assert!(
        context.is_err(),
        "a settlement verified as a context: {value}"
    );
    let (at, byte) = (usize::from(change.0) % value.len(), change.1 & 0x7f);
    let mut changed = value.clone().into_bytes();
    if changed.get(at).is_some_and(|old| *old != byte) {
        changed.splice(at..=at, [byte]);
        let changed = String::from_utf8(changed).expect("one ASCII byte for another");
        let verified = Settlement::verify(&changed, key);
        assert!(verified.is_err(), "byte {at} of {value}");
    }
    Ok(())
}
