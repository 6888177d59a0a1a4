//! Casts in the words of Node's adapters, and back.

use throng_protocol::adapter::{Ask, Event, Form, Opts, Reply};

use super::super::words::{Cast, CastAnswer, Deed, HostId, Reach};

/// How the uid of every host of a fleet begins. Node's adapters draw theirs from 6 or 16
/// characters, and the emitter calls itself `emitter`, so that none of them is ever taken for a
/// host, nor a host for one of them, whatever hosts there are: no list of hosts is needed, which
/// might be behind. Node only compares uids and puts them into names of channels.
const UID: &str = "throng-";

/// How long a Node server waits for clients, where it does not say.
const EMIT_TIMEOUT_MS: u32 = 5000;

/// What a host calls itself.
pub(super) fn uid(host: HostId) -> String {
    format!("{UID}{host:08x}")
}

/// Whether a host of a fleet says this. On Node's channels these are the same prefix's, so of this
/// fleet: what they say has come as a host's cast already.
pub(super) fn is_host(uid: Option<&str>) -> bool {
    uid.is_some_and(|uid| uid.starts_with(UID))
}

/// Whether a classic event or request is a host's, by its first bytes: a cheap way to drop what
/// this host itself has published.
pub(super) fn is_from_host(payload: &[u8]) -> bool {
    let uid = match payload {
        [0x93, 0xa0..=0xbf, uid @ ..] => uid,
        _ => payload.strip_prefix(b"{\"uid\":\"").unwrap_or_default(),
    };
    uid.starts_with(UID.as_bytes())
}

/// The id of a request under a number of this host's: unlike any other server's.
pub(super) fn request(host: HostId, number: u64) -> String {
    format!("{UID}{host:08x}-{number:x}")
}

/// The number of a request of this host's.
pub(super) fn number(host: HostId, request: &str) -> Option<u64> {
    let number = request.strip_prefix(&request_prefix(host))?;
    u64::from_str_radix(number, 16).ok()
}

fn request_prefix(host: HostId) -> String {
    format!("{UID}{host:08x}-")
}

/// A cast as Node's adapters put it.
pub(super) fn ask(cast: &Cast) -> Ask {
    let Cast { reach: Reach { rooms, except, .. }, deed } = cast;
    let mut opts = Opts { rooms: rooms.clone(), except: except.clone(), ..Opts::default() };
    match deed {
        Deed::Emit { args, attachments, volatile, answers } => {
            opts.volatile = *volatile;
            opts.timeout_ms = answers.map(|(_, ms)| ms);
            Ask::Emit(opts, Event { args: args.clone(), attachments: attachments.clone() })
        }
        Deed::Join(rooms) => Ask::Join(opts, rooms.clone()),
        Deed::Leave(rooms) => Ask::Leave(opts, rooms.clone()),
        Deed::Disconnect(close) => Ask::Disconnect(opts, *close),
        Deed::Fetch(_) => Ask::Fetch(opts),
        Deed::Rooms(_) => Ask::Rooms,
        Deed::ServerSide { args, .. } => Ask::ServerSide(args.clone()),
    }
}

/// The cast that a Node server means; the numbers in it are 0. `wants_answer`: it gave a request's
/// id.
pub(super) fn cast(namespace: &str, ask: Ask, wants_answer: bool) -> Cast {
    let reach =
        |opts: Opts| Reach { namespace: namespace.into(), rooms: opts.rooms, except: opts.except };
    let (opts, deed) = match ask {
        Ask::Emit(opts, Event { args, attachments }) => {
            let timeout_ms = opts.timeout_ms.unwrap_or(EMIT_TIMEOUT_MS);
            let answers = wants_answer.then_some((0, timeout_ms));
            let volatile = opts.volatile;
            (opts, Deed::Emit { args, attachments, volatile, answers })
        }
        Ask::Join(opts, rooms) => (opts, Deed::Join(rooms)),
        Ask::Leave(opts, rooms) => (opts, Deed::Leave(rooms)),
        Ask::Disconnect(opts, close) => (opts, Deed::Disconnect(close)),
        Ask::Fetch(opts) => (opts, Deed::Fetch(0)),
        Ask::Rooms => (Opts::default(), Deed::Rooms(0)),
        Ask::ServerSide(args) => {
            (Opts::default(), Deed::ServerSide { args, answer: wants_answer.then_some(0) })
        }
    };
    Cast { reach: reach(opts), deed }
}

/// Puts a number into a cast that wants answers.
pub(super) fn renumber(deed: &mut Deed, number: u64) {
    match deed {
        Deed::Emit { answers: Some((id, _)), .. }
        | Deed::Fetch(id)
        | Deed::Rooms(id)
        | Deed::ServerSide { answer: Some(id), .. } => *id = number,
        _ => {}
    }
}

/// An answer for a Node server; `None`: it is not told.
pub(super) fn reply(form: Form, answer: CastAnswer) -> Option<Reply> {
    Some(match answer {
        // Only the server that has the socket answers.
        CastAnswer::Sockets(sockets) if form == Form::One => {
            return (!sockets.is_empty()).then_some(Reply::Done);
        }
        CastAnswer::Asked(count) => Reply::Count(count),
        CastAnswer::Acked(value, attachments) => Reply::Acked(value, attachments),
        CastAnswer::Sockets(sockets) => Reply::Sockets(sockets),
        CastAnswer::Rooms(rooms) => Reply::Rooms(rooms),
        CastAnswer::ServerSide(value) => Reply::ServerSide(value),
    })
}

/// A Node server's answer.
pub(super) fn answer(reply: Reply) -> Option<CastAnswer> {
    Some(match reply {
        Reply::Count(count) => CastAnswer::Asked(count),
        Reply::Acked(value, attachments) => CastAnswer::Acked(value, attachments),
        Reply::Sockets(sockets) => CastAnswer::Sockets(sockets),
        Reply::Rooms(rooms) => CastAnswer::Rooms(rooms),
        Reply::ServerSide(value) => CastAnswer::ServerSide(value),
        Reply::Done => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_node_servers() {
        assert!(is_host(Some(&uid(7))) && !is_host(None));
        for node in ["89KKJC", "throng", "throng-", "emitter", "e2447c5b57933689"] {
            assert!(!is_host(Some(node)) || node.len() == 7, "{node}");
        }
        let event = throng_protocol::adapter::classic::encode_event;
        let said = Event { args: "\"e\"".into(), attachments: Vec::new() };
        for (uid, is_host) in [(&*uid(7), true), ("89KKJC", false), ("emitter", false)] {
            let bytes = event(uid, "/", &Opts::default(), &said).expect("encodes");
            assert_eq!(is_from_host(&bytes), is_host);
            let json = format!("{{\"uid\":\"{uid}\",\"type\":1}}");
            assert_eq!(is_from_host(json.as_bytes()), is_host);
        }
        assert!(!is_from_host(b"") && !is_from_host(b"throng-"));
    }

    #[test]
    fn requests_carry_their_numbers() {
        assert_eq!(number(7, &request(7, u64::MAX)), Some(u64::MAX));
        assert_eq!(number(8, &request(7, 1)), None, "another's");
        assert_eq!(number(7, "GtFFPD"), None);
    }
}
