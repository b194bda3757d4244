//! NumPy's generators of random numbers: calls that make them, and their states.
//!
//! A generator is made by its class or its name, and BUILD sets its state: a dictionary of numbers.
//! NumPy takes two of these numbers as they are for a place in memory: [`super::keys`] looks for
//! them.

use super::allowed::Global;
use super::keys::{Keys, MAX_TWISTER_POSITION};
use super::value::{Built, Value};

/// Numbers in the pool of a seed: four, and more in large generators.
const POOL_SIZES: std::ops::RangeInclusive<i64> = 4..=64;

/// The result of a call; nothing if the call is not allowed.
pub(super) fn call(global: Global, arguments: &[Value]) -> Option<Value> {
    match (global, arguments) {
        // By its class, or by its name, which NumPy looks up in a table.
        (Global::BitGeneratorOf, [Value::Global(Global::BitGenerator) | Value::Text(_)])
        | (
            Global::GeneratorOf,
            [Value::Generator | Value::Text(_)]
            | [Value::Text(_), Value::Global(Global::BitGeneratorOf)],
        )
        | (Global::RandomState, []) => Some(Value::Generator),
        // The checksum is that of the fields of the class.
        (
            Global::SeedSequenceOf,
            [
                Value::Global(Global::SeedSequence),
                Value::Int(_),
                Value::None,
            ],
        ) => Some(Value::SeedSequence),
        _ => None,
    }
}

/// What BUILD does with the state of a generator. `keys` are those of all dictionaries.
pub(super) fn state(state: &Value, keys: &Keys) -> Built {
    let is_plain = match (state, state.items()) {
        (Value::Dict, _) => true,
        // With the seed, since NumPy 2.
        (_, Some([Value::Dict, seed])) => matches!(seed, Value::SeedSequence | Value::None),
        // As it was before 1.17: name, numbers, position, and a number that is kept.
        (
            _,
            Some(
                [
                    name,
                    Value::Array,
                    Value::Int(position),
                    Value::Int(0 | 1),
                    Value::Number,
                ],
            ),
        ) => name.text() == Some("MT19937") && (0..=MAX_TWISTER_POSITION).contains(position),
        _ => return Built::Refused,
    };
    if is_plain && !keys.has_odd_position() {
        Built::Fine
    } else {
        Built::Unchecked("the position of a generator in its numbers")
    }
}

/// What BUILD does with the state of a seed: entropy, count of children, pool, its size, and key.
pub(super) fn seed_state(state: &Value) -> Built {
    match state.items() {
        Some(
            [
                Value::Int(_) | Value::Number | Value::List | Value::Tuple(_) | Value::None,
                Value::Int(_),
                // joblib stores an array its own way, which is not told from other plain values.
                Value::Array | Value::Plain,
                Value::Int(size),
                key,
            ],
        ) if POOL_SIZES.contains(size) && key.is_shape() => Built::Fine,
        _ => Built::Refused,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use super::super::scan;
    use crate::scan::{Limits, Verdict};

    const TWISTER: &[u8] = b"cnumpy.random._pickle\n__bit_generator_ctor\n\
        cnumpy.random._mt19937\nMT19937\n\x85R";
    const SEED: &[u8] = b"cnumpy.random.bit_generator\n__pyx_unpickle_SeedSequence\n\
        cnumpy.random.bit_generator\nSeedSequence\nJ\x01\0\0\0N\x87R";
    const ARRAY: &[u8] = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\
        K\0\x85C\x01b\x87R";

    fn check(parts: &[&[u8]], expected: Verdict) {
        let pickle = parts.concat();
        let report = scan(&mut Cursor::new(&pickle), &Limits::default()).unwrap();
        let shown = pickle.escape_ascii();
        assert_eq!(report.verdict, expected, "{shown}: {:?}", report.findings);
    }

    #[test]
    fn a_generator_with_a_state_of_numbers_is_data() {
        // As NumPy 2 writes it.
        let seed = [SEED, b"(K\x01K\0", ARRAY, b"K\x04)tb"].concat();
        let generator: [&[u8]; 5] = [
            b"cnumpy.random._pickle\n__generator_ctor\n",
            TWISTER,
            b"}(\x8c\x05state}(\x8c\x03posM\x70\x02uu",
            &seed,
            b"\x86b\x85R.",
        ];
        check(&generator, Verdict::Safe);
        // As NumPy before 2.0 and before 1.17 wrote it.
        let by_name = b"cnumpy.random._pickle\n__randomstate_ctor\n\x8c\x07MT19937\
            cnumpy.random._pickle\n__bit_generator_ctor\n\x86R}b.";
        check(&[by_name], Verdict::Safe);
        let old = b"cnumpy.random\n__RandomState_ctor\n)R(\x8c\x07MT19937";
        let end = b"K\0G\0\0\0\0\0\0\0\0tb.";
        check(&[old, ARRAY, b"M\x70\x02", end], Verdict::Safe);
        check(&[old, ARRAY, b"M\x71\x02", end], Verdict::Unknown);
        check(&[old, ARRAY, b"]", end], Verdict::Executable);
        // A pool that is larger than any, and a state of another form.
        check(
            &[SEED, b"(K\x01K\0", ARRAY, b"J\0\0\0\x40)tb."],
            Verdict::Executable,
        );
        check(&[TWISTER, b"]b."], Verdict::Executable);
    }

    /// NumPy would read numbers beyond the generator's memory.
    #[test]
    fn a_position_beyond_the_numbers_is_not_safe() {
        let state = |key: &[u8], position: &[u8], expected| {
            let state = [b"}(\x8c\x05state}(".as_slice(), key, position, b"uu"].concat();
            check(&[TWISTER, &state, b"b."], expected);
        };
        state(b"\x8c\x03pos", b"K\0", Verdict::Safe);
        for position in [
            &b"M\x71\x02"[..],
            b"J\xff\xff\xff\xff",
            b"N",
            b"\x8a\x09\0\0\0\0\0\0\0\0\x01",
        ] {
            state(b"\x8c\x03pos", position, Verdict::Unknown);
        }
        state(b"\x8c\x0abuffer_pos", b"K\x04", Verdict::Safe);
        state(b"\x8c\x0abuffer_pos", b"K\x05", Verdict::Unknown);
        // A text of NumPy is the same key of a dictionary.
        let text = b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n\x8c\x02U3\x89\x88\x87R\
            C\x0cp\0\0\0o\0\0\0s\0\0\0\x86R";
        state(text, b"J\xff\xff\xff\xff", Verdict::Unknown);
        check(&[text, b"."], Verdict::Safe);
        // Without a generator it is a number, and before one it may become part of its state.
        check(&[b"}(\x8c\x03posM\x71\x02u."], Verdict::Safe);
        check(
            &[b"}(\x8c\x03posM\x71\x02u0", TWISTER, b"}b."],
            Verdict::Unknown,
        );
        let listed = b"ccollections\nOrderedDict\n]\x85R0";
        check(&[listed, TWISTER, b"}b."], Verdict::Unknown);
    }

    #[test]
    fn only_classes_of_generators_are_called() {
        for class in [
            &b"cos\nsystem\n"[..],
            b"cbuiltins\ndict\n",
            b"ccollections\nCounter\n",
        ] {
            let of = b"cnumpy.random._pickle\n__bit_generator_ctor\n";
            check(&[of, class, b"\x85R."], Verdict::Executable);
            let generator = b"cnumpy.random._pickle\n__generator_ctor\n\x8c\x02id";
            check(&[generator, class, b"\x86R."], Verdict::Executable);
        }
        let seed = b"cnumpy.random.bit_generator\n__pyx_unpickle_SeedSequence\n";
        check(
            &[seed, b"cbuiltins\nset\nK\x01N\x87R."],
            Verdict::Executable,
        );
    }
}
