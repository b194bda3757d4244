//! The opcodes of pickle protocols 0 to 5, as in CPython's `pickletools`.

/// What follows an opcode. All numbers are little-endian, except floating-point numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A length of eight bytes, then bytes that can be changed.
    ByteArray8,
    /// A length of one byte, then bytes.
    Bytes1,
    /// A length of four bytes, then bytes.
    Bytes4,
    /// A length of eight bytes, then bytes.
    Bytes8,
    /// A decimal number up to a newline.
    DecimalLine,
    /// A floating-point number of eight bytes.
    Float8,
    /// A floating-point number up to a newline.
    FloatLine,
    /// A signed number of four bytes.
    Int4,
    /// A line without quotes.
    Line,
    /// Two lines: module and name.
    LinePair,
    /// A length of one byte, then a signed number of that many bytes.
    Long1,
    /// A signed length of four bytes, then a signed number of that many bytes.
    Long4,
    /// A decimal number up to a newline, which may end with `L`.
    LongLine,
    /// No argument.
    Nothing,
    /// A length of one byte, then bytes that become text.
    String1,
    /// A signed length of four bytes, then bytes that become text.
    String4,
    /// A quoted text with escapes, up to a newline.
    StringLine,
    /// A number of one byte.
    Uint1,
    /// A number of two bytes.
    Uint2,
    /// A number of four bytes.
    Uint4,
    /// A number of eight bytes.
    Uint8,
    /// A length of one byte, then UTF-8.
    Unicode1,
    /// A length of four bytes, then UTF-8.
    Unicode4,
    /// A length of eight bytes, then UTF-8.
    Unicode8,
    /// Text with escapes, up to a newline.
    UnicodeLine,
}

/// Defines the opcodes from one table: byte, variant, name in `pickletools`, argument.
macro_rules! opcodes {
    ($($code:literal => $opcode:ident, $name:literal, $kind:ident;)*) => {
        /// An opcode.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Opcode {
            $(
                #[doc = $name]
                $opcode,
            )*
        }

        impl Opcode {
            /// The opcode that a byte stands for.
            pub(super) const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$opcode),)*
                    _ => None,
                }
            }

            /// The name in `pickletools`.
            pub(super) const fn name(self) -> &'static str {
                match self {
                    $(Self::$opcode => $name,)*
                }
            }

            /// What follows it.
            pub(super) const fn kind(self) -> Kind {
                match self {
                    $(Self::$opcode => Kind::$kind,)*
                }
            }
        }
    };
}

opcodes! {
    b'(' => Mark, "MARK", Nothing;
    b')' => EmptyTuple, "EMPTY_TUPLE", Nothing;
    b'.' => Stop, "STOP", Nothing;
    b'0' => Pop, "POP", Nothing;
    b'1' => PopMark, "POP_MARK", Nothing;
    b'2' => Dup, "DUP", Nothing;
    b'B' => Binbytes, "BINBYTES", Bytes4;
    b'C' => ShortBinbytes, "SHORT_BINBYTES", Bytes1;
    b'F' => Float, "FLOAT", FloatLine;
    b'G' => Binfloat, "BINFLOAT", Float8;
    b'I' => Int, "INT", DecimalLine;
    b'J' => Binint, "BININT", Int4;
    b'K' => Binint1, "BININT1", Uint1;
    b'L' => Long, "LONG", LongLine;
    b'M' => Binint2, "BININT2", Uint2;
    b'N' => None, "NONE", Nothing;
    b'P' => Persid, "PERSID", Line;
    b'Q' => Binpersid, "BINPERSID", Nothing;
    b'R' => Reduce, "REDUCE", Nothing;
    b'S' => String, "STRING", StringLine;
    b'T' => Binstring, "BINSTRING", String4;
    b'U' => ShortBinstring, "SHORT_BINSTRING", String1;
    b'V' => Unicode, "UNICODE", UnicodeLine;
    b'X' => Binunicode, "BINUNICODE", Unicode4;
    b']' => EmptyList, "EMPTY_LIST", Nothing;
    b'a' => Append, "APPEND", Nothing;
    b'b' => Build, "BUILD", Nothing;
    b'c' => Global, "GLOBAL", LinePair;
    b'd' => Dict, "DICT", Nothing;
    b'e' => Appends, "APPENDS", Nothing;
    b'g' => Get, "GET", DecimalLine;
    b'h' => Binget, "BINGET", Uint1;
    b'i' => Inst, "INST", LinePair;
    b'j' => LongBinget, "LONG_BINGET", Uint4;
    b'l' => List, "LIST", Nothing;
    b'o' => Obj, "OBJ", Nothing;
    b'p' => Put, "PUT", DecimalLine;
    b'q' => Binput, "BINPUT", Uint1;
    b'r' => LongBinput, "LONG_BINPUT", Uint4;
    b's' => Setitem, "SETITEM", Nothing;
    b't' => Tuple, "TUPLE", Nothing;
    b'u' => Setitems, "SETITEMS", Nothing;
    b'}' => EmptyDict, "EMPTY_DICT", Nothing;
    0x80 => Proto, "PROTO", Uint1;
    0x81 => Newobj, "NEWOBJ", Nothing;
    0x82 => Ext1, "EXT1", Uint1;
    0x83 => Ext2, "EXT2", Uint2;
    0x84 => Ext4, "EXT4", Int4;
    0x85 => Tuple1, "TUPLE1", Nothing;
    0x86 => Tuple2, "TUPLE2", Nothing;
    0x87 => Tuple3, "TUPLE3", Nothing;
    0x88 => Newtrue, "NEWTRUE", Nothing;
    0x89 => Newfalse, "NEWFALSE", Nothing;
    0x8a => Long1, "LONG1", Long1;
    0x8b => Long4, "LONG4", Long4;
    0x8c => ShortBinunicode, "SHORT_BINUNICODE", Unicode1;
    0x8d => Binunicode8, "BINUNICODE8", Unicode8;
    0x8e => Binbytes8, "BINBYTES8", Bytes8;
    0x8f => EmptySet, "EMPTY_SET", Nothing;
    0x90 => Additems, "ADDITEMS", Nothing;
    0x91 => Frozenset, "FROZENSET", Nothing;
    0x92 => NewobjEx, "NEWOBJ_EX", Nothing;
    0x93 => StackGlobal, "STACK_GLOBAL", Nothing;
    0x94 => Memoize, "MEMOIZE", Nothing;
    0x95 => Frame, "FRAME", Uint8;
    0x96 => Bytearray8, "BYTEARRAY8", ByteArray8;
    0x97 => NextBuffer, "NEXT_BUFFER", Nothing;
    0x98 => ReadonlyBuffer, "READONLY_BUFFER", Nothing;
}
