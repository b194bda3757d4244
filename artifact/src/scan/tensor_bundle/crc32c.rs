//! The checksum of blocks in LevelDB's tables: CRC-32C, changed so that a checksum can be computed
//! over bytes that have one.

/// The polynomial of Castagnoli, its lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What LevelDB adds to a checksum.
const MASK: u32 = 0xa282_ead8;

/// The checksum that stands behind a block and the byte that says how it is compressed.
pub(super) fn masked(block: &[u8], compression: u8) -> u32 {
    let mut crc = u32::MAX;
    for byte in block.iter().chain([&compression]) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let is_odd = crc & 1 == 1;
            crc = (crc >> 1) ^ if is_odd { POLYNOMIAL } else { 0 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_tensorflow_has_its_checksum() {
        // The block without entries in each table.
        assert_eq!(masked(b"\0\0\0\0\x01\0\0\0", 0), 0xb0a1_f2c0);
    }
}
