//! What the Sentinels say of where the master is, while it is asked and from then on.
//!
//! Every Sentinel is listened to at once, so that one that is silent or cut off delays nobody. They
//! may contradict each other for a while: the highest configuration epoch counts, and a Sentinel
//! that is carrying out a failover is one ahead of its own.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::super::target::Address;
use super::LinkError;
use super::node::{ASKED_TIMEOUT, Entrance, open, send};

/// Between two questions to a Sentinel; its word that the master has changed is not waited for. So
/// long, too, the others are given to contradict the first that answers.
const ASK: Duration = Duration::from_millis(250);

/// How long [`Sentinels::master`] waits for a first answer.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(3);

/// Where a Sentinel says that the master is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Master {
    pub(super) address: Address,
    epoch: u64,
}

/// What each Sentinel said last, or why it says nothing; `None`: not asked yet.
type Said = Vec<Option<Result<Master, String>>>;

/// Listens to all Sentinels until dropped.
pub(super) struct Sentinels {
    said: watch::Receiver<Said>,
    scouts: Vec<AbortHandle>,
}

impl Sentinels {
    pub(super) fn listen(addresses: &[Address], entrance: &Entrance, name: &str) -> Self {
        let (sender, said) = watch::channel(vec![None; addresses.len()]);
        let sender = Arc::new(sender);
        let scouts = addresses.iter().enumerate().map(|(index, address)| {
            let (address, entrance) = (address.clone(), entrance.clone());
            let (sender, name) = (Arc::clone(&sender), Box::<str>::from(name));
            let tell = move |it| tell(&sender, index, it);
            tokio::spawn(async move {
                loop {
                    tell(Err(follow(&address, &entrance, &name, &tell).await));
                    sleep(ASK).await;
                }
            })
            .abort_handle()
        });
        Self { said, scouts: scouts.collect() }
    }

    /// Where the master is by now; waits until a Sentinel has said it or all have failed. The first
    /// may not have heard of a promotion, and an old master may not know that it is none any more.
    pub(super) async fn master(&self) -> Result<Master, LinkError> {
        let mut said = self.said.clone();
        let all = |said: &Said| said.iter().all(Option::is_some);
        let one = |said: &Said| best(said).is_some() || all(said);
        let _ = timeout(FIRST_ANSWER_MAX, said.wait_for(one)).await;
        let _ = timeout(ASK, said.wait_for(all)).await;
        let said = said.borrow();
        best(&said).cloned().ok_or_else(|| {
            let all = said.iter().flatten().filter_map(|it| it.as_ref().err());
            LinkError(match all.cloned().collect::<Vec<_>>().join("; ") {
                none if none.is_empty() => "no Sentinel answers".to_owned(),
                all => all,
            })
        })
    }

    /// Waits until the master is elsewhere, by words that are no older than these.
    pub(super) async fn moved_from(&self, from: &Master) -> Address {
        let mut said = self.said.clone();
        let elsewhere =
            |master: &Master| master.address != from.address && master.epoch >= from.epoch;
        let found = said.wait_for(|said| best(said).is_some_and(elsewhere)).await;
        let address = found.ok().and_then(|said| best(&said).map(|it| it.address.clone()));
        match address {
            Some(address) => address,
            None => std::future::pending().await, // the scouts are gone, so nobody waits
        }
    }
}

impl Drop for Sentinels {
    fn drop(&mut self) {
        for scout in &self.scouts {
            scout.abort();
        }
    }
}

/// The word that counts; of equals the first, so that it stays the same.
fn best(said: &Said) -> Option<&Master> {
    let all = said.iter().flatten().filter_map(|it| it.as_ref().ok());
    all.reduce(|best, next| if next.epoch > best.epoch { next } else { best })
}

fn tell(said: &watch::Sender<Said>, index: usize, it: Result<Master, String>) {
    said.send_if_modified(|said| {
        let place = said.get_mut(index);
        place.is_some_and(|place| place.replace(it.clone()) != Some(it))
    });
}

/// Listens to one Sentinel until it fails; returns why.
async fn follow(
    address: &Address,
    entrance: &Entrance,
    name: &str,
    tell: &impl Fn(Result<Master, String>),
) -> String {
    let news = Arc::new(Notify::new());
    let told = Arc::clone(&news);
    let on_push = Box::new(move |push: PushInfo| {
        if matches!(push.kind, PushKind::Message | PushKind::Disconnection) {
            told.notify_one();
        }
    });
    let mut connection = match open(address, entrance, Some(on_push), Some(ASKED_TIMEOUT)).await {
        Ok(connection) => connection,
        Err(error) => return format!("Sentinel {error}"),
    };
    if let Err(error) = connection.subscribe("+switch-master").await {
        return format!("Sentinel {address}: {error}");
    }
    loop {
        match ask(&mut connection, name).await {
            Ok(master) => tell(Ok(master)),
            Err(why) => return format!("Sentinel {address}: {why}"),
        }
        let _ = timeout(ASK, news.notified()).await;
    }
}

/// Asks for the master's address, and how new that is.
async fn ask(connection: &mut MultiplexedConnection, name: &str) -> Result<Master, String> {
    let words = |word: &str| cmd("SENTINEL").arg(word).arg(name).take();
    let commands = [words("GET-MASTER-ADDR-BY-NAME"), words("MASTER")];
    let answers = send(connection, &commands).await.map_err(|error| error.to_string())?;
    let unknown = || format!("does not know the master {name}");
    let [Value::Array(place), details] = &answers[..] else { return Err(unknown()) };
    let address = match &place[..] {
        [host, port] => address(text(host), text(port)).ok_or_else(unknown)?,
        _ => return Err(unknown()),
    };
    let field = |wanted: &str| match details {
        Value::Map(fields) => {
            fields.iter().find(|(it, _)| text(it) == Some(wanted)).and_then(|(_, it)| text(it))
        }
        _ => None,
    };
    let epoch = field("config-epoch").and_then(|it| it.parse::<u64>().ok()).ok_or_else(unknown)?;
    let is_ahead = self::address(field("ip"), field("port")).is_some_and(|it| it != address);
    Ok(Master { address, epoch: epoch.saturating_add(is_ahead.into()) })
}

fn address(host: Option<&str>, port: Option<&str>) -> Option<Address> {
    Some(Address { host: host?.into(), port: port?.parse().ok()? })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
