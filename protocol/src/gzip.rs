//! gzip (RFC 1952) for whole HTTP bodies.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// JSON comes out hardly longer than at higher levels, which take up to twice the time.
const LEVEL: u32 = 2;

/// `bytes` as one gzip member without a name or a time, so that equal bodies stay equal. At worst
/// 30 bytes longer than `bytes`, and 5 more for each 16 KiB of them.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(LEVEL));
    // Writing to a `Vec` cannot fail.
    let written = encoder.write_all(bytes);
    debug_assert!(written.is_ok());
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;

    use super::gzip;

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut plain).expect("gzip");
        plain
    }

    #[test]
    fn shapes() {
        let body = b"[1,2,3],".repeat(10_000);
        assert!(gzip(&body).len() < 1000);
        assert_eq!(gunzip(&gzip(&body)), body);
        assert_eq!(gunzip(&gzip(b"")), b"");
        assert_eq!(gzip(b"same"), gzip(b"same"));
        assert_eq!(gzip(b"")[..3], [0x1f, 0x8b, 8]);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(body in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let packed = gzip(&body);
            prop_assert!(packed.len() <= body.len() + 30 + 5 * (body.len() >> 14));
            prop_assert_eq!(gunzip(&packed), body);
        }
    }
}
