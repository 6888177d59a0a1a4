//! One Redis: a connection for commands and one for subscriptions.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, TlsCertificates, Value, cmd,
};
use tokio::time::timeout;

use super::super::target::{Address, Login, Tls};
use super::fate::Fate;
use super::{ANSWER_TIMEOUT, LinkError};

/// How long making a connection may take, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle time before the kernel asks whether the other side still lives, and between its questions.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// How long sent bytes may stay unacknowledged before the kernel gives up.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);

/// Steps in which [`ANSWER_TIMEOUT`] passes.
const ANSWER_STEPS: u32 = 12;

/// How long a node that is only asked a thing or two may take to answer.
pub(super) const ASKED_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that may wait for the connection's task; more wait in their callers.
const QUEUE_MAX: usize = 1024;

/// How one gets in.
#[derive(Clone)]
pub(super) struct Entrance {
    pub(super) login: Login,
    pub(super) tls: Option<Tls>,
    pub(super) database: u16,
    /// What Redis shows of the connections.
    pub(super) name: Box<str>,
    /// Connections for commands.
    pub(super) pool_size: u16,
}

/// What a connection's task does with what arrives unasked.
pub(super) type OnPush = Box<dyn Fn(PushInfo) + Send + Sync>;

/// One Redis; clones share its connections.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) address: Address,
    /// At least one.
    commands: Vec<Wire>,
    pushes: Wire,
}

/// A connection, and how often it has had something to say.
#[derive(Clone)]
struct Wire {
    connection: MultiplexedConnection,
    heard: Arc<AtomicU64>,
}

impl Wire {
    /// Waits for an answer while the connection has anything to say: what stands behind much else
    /// is not late.
    ///
    /// Silence is counted in steps, so that a process that was itself stopped for long reads what
    /// has arrived meanwhile before it judges.
    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, LinkError> {
        let mut answer = pin!(answer);
        let mut heard = self.heard.load(Relaxed);
        let mut steps = 0;
        while steps < ANSWER_STEPS {
            if let Ok(answer) = timeout(ANSWER_TIMEOUT / ANSWER_STEPS, &mut answer).await {
                self.heard.fetch_add(1, Relaxed);
                return answer.map_err(|error| LinkError(error.to_string()));
            }
            let now = self.heard.load(Relaxed);
            steps = if now == heard { steps + 1 } else { 0 };
            heard = now;
        }
        Err(LinkError(format!("no answer within {ANSWER_TIMEOUT:?}")))
    }
}

impl Node {
    /// Connects `pool_size` times for commands and once for subscriptions; all end the link when
    /// they end.
    pub(super) async fn connect(
        address: &Address,
        entrance: &Entrance,
        fate: &Arc<Fate>,
    ) -> Result<Self, LinkError> {
        let mut commands = Vec::with_capacity(entrance.pool_size.into());
        for _ in 0..entrance.pool_size.max(1) {
            let fate = Arc::downgrade(fate);
            let on_push = Box::new(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    end(&fate, "the connection for commands has ended");
                }
            });
            let connection = open(address, entrance, Some(on_push), None).await?;
            commands.push(Wire { connection, heard: Arc::default() });
        }
        let heard = Arc::<AtomicU64>::default();
        let (fate, said) = (Arc::downgrade(fate), Arc::clone(&heard));
        let on_push = Box::new(move |push: PushInfo| {
            said.fetch_add(1, Relaxed);
            dispatch(&fate, push);
        });
        let connection = open(address, entrance, Some(on_push), None).await?;
        let pushes = Wire { connection, heard };
        Ok(Self { address: address.clone(), commands, pushes })
    }

    /// Sends commands in one go, by the connection of a lane.
    pub(super) async fn send(
        &self,
        lane: usize,
        commands: &[Cmd],
    ) -> Result<Vec<Value>, LinkError> {
        let wire = &self.commands[lane % self.commands.len()];
        let mut connection = wire.connection.clone();
        self.told(wire.answer(send(&mut connection, commands)).await)
    }

    /// Sends commands about subscriptions, which so many confirmations answer.
    pub(super) async fn subscribe(
        &self,
        commands: &Pipeline,
        count: usize,
    ) -> Result<Vec<Value>, LinkError> {
        let mut connection = self.pushes.connection.clone();
        let answers = connection.send_packed_commands(commands, 0, count);
        self.told(self.pushes.answer(answers).await)
    }

    /// How many lanes there are.
    pub(super) fn lanes_count(&self) -> usize {
        self.commands.len()
    }

    /// Whether the connection for subscriptions answers.
    pub(super) async fn ping_pushes(&self) -> Result<(), LinkError> {
        let mut connection = self.pushes.connection.clone();
        let ping = cmd("PING");
        let answer = connection.send_packed_command(&ping);
        self.told(self.pushes.answer(answer).await.map(drop))
    }

    /// Says whose failure it is.
    fn told<T>(&self, answer: Result<T, LinkError>) -> Result<T, LinkError> {
        answer.map_err(|LinkError(why)| LinkError(format!("{}: {why}", self.address)))
    }
}

/// Sends commands in one go over a connection; an answer may be [`Value::ServerError`].
pub(super) async fn send(
    connection: &mut MultiplexedConnection,
    commands: &[Cmd],
) -> Result<Vec<Value>, RedisError> {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command.clone());
    }
    connection.send_packed_commands(&pipeline, 0, commands.len()).await
}

/// Makes one connection, which fails where an answer takes longer than `answer_max`.
pub(super) async fn open(
    address: &Address,
    entrance: &Entrance,
    on_push: Option<OnPush>,
    answer_max: Option<Duration>,
) -> Result<MultiplexedConnection, LinkError> {
    let failed = |error: &dyn std::fmt::Display| LinkError(format!("{address}: {error}"));
    let client = client(address, entrance).map_err(|error| failed(&error))?;
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(answer_max)
        .set_pipeline_buffer_size(QUEUE_MAX);
    if let Some(on_push) = on_push {
        config = config.set_push_sender(move |push| {
            on_push(push);
            Ok::<(), redis::aio::SendError>(())
        });
    }
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = connection.map_err(|error| failed(&error))?;
    let name = cmd("CLIENT").arg("SETNAME").arg(&*entrance.name).take();
    match timeout(ASKED_TIMEOUT, connection.send_packed_command(&name)).await {
        Err(_) => Err(failed(&"no answer")),
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(Value::ServerError(error))) => Err(failed(&error)),
        Ok(Ok(_)) => Ok(connection),
    }
}

fn client(address: &Address, entrance: &Entrance) -> Result<Client, RedisError> {
    let (host, port) = (address.host.to_string(), address.port);
    let mut login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(i64::from(entrance.database))
        .set_skip_set_lib_name(); // its name says it, and that needs no right of its own
    if let Some(user) = &entrance.login.user {
        login = login.set_username(user);
    }
    if let Some(password) = &entrance.login.password {
        login = login.set_password(password);
    }
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive)
        .set_user_timeout(UNACKNOWLEDGED_MAX);
    let info = |place: ConnectionAddr| -> Result<ConnectionInfo, RedisError> {
        let info: ConnectionInfo = redis::IntoConnectionInfo::into_connection_info(place)?;
        Ok(info.set_redis_settings(login).set_tcp_settings(tcp))
    };
    let Some(tls) = &entrance.tls else {
        return Client::open(info(ConnectionAddr::Tcp(host, port))?);
    };
    let place = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
    let ca = tls.ca.as_ref().map(std::fs::read).transpose();
    let root_cert = ca.map_err(|error| {
        let path = tls.ca.as_deref().unwrap_or("".as_ref()).display();
        std::io::Error::new(error.kind(), format!("ca={path}: {error}"))
    })?;
    Client::build_with_tls(info(place)?, TlsCertificates { client_tls: None, root_cert })
}

/// Something arrived at a connection for subscriptions.
fn dispatch(fate: &Weak<Fate>, push: PushInfo) {
    let Some(fate) = fate.upgrade() else { return };
    let mut data = push.data.into_iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let mut next = || data.next().flatten();
    let message = match push.kind {
        PushKind::Message | PushKind::SMessage => next().zip(next()),
        PushKind::PMessage => next().and_then(|_pattern| next().zip(next())),
        PushKind::SUnsubscribe => {
            if !next().is_some_and(|channel| fate.has_left(&channel)) {
                fate.end("a slot has moved to another node");
            }
            return;
        }
        PushKind::Disconnection => {
            fate.end("the connection for subscriptions has ended");
            return;
        }
        _ => return,
    };
    match message {
        Some((channel, payload)) => fate.deliver(channel, payload),
        None => drop(fate.end("a message cannot be read")),
    }
}

fn end(fate: &Weak<Fate>, why: &str) {
    if let Some(fate) = fate.upgrade() {
        fate.end(why);
    }
}
