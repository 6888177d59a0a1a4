//! One socket: its data, its handlers, its namespaces.

use serde_json::{Value, json};
use throng::limits::NAMESPACES_PER_CONNECTION_MAX;

use crate::client::{Client, prefix};
use crate::stage::play;

#[test]
fn every_socket_has_its_own_data() {
    play(|stage| {
        let mut clients = stage.clients(3);
        clients[0].enter("/custom", &json!({"in": "custom"}));
        clients[0].emit("/", "set", &[json!({"a": [1]})]);
        clients[1].emit("/", "set", &[json!("other")]);
        let told = |data: Value, namespace: &str| json!([[data, namespace, false]]);
        assert_eq!(clients[0].ask("get", &[]), told(json!({"a": [1]}), "/"));
        assert_eq!(clients[1].ask("get", &[]), told(json!("other"), "/"));
        assert_eq!(clients[2].ask("get", &[]), told(json!({"name": 2}), "/"));
        let in_custom = clients[0].ask_in("/custom", "get", &[]);
        assert_eq!(in_custom, told(json!({"in": "custom"}), "/custom"));
        drop(clients.remove(1));
        assert_eq!(stage.why_gone(&json!("other")), "transport close");
    });
}

#[test]
fn refusals_are_told_with_their_data_and_the_connection_stays() {
    play(|stage| {
        let mut client = Client::open(stage.port);
        client.send(r#"40{"refuse":null}"#);
        client.expect(r#"44{"message":"no"}"#);
        client.send(r#"40{"refuse":{"code":"x","list":[1,2]}}"#);
        client.expect(r#"44{"message":"no","data":{"code":"x","list":[1,2]}}"#);
        client.send(r#"40/custom,{"refuse":5}"#);
        client.expect(r#"44/custom,{"message":"no","data":5}"#);
        client.send("40/nope,");
        client.expect(r#"44/nope,{"message":"Invalid namespace"}"#);
        client.enter("/", &json!({}));
        assert_eq!(client.ask("add", &[json!(1), json!(2)]), json!([3]));
    });
}

#[test]
fn typed_handlers_take_what_fits_and_the_catch_all_the_rest() {
    play(|stage| {
        let client = &mut stage.clients(1)[0];
        let wrong = json!([{"error": "invalid arguments"}]);
        let ask = |client: &mut Client, name: &str, args: Value| {
            client.ask(name, args.as_array().expect("a list"))
        };
        assert_eq!(ask(client, "add", json!([1, -5])), json!([-4]));
        assert_eq!(ask(client, "add", json!([1, 2, "more", {}])), json!([3]));
        for args in [json!([]), json!([1]), json!(["1", "2"]), json!([1, 2.5]), json!([[1, 2]])] {
            assert_eq!(ask(client, "add", args.clone()), wrong, "{args}");
        }
        assert_eq!(ask(client, "maybe", json!(["a", 7])), json!([["a", 7]]));
        assert_eq!(ask(client, "maybe", json!(["a", null])), json!([["a", null]]));
        assert_eq!(ask(client, "maybe", json!(["a", 256])), wrong);
        // Without an answer wanted, nothing comes.
        client.emit("/", "add", &[json!("x")]);
        client.emit("/", "add", &[json!(1), json!(2)]);
        for name in ["dance", "", "Add", "constructor"] {
            client.emit("/", name, &[json!(1), json!([2])]);
            client.expect(&format!("42[\"other\",{},[1,[2]]]", json!(name)));
        }
        client.emit("/", "dance", &[]);
        client.expect(r#"42["other","dance",[]]"#);
    });
}

#[test]
fn sockets_are_asked_and_their_answers_are_told() {
    play(|stage| {
        let mut clients = stage.clients(2);
        let mut ids = Vec::new();
        for client in &mut clients {
            for question in ["one", "two"] {
                let id = client.ask("ask me", &[json!(question)]);
                client.expect(&format!("42{}[\"asked\",{}]", id[0], json!(question)));
                ids.push(id[0].as_u64().expect("a number"));
            }
        }
        let [first, second] = &mut clients[..] else { unreachable!("two clients") };
        first.send(&format!("43{}[]", ids[1]));
        first.expect(&format!("42[\"acknowledged\",{},[]]", ids[1]));
        first.send(&format!("43{}[1,\"x\"]", ids[0]));
        first.expect(&format!("42[\"acknowledged\",{},[1,\"x\"]]", ids[0]));
        second.send(&format!("43{}[null]", ids[2]));
        second.expect(&format!("42[\"acknowledged\",{},[null]]", ids[2]));
    });
}

#[test]
fn rooms_of_the_same_name_in_two_namespaces_are_two() {
    play(|stage| {
        let mut clients = stage.clients(4);
        let spaces = ["/", "/custom", "/tenant-a", "/tenant-b"];
        for client in &mut clients {
            for space in &spaces[1..] {
                client.enter(space, &json!({}));
            }
        }
        for (number, space) in spaces.iter().enumerate() {
            clients[number].join_in(space, "room");
        }
        for (number, space) in spaces.iter().enumerate() {
            // Said from there, it is heard there alone; to all, by all there.
            let order = json!({"to": ["room"], "verb": "emit", "what": "x", "args": [number]});
            clients[3 - number].emit(space, "order", &[order]);
            clients[number].expect(&format!("42{}[\"x\",{number}]", prefix(space)));
            let order = json!({"verb": "emit", "what": "all", "args": [number]});
            clients[0].emit(space, "order", &[order]);
            for client in &mut clients {
                client.expect(&format!("42{}[\"all\",{number}]", prefix(space)));
            }
        }
        for (number, space) in spaces.iter().enumerate() {
            let rooms = clients[number].ask_in(space, "rooms", &[]);
            assert_eq!(rooms, json!([["room"]]));
        }
    });
}

#[test]
fn an_id_is_a_room_only_in_its_own_namespace() {
    play(|stage| {
        let mut clients = stage.clients(2);
        let in_custom: Vec<_> =
            clients.iter_mut().map(|client| client.enter("/custom", &json!({}))).collect();
        let main = clients[1].sid.clone();
        for (sid, hears) in [(&main, false), (&in_custom[1], true)] {
            let order = json!({"to": [sid], "verb": "emit", "what": "x"});
            clients[0].emit("/custom", "order", &[order]);
            let end = json!({"to": [sid, in_custom[1]], "verb": "emit", "what": "end"});
            clients[0].emit("/custom", "order", &[end]);
            if hears {
                clients[1].expect(r#"42/custom,["x"]"#);
            }
            clients[1].expect(r#"42/custom,["end"]"#);
        }
    });
}

#[test]
fn a_connection_is_in_as_many_namespaces_as_it_may_be() {
    play(|stage| {
        let mut client = Client::connect(stage.port, &json!({}));
        for number in 1..NAMESPACES_PER_CONNECTION_MAX {
            client.enter(&format!("/tenant-{number}"), &json!({"number": number}));
        }
        client.send("40/tenant-more,");
        client.expect(r#"44/tenant-more,{"message":"Too many namespaces"}"#);
        for number in 1..NAMESPACES_PER_CONNECTION_MAX {
            let space = format!("/tenant-{number}");
            let told = client.ask_in(&space, "get", &[]);
            assert_eq!(told, json!([[{"number": number}, space, false]]));
        }
        // Each has its rooms.
        client.join_in("/tenant-7", "room");
        client.join_in("/tenant-31", "room");
        let order = json!({"to": ["room"], "verb": "emit", "what": "x"});
        client.emit("/tenant-31", "order", &[order]);
        client.expect(r#"42/tenant-31,["x"]"#);
        // One is left, another takes its place.
        client.send("41/tenant-7,");
        client.enter("/tenant-more", &json!({}));
        assert_eq!(client.ask("add", &[json!(1), json!(2)]), json!([3]));
        // The connection's end is the end of all.
        drop(client);
        for number in (1..NAMESPACES_PER_CONNECTION_MAX).filter(|it| *it != 7) {
            assert_eq!(stage.why_gone(&json!({"number": number})), "transport close");
        }
        assert_eq!(stage.why_gone(&json!({"number": 7})), "client namespace disconnect");
    });
}

#[test]
fn leaving_a_namespace_leaves_the_others_and_late_packets_do_no_harm() {
    play(|stage| {
        let mut clients = stage.clients(2);
        let [client, other] = &mut clients[..] else { unreachable!("two clients") };
        for it in [&mut *client, &mut *other] {
            it.enter("/custom", &json!({}));
            it.join_in("/custom", "room");
            it.join("room");
        }
        // The client leaves; what it says there afterwards is ignored.
        client.send("41/custom,");
        client.send(r#"42/custom,["add",1]"#);
        client.send(r#"42/custom,5["add",1,2]"#);
        client.send("43/custom,1[]");
        client.send("41/custom,");
        assert_eq!(client.ask("add", &[json!(1), json!(2)]), json!([3]));
        let order = json!({"to": ["room"], "verb": "emit", "what": "x"});
        other.emit("/custom", "order", std::slice::from_ref(&order));
        other.expect(r#"42/custom,["x"]"#);
        other.emit("/", "order", std::slice::from_ref(&order));
        client.expect(r#"42["x"]"#);
        // The same in the main namespace, and back into the first.
        client.enter("/custom", &json!({}));
        client.send("41");
        client.send(r#"42["add",1]"#);
        assert_eq!(client.ask_in("/custom", "rooms", &[]), json!([[]]), "it is new there");
        // The server ends it while the client still talks.
        client.emit("/custom", "kick me", &[json!(false)]);
        client.send(r#"42/custom,["add",1]"#);
        client.expect("41/custom,");
        client.send(r#"42/custom,6["add",1,2]"#);
        client.sid = client.enter("/", &json!({}));
        assert_eq!(client.ask("rooms", &[]), json!([[]]), "and here");
        // But one that it never was in is a fault.
        client.send(r#"42/tenant-x,["add",1]"#);
        client.expect("closed");
    });
}
