//! The scripts, which alone change a room's order in Redis.
//!
//! A room's `meta` is a hash: `e` its epoch (16 hexadecimal digits), `s` the last number given, `i`
//! the id of that message (empty at the beginning of an epoch). Every script's first write is one
//! that Redis denies for want of memory or disk, so that a refused script has changed nothing.

use std::time::Duration;

use redis::{Cmd, Script};

/// How long a repetition of a message without a `client_id` is recognised: longer than any outbox
/// waits.
const SENT_TTL: Duration = Duration::from_secs(120);

/// The same where the client has named it.
const SENT_BY_CLIENT_TTL: Duration = Duration::from_secs(600);

/// A room's numbers outlive its messages: by this, and while a host has the room open.
const META_TTL: Duration = Duration::from_secs(3 * 3600);

/// Numbers a message, keeps it, tells it. KEYS: meta, stream, the key of repetitions, and that of
/// the message that must have been numbered before this one, if there is such. Answers `[0, epoch,
/// seq]`; `[1, epoch, seq, id, at, record]` for a repetition (the record only where it is another
/// message's); `[2]` if the message before is missing.
const PUBLISH: &str = r#"
local epoch, floor, id, record, size = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local sent = redis.call('GET', KEYS[3])
if sent then
  local was, seq, at, first = string.match(sent, '^(%S+) (%S+) (%S+) (%S+)$')
  local found = false
  if was and first ~= id then
    local entry = redis.call('XRANGE', KEYS[2], seq .. '-0', seq .. '-0')[1]
    if entry and entry[2][2] == first then found = entry[2][4] end
  end
  return {1, was, seq, first, at, found}
end
if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 0 then return {2} end
local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'i')
local seq, prev, fresh = tonumber(meta[2]), meta[3], false
if meta[1] and seq and seq >= floor then epoch = meta[1]
else seq, prev, fresh = floor, '', true end
if not prev or prev == '' then prev = '-' end
seq = string.format('%.0f', seq + 1)
redis.call('HSET', KEYS[1], 'e', epoch, 's', seq, 'i', id)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
if fresh then redis.call('DEL', KEYS[2]) end
if size ~= '0' then
  local place = seq .. '-0'
  local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '=', size, place, 'i', id, 'm', record)
  if type(added) == 'table' then
    redis.call('DEL', KEYS[2])
    redis.call('XADD', KEYS[2], place, 'i', id, 'm', record)
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
redis.call('SET', KEYS[3], epoch .. ' ' .. seq .. ' ' .. ARGV[9] .. ' ' .. id, 'PX', ARGV[8])
local event = 'M1 ' .. epoch .. ' ' .. seq .. ' ' .. ARGV[10] .. ' ' .. prev .. ' ' .. id
redis.call(ARGV[12], ARGV[11], event .. '\n' .. record)
return {0, epoch, seq}
"#;

/// What READ and PAGE begin with: entries of the stream (KEYS[2]) in a range's order, so many at
/// most, and until so many bytes are passed, but two where there are two.
macro_rules! take {
    () => {
        r#"
local function take(range, from, to, count, left)
  local entries = {}
  while count > 0 and left > 0 do
    local wanted = math.min(count, 32)
    local got = redis.call(range, KEYS[2], from, to, 'COUNT', wanted)
    for _, entry in ipairs(got) do
      if left > 0 or #entries < 2 then
        entries[#entries + 1] = entry
        left = left - #(entry[2][4] or '') - 64
      end
    end
    if #got < wanted then break end
    count, from = count - #got, '(' .. got[#got][1]
  end
  return entries
end
"#
    };
}

/// Where a room stands, and its entries: from ARGV[3] on, or the newest if that is empty. If Redis
/// knows fewer numbers than the caller (ARGV[2]), a new epoch begins above them. If the caller has
/// found its epoch (ARGV[7]) forked, it ends here, with no number skipped. ARGV: epoch, floor,
/// from, count, bytes, the meta's TTL, the forked epoch. KEYS: meta, stream, settings. Answers
/// `[epoch, seq, id, entries, settings]`.
const READ: &str = concat!(
    take!(),
    r#"
local floor = tonumber(ARGV[2])
local settings = redis.call('HGETALL', KEYS[3])
local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'i')
local epoch, seq, id = meta[1], tonumber(meta[2]), meta[3]
if not seq then epoch = false end
if floor > 0 and (not epoch or seq < floor) then
  local top = string.format('%.0f', floor)
  local raised = redis.pcall('HSET', KEYS[1], 'e', ARGV[1], 's', top, 'i', '')
  if type(raised) == 'number' then
    redis.call('DEL', KEYS[2])
    epoch, seq, id = ARGV[1], floor, ''
  end
end
if epoch and epoch == ARGV[7] then
  local renewed = redis.pcall('HSET', KEYS[1], 'e', ARGV[1])
  if type(renewed) == 'number' then epoch = ARGV[1] end
end
if not epoch then return {false, 0, false, {}, settings} end
redis.pcall('PEXPIRE', KEYS[1], ARGV[6])
local range, from, to = 'XRANGE', ARGV[3], '+'
if from == '' then range, from, to = 'XREVRANGE', '+', '-' end
local entries = take(range, from, to, tonumber(ARGV[4]), tonumber(ARGV[5]))
return {epoch, string.format('%.0f', seq), id, entries, settings}
"#
);

/// A page of the newest entries of a range. KEYS: meta, stream. ARGV: the range's ends, count,
/// bytes. Answers `[seq, the oldest entry's place, entries]`.
const PAGE: &str = concat!(
    take!(),
    r#"
local seq = redis.call('HGET', KEYS[1], 's')
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local entries = take('XREVRANGE', ARGV[2], ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]))
return {seq, oldest and oldest[1] or false, entries}
"#
);

/// Tells the caller's channel a word. A replica refuses to delete, so a master that was one and is
/// not known to be one no longer is found out.
const PROBE: &str = r#"
local done = redis.pcall('DEL', KEYS[1])
if type(done) == 'table' and string.find(done.err, 'READONLY') then return done end
return redis.call(ARGV[2], KEYS[1], ARGV[1])
"#;

/// Changes a room's settings (KEYS[1]), a hash of fields as JSON, and tells them all. ARGV: verb,
/// channel, what the event begins with, how many of the following are the fields and values that
/// change; then all of them, for a room that has none yet. Answers all of them as JSON.
const SETTINGS: &str = r#"
local from, to = 5, 4 + tonumber(ARGV[4])
if redis.call('EXISTS', KEYS[1]) == 0 then from, to = to + 1, #ARGV end
for at = from, to, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
local fields, all = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #fields, 2 do all[#all + 1] = '"' .. fields[at] .. '":' .. fields[at + 1] end
local json = '{' .. table.concat(all, ',') .. '}'
redis.call(ARGV[1], ARGV[2], ARGV[3] .. json)
return json
"#;

const ALL: [&str; 5] = [PUBLISH, READ, PAGE, PROBE, SETTINGS];

/// All scripts, as they are loaded at each node.
pub(super) struct Scripts {
    publish: Script,
    read: Script,
    page: Script,
    probe: Script,
    settings: Script,
}

/// What [`Scripts::publish`] needs beside the message.
pub(super) struct Terms<'a> {
    pub(super) history_size: usize,
    pub(super) history_ttl_ms: u64,
    pub(super) by_client: bool,
    /// `PUBLISH` or `SPUBLISH`.
    pub(super) verb: &'a str,
}

/// The keys and values of one publish.
pub(super) struct Publish<'a> {
    pub(super) meta: &'a str,
    pub(super) stream: &'a str,
    pub(super) sent: &'a str,
    pub(super) after: Option<&'a str>,
    pub(super) channel: &'a str,
    pub(super) epoch: u64,
    pub(super) floor: u64,
    pub(super) id: &'a str,
    pub(super) record: &'a [u8],
    pub(super) at_ms: u64,
    pub(super) at_us: u64,
}

/// What a read asks for.
pub(super) struct Asked<'a> {
    pub(super) meta: &'a str,
    pub(super) stream: &'a str,
    pub(super) settings: &'a str,
    pub(super) epoch: u64,
    pub(super) floor: u64,
    /// `None`: the newest.
    pub(super) from: Option<u64>,
    pub(super) count: usize,
    pub(super) bytes: usize,
    /// An epoch that must not go on.
    pub(super) forked: Option<u64>,
}

fn epoch_text(epoch: u64) -> String {
    format!("{epoch:016x}")
}

/// How long a room's numbers are kept after its last message.
pub(super) fn meta_ttl_ms(history_ttl_ms: u64) -> u64 {
    history_ttl_ms.saturating_add(META_TTL.as_millis() as u64)
}

impl Scripts {
    pub(super) fn new() -> Self {
        let [publish, read, page, probe, settings] = ALL.map(Script::new);
        Self { publish, read, page, probe, settings }
    }

    /// What each node must have been sent.
    pub(super) fn loading(&self) -> Vec<Cmd> {
        let load = |code: &str| {
            let mut cmd = redis::cmd("SCRIPT");
            cmd.arg("LOAD").arg(code);
            cmd
        };
        ALL.map(load).into()
    }

    pub(super) fn publish(&self, it: &Publish<'_>, terms: &Terms<'_>) -> Cmd {
        let sent_ttl = if terms.by_client { SENT_BY_CLIENT_TTL } else { SENT_TTL };
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.publish.get_hash()).arg(3 + usize::from(it.after.is_some()));
        cmd.arg(it.meta).arg(it.stream).arg(it.sent).arg(it.after);
        cmd.arg(epoch_text(it.epoch)).arg(it.floor).arg(it.id).arg(it.record);
        cmd.arg(terms.history_size).arg(terms.history_ttl_ms.max(1));
        cmd.arg(meta_ttl_ms(terms.history_ttl_ms)).arg(sent_ttl.as_millis() as u64);
        cmd.arg(it.at_ms).arg(it.at_us).arg(it.channel).arg(terms.verb);
        cmd
    }

    pub(super) fn read(&self, it: &Asked<'_>, history_ttl_ms: u64) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.read.get_hash()).arg(3).arg(it.meta).arg(it.stream).arg(it.settings);
        cmd.arg(epoch_text(it.epoch)).arg(it.floor);
        cmd.arg(it.from.map(|seq| format!("{seq}-0")).unwrap_or_default());
        cmd.arg(it.count).arg(it.bytes).arg(meta_ttl_ms(history_ttl_ms));
        cmd.arg(it.forked.map(epoch_text).unwrap_or_default());
        cmd
    }

    /// `ends`: the first and the last `seq` that is wanted.
    pub(super) fn page(
        &self,
        meta: &str,
        stream: &str,
        ends: (u64, u64),
        count: usize,
        bytes: usize,
    ) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.page.get_hash()).arg(2).arg(meta).arg(stream);
        cmd.arg(format!("{}-0", ends.0)).arg(format!("{}-0", ends.1)).arg(count).arg(bytes);
        cmd
    }

    pub(super) fn probe(&self, channel: &str, word: &str, verb: &str) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.probe.get_hash()).arg(1).arg(channel).arg(word).arg(verb);
        cmd
    }

    /// `names`: the key, the verb, the channel, and what the event begins with. Fields and their
    /// values: those that change, and all.
    pub(super) fn settings(&self, names: [&str; 4], changed: &[String], all: &[String]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.settings.get_hash()).arg(1).arg(&names).arg(changed.len());
        cmd.arg(changed).arg(all);
        cmd
    }
}
