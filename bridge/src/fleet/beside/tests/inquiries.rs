//! What the control thread asks.

use super::*;
use crate::message::Range;

#[test]
fn all_rooms_are_listed_in_their_order() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        let mut names: Vec<String> = (0..5000).map(|number| format!("room {number} ü")).collect();
        // All of one partition, which has far more than its share.
        let of_one = (0..200_000).map(|number| format!("a{number}"));
        names.extend(of_one.filter(|it| crate::fleet::keys::partition(it) == 7).take(500));
        names.iter().for_each(|name| a.enter(name, "x", "{}"));
        a.settled(&admin).await;
        names.sort();
        for limit in [1, 100, 999] {
            let (mut seen, mut after): (Vec<Box<str>>, Option<Box<str>>) = (Vec::new(), None);
            loop {
                let page = a.inquiries.rooms(after.as_deref(), limit).await.expect("an answer");
                let Some(last) = page.last() else { break };
                assert!(page.len() <= limit);
                after = Some(last.clone());
                seen.extend(page);
                if limit == 1 && seen.len() == 50 {
                    break;
                }
            }
            let count = if limit == 1 { 50 } else { names.len() };
            assert!(seen.iter().map(|it| &**it).eq(names[..count].iter().map(String::as_str)));
        }
        assert_eq!(a.inquiries.rooms(None, 0).await, Some(vec![]));
    });
}

#[test]
fn a_summary_and_messages_are_read() {
    let redis = Redis::start();
    test(async {
        let admin = Admin::connect(&redis.url()).await;
        let a = Host::start(&redis.url(), 1, &[]).await;
        a.enter("r", "x", "{}");
        a.word(Word::Show { room: "r".into(), summary: "{}".into() });
        a.settled(&admin).await;
        assert_eq!(a.inquiries.summary("r").await, Some(Some("{}".into())));
        assert_eq!(a.inquiries.summary("s").await, Some(None));
        for seq in 1..=5 {
            admin.publish("r", seq).await;
        }
        let range = Range { after: None, before: Some(5), limit: 2 };
        let page = a.inquiries.messages("r", range).await.expect("a page");
        assert_eq!(page.messages.iter().map(|it| it.seq).collect::<Vec<_>>(), [3, 4]);
        assert!(page.more && page.last_seq == 5);
    });
}
