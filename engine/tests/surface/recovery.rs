//! Sockets whose connection breaks and that come back.

use std::time::Duration;

use serde_json::json;

use crate::client::{Client, emission};
use crate::stage::{Stage, play_with};

const WINDOW: Duration = Duration::from_secs(1);
/// What is older than the window is forgotten once a second.
const FORGOTTEN: Duration = Duration::from_millis(2500);

#[test]
fn who_comes_back_has_its_data_its_rooms_and_what_casts_said_meanwhile() {
    play_with(Duration::from_secs(20), |stage| {
        let mut clients = stage.clients(4);
        let mut away = clients.pop().expect("a client");
        away.join("in");
        away.join("also in");
        away.emit("/", "set", &[json!({"kept": [1, 2]})]);
        away.ask("leave", &[json!("also in")]);
        let (teller, others) = clients.split_first_mut().expect("clients");
        others[0].join("in");
        teller.order(emission(&["in"], &[], json!(["read"])));
        let packet = away.next();
        assert_eq!(away.event(&packet), json!(["x", "read"]));
        let sid = away.sid.clone();
        let away = away.breaks();
        assert_eq!(stage.why_gone(&json!({"kept": [1, 2]})), "transport close");
        for (n, (to, except)) in [
            (vec!["in"], vec![]),
            (vec![], vec![]),
            (vec!["other", "in"], vec![]),
            (vec![&*sid], vec![]),
            (vec!["in"], vec!["other"]),
        ]
        .iter()
        .enumerate()
        {
            teller.order(emission(to, except, json!([n])));
            // By way of several shards order is not promised: one after the other.
            settle(teller, others);
        }
        for (to, except) in
            [(vec!["also in"], vec![]), (vec!["in"], vec!["in"]), (vec![], vec![&*sid])]
        {
            teller.order(emission(&to, &except, json!(["not for it"])));
            settle(teller, others);
        }
        let mut volatile = emission(&["in"], &[], json!(["volatile"]));
        volatile["volatile"] = json!(true);
        teller.order(volatile);
        settle(teller, others);
        let (mut back, missed) = Client::returns(stage.port, &away);
        assert_eq!(missed, (0..5).map(|n| json!(["x", n])).collect::<Vec<_>>());
        assert_eq!(back.ask("get", &[]), json!([[{"kept": [1, 2]}, "/", true]]));
        assert_eq!(back.ask("rooms", &[]), json!([["in"]]));
        teller.order(emission(&["in"], &[], json!(["now"])));
        let packet = back.next();
        assert_eq!(back.event(&packet), json!(["x", "now"]));
        // A second time, with nothing missed.
        let (mut back, missed) = Client::returns(stage.port, &back.breaks());
        assert!(missed.is_empty(), "{missed:?}");
        assert_eq!(back.ask("add", &[json!(1), json!(2)]), json!([3]));
    });
}

#[test]
fn a_private_id_of_another_namespace_takes_nothing_and_moves_nobody() {
    play_with(Duration::from_secs(20), |stage| {
        let mut clients = stage.clients(2);
        let mut claimant = clients.pop().expect("a client");
        let mut owner = clients.pop().expect("a client");
        // Wherever they share a shard, the owner's seat is before the claimant's.
        owner.join("in");
        claimant.join("in");
        owner.emit("/", "set", &[json!("owner")]);
        owner.ask("get", &[]);
        let away = owner.breaks();
        stage.why_gone(&json!("owner"));
        let sid = claimant.enter("/custom", &away.1);
        assert_ne!(sid, away.0, "it is new there");
        let (mut owner, missed) = Client::returns(stage.port, &away);
        assert!(missed.is_empty(), "{missed:?}");
        for _ in 0..3 {
            claimant.ask("leave", &[json!("in")]);
            claimant.join("in");
        }
        owner.order(emission(&["in"], &[], json!(["both"])));
        for client in [&mut owner, &mut claimant] {
            let packet = client.next();
            assert_eq!(client.event(&packet), json!(["x", "both"]));
        }
    });
}

/// The event by which a test sees that every shard has done what was said before.
pub(crate) const SETTLED: &str = "settled";

/// Waits until every shard has carried out what `teller` has said: each answers for itself.
fn settle(teller: &mut Client, others: &mut [Client]) {
    teller.order(json!({"verb": "emit", "what": SETTLED}));
    for client in others.iter_mut().chain([teller]) {
        while !client.next().starts_with(r#"42["settled""#) {}
    }
    std::thread::sleep(Duration::from_millis(20));
}

#[test]
fn a_quiet_socket_is_recovered_whatever_others_are_told() {
    // To and without which rooms; `SID` is another's id.
    let cases: [(&str, &[&str], &[&str]); 6] = [
        ("/", &["elsewhere"], &[]),
        ("/", &["SID"], &[]),
        ("/", &["elsewhere", "nowhere"], &[]),
        ("/", &["in"], &["in"]),
        ("/", &["elsewhere"], &["nowhere"]),
        ("/custom", &[], &[]),
    ];
    std::thread::scope(|scope| {
        let runs: Vec<_> = cases
            .iter()
            .map(|case| scope.spawn(|| play_with(WINDOW, |it| quiet(it, case))))
            .collect();
        let faults: Vec<_> = runs
            .into_iter()
            .zip(&cases)
            .filter_map(|(run, it)| run.join().err().and(Some(it)))
            .collect();
        assert!(faults.is_empty(), "not recovered after casts to, and without: {faults:?}");
    });
}

/// A socket that hears nothing for longer than the window, while others are told something.
fn quiet(stage: &Stage, (namespace, to, except): &(&str, &[&str], &[&str])) {
    let mut clients = stage.clients(6);
    let mut quiet = clients.pop().expect("a client");
    quiet.join("in");
    for client in &mut clients {
        client.join("elsewhere");
        client.enter("/custom", &json!({}));
    }
    let sid = clients[1].sid.clone();
    let to: Vec<_> = to.iter().map(|it| if *it == "SID" { &*sid } else { it }).collect();
    clients[0].emit(namespace, "order", &[emission(&to, except, json!([1]))]);
    std::thread::sleep(FORGOTTEN);
    let (mut back, missed) = Client::returns(stage.port, &quiet.breaks());
    assert!(missed.is_empty(), "{missed:?}");
    assert_eq!(back.ask("rooms", &[]), json!([["in"]]));
}

#[test]
fn joins_and_leaves_that_a_break_overtakes_are_whole() {
    play_with(Duration::from_secs(20), |stage| {
        let mut clients = stage.clients(4);
        for round in 0..20 {
            let name = json!({"round": round});
            let mut client = Client::connect(stage.port, &name);
            client.join("left");
            client.emit("/", "join", &[json!("joined")]);
            client.emit("/", "leave", &[json!("left")]);
            let away = client.breaks();
            // What it said has been read; its rooms' homes may not have answered yet.
            assert_eq!(stage.why_gone(&name), "transport close");
            let (mut back, _) = Client::returns(stage.port, &away);
            back.until_in(&["joined"]);
            for (room, hears) in [("joined", true), ("left", false)] {
                clients[0].order(emission(&[room], &[], json!([round])));
                clients[0].order(emission(&[room, &back.sid], &[], json!(["end"])));
                for expected in [json!(round), json!("end")].iter().skip(usize::from(!hears)) {
                    let packet = back.next();
                    assert_eq!(back.event(&packet), json!(["x", expected]));
                }
            }
        }
    });
}
