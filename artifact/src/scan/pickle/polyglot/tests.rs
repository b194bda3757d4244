//! Tests of which data are also a pickle: what runs code is, and what begins with opcodes is not.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use super::*;
use std::io::Cursor;

fn is_pickle(content: &[u8]) -> bool {
    is_in(&mut Cursor::new(content), &Limits::default()).unwrap()
}

/// Pseudo-random numbers: xorshift64*.
struct Random(u64);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [.., byte] = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes();
        byte
    }

    /// Bytes that are even, or near the middle as those of quantised weights are.
    fn bytes(&mut self, count: usize, is_near: bool) -> Vec<u8> {
        let near = |random: &mut Self| {
            let sum: u32 = (0..4).map(|_| u32::from(random.byte())).sum();
            u8::try_from(sum / 4).unwrap()
        };
        let bytes = std::iter::repeat_with(|| if is_near { near(self) } else { self.byte() });
        bytes.take(count).collect()
    }
}

#[test]
fn random_data_behind_any_opcode_are_no_pickle() {
    let mut random = Random(0x89);
    let opcodes = (0..=u8::MAX).filter(|code| Opcode::from_code(*code).is_some());
    for code in opcodes {
        for round in 0..60 {
            let count = [32, 256, 2_048][round % 3];
            let mut content = vec![code];
            content.extend(random.bytes(count, round % 2 == 1));
            assert!(!is_pickle(&content), "{}", content.escape_ascii());
        }
    }
}

#[test]
fn data_that_are_no_pickle_may_begin_as_one() {
    let zeros = [b"V".as_slice(), &[0; 2 << 20], b"\n\xff"].concat();
    let cases: [&[u8]; 17] = [
        b"",
        b"(\xff",
        b"I\x001\n\xff",
        b"F1_0\n\xff",
        b"K\x01)R\xff",
        b"N}b\xff",
        b"P0\n)R\xff",
        b"\x82\x01)R\xff",
        // A pickle without an import, and data behind it.
        b"N.\xff",
        b"I1\n.\xff",
        // An import alone, and one that fails.
        b"cos\nsystem\n\xff",
        b"cos\nsystem\n.\xff",
        b"c\xff\xfe\nsystem\n(S'id'\ntR.",
        b"c\nsystem\n(S'id'\ntR.",
        b"cos\nsystem",
        // The name of a module is no number.
        b"NN\x93)R.\xff",
        &zeros,
    ];
    for content in cases {
        let begin = content.get(..24).unwrap_or(content);
        assert!(!is_pickle(content), "{}", begin.escape_ascii());
    }
}

#[test]
fn what_runs_code_before_a_fault_is_a_pickle() {
    let long = [
        b"S'".as_slice(),
        &[b'a'; 2 << 20],
        b"'\n0cos\nsystem\n)R\xff",
    ]
    .concat();
    let cases: [&[u8]; 21] = [
        b"cos\nsystem\n(S'id'\ntR\xff\xff",
        b"cos\nsystem\n(S'id'\ntR.\xff\xff",
        b"\x80\x02cos\nsystem\n(S'id'\ntR\xff",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R\xff",
        b"\x8c\x02os\x940\x8c\x06system\x940h\x00h\x01\x93)R\xff",
        b"(S'id'\nios\nsystem\n\xff",
        b"(cos\nsystem\nS'id'\no\xff",
        b"cos\nsystem\n)\x81\xff",
        b"cos\nsystem\n)}\x92\xff",
        b"cos\nsystem\n}b\xff",
        b"cbuiltins\n__dict__\nS'id'\ncos\nsystem\ns\xff",
        b"cbuiltins\n__dict__\n(S'id'\ncos\nsystem\nu\xff",
        // What some unpicklers pass over, and values that come first.
        b"I\x001\n0cos\nsystem\n)R\xff",
        b"S'x'\np01\n0cos\nsystem\n)R\xff",
        b"P0\n0cos\nsystem\n)R\xff",
        b"N.cos\nsystem\n)R\xff",
        &long,
        // Frames that end within an operation, and in which another one begins.
        b"\x95\x02\0\0\0\0\0\0\0NB\x01\0\0\0x\xff",
        b"\x95\x0b\0\0\0\0\0\0\0N\x95\0\0\0\0\0\0\0\0N\xff",
        // Complete pickles of data.
        b"N.",
        b"]q\x00(K\x01K\x02e.",
    ];
    for content in cases {
        let begin = content.get(..40).unwrap_or(content);
        assert!(is_pickle(content), "{}", begin.escape_ascii());
    }
}

#[test]
fn what_is_not_followed_counts_as_a_pickle() {
    let limits = Limits {
        operations: 10,
        ..Limits::default()
    };
    assert!(is_in(&mut Cursor::new([b'N'; 20]), &limits).unwrap());
    assert!(!is_in(&mut Cursor::new([b'N'; 9]), &limits).unwrap());
    // Values and marks that are forgotten, and operations that need them or an import before them.
    for (value, end, expected) in [
        (b'(', &b""[..], false),
        (b'N', b"", false),
        (b'\x88', b"\xff", false),
        (b'N', b"cos\nsystem\n)R\xff", true),
        (b'N', b"t\xff", true),
    ] {
        let content = [&vec![value; 300_001][..], end].concat();
        assert_eq!(is_pickle(&content), expected, "{}", end.escape_ascii());
    }
}
