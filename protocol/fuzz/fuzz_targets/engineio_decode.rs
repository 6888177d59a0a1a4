//! Engine.IO packets and the heartbeat take anything.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throng_protocol::engineio::{Beat, Heartbeat, Timing, decode_text};

fn heartbeat(data: &[u8]) {
    let timing = Timing { ping_interval_ms: 25_000, ping_timeout_ms: 20_000 };
    let mut now = 0_u32;
    let mut beat = Heartbeat::new(now, 10_000);
    for step in data.chunks_exact(4) {
        let step = u32::from_le_bytes([step[0], step[1], step[2], step[3]]);
        now = now.wrapping_add(step >> 1); // below 2^31, as the module demands
        match beat.on_deadline(now, &timing) {
            Beat::SendPing => assert!(beat.awaits_pong()),
            Beat::TimedOut => assert!(beat.awaits_pong()),
            Beat::NotYet => {
                let left = beat.deadline_ms().wrapping_sub(now);
                assert!(left > 0 && left <= 25_000);
            }
        }
        if step & 1 == 1 {
            beat.on_pong(now, &timing);
            assert!(!beat.awaits_pong());
        }
        if now.wrapping_sub(beat.deadline_ms()) <= i32::MAX as u32 {
            return; // timed out, or looked at later than the module allows
        }
    }
}

fuzz_target!(|data: &[u8]| {
    heartbeat(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok((packet_type, rest)) = decode_text(text) {
        assert_eq!(text, format!("{}{rest}", packet_type as u8));
    }
});
