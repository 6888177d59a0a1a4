//! What engines of different hosts tell each other, as bytes: JSON, since it is little and rare.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Audience;
use crate::codec::Packet;
use crate::ids::Sid;

/// A packet for a room's members.
pub struct Said {
    /// Which of them.
    pub audience: Audience,
    /// The packet, an event.
    pub packet: Packet,
}

/// An event.
#[derive(Serialize, Deserialize)]
struct EventWords {
    /// Name and arguments.
    text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parts: Vec<String>,
}

impl EventWords {
    fn of(packet: &Packet) -> Self {
        let parts = packet.attachments().iter().map(|part| STANDARD.encode(part)).collect();
        Self { text: packet.event_text().to_owned(), parts }
    }

    fn packet(&self) -> Option<Packet> {
        let part = |part: &String| STANDARD.decode(part).ok().map(Vec::into_boxed_slice);
        let parts: Vec<_> = self.parts.iter().map(part).collect::<Option<_>>()?;
        Packet::from_event_text(&self.text, &parts)
    }
}

#[derive(Serialize, Deserialize)]
struct SaidWords {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    except: Option<String>,
    #[serde(default)]
    listeners: bool,
    #[serde(flatten)]
    event: EventWords,
}

impl Said {
    /// As bytes.
    pub fn write(audience: Audience, packet: &Packet) -> Vec<u8> {
        let (except, listeners) = match audience {
            Audience::All => (None, false),
            Audience::Except(sid) => (Some(sid), false),
            Audience::Listeners(except) => (except, true),
        };
        let except = except.map(|sid| sid.encode().as_str().to_owned());
        let words = SaidWords { except, listeners, event: EventWords::of(packet) };
        serde_json::to_vec(&words).unwrap_or_default()
    }

    /// From bytes; `None` if they are none of these.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let SaidWords { except, listeners, event } = serde_json::from_slice(bytes).ok()?;
        let except = except.as_deref().and_then(Sid::parse);
        let audience = match (except, listeners) {
            (except, true) => Audience::Listeners(except),
            (Some(sid), false) => Audience::Except(sid),
            (None, false) => Audience::All,
        };
        Some(Self { audience, packet: event.packet()? })
    }
}

/// What a host tells another about single sockets.
#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "camelCase")]
enum NoticeWords {
    Relay {
        id: u64,
        shard: u16,
        to: String,
        #[serde(flatten)]
        event: EventWords,
    },
    Relayed {
        id: u64,
        shard: u16,
        delivered: bool,
    },
    Moved {
        to: String,
    },
}

/// What a host tells another about single sockets.
pub enum Notice {
    /// A packet for a socket there; the answer goes to this shard here.
    Relay {
        /// Comes back with the answer.
        id: u64,
        /// The shard that asks.
        shard: u16,
        /// Whom.
        to: Sid,
        /// An event.
        packet: Packet,
    },
    /// The answer.
    Relayed {
        /// The relay's.
        id: u64,
        /// The shard that asked.
        shard: u16,
        /// Whether there was such a socket.
        delivered: bool,
    },
    /// A socket's client has come back elsewhere: it is no more to be expected.
    Moved {
        /// The socket.
        sid: Sid,
    },
}

impl Notice {
    /// As bytes.
    pub fn write(&self) -> Vec<u8> {
        let text = |sid: &Sid| sid.encode().as_str().to_owned();
        let words = match self {
            Self::Relay { id, shard, to, packet } => NoticeWords::Relay {
                id: *id,
                shard: *shard,
                to: text(to),
                event: EventWords::of(packet),
            },
            Self::Relayed { id, shard, delivered } => {
                NoticeWords::Relayed { id: *id, shard: *shard, delivered: *delivered }
            }
            Self::Moved { sid } => NoticeWords::Moved { to: text(sid) },
        };
        serde_json::to_vec(&words).unwrap_or_default()
    }

    /// From bytes; `None` if they are none of these.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        Some(match serde_json::from_slice(bytes).ok()? {
            NoticeWords::Relay { id, shard, to, event } => {
                Self::Relay { id, shard, to: Sid::parse(&to)?, packet: event.packet()? }
            }
            NoticeWords::Relayed { id, shard, delivered } => Self::Relayed { id, shard, delivered },
            NoticeWords::Moved { to } => Self::Moved { sid: Sid::parse(&to)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let sid = Sid::new(7, 1, 2, 3);
        let packet = Packet::event_with("typing", r#"{"a":"\u0001"},1"#, &[Box::from([0, 255])]);
        for audience in [
            Audience::All,
            Audience::Except(sid),
            Audience::Listeners(None),
            Audience::Listeners(Some(sid)),
        ] {
            let read = Said::read(&Said::write(audience, &packet)).expect("words");
            assert_eq!(read.audience, audience);
            assert_eq!(read.packet.event_text(), packet.event_text());
            assert_eq!(read.packet.attachments(), packet.attachments());
        }
        let relay = Notice::Relay { id: 9, shard: 3, to: sid, packet };
        match Notice::read(&relay.write()) {
            Some(Notice::Relay { id: 9, shard: 3, to, .. }) => assert_eq!(to, sid),
            _ => panic!("not a relay"),
        }
        assert!(Notice::read(&Notice::Moved { sid }.write()).is_some());
        for bytes in ["", "{}", r#"{"text":"1]"}"#, r#"{"text":"\"a\",}"}"#, r#"{"what":"x"}"#] {
            assert!(Said::read(bytes.as_bytes()).is_none(), "{bytes}");
            assert!(Notice::read(bytes.as_bytes()).is_none(), "{bytes}");
        }
    }
}
