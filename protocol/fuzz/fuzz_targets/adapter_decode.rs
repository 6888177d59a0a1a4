//! What is read from another server's packet, JSON or MessagePack, is written again and read to the
//! same; events are valid JSON whose placeholders point at their attachments; and memory follows
//! the input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use throng_protocol::adapter::{Ask, Packet, Reply, classic, sharded};
use throng_protocol::json;
use throng_protocol::socketio::check_placeholders;

fn check(input: &[u8], ask: &Ask) {
    match ask {
        Ask::Emit(_, event) => {
            assert!(json::is_valid(&format!("[{}]", event.args)));
            check_placeholders(&event.args, event.attachments.len() as u32).expect("in range");
            let binary: usize = event.attachments.iter().map(|it| it.len()).sum();
            assert!(binary <= input.len());
            assert!(event.args.len() <= 30 * input.len());
        }
        Ask::ServerSide(args) => {
            assert!(json::is_valid(&format!("[{args}]")));
            check_placeholders(args, 0).expect("none");
        }
        _ => {}
    }
}

/// Numbers of 2^64 and more come back as other text, and so do dates; a second time nothing moves.
fn settled(
    read: impl Fn(&[u8]) -> Option<Packet>,
    write: impl Fn(&Packet) -> Vec<u8>,
    input: &[u8],
) {
    let Some(first) = read(input) else { return };
    check(input, &first.ask);
    let written = write(&first);
    let second = read(&written).expect("what is written is read");
    let again = write(&second);
    assert_eq!(read(&again).expect("still"), second);
    assert_eq!(again, write(&second));
    assert_eq!(
        (&first.uid, &first.request, first.form),
        (&second.uid, &second.request, second.form)
    );
}

fuzz_target!(|data: &[u8]| {
    let classic_event = |bytes: &[u8]| classic::decode_event(bytes).ok();
    settled(
        classic_event,
        |packet| {
            let Ask::Emit(opts, event) = &packet.ask else { unreachable!("an event") };
            let (uid, namespace) = (packet.uid.as_deref(), packet.namespace.as_deref());
            let (uid, namespace) = (uid.expect("one"), namespace.expect("one"));
            classic::encode_event(uid, namespace, opts, event).expect("was read")
        },
        data,
    );
    if let Ok(packet) = classic::decode_request(data) {
        check(data, &packet.ask);
        let (uid, request) = (packet.uid.as_deref(), packet.request.as_deref());
        let uid = uid.unwrap_or("u");
        let bytes = classic::encode_request(uid, "/", request, &packet.ask).expect("was read");
        classic::decode_request(&bytes).expect("was written");
    }
    if let Ok((request, reply)) = classic::decode_response(data) {
        if let Reply::Acked(value, _) | Reply::ServerSide(value) = &reply {
            assert!(json::is_valid(value));
        }
        let bytes = classic::encode_response(&request, Default::default(), &reply);
        classic::decode_response(&bytes.expect("was read")).expect("was written");
    }
    let sharded_packet = |bytes: &[u8]| match sharded::decode(bytes) {
        Ok(sharded::Message::Packet(packet)) => Some(packet),
        _ => None,
    };
    settled(
        |bytes| {
            let mut packet = sharded_packet(bytes)?;
            packet.uid.get_or_insert("u".into());
            packet.namespace.get_or_insert("/".into());
            if matches!(packet.ask, Ask::Fetch(_)) {
                packet.request.get_or_insert("r".into());
            }
            // These ask for no answer.
            if matches!(packet.ask, Ask::Join(..) | Ask::Leave(..) | Ask::Disconnect(..)) {
                packet.request = None;
            }
            Some(packet)
        },
        |packet| {
            let (uid, namespace) = (packet.uid.as_deref(), packet.namespace.as_deref());
            let (uid, namespace) = (uid.expect("one"), namespace.expect("one"));
            let request = packet.request.as_deref();
            let bytes = sharded::encode(uid, namespace, request, &packet.ask);
            bytes.expect("was read").expect("known")
        },
        data,
    );
});
