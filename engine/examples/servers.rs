//! One server among others on one Redis: casts, questions and answers that reach the sockets of all
//! of them, Node's included.
//!
//! Run it beside Node servers with `@socket.io/redis-adapter`, or beside others of its kind
//! (settings come from the environment, as those of `throng`):
//!
//! ```sh
//! REDIS_URL=redis://localhost SOCKETIO_ADAPTER=on cargo run --example servers
//! ```
//!
//! Then, from any client of it:
//!
//! ```js
//! await socket.emitWithAck("enter", "lobby");
//! socket.emit("cast", ["lobby"], [], "news", { body: 1 });      // to: lobby, except: nobody
//! socket.emit("hint", ["lobby"], "typing", { by: "ann" });      // not to who is behind
//! await socket.emitWithAck("ask", ["lobby"], "question", 1000); // {asked, answers}
//! await socket.emitWithAck("fetch", ["lobby"]);                 // {asked, answers}: sockets
//! await socket.emitWithAck("askServers", "hello", "all", 1000); // {asked, answers}: of servers
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use throng::app::{
    App, Call, Cast, Collected, Event, Handlers, Handshake, Io, Namespaces, Refusal, Room, Socket,
};
use throng::config;
use throng::host::{Host, Seat};
use throng::ids::Sid;
use throng::outside::Outside;

/// How long servers may take to answer.
const SERVERS_TIMEOUT: Duration = Duration::from_secs(5);

struct Servers {
    handlers: Arc<Handlers<Self>>,
}

/// Who wants to be told what has been collected, and under which number.
struct Asker {
    sid: Sid,
    number: u64,
}

type OnSocket<'a, 'b> = &'a mut Socket<'b, Servers>;
type Names = Vec<String>;

/// The sockets in any of these rooms, in none of those; no rooms: all.
fn cast<'a>(io: &'a mut Io<'_, Servers>, rooms: &[String], except: &[String]) -> Cast<'a, Servers> {
    let all = rooms.iter().fold(io.all(), |cast, room| cast.to(room));
    except.iter().fold(all, |cast, room| cast.except(room))
}

/// Who asks in a call.
fn asker(socket: OnSocket<'_, '_>, ack: Option<u64>) -> Asker {
    Asker { sid: socket.sid(), number: ack.unwrap_or_default() }
}

impl Servers {
    fn new() -> Self {
        let handlers = Handlers::default()
            .on("enter", |_, socket: OnSocket<'_, '_>, call: Call<'_, (String,)>| {
                let _ = socket.join(&call.args.0, (), call.ack);
            })
            .on(
                "cast",
                |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names, Names, String, Value)>| {
                    let (rooms, except, event, value) = call.args;
                    let (args, parts) = (value.to_string(), call.attachments);
                    cast(&mut socket.io(), &rooms, &except).emit_binary(&event, &args, parts);
                },
            )
            .on("hint", |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names, String, Value)>| {
                let (rooms, event, value) = call.args;
                let (args, parts) = (value.to_string(), call.attachments);
                cast(&mut socket.io(), &rooms, &[]).volatile().emit_binary(&event, &args, parts);
            })
            .on("ask", |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names, String, u64)>| {
                let (rooms, event, timeout_ms) = call.args;
                let asker = asker(socket, call.ack);
                let timeout = Duration::from_millis(timeout_ms);
                cast(&mut socket.io(), &rooms, &[]).collect(&event, "", timeout, asker);
            })
            .on("fetch", |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names,)>| {
                let asker = asker(socket, call.ack);
                cast(&mut socket.io(), &call.args.0, &[]).fetch(SERVERS_TIMEOUT, asker);
            })
            .on("rooms", |_, socket: OnSocket<'_, '_>, call: Call<'_, ()>| {
                let asker = asker(socket, call.ack);
                socket.io().fetch_rooms(SERVERS_TIMEOUT, asker);
            })
            .on("tellServers", |_, socket: OnSocket<'_, '_>, call: Call<'_, (String, Value)>| {
                let (event, value) = call.args;
                socket.io().tell_servers(&format!("{},{value}", json!(event)));
            })
            .on(
                "askServers",
                |_, socket: OnSocket<'_, '_>, call: Call<'_, (String, Value, u64)>| {
                    let (event, value, timeout_ms) = call.args;
                    let asker = asker(socket, call.ack);
                    let timeout = Duration::from_millis(timeout_ms);
                    let text = format!("{},{value}", json!(event));
                    socket.io().ask_servers(&text, timeout, asker);
                },
            )
            .on("joinAll", |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names, String)>| {
                cast(&mut socket.io(), &call.args.0, &[]).join(&call.args.1);
            })
            .on("leaveAll", |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names, String)>| {
                cast(&mut socket.io(), &call.args.0, &[]).leave(&call.args.1);
            })
            .on("disconnectAll", |_, socket: OnSocket<'_, '_>, call: Call<'_, (Names, bool)>| {
                cast(&mut socket.io(), &call.args.0, &[]).disconnect(call.args.1);
            });
        Self { handlers: Arc::new(handlers) }
    }
}

impl App for Servers {
    type Session = ();
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = Asker;

    fn namespaces() -> Namespaces {
        Namespaces::default().with("/other")
    }

    fn connect(&mut self, _handshake: &Handshake<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        Arc::clone(&self.handlers).handle(self, socket, event);
    }

    fn collected(&mut self, io: &mut Io<'_, Self>, asker: Asker, collected: Collected) {
        let answers = collected.answers.join(",");
        let told = format!("{{\"asked\":{},\"answers\":[{answers}]}}", collected.asked);
        io.answer(asker.sid, asker.number, &told);
    }

    fn told(&mut self, io: &mut Io<'_, Self>, text: &str, request: Option<u64>) {
        io.all().local().emit("told", text);
        if let Some(request) = request {
            io.answer_server(request, "\"throng heard\"");
        }
    }

    fn member(&mut self, _sid: Sid, (): &()) {}

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}

    fn export(_sid: Sid, (): &()) -> Option<String> {
        Some("{}".to_owned())
    }

    fn import(_json: &str) -> Option<()> {
        Some(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let loaded = config::load(None, |name| std::env::var_os(name), |_| None)?;
    let outside = Outside::start(&loaded.config)?;
    let host = Host::start(loaded.config, |_: &Seat<'_>| Servers::new(), &outside)?;
    println!("servers on http://localhost:{}", host.port());
    host.run()
}
