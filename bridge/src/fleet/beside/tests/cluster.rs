//! The same on a cluster: no script and no transaction reaches over slots, and all is found again.

use super::processes::Cluster;
use super::sessions::{remember, session};
use super::*;
use crate::message::Range;

#[test]
fn all_of_it_works_on_a_cluster() {
    let cluster = Cluster::start(3);
    let url = cluster.url();
    test(async {
        let admin = Admin::connect(&url).await;
        let names: Vec<String> = (0..60).map(|number| format!("room {number}")).collect();
        let rooms: Vec<&str> = names.iter().map(String::as_str).collect();
        let (a, b) = (Host::start(&url, 1, &rooms).await, Host::start(&url, 2, &rooms).await);
        a.settled(&admin).await;
        b.settled(&admin).await;
        for room in &rooms {
            a.enter(room, "x", "{}");
            a.enter(room, "y", "{}");
            a.leave(room, "y");
            a.word(Word::Show { room: (*room).into(), summary: "{}".into() });
            a.word(Word::Say { room: (*room).into(), words: (*b"typing").into() });
            admin.publish(room, 1).await;
            a.word(Word::Trail { shard: 0, steps: vec![(10, (*room).into(), 1)] });
        }
        let stays: Vec<(&str, u64)> = rooms.iter().map(|room| (*room, 0)).collect();
        a.word(remember("p", Some(session(1, 0, &stays))));
        a.word(Word::Tell { host: 2, shard: 0, words: (*b"hi").into() });
        a.word(Word::Tell { host: 9, shard: 0, words: (*b"hi").into() });
        a.settled(&admin).await;
        b.hears("1 told hi").await;
        a.hears("9 not told hi").await;
        for room in &rooms {
            for what in ["x entered {}", "y left", "said typing"] {
                b.hears(&format!("{room}: {what}")).await;
            }
            assert_eq!(b.inquiries.summary(room).await, Some(Some("{}".into())));
        }
        assert_eq!(b.inquiries.rooms(None, 100).await.expect("rooms").len(), 60);
        let range = Range { after: None, before: None, limit: 5 };
        assert_eq!(b.inquiries.messages(rooms[0], range).await.expect("a page").last_seq, 1);
        b.word(Word::Recover { ticket: Ticket(1), pid: "p".into(), offset: None });
        b.hears("1 true").await;
        a.kill();
        for room in &rooms {
            b.hears(&format!("{room}: x left")).await;
            admin.until(&["EXISTS", &format!("t:room:{room}")], |it| it == "0").await;
        }
        assert_eq!(b.inquiries.rooms(None, 100).await, Some(vec![]));
    });
}
