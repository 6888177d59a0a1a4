//! Which nodes a cluster has, and which slots each of them.

use redis::{Cmd, Value, cmd};
use tokio::task::JoinSet;

use super::super::target::Address;
use super::LinkError;
use super::node::{ASKED_TIMEOUT, Entrance, open, send};
use super::slots::SLOTS;

/// The masters of a cluster, by address, and the place of each slot's among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Topology {
    pub(super) masters: Vec<Address>,
    pub(super) slots: Box<[u16]>,
}

/// Asks all seeds at once; the first that knows is believed, and whether it is behind the others
/// shows soon ([`super::keeper`]).
pub(super) async fn discover(
    seeds: &[Address],
    entrance: &Entrance,
) -> Result<Topology, LinkError> {
    let mut asked = JoinSet::new();
    for seed in seeds {
        let (seed, entrance) = (seed.clone(), entrance.clone());
        asked.spawn(async move {
            let mut connection = open(&seed, &entrance, None, Some(ASKED_TIMEOUT)).await?;
            let answers = send(&mut connection, &questions()).await;
            let found = answers.map_err(|error| error.to_string());
            let found = found.and_then(|answers| read(&answers, &seed));
            found.map_err(|why| LinkError(format!("{seed}: {why}")))
        });
    }
    let mut failures = Vec::new();
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(topology)) => return Ok(topology),
            Ok(Err(LinkError(why))) => failures.push(why),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(LinkError(failures.join("; ")))
}

/// What a node is asked.
pub(super) fn questions() -> [Cmd; 2] {
    [cmd("CLUSTER").arg("SLOTS").take(), cmd("CLUSTER").arg("INFO").take()]
}

/// Reads a node's answers.
pub(super) fn read(answers: &[Value], node: &Address) -> Result<Topology, String> {
    let info = match answers.get(1) {
        Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::VerbatimString { text, .. }) => text.clone(),
        Some(Value::ServerError(error)) => return Err(error.to_string()),
        _ => String::new(),
    };
    if !info.contains("cluster_state:ok") {
        return Err("the cluster's state is not ok".to_owned());
    }
    match answers.first() {
        Some(Value::Array(ranges)) => topology(ranges, node),
        Some(Value::ServerError(error)) => Err(error.to_string()),
        _ => Err("CLUSTER SLOTS gives no slots".to_owned()),
    }
}

/// Reads CLUSTER SLOTS: ranges `[first, last, [host, port, …], replicas…]`.
fn topology(ranges: &[Value], asked: &Address) -> Result<Topology, String> {
    let unreadable = || "CLUSTER SLOTS cannot be read".to_owned();
    let mut owned = Vec::with_capacity(ranges.len());
    for range in ranges {
        let Value::Array(range) = range else { return Err(unreadable()) };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &range[..] else {
            return Err(unreadable());
        };
        let address = match &master[..] {
            [host, Value::Int(port), ..] => address(host, *port, asked),
            _ => None,
        };
        owned.push((*first, *last, address.ok_or_else(unreadable)?));
    }
    let mut masters: Vec<Address> = owned.iter().map(|(.., address)| address.clone()).collect();
    masters.sort();
    masters.dedup();
    let mut slots = vec![u16::MAX; SLOTS.into()].into_boxed_slice();
    for (first, last, address) in owned {
        let index = masters.binary_search(&address).map_err(|_| unreadable())?;
        let range = usize::try_from(first).ok().zip(usize::try_from(last).ok());
        let range = range.and_then(|(first, last)| slots.get_mut(first..=last));
        range.ok_or_else(unreadable)?.fill(index as u16); // there are fewer nodes than slots
    }
    match slots.iter().filter(|index| **index == u16::MAX).count() {
        0 => Ok(Topology { masters, slots }),
        count => Err(format!("{count} slots of the cluster have no node")),
    }
}

/// A node that does not know its own name is where it was asked.
fn address(host: &Value, port: i64, asked: &Address) -> Option<Address> {
    let host = match host {
        Value::BulkString(bytes) if bytes.is_empty() || bytes == b"?" => asked.host.clone(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.into(),
        Value::Nil => asked.host.clone(),
        _ => return None,
    };
    Some(Address { host, port: u16::try_from(port).ok().filter(|port| *port > 0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let host = Value::BulkString(host.into());
        let master = Value::Array(vec![host, Value::Int(port), Value::BulkString("id".into())]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master])
    }

    #[test]
    fn every_slot_has_its_node_or_there_is_no_link() {
        let asked = Address { host: "10.0.0.9".into(), port: 7000 };
        let read = |ranges: &[Value]| topology(ranges, &asked);
        let halves = [range(8192, 16_383, "10.0.0.1", 1), range(0, 8191, "", 2)];
        let found = read(&halves).expect("a topology");
        assert_eq!(found.masters.len(), 2);
        assert_eq!((found.slots[0], found.slots[16_383]), (1, 0));
        assert_eq!(&*found.masters[1].host, "10.0.0.9");
        for wrong in [
            vec![],
            vec![halves[0].clone()],
            vec![range(0, 16_384, "a", 1)],
            vec![range(5, 4, "a", 1)],
            vec![range(-1, 16_383, "a", 1)],
            vec![range(0, 16_383, "a", 70_000)],
            vec![Value::Nil],
            vec![Value::Array(vec![Value::Int(0)])],
        ] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
    }
}
