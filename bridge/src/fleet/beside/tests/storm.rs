//! Whatever breaks and whenever: in the end Redis knows exactly the members that there are (G7).
//!
//! Hosts as in life, with their own threads, reconnecting and repairing; in place of the engine's
//! homes small ones, which do with a roster what is asked of them. A failure prints its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::thread::sleep;

use super::*;
use crate::fleet::keys::{PARTITIONS, partition};
use crate::fleet::{Fleet, Order};
use processes::{Redis, within};

const ROOMS: u64 = 12;
const STORM: Duration = Duration::from_secs(8);

/// A generator that repeats itself with the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One host with its homes.
struct Place {
    number: HostId,
    fleet: Fleet,
    line: FleetLine,
    homes: BTreeMap<String, BTreeSet<String>>,
    next_id: u64,
}

impl Place {
    fn start(url: &str, number: HostId) -> Self {
        let (fleet, mut lines) = Fleet::start(plan(url, number), 1).expect("a thread");
        let line = lines.pop().expect("a line");
        Self { number, fleet, line, homes: BTreeMap::new(), next_id: 0 }
    }

    fn enter(&mut self, room: &str) {
        let home = self.homes.entry(room.to_owned()).or_default();
        if home.is_empty() {
            self.line.order(Order::Open { room: room.into(), floor: 0 });
        }
        let id = format!("{:08x}-{}", self.number, self.next_id);
        self.next_id += 1;
        home.insert(id.clone());
        self.line.tell(Word::Enter { room: room.into(), id: id.into(), member: "{}".into() });
    }

    fn leave(&mut self, room: &str) {
        let Some(home) = self.homes.get_mut(room) else { return };
        let Some(id) = home.pop_first() else { return };
        self.line.tell(Word::Leave { room: room.into(), id: id.into() });
        if home.is_empty() {
            self.line.order(Order::Close { room: room.into() });
        }
    }

    /// Does with rosters what homes do.
    fn turn(&mut self) {
        while let Some(it) = self.line.poll() {
            let FromFleet::News(News::Roster { room, members }) = it else { continue };
            let Some(home) = self.homes.get(&*room).filter(|home| !home.is_empty()) else {
                continue;
            };
            let own = format!("{:08x}-", self.number);
            let there: BTreeSet<&str> =
                members.iter().map(|(id, _)| &**id).filter(|id| id.starts_with(&own)).collect();
            for id in home.iter().filter(|id| !there.contains(id.as_str())) {
                let (room, id) = (Arc::clone(&room), id.as_str().into());
                self.line.tell(Word::Enter { room, id, member: "{}".into() });
            }
            for id in there.into_iter().filter(|id| !home.contains(*id)) {
                self.line.tell(Word::Leave { room: Arc::clone(&room), id: id.into() });
            }
        }
    }
}

/// Members, rooms and counts in Redis, and as they should be.
fn compare(redis: &Redis, places: &[Place]) -> Result<(), String> {
    let keys = Keys::new("t:");
    let lines = |words: &[&str]| {
        let text = redis.cli(words);
        text.lines().filter(|it| !it.is_empty()).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for number in 0..ROOMS {
        let room = format!("room {number}");
        let expected: BTreeSet<String> =
            places.iter().filter_map(|it| it.homes.get(&room)).flatten().cloned().collect();
        let found = lines(&["hkeys", &keys.members(&room)]);
        if found != expected {
            return Err(format!("{room} has {found:?} instead of {expected:?}"));
        }
        let is_listed = lines(&["zrange", &keys.rooms(partition(&room)), "0", "-1"]);
        if is_listed.contains(&room) == expected.is_empty() {
            return Err(format!("{room} of {} is listed or not", expected.len()));
        }
        for place in places {
            let own = keys.rooms_of_host(partition(&room), place.number);
            let count = redis.cli(&["hget", &own, &room]);
            let expected = place.homes.get(&room).map_or(0, BTreeSet::len);
            if count.parse().unwrap_or(0) != expected {
                return Err(format!("{room}: {own} counts {count}, not {expected}"));
            }
        }
    }
    Ok(())
}

#[test]
fn in_the_end_redis_knows_who_is_there() {
    let redis = Redis::start();
    let seed = RandomState::new().hash_one(0) | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut places: Vec<Place> = (1..=3).map(|it| Place::start(&redis.url(), it)).collect();
    let start = Instant::now();
    let mut breaks = 0;
    while start.elapsed() < STORM {
        for place in &mut places {
            for _ in 0..dice.roll(40) {
                let room = format!("room {}", dice.roll(ROOMS));
                if dice.roll(2) == 0 {
                    place.enter(&room);
                } else {
                    place.leave(&room);
                }
            }
            place.turn();
        }
        match dice.roll(60) {
            0 => {
                breaks += u32::from(redis.try_cli(&["client", "kill", "type", "normal"]).is_some())
            }
            1 => {
                breaks += u32::from(redis.try_cli(&["client", "kill", "type", "pubsub"]).is_some())
            }
            2 => drop(redis.cli(&["script", "flush"])),
            3 => drop(redis.cli(&["del", &format!("t:host:{:08x}", 1 + dice.roll(3))])),
            _ => {}
        }
        sleep(Duration::from_millis(dice.roll(30)));
    }
    assert!(breaks > 0, "seed {seed}: nothing was broken");
    let mut last = Ok(());
    let took = within(PATIENCE, &format!("seed {seed}: all as it should be"), || {
        places.iter_mut().for_each(Place::turn);
        let is_up = places.iter().all(|it| it.fleet.stats().is_up());
        last = compare(&redis, &places);
        if let Err(error) = &last {
            println!("{error}");
        }
        is_up && last.is_ok()
    });
    println!("{breaks} breaks; all was well {took:?} after the storm");
    // In good order: nothing stays.
    for place in &mut places {
        for number in 0..ROOMS {
            while place.homes.get(&format!("room {number}")).is_some_and(|home| !home.is_empty()) {
                place.leave(&format!("room {number}"));
            }
        }
    }
    for place in places {
        place.fleet.finish(PATIENCE);
    }
    let keys = Keys::new("t:");
    let left: Vec<String> = redis.cli(&["--scan"]).lines().map(str::to_owned).collect();
    let of_members =
        (0..PARTITIONS).flat_map(|it| (1..=3).map(move |host| (it, host)).collect::<Vec<_>>());
    for (partition, host) in of_members {
        assert!(!left.contains(&keys.rooms_of_host(partition, host)), "seed {seed}: {left:?}");
    }
    assert!(!left.iter().any(|key| key.contains(":members:") || key.ends_with(":rooms")));
    assert!(!left.contains(&keys.hosts()), "seed {seed}: {left:?}");
}
