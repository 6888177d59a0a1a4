//! Ids: of sockets, of rooms, and the randomness in them.
//!
//! A socket's id says where its connection is, so that anything addressed to it needs no
//! directory. Its nonce tells a recycled place from the socket that had it before.

use std::fmt;

use std::hash::Hasher as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip128::{Hasher128, SipHasher24};

/// Bytes of a socket id; 20 characters of URL-safe base64, as Socket.IO's own ids have.
const SID_BYTES: usize = 15;
/// Characters of a socket id.
pub const SID_CHARS: usize = 20;

/// A socket's id: host (4 bytes), shard (2), slot (3), nonce (6), big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid([u8; SID_BYTES]);

impl Sid {
    /// `slot` has 24 bits, `nonce` 48.
    pub fn new(host: u32, shard: u16, slot: u32, nonce: u64) -> Self {
        let mut bytes = [0; SID_BYTES];
        bytes[..4].copy_from_slice(&host.to_be_bytes());
        bytes[4..6].copy_from_slice(&shard.to_be_bytes());
        bytes[6..9].copy_from_slice(&slot.to_be_bytes()[1..]);
        bytes[9..].copy_from_slice(&nonce.to_be_bytes()[2..]);
        Self(bytes)
    }

    /// Reads an id as clients write it; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; SID_BYTES];
        if text.len() != SID_CHARS {
            return None;
        }
        let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (count == SID_BYTES).then_some(Self(bytes))
    }

    /// The host it lives on.
    pub fn host(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }

    /// The shard it lives on.
    pub fn shard(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// The slot of its connection.
    pub fn slot(&self) -> u32 {
        u32::from_be_bytes([0, self.0[6], self.0[7], self.0[8]])
    }

    /// The id as clients see it.
    pub fn encode(&self) -> SidText {
        let mut text = [0; SID_CHARS];
        let length = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).unwrap_or(0);
        debug_assert_eq!(length, SID_CHARS);
        SidText(text)
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.encode().as_str())
    }
}

/// A socket id in characters, without an allocation.
#[derive(Clone, Copy)]
pub struct SidText([u8; SID_CHARS]);

impl SidText {
    /// The characters; all ASCII.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Where an Engine.IO session is: its shard, its row there, and which of the row's sessions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SessionKey {
    /// The shard that the session began on.
    pub shard: u16,
    /// Its row on that shard.
    pub slot: u32,
    /// Tells the row's sessions apart.
    pub serial: u32,
}

/// Signs what only a client and this process may know: session ids, and the private ids by which
/// sockets are recovered. They say where something is, so nothing is stored for them, and end in
/// 128 bits that nobody can guess (SipHash-2-4 under a key of this process).
#[derive(Clone)]
pub struct Seal([u8; 16]);

const MAC_BYTES: usize = 16;
const KEY_BYTES: usize = 10;

impl Seal {
    /// A seal with a random key.
    pub fn new(entropy: &mut Entropy) -> Self {
        Self(entropy.bytes())
    }

    /// The secret id of an Engine.IO session: 35 characters.
    pub fn session_id(&self, key: SessionKey) -> String {
        let mut bytes = Vec::with_capacity(KEY_BYTES + MAC_BYTES);
        bytes.extend_from_slice(&key.shard.to_be_bytes());
        bytes.extend_from_slice(&key.slot.to_be_bytes());
        bytes.extend_from_slice(&key.serial.to_be_bytes());
        self.signed(b's', bytes)
    }

    /// Reads a session id as clients write it; `None` if this process did not make it.
    pub fn session(&self, text: &str) -> Option<SessionKey> {
        let bytes: [u8; KEY_BYTES] = self.verified(b's', text)?;
        Some(SessionKey {
            shard: u16::from_be_bytes([bytes[0], bytes[1]]),
            slot: u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
            serial: u32::from_be_bytes([bytes[6], bytes[7], bytes[8], bytes[9]]),
        })
    }

    /// The private id by which a socket can be recovered: 42 characters.
    pub fn private_id(&self, sid: Sid) -> String {
        self.signed(b'p', sid.0.to_vec())
    }

    /// The socket that a private id is for; `None` if this process did not make it.
    pub fn socket(&self, text: &str) -> Option<Sid> {
        self.verified(b'p', text).map(Sid)
    }

    fn signed(&self, kind: u8, mut bytes: Vec<u8>) -> String {
        let mac = self.mac(kind, &bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn verified<const N: usize>(&self, kind: u8, text: &str) -> Option<[u8; N]> {
        let mut bytes = [0; 2 * MAC_BYTES];
        let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (told, mac) = bytes.get(..count)?.split_at_checked(N)?;
        let differs = self.mac(kind, told).iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        if mac.len() != MAC_BYTES || differs != 0 {
            return None;
        }
        told.try_into().ok()
    }

    fn mac(&self, kind: u8, bytes: &[u8]) -> [u8; MAC_BYTES] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(&[kind]);
        hasher.write(bytes);
        hasher.finish128().as_bytes()
    }
}

/// A room on its home shard: the shard (16 bits) and a number that is never used again (48).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoomId(u64);

impl RoomId {
    /// The `number`-th room of `shard`.
    pub fn new(shard: u16, number: u64) -> Self {
        Self(u64::from(shard) << 48 | number)
    }

    /// The shard that is the room's home.
    pub fn home(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// The shard that is home to the room called `name`, of `shards`.
pub fn home_of(name: &str, shards: u16) -> u16 {
    // FNV-1a (64 bits): the same on every start and host, and good enough for a few hundred bins
    // once folded.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    ((hash ^ hash >> 32) % u64::from(shards)) as u16
}

/// Random bytes of the operating system, fetched in blocks.
pub struct Entropy {
    block: [u8; 1024],
    used: usize,
}

impl Default for Entropy {
    fn default() -> Self {
        Self { block: [0; 1024], used: 1024 }
    }
}

impl Entropy {
    /// `N` random bytes (at most 1,024).
    ///
    /// # Panics
    /// When the operating system has no randomness to give, which no later call would mend.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > self.block.len() {
            getrandom::fill(&mut self.block).expect("the operating system's random numbers");
            self.used = 0;
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.block[self.used..self.used + N]);
        self.block[self.used..self.used + N].fill(0);
        self.used += N;
        bytes
    }

    /// A random number.
    pub fn number(&mut self) -> u64 {
        u64::from_ne_bytes(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_survives_the_round_trip() {
        let sid = Sid::new(0xdead_beef, 513, 0x00ab_cdef, 0x0000_1234_5678_9abc);
        assert_eq!((sid.host(), sid.shard(), sid.slot()), (0xdead_beef, 513, 0x00ab_cdef));
        let text = sid.encode();
        assert_eq!(text.as_str().len(), SID_CHARS);
        assert_eq!(Sid::parse(text.as_str()), Some(sid));
    }

    #[test]
    fn what_is_no_sid_is_refused() {
        for text in
            ["", "short", "with spaces in it...", "12345678901234567890!", "é23456789012345678"]
        {
            assert_eq!(Sid::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sealed_ids_are_read_back_and_nothing_else_is() {
        let seal = Seal::new(&mut Entropy::default());
        let key = SessionKey { shard: 3, slot: 70_000, serial: 9 };
        let text = seal.session_id(key);
        assert_eq!((text.len(), seal.session(&text)), (35, Some(key)));
        let sid = Sid::new(1, 2, 3, 4);
        let private = seal.private_id(sid);
        assert_eq!((private.len(), seal.socket(&private)), (42, Some(sid)));
        assert_eq!((seal.session(&private), seal.socket(&text)), (None, None));
        assert_eq!(Seal::new(&mut Entropy::default()).session(&text), None, "another process");
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("ASCII");
            assert_eq!(seal.session(&other), None, "at {at}");
        }
        for text in ["", "x", &"A".repeat(35), &"A".repeat(500), "é", "\0"] {
            assert_eq!(seal.session(text), None, "{text}");
        }
    }

    #[test]
    fn homes_are_spread_evenly() {
        let mut counts = [0u32; 8];
        for number in 0..8000 {
            counts[usize::from(home_of(&format!("room-{number}"), 8))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn random_bytes_do_not_repeat() {
        let mut entropy = Entropy::default();
        let drawn: std::collections::HashSet<u64> = (0..1000).map(|_| entropy.number()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
