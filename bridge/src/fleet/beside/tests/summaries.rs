//! Summaries live as long as somebody is in the room.

use super::*;

fn show(room: &str, summary: &str) -> Word {
    Word::Show { room: room.into(), summary: summary.into() }
}

#[test]
fn a_summary_goes_with_the_last_member() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        a.enter("r", "x", "{}");
        a.word(show("r", "1"));
        a.word(show("r", "2"));
        a.settled(&admin).await;
        b.enter("r", "y", "{}");
        b.settled(&admin).await;
        a.leave("r", "x");
        a.settled(&admin).await;
        assert_eq!(admin.text(&["GET", "t:room:r"]).await, "2");
        let ttl: i64 = admin.text(&["TTL", "t:room:r"]).await.parse().expect("a number");
        assert!(ttl > 3000, "{ttl}");
        b.leave("r", "y");
        b.word(show("r", "the last word"));
        b.settled(&admin).await;
        admin.until(&["EXISTS", "t:room:r"], |it| it == "0").await;
    });
}

#[test]
fn whoever_shows_a_room_anew_wins() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let [a, b] = Host::start_all(&redis.url(), [1, 2], &[]).await;
        for round in 0..200 {
            let room = format!("r{round}");
            a.enter(&room, "x", "{}");
            a.word(show(&room, "old"));
            a.leave(&room, "x");
            b.enter(&room, "y", "{}");
            b.word(show(&room, "new"));
            if round % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
        a.settled(&admin).await;
        b.settled(&admin).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        for round in 0..200 {
            let key = format!("t:room:r{round}");
            // The one host may have shown it later than the other, but somebody is in it.
            let text = admin.text(&["GET", &key]).await;
            assert!(text == "new" || text == "old", "{key}: {text}");
            let ttl: i64 = admin.text(&["TTL", &key]).await.parse().expect("a number");
            assert!(ttl > 3000, "{key} ends in {ttl} s");
        }
    });
}
