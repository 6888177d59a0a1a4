//! Which node of a cluster a key belongs to (the cluster specification's hash slots).

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key or a sharded channel: of what stands in its first braces, if anything does.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let inside = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(inside.unwrap_or(key)) % SLOTS
}

/// CRC16 as XMODEM has it: polynomial 0x1021, from 0. Tags are short, so no table is kept.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [("foo", 12_182), ("bar", 5_061), ("throng:{foo}:meta:x", 12_182)] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(slot_of(b"{}foo"), crc16(b"{}foo") % SLOTS, "empty braces are none");
        assert_eq!(slot_of(b"{{foo}}"), slot_of(b"{foo"), "the first brace opens");
        assert_eq!(slot_of(b"{foo}{bar}"), slot_of(b"foo"));
    }
}
