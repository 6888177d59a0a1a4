//! Casts over a cluster: who listens is counted over all nodes, and whatever node a channel is
//! heard at, what is published comes.

use super::*;

fn until_heard_anywhere(cluster: &Cluster, word: &str, channel: &str, count: usize) {
    until(&format!("{count} subscribe to {channel}"), || {
        let counts = cluster.nodes.iter().filter_map(|node| {
            node.try_cli(&["pubsub", word, channel])?.lines().last()?.parse::<usize>().ok()
        });
        counts.sum::<usize>() == count
    });
}

#[test]
fn hosts_of_a_cluster_cast_and_answer() {
    let cluster = Cluster::start(3);
    for (adapter, word, channel) in [
        (Adapter::Classic, "numsub", "x:socket.io-request#/#"),
        (Adapter::Sharded(Mode::DynamicPrivate), "shardnumsub", "x:socket.io#/#"),
    ] {
        let start = |host| Host::start_at(&cluster.url(), host, adapter, 1);
        let hosts = [1, 2, 3].map(start);
        until_heard_anywhere(&cluster, "numsub", "x:throng:all", 3);
        until_heard_anywhere(&cluster, word, channel, 3);
        until_heard_anywhere(&cluster, "numsub", "x:throng:adapter:/", 3);
        for nth in 0..200_u32 {
            let args = format!("\"e\",{nth}");
            hosts[0].cast(0, to_all(emit(&args, &[], None)), true, true);
        }
        for host in &hosts[1..] {
            for nth in 0..200_u32 {
                let args = format!("\"e\",{nth}");
                assert_eq!(*host.heard().0, to_all(emit(&args, &[], None)), "in order");
            }
        }
        hosts[0].cast(0, to_all(Deed::Fetch(1)), true, true);
        let mut expected = Vec::new();
        for (index, host) in hosts[1..].iter().enumerate() {
            let request = host.heard().1.expect("it wants answers");
            let socket: Box<str> = format!("{{\"id\":{index}}}").into();
            host.answer(0, request, CastAnswer::Sockets(vec![socket.clone()]));
            expected.push(socket);
        }
        let (1, CastAnswer::Sockets(mut sockets)) = hosts[0].answered(0) else {
            panic!("no sockets")
        };
        sockets.sort();
        assert_eq!(sockets, expected);
        if adapter != Adapter::Classic {
            // Rooms and sockets of all slots.
            let order = |room| Order::Room(format!("r{room}"), true);
            for room in 0..50 {
                hosts[1].orders.send(order(room)).expect("it lives");
                hosts[1].socket("/", &format!("s{room}"), true);
            }
            for (kind, room) in ["r", "s"].iter().flat_map(|kind| (0..50).map(move |n| (kind, n))) {
                let channel = format!("x:socket.io#/#{kind}{room}#");
                until_heard_anywhere(&cluster, "shardnumsub", &channel, 1);
            }
        }
        for host in &hosts {
            assert!(host.poll(0).is_none(), "no host is heard as a Node server");
        }
    }
}
