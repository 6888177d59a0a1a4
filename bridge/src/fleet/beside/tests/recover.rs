//! Sessions that come back on another host, with exactly what their clients have not read, or not
//! at all.

use super::sessions::{remember, session};
use super::*;
use crate::fleet::words::Offset;

/// Asks for a session; of each room, what was missed and the last `seq`. Any ticket serves once.
async fn recover(
    host: &Host,
    ticket: u64,
    pid: &str,
    offset: Option<u64>,
) -> Option<Vec<(Vec<u64>, u64)>> {
    let offset = offset.map(|position| Offset { host: 1, shard: 0, position, message: None });
    host.word(Word::Recover { ticket: Ticket(ticket), pid: pid.into(), offset });
    answer(host, ticket).await.map(|(missed, _)| missed)
}

async fn answer(host: &Host, ticket: u64) -> Option<(Vec<(Vec<u64>, u64)>, Session)> {
    host_hears(host, ticket).await;
    let news = host.news[0].borrow();
    let found = news.iter().find_map(|it| match it {
        News::Recovered { ticket: it, found } if it.0 == ticket => Some(found.as_deref()),
        _ => None,
    });
    found.expect("an answer").map(|found| {
        let seqs =
            |list: &Vec<Arc<crate::message::Message>>| list.iter().map(|it| it.seq).collect();
        let missed = found.missed.iter().map(|(list, last)| (seqs(list), *last)).collect();
        (missed, found.session.clone())
    })
}

async fn host_hears(host: &Host, ticket: u64) {
    let [no, yes] = [format!("{ticket} false"), format!("{ticket} true")];
    until("an answer", || host.heard().iter().any(|it| *it == no || *it == yes)).await;
}

fn trail(steps: &[(u64, &str, u64)]) -> Word {
    let steps = steps.iter().map(|(at, room, seq)| (*at, Arc::from(*room), *seq)).collect();
    Word::Trail { shard: 0, steps }
}

/// The trail up to a position is in Redis.
async fn told(admin: &Admin, position: u64) {
    let key = Keys::new("t:").passed(1, 0);
    let is_there = |it: &str| it.parse::<u64>().is_ok_and(|it| it >= position);
    admin.until(&["HGET", &key, super::super::steps::WHOLE], is_there).await;
}

#[test]
fn each_room_goes_on_after_the_last_message_read() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        for seq in 1..=20 {
            admin.publish("busy", seq).await;
        }
        for seq in 1..=3 {
            admin.publish("quiet", seq).await;
        }
        a.enter("busy", "sid", "{}");
        a.word(trail(&[(10, "busy", 5), (20, "quiet", 3), (30, "busy", 6)]));
        a.word(trail(&[(40, "busy", 7), (50, "busy", 8), (60, "", 0)]));
        let rooms = [("busy", 4), ("quiet", 2), ("other", 0)];
        for pid in 0..9 {
            a.word(remember(&format!("p{pid}"), Some(session(1, 0, &rooms))));
        }
        a.settled(&admin).await;
        told(&admin, 60).await;
        a.kill();
        let all = |from: u64, to: u64| ((from..=to).collect::<Vec<_>>(), to);
        let cases = [
            (None, all(5, 20), all(3, 3)),
            (Some(5), all(5, 20), all(3, 3)),
            (Some(10), all(6, 20), all(3, 3)),
            (Some(20), all(6, 20), (vec![], 3)),
            (Some(45), all(8, 20), (vec![], 3)),
            (Some(50), all(9, 20), (vec![], 3)),
            (Some(60), all(9, 20), (vec![], 3)),
        ];
        for (number, (offset, busy, quiet)) in cases.into_iter().enumerate() {
            let found = recover(&b, number as u64, &format!("p{number}"), offset).await;
            assert_eq!(found, Some(vec![busy, quiet, (vec![], 0)]), "{offset:?}");
        }
        // Beyond what the trail tells it may have read some of what came later.
        assert_eq!(recover(&b, 7, "p7", Some(61)).await, None);
        assert_eq!(recover(&b, 8, "p0", None).await, None, "only once");
        assert_eq!(recover(&b, 9, "nobody", None).await, None);
        let keys = Keys::new("t:");
        assert!(admin.text(&["GET", &keys.session("p0")]).await.contains("taken"));
        assert!(admin.text(&["GET", &keys.session("p7")]).await.contains("rooms"), "it stays");
        let stats = [&b.stats.recovered, &b.stats.unrecovered];
        let counts = stats.map(|it| it.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(counts, [7, 3]);
    });
}

#[test]
fn what_is_gone_is_not_passed_over() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        let keys = Keys::new("t:");
        for seq in 1..=2000 {
            admin.publish("r", seq).await;
        }
        a.word(remember("p", Some(session(1, 0, &[("r", 1995)]))));
        a.word(remember("long", Some(session(1, 0, &[("r", 900)]))));
        a.word(trail(&[(10, "r", 1996), (20, "r", 1997)]));
        a.settled(&admin).await;
        told(&admin, 20).await;
        assert_eq!(recover(&b, 1, "long", None).await, None, "too much");
        admin.send(&["XDEL", &keys.stream("r"), "1998-0"]).await;
        assert_eq!(recover(&b, 3, "p", Some(20)).await, None, "a hole");
        admin.send(&["DEL", &keys.stream("r")]).await;
        assert_eq!(recover(&b, 4, "p", Some(20)).await, None, "all gone");
        // The numbers begin anew, below what it has: another order.
        admin.publish("r", 7).await;
        assert_eq!(recover(&b, 2, "p", Some(20)).await, None, "a fork");
        admin.publish("r", 2000).await;
        admin.send(&["DEL", &keys.trail(1, 0)]).await;
        assert_eq!(recover(&b, 5, "p", Some(10)).await, None, "no trail");
        admin.send(&["SET", &keys.session("p"), "{\"nonsense\":1}"]).await;
        assert_eq!(recover(&b, 6, "p", None).await, None, "no session");
    });
}

#[test]
fn a_missing_entry_of_a_trail_is_noticed() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        let keys = Keys::new("t:");
        for seq in 1..=9 {
            admin.publish("r", seq).await;
        }
        for pid in ["p", "q"] {
            a.word(remember(pid, Some(session(1, 0, &[("r", 0)]))));
        }
        for step in 1..=5 {
            a.word(trail(&[(step * 10, "r", step)]));
            told(&admin, step * 10).await;
        }
        let key = keys.trail(1, 0);
        assert_eq!(admin.text(&["XLEN", &key]).await, "5");
        admin.send(&["XDEL", &key, "20-0"]).await;
        assert_eq!(recover(&b, 1, "p", Some(10)).await, None, "1 or 2, nobody knows");
        assert_eq!(recover(&b, 2, "q", Some(35)).await, Some(vec![((4..=9).collect(), 9)]));
    });
}

#[test]
fn of_many_who_claim_a_session_one_has_it() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let hosts = Host::start_all(&redis.url(), [2, 3, 4], &[]).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        for round in 0..50 {
            let pid = format!("p{round}");
            a.word(remember(&pid, Some(session(1, 0, &[]))));
            a.settled(&admin).await;
            for host in &hosts {
                for ticket in [round * 2, round * 2 + 1] {
                    let pid = pid.as_str().into();
                    host.word(Word::Recover { ticket: Ticket(ticket), pid, offset: None });
                }
            }
            let mut wins = 0;
            for host in &hosts {
                for ticket in [round * 2, round * 2 + 1] {
                    wins += usize::from(answer(host, ticket).await.is_some());
                }
            }
            assert_eq!(wins, 1, "round {round}");
        }
        // The host that it was on says late what it still thinks.
        let pid = "p0";
        a.word(remember(pid, Some(session(1, 0, &[("late", 1)]))));
        a.word(remember(pid, None));
        a.settled(&admin).await;
        assert!(admin.text(&["GET", "t:session:p0"]).await.contains("taken"));
        let text = admin.text(&["GET", "t:session:p0"]).await;
        let winner = hosts.iter().find(|it| text.contains(&format!(r#""host":{},"#, it.number)));
        let winner = winner.expect("one of them");
        winner.word(remember(pid, Some(session(winner.number, 1, &[]))));
        winner.settled(&admin).await;
        let found = recover(&a, 1000, pid, None).await;
        assert_eq!(found, Some(vec![]), "it has a new life there");
    });
}

#[test]
fn a_trail_outlives_a_broken_link() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        for seq in 1..=4500 {
            admin.publish("r", seq).await;
        }
        for pid in ["p", "q", "s"] {
            a.word(remember(pid, Some(session(1, 0, &[("r", 0), ("once", 0)]))));
        }
        admin.publish("once", 1).await;
        a.word(trail(&[(1, "once", 1)]));
        a.settled(&admin).await;
        for round in 0..40 {
            let steps: Vec<_> =
                (1..=100).map(|it| (round * 100 + it + 1, "r", round * 100 + it)).collect();
            a.word(trail(&steps));
            if round % 8 == 3 {
                a.kill();
                a.live();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        told(&admin, 4001).await;
        let missed = |from: u64| ((from..=4500).collect::<Vec<_>>(), 4500);
        for (ticket, pid, offset) in [(1, "p", 4001), (2, "q", 3700)] {
            let found = recover(&b, ticket, pid, Some(offset)).await;
            assert_eq!(found, Some(vec![missed(offset), (vec![], 1)]), "{offset}");
        }
        let keys = Keys::new("t:");
        admin.send(&["DEL", &keys.passed(1, 0)]).await;
        a.kill();
        a.live();
        told(&admin, 4001).await;
        let found = recover(&b, 3, "s", Some(4001)).await;
        assert_eq!(found, Some(vec![missed(4001), (vec![], 1)]), "all is told again");
    });
}

#[test]
fn rooms_that_nobody_can_come_back_to_leave_no_trail() {
    const ROOMS: usize = 10_000;
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        let passed = Keys::new("t:").passed(1, 0);
        a.enter("open", "x", "{}");
        a.word(trail(&[(1, "open", 1)]));
        for number in 0..ROOMS {
            let (room, position) = (format!("room {number}"), number as u64 + 2);
            a.enter(&room, "x", "{}");
            if number % 2 == 0 {
                a.word(trail(&[(position, &room, 1)]));
            }
            a.leave(&room, "x");
            // Told after the room has been closed, or not.
            a.word(trail(&[(position + 1, &room, 2)]));
        }
        a.settled(&admin).await;
        told(&admin, ROOMS as u64 + 2).await;
        let (desk, link) = (&a.beside.desk, Rc::new(dial(&redis.url()).await.0));
        let later = |hours: u64| Instant::now() + Duration::from_secs(hours * 3600);
        desk.renew_trails(&link, Instant::now()).await.expect("written");
        assert_eq!(admin.text(&["HLEN", &passed]).await, (ROOMS + 2).to_string(), "not yet");
        for hours in [1, 2, 3] {
            desk.renew_trails(&link, later(hours)).await.expect("written");
        }
        assert_eq!(
            admin.text(&["HLEN", &passed]).await,
            "2",
            "the room that is open, and the whole"
        );
        assert_eq!(desk.passed_count(), 1);
    });
}

#[test]
fn a_recovery_that_redis_does_not_answer_is_refused_and_can_be_repeated() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        a.word(remember("p", Some(session(1, 0, &[]))));
        a.settled(&admin).await;
        let b = Host::start(&redis.url(), 2, &[]).await;
        redis.stop();
        assert_eq!(recover(&b, 1, "p", None).await, None);
        redis.cont();
        let start = Instant::now();
        for ticket in 2.. {
            if recover(&b, ticket, "p", None).await.is_some() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "it can be recovered when Redis is back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(recover(&b, 0, "p", None).await, None, "once");
    });
}
