//! Many sockets at once: who is reached, in which order, and what is done to them.

use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{Client, heard};
use crate::stage::{ROOMS_MAX, play};

#[test]
fn casts_reach_each_chosen_socket_once() {
    play(|stage| {
        let mut clients = stage.clients(7);
        for (number, rooms) in [(0, "A"), (1, "AB"), (2, "B"), (3, "C"), (4, "ABC"), (5, "BC")] {
            for room in rooms.chars() {
                clients[number].join(&room.to_string());
            }
        }
        let sid = |number: usize| clients[number].sid.clone();
        let (own, third, last) = (sid(0), sid(3), sid(6));
        let cases = [
            (json!({}), vec![0, 1, 2, 3, 4, 5, 6]),
            (json!({"from": "others"}), vec![1, 2, 3, 4, 5, 6]),
            (json!({"to": ["A"]}), vec![0, 1, 4]),
            (json!({"from": "others", "to": ["A"]}), vec![1, 4]),
            (json!({"from": "others", "to": ["C"]}), vec![3, 4, 5]),
            (json!({"to": ["A", "B"]}), vec![0, 1, 2, 4, 5]),
            (json!({"to": ["B", "A", "C", "A"]}), vec![0, 1, 2, 3, 4, 5]),
            (json!({"to": ["nobody"]}), vec![]),
            (json!({"to": ["nobody", "C"]}), vec![3, 4, 5]),
            (json!({"except": ["A"]}), vec![2, 3, 5, 6]),
            (json!({"except": ["A", "C"]}), vec![2, 6]),
            (json!({"except": ["nobody"]}), vec![0, 1, 2, 3, 4, 5, 6]),
            (json!({"to": ["B"], "except": ["C"]}), vec![1, 2]),
            (json!({"to": ["A", "B"], "except": ["A", "B"]}), vec![]),
            (json!({"except": [own]}), vec![1, 2, 3, 4, 5, 6]),
            (json!({"to": [last]}), vec![6]),
            (json!({"to": [last, "A"]}), vec![0, 1, 4, 6]),
            (json!({"to": ["A", own]}), vec![0, 1, 4]),
            (json!({"to": [third, third]}), vec![3]),
            (json!({"to": ["C"], "except": [third]}), vec![4, 5]),
            (json!({"from": "others", "to": [own]}), vec![]),
        ];
        let orders: Vec<_> = cases.iter().map(|it| it.0.clone()).collect();
        for (who, (order, expected)) in heard(&mut clients, &orders).iter().zip(&cases) {
            assert_eq!(who, expected, "{order}");
        }
    });
}

#[test]
fn arguments_and_binary_arrive_as_they_were_said() {
    play(|stage| {
        let mut clients = stage.clients(3);
        for client in &mut clients {
            client.join("room");
        }
        let args = json!([1, "two\u{0}\"", {"three": [null, 4.5]}]);
        let order = json!({"to": ["room"], "verb": "emit", "what": "na\"me", "args": args});
        clients[0].order(order);
        clients[0].order(json!({"to": ["room"], "verb": "binary", "what": "bin"}));
        for client in &mut clients {
            let packet = client.next();
            let got: Value =
                serde_json::from_str(packet.strip_prefix("42").expect("an event")).expect("JSON");
            assert_eq!(got, json!(["na\"me", args[0], args[1], args[2]]));
            let head = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
            client.expect(&format!("452-[\"bin\",{head}]"));
            client.expect("b[1, 2, 3]");
            client.expect("b[4]");
        }
    });
}

#[test]
fn order_is_kept_whatever_way_leads_to_a_room() {
    play(|stage| {
        let mut clients = stage.clients(6);
        for room in ["one", "two"] {
            for client in &mut clients {
                client.join(room);
            }
        }
        for room in ["one", "two", "one"] {
            clients[0].emit("/", "alternate", &[json!(room), json!(200)]);
            for client in &mut clients[1..] {
                for number in 0..200 {
                    client.expect(&format!("42[\"n\",{number}]"));
                }
            }
        }
        // It is not among them itself, and from outside it is the same.
        assert_eq!(clients[0].ask("add", &[json!(1), json!(2)]), json!([3]));
        assert_eq!(clients[0].inbox, [""; 0]);
        clients[0].ask("leave", &[json!("one")]);
        clients[0].emit("/", "alternate", &[json!("one"), json!(100)]);
        for client in &mut clients[1..] {
            for number in 0..100 {
                client.expect(&format!("42[\"n\",{number}]"));
            }
        }
    });
}

#[test]
fn who_does_not_read_misses_only_what_is_volatile() {
    const MANY: usize = 400;
    const VOLATILE: usize = 20;
    play(|stage| {
        let mut clients = stage.clients(3);
        let [driver, slow, healthy] = &mut clients[..] else { unreachable!("three clients") };
        slow.join("v");
        healthy.join("v");
        // More than the kernel holds for a connection.
        let filler = "x".repeat(64 << 10);
        let event = |number: usize, volatile: bool| {
            let args = json!([number, if volatile { "v" } else { &filler }]);
            let to = json!({"to": ["v"], "verb": "emit", "what": "e", "args": args});
            let mut order = to;
            order["volatile"] = json!(volatile);
            order
        };
        let number_of = |packet: &str| -> (usize, bool) {
            let event: Value = serde_json::from_str(&packet[2..]).expect("JSON");
            (event[1].as_u64().expect("a number") as usize, event[2] == json!("v"))
        };
        for number in 0..MANY {
            driver.order(event(number, false));
            assert_eq!(number_of(&healthy.next()), (number, false));
        }
        for number in 0..VOLATILE {
            driver.order(event(number, true));
            assert_eq!(number_of(&healthy.next()), (number, true), "who reads misses nothing");
        }
        driver.order(event(MANY, false));
        assert_eq!(number_of(&healthy.next()), (MANY, false));
        let (mut next, mut volatile) = (0, 0);
        while next <= MANY {
            match number_of(&slow.next()) {
                (_, true) => volatile += 1,
                (number, false) => {
                    assert_eq!(number, next, "what is not volatile is complete");
                    next += 1;
                }
            }
        }
        assert_eq!(volatile, 0, "volatile events for who is behind");
        // Once it has caught up, it gets them again.
        driver.order(event(1, true));
        assert_eq!(number_of(&slow.next()), (1, true));
    });
}

/// The clients answer the event they are asked next with their number.
fn answer_all(clients: &mut [Client], skip: usize) {
    for (number, client) in clients.iter_mut().enumerate() {
        let packet = client.next();
        let id = packet.strip_prefix("42").and_then(|it| it.strip_suffix(r#"["q","?"]"#));
        let id = id.unwrap_or_else(|| panic!("{packet}"));
        if number != skip {
            client.send(&format!("43{id}[{number},\"more\"]"));
        }
    }
}

#[test]
fn answers_are_collected_until_all_are_there_or_time_is_over() {
    play(|stage| {
        let mut clients = stage.clients(7);
        let (asker, others) = clients.split_first_mut().expect("clients");
        for client in others.iter_mut() {
            client.join("q");
        }
        let order = |room: &str, timeout_ms: u64| {
            let args = json!(["?"]);
            json!({"to": [room], "verb": "collect", "what": "q", "args": args,
                "timeout_ms": timeout_ms})
        };
        // All answer.
        asker.send(&format!("4290[\"order\",{}]", order("q", 8000)));
        answer_all(others, usize::MAX);
        let mut answers = collected(&asker.next(), 90, 6);
        answers.sort_by_key(Value::to_string);
        assert_eq!(answers, [0, 1, 2, 3, 4, 5].map(|it| json!(it)));
        // One does not, and answers too late.
        let begun = Instant::now();
        asker.send(&format!("4291[\"order\",{}]", order("q", 300)));
        answer_all(others, 2);
        let answers = collected(&asker.next(), 91, 6);
        assert_eq!(answers.len(), 5);
        assert!(!answers.contains(&json!(2)));
        let took = begun.elapsed();
        assert!((280..2000).contains(&took.as_millis()), "{took:?}");
        // Nobody is asked.
        asker.send(&format!("4292[\"order\",{}]", order("nobody", 8000)));
        assert!(collected(&asker.next(), 92, 0).is_empty());
        // One is gone before it answers; its answer is never there.
        asker.send(&format!("4293[\"order\",{}]", order("q", 300)));
        answer_all(others, 3);
        drop(clients.remove(4));
        assert_eq!(collected(&clients[0].next(), 93, 6).len(), 5);
        // An answer to nothing, or twice, is ignored.
        clients[1].send("4399999[1]");
        clients[1].send("430[1]");
        assert_eq!(clients[1].ask("add", &[json!(1), json!(1)]), json!([2]));
    });
}

/// The answers in `43<id>[asked,[answers]]`.
fn collected(packet: &str, id: u64, asked: u64) -> Vec<Value> {
    let told = packet.strip_prefix(&format!("43{id}")).unwrap_or_else(|| panic!("{packet}"));
    let told: (u64, Vec<Value>) = serde_json::from_str(told).expect("JSON");
    assert_eq!(told.0, asked, "{packet}");
    told.1
}

#[test]
fn sockets_are_taken_into_rooms_and_out_of_them() {
    play(|stage| {
        let mut clients = stage.clients(5);
        for client in &mut clients[..2] {
            client.join("A");
        }
        clients[4].order(json!({"to": ["A"], "verb": "join", "what": "B"}));
        for client in &mut clients[..2] {
            client.until_in(&["A", "B"]);
        }
        let third = clients[2].sid.clone();
        clients[4].order(json!({"to": [third], "verb": "join", "what": "B"}));
        clients[2].until_in(&["B"]);
        assert_eq!(heard(&mut clients, &[json!({"to": ["B"]})]), [[0, 1, 2]]);
        clients[4].order(json!({"to": ["B"], "except": ["A"], "verb": "leave", "what": "B"}));
        clients[2].until_in(&[]);
        clients[4].order(json!({"verb": "join", "what": "everyone"}));
        clients[0].until_in(&["A", "B", "everyone"]);
        for client in &mut clients[2..] {
            client.until_in(&["everyone"]);
        }
        clients[4].order(json!({"from": "others", "verb": "leave", "what": "everyone"}));
        clients[0].until_in(&["A", "B"]);
        for client in &mut clients[2..4] {
            client.until_in(&[]);
        }
        clients[4].until_in(&["everyone"]);
        assert_eq!(heard(&mut clients, &[json!({"to": ["everyone"]})]), [[4]]);
    });
}

#[test]
fn rooms_are_joined_once_and_not_without_end() {
    play(|stage| {
        let mut clients = stage.clients(3);
        for _ in 0..3 {
            clients[1].join("twice");
        }
        assert_eq!(heard(&mut clients, &[json!({"to": ["twice"]})]), [[1]]);
        assert_eq!(clients[1].ask("leave", &[json!("twice")]), json!([]));
        assert_eq!(clients[1].ask("leave", &[json!("twice")]), json!([]));
        assert_eq!(heard(&mut clients, &[json!({"to": ["twice"]})]), [[0; 0]]);
        for number in 0..ROOMS_MAX {
            clients[2].join(&format!("{number}"));
        }
        assert_eq!(clients[2].ask("join", &[json!("more")]), json!(["too many"]));
        clients[2].ask("leave", &[json!("3")]);
        clients[2].join("more");
        let rooms = clients[2].ask("rooms", &[]);
        assert_eq!(rooms[0].as_array().map(Vec::len), Some(ROOMS_MAX));
    });
}

#[test]
fn casts_disconnect() {
    play(|stage| {
        let mut clients = stage.clients(6);
        for client in &mut clients[..4] {
            client.enter("/custom", &json!({"custom": true}));
        }
        clients[0].join("out");
        clients[1].join("out");
        clients[2].join("cut");
        clients[3].join("cut");
        // From the namespace alone.
        clients[5].order(json!({"to": ["out"], "verb": "disconnect"}));
        for client in &mut clients[..2] {
            client.expect("41");
            assert_eq!(client.ask_in("/custom", "add", &[json!(1), json!(2)]), json!([3]));
        }
        for name in [0, 1] {
            assert_eq!(stage.why_gone(&json!({"name": name})), "server namespace disconnect");
        }
        // With the connection.
        clients[5].order(json!({"to": ["cut"], "verb": "disconnect", "close": true}));
        for client in &mut clients[2..4] {
            let mut ends = [client.next(), client.next()];
            ends.sort();
            assert_eq!(ends, ["41", "41/custom,"]);
            client.expect("closed");
        }
        // All others.
        clients[5].order(json!({"from": "others", "verb": "disconnect", "close": true}));
        clients[4].expect("41");
        clients[4].expect("closed");
        assert_eq!(clients[5].ask("add", &[json!(1), json!(2)]), json!([3]));
        assert_eq!(clients[0].ask_in("/custom", "add", &[json!(1), json!(2)]), json!([3]));
        // Itself.
        clients[0].emit("/custom", "kick me", &[json!(false)]);
        clients[0].expect("41/custom,");
        clients[0].enter("/", &json!({}));
        clients[0].emit("/", "kick me", &[json!(true)]);
        clients[0].expect("41");
        clients[0].expect("closed");
    });
}
