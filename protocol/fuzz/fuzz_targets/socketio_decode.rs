//! Decode, encode, decode: the second decoding equals the first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throng_protocol::json;
use throng_protocol::socketio::{
    Assembler, Event, Kind, Limits, Packet, check_placeholders, renumber_placeholders, write_packet,
};

const LIMITS: Limits = Limits {
    attachments_max: 10,
    depth_max: 8,
    namespace_bytes_max: 16,
    event_name_bytes_max: 16,
    packet_bytes_max: 1000,
};

fn check(packet: Packet<'_>) {
    let count = packet.attachments.len();
    let mut wire = Vec::new();
    write_packet(&mut wire, packet.kind, count, packet.namespace, packet.id, packet.data);
    let text = std::str::from_utf8(&wire[1..]).expect("text in, text out");
    let mut again = Assembler::default();
    let mut whole = again.text(text, &LIMITS).expect("decodes").is_some_and(|p| p == packet);
    for attachment in packet.attachments {
        again.binary(attachment, &LIMITS, |p| whole = p == packet).expect("owed");
    }
    assert!(whole && again.is_idle());
    assert!(packet.data.is_empty() || json::is_valid(packet.data));
    if matches!(packet.kind, Kind::Event | Kind::BinaryEvent) {
        let event = Event::parse(packet.data).expect("checked by the decoder");
        assert!(event.arg_list().all(|arg| json::is_valid(arg.get())));
        assert_eq!(event.first_arg().is_none(), event.args.is_empty());
    }
    if packet.kind.is_binary() {
        let moved = renumber_placeholders(packet.data, 5).expect("in range");
        assert!(json::is_valid(&moved));
        check_placeholders(&moved, 5 + count as u32).expect("still in range");
    }
}

// Records end at a 0xFF byte, which no text holds; those that begin with 0xFE are binary.
fuzz_target!(|data: &[u8]| {
    let mut assembler = Assembler::default();
    for record in data.split(|byte| *byte == 0xff) {
        let result = match record.split_first() {
            Some((0xfe, bytes)) => assembler.binary(bytes, &LIMITS, check),
            _ => match std::str::from_utf8(record) {
                Ok(text) => {
                    let _ = check_placeholders(text, 3);
                    let _ = renumber_placeholders(text, 3);
                    let _ = Event::parse(text).map(|event| event.arg_list().count());
                    assembler.text(text, &LIMITS).map(|packet| packet.into_iter().for_each(check))
                }
                Err(_) => return,
            },
        };
        assert!(result.is_ok() || assembler.is_idle());
        assert!(assembler.held_bytes() <= LIMITS.packet_bytes_max + 512);
    }
});
