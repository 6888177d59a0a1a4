//! Every fixed capacity of the engine. What an operator may change stands in `config`.

/// Bytes of a request head; more is refused with 431.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Header lines of a request head; more is refused with 431.
pub const HEADERS_MAX: usize = 64;
/// Bytes a client may send behind a request that is not answered yet.
pub const PIPELINED_BYTES_MAX: usize = 64 * 1024;
/// How long a connection may wait between two requests, in milliseconds.
pub const KEEP_ALIVE_MS: u32 = 30_000;
/// How long a request's body may take to come, in milliseconds.
pub const BODY_MS: u32 = 30_000;
/// Packets in one POST of a polling client; more closes its session.
pub const POST_PACKETS_MAX: usize = 1000;
/// Packets in one answer to a polling client: the Python client refuses more.
pub const POLL_PACKETS_MAX: usize = 16;
/// Bytes of one such answer, if it has more than one frame.
pub const POLL_BYTES_MAX: usize = 1 << 20;
/// Bytes from which such an answer is compressed for clients that ask for it.
pub const POLL_COMPRESS_BYTES_MIN: usize = 1024;
/// How long a client may take to bring its session over to WebSocket, in milliseconds.
pub const UPGRADE_MS: u32 = 10_000;
/// Least time between two polls that are let go for nothing during that, in milliseconds.
pub const NOOP_INTERVAL_MS: u32 = 100;
/// How long a session that the server ends waits for a poll to say so, in milliseconds.
pub const LAST_WORDS_MS: u32 = 30_000;
/// How long the end that a client has asked for waits for a poll of the same moment, which it must
/// not overtake, in milliseconds.
pub const TOMBSTONE_MS: u32 = 50;
/// How long packets for a namespace that a client has left are ignored, in milliseconds.
pub const LEFT_NAMESPACE_MS: u32 = 30_000;
/// Namespaces one connection may be in.
pub const NAMESPACES_PER_CONNECTION_MAX: usize = 32;
/// Bytes of events that a shard keeps for recovery.
pub const RECOVERY_BYTES_PER_SHARD_MAX: usize = 32 << 20;
/// Clients of one shard that may owe answers to one event.
pub const ANSWERS_PER_CAST_MAX: usize = 100_000;

/// Fragments one WebSocket message may come in.
pub const FRAGMENTS_MAX: u32 = 1024;
/// Pings of one received chunk that are answered each; of more only the last is answered.
pub const PONGS_PER_CHUNK_MAX: usize = 16;

/// Nesting of arrays and objects in a request's arguments.
pub const JSON_DEPTH_MAX: usize = 32;
/// Bytes of a room's name.
pub const ROOM_NAME_BYTES_MAX: usize = 128;
/// Bytes of a participant's metadata (JSON text).
pub const METADATA_BYTES_MAX: usize = 4096;
/// Bytes of a message's `clientId`.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// Characters of a user's name.
pub const USER_NAME_CHARS_MAX: usize = 32;
/// Participants given at once (`join`, `participants`, `/api/rooms/{id}`).
pub const PARTICIPANTS_PER_PAGE_MAX: usize = 1000;
/// Messages given at once by `history`.
pub const HISTORY_PER_PAGE_MAX: usize = 100;
/// Bytes of a list in one answer: a page ends early rather than overrun an outbox.
pub const REPLY_LIST_BYTES_MAX: usize = 256 << 10;
/// Binary parts in one answer: official clients refuse packets with more than ten.
pub const REPLY_ATTACHMENTS_MAX: usize = 10;
/// Participants of a room above which presence is only counted.
pub const PRESENCE_DETAIL_MAX: usize = 1000;
/// How long presence of such a room is gathered, in milliseconds.
pub const PRESENCE_COUNT_INTERVAL_MS: u32 = 1000;
/// Members one room may have.
pub const ROOM_MEMBERS_MAX: usize = 1 << 20;

/// Bytes of recent messages one shard keeps in memory, over all its rooms.
pub const HISTORY_BYTES_PER_SHARD_MAX: usize = 64 << 20;
/// How often expired messages and limits are swept, in milliseconds.
pub const SWEEP_INTERVAL_MS: u32 = 1000;

/// Batches one shard may have waiting for another.
pub const MESH_BATCHES_MAX: usize = 64;
/// Envelopes held back for a shard above which publishing to it is refused.
pub const MESH_BACKLOG_MAX: usize = 16_384;
/// Requests of the control thread that one shard may have waiting.
pub const CONTROL_REQUESTS_MAX: usize = 256;

/// Connections the control thread serves at once.
pub const HTTP_CONNECTIONS_MAX: usize = 512;
/// How long the control thread waits for a shard's answer, in milliseconds.
pub const SHARD_ANSWER_MS: u64 = 2000;
/// How long a client of the control thread may take to send a request's head, in milliseconds.
pub const HTTP_HEAD_MS: u64 = 10_000;
/// Rooms given at once by `/api/rooms`.
pub const ROOMS_PER_PAGE_MAX: usize = 1000;
/// Bytes of a request's body that the control thread takes.
pub const HTTP_BODY_BYTES_MAX: usize = 64 << 10;
/// How long the control thread waits for what a shard must ask the store, in milliseconds.
pub const STORE_ANSWER_MS: u64 = 10_000;
/// How long it waits for one answer of Redis, in milliseconds: longer than a link to it waits.
pub const FLEET_ANSWER_MS: u64 = 4_000;
/// Rooms of other hosts it reads at once: each may have a long list of participants.
pub const SUMMARIES_AT_ONCE_MAX: usize = 16;
/// User ids a room's settings may name; of 32 ASCII characters each, they fit into one body.
pub const ROOM_USERS_MAX: usize = 1000;
/// Bytes of a room's password.
pub const ROOM_PASSWORD_BYTES_MAX: usize = 128;
/// Bytes of what an operator keeps with a room (JSON text).
pub const ROOM_METADATA_BYTES_MAX: usize = 16 << 10;

/// Seconds a reading must have been good before its alert ends.
pub const ALERT_CLEAR_S: u32 = 10;
/// Seconds over which the store's answers are averaged for its alert.
pub const ALERT_STORE_WINDOW_S: usize = 10;
/// Seconds over which slow consumers are counted for their alert.
pub const ALERT_SLOW_WINDOW_S: usize = 60;
/// Seconds after which retention, where it is on, ought to have been through everything again.
pub const ALERT_RETENTION_S: u64 = 24 * 60 * 60;

/// Slots of a ring beyond its share of the wanted connections: refusals need one to be said in.
pub const SPARE_SLOTS: u64 = 256;
/// How much smaller the queues and buffers of a shard's ring are at the most, where many shards
/// share a core; a power of two.
pub const RING_PARTS_MAX: u32 = 4;
/// How uneven the kernel may spread connections over shards: slots per share, in percent.
pub const SLOT_SPREAD_PERCENT: u64 = 125;

/// How long a start waits for a port that is taken, in milliseconds.
pub const PORT_CLAIM_MS: u64 = 1000;

/// How long a closing connection may take to read its last bytes, in milliseconds.
pub const LINGER_MS: u32 = 2000;
/// Bytes a closing connection may still send before it is cut.
pub const LINGER_BYTES_MAX: u32 = 256 * 1024;

/// Connections come and gone after which a shard gives free memory back.
pub const RELEASE_AFTER_CHURN: u64 = 500;

/// How long heartbeats that are due may wait for others, in milliseconds.
pub const BEATS_GATHER_MS_MAX: u32 = 64;
/// The part of the ping timeout, or of the interval if that is shorter, that timers may be late.
pub const LATE_PART: u32 = 256;
/// Longest wait in the shard's own ring; the executor's other tasks run at least so often.
pub const PARK_MS_MAX: u32 = 100;
/// Time without any event after which a shard sleeps in glommio instead of its ring.
pub const IDLE_MS: u32 = 1000;

/// A room's password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 128;

/// Rooms of a shard that may wait for the store to be opened.
pub const OPENING_ROOMS_MAX: usize = 65_536;
/// Requests that may wait for one of them.
pub const OPENING_ASKS_MAX: usize = 4_096;

/// Messages of the host that may wait for the store, over all shards.
pub const STORE_QUEUE_MAX: usize = 1 << 17;
/// Their bytes, likewise.
pub const STORE_QUEUE_BYTES_MAX: usize = 256 << 20;
/// Questions a shard may have put to the store without an answer.
pub const STORE_QUESTIONS_MAX: usize = 1024;

/// Connections closed per second while draining, at the least.
pub const DRAIN_PER_SECOND_MIN: u64 = 1000;
/// How long idle connections of polling clients stay open at least, so that their next poll can be
/// told of the end, in milliseconds.
pub const DRAIN_REQUESTS_MS: u32 = 500;
/// Share of `DRAIN_TIMEOUT` over which connections are closed, in percent.
pub const DRAIN_SPREAD_PERCENT: u32 = 60;
/// Share of it for the store to take what waits, once the connections are closed, in percent.
pub const DRAIN_STORE_PERCENT: u32 = 30;

const _: () = assert!(DRAIN_SPREAD_PERCENT + DRAIN_STORE_PERCENT <= 100);
const _: () = assert!(TOMBSTONE_MS <= UPGRADE_MS && NOOP_INTERVAL_MS < UPGRADE_MS);
const _: () = assert!(MESH_BATCHES_MAX.is_power_of_two() && RING_PARTS_MAX.is_power_of_two());
const _: () = assert!(LINGER_MS < 5000, "a drain must outlast a lingering close");
const _: () = assert!(PARK_MS_MAX < IDLE_MS);
const _: () = assert!(HISTORY_PER_PAGE_MAX <= PARTICIPANTS_PER_PAGE_MAX);
const _: () = assert!(ROOM_USERS_MAX * (USER_NAME_CHARS_MAX + 3) < HTTP_BODY_BYTES_MAX);
const _: () = assert!(ROOM_METADATA_BYTES_MAX < HTTP_BODY_BYTES_MAX);

/// Casts that may wait on a shard for sockets that earlier casts have sent into rooms.
pub const CASTS_HELD_MAX: usize = 4_096;
/// How long they may, in milliseconds: a room's home answers in microseconds, unless the room must
/// be opened first.
pub const CAST_HELD_MS: u32 = 2_000;
/// Packets for sockets of other hosts that may be on their way from one shard.
pub const RELAYS_MAX: usize = 65_536;
/// How long an answer of another host is waited for, in milliseconds.
pub const RELAY_MS: u32 = 5_000;
/// Clients of other hosts that may wait on one shard until their session has been read.
pub const RETURNS_MAX: usize = 4_096;
/// How long that may take, in milliseconds.
pub const RETURN_MS: u32 = 10_000;
/// How long after that a session is still given back if it comes, in milliseconds.
pub const RETURN_LATE_MS: u32 = 60_000;
/// Messages that one who comes back gets of a room beside what its session says; more than arrive
/// while it is brought back.
pub const RETURN_MESSAGES_MAX: usize = 1_000;
/// How often a room may go on while one who comes back is brought up to date, before that is given
/// up.
pub const RETURN_TRIES_MAX: u32 = 5;
/// How long one who comes back may wait for what it lacks, or for a room to come as far as it has,
/// in milliseconds; then it comes in all the same, and is told that it may have missed something.
pub const RETURN_WAIT_MS: u64 = 5_000;
/// Requests of one who waits so that are kept until it is in; more are answered before.
pub const RETURN_REQUESTS_MAX: usize = 64;
/// Members that rosters may tell a shard in one turn, about: after an outage all rooms are told at
/// once, and each member is parsed.
pub const ROSTER_MEMBERS_PER_TURN: usize = 10_000;
/// How long a room that Redis knows may wait for its members on other hosts, in milliseconds; then
/// it cannot be joined for now.
pub const ARRIVING_MS: u64 = 5_000;
/// How often a room's summary is written to Redis at most, in milliseconds: people look at it.
pub const SHOW_INTERVAL_MS: u64 = 250;
/// So many members add another such interval: a summary of 1,000 participants has 200 KB.
pub const SHOW_MEMBERS_PER_INTERVAL: usize = 100;
