//! Answers and recovery: a vote that asks everybody in a room, and clients that come back.
//!
//! Run it, then from Node or a browser, with several clients:
//!
//! ```js
//! const socket = io("http://localhost:5000");
//! socket.on("connect", () => console.log(socket.recovered ? "back again" : "new"));
//! socket.on("vote", (question, answer) => answer(confirm(question)));
//! socket.on("news", (...news) => console.log(...news));
//! await socket.emitWithAck("enter", "lobby");
//! console.log(await socket.emitWithAck("ask", "lobby", "Pizza?")); // {asked, answers}
//! socket.io.engine.close(); // a connection breaks: nothing that is said meanwhile is lost
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use throng::app::{App, Call, Collected, Event, Handlers, Handshake, Io, Refusal, Room, Socket};
use throng::config::Config;
use throng::host::{Host, without_history};
use throng::ids::Sid;

const VOTE_TIMEOUT: Duration = Duration::from_secs(5);

struct Votes {
    handlers: Arc<Handlers<Self>>,
}

type InVotes<'a, 'b> = &'a mut Socket<'b, Votes>;

/// Who asked, and under which number it wants to be told.
struct Vote {
    asker: Sid,
    number: u64,
}

impl Votes {
    fn new() -> Self {
        let handlers = Handlers::default()
            .on("enter", |_, socket: InVotes<'_, '_>, call: Call<'_, (String,)>| {
                let room = call.args.0;
                let _ = socket.join(&room, (), call.ack);
                let news = format!("{},\"came in\"", json!(socket.sid().encode().as_str()));
                socket.to(&room).emit("news", &news);
            })
            .on("ask", |_, socket: InVotes<'_, '_>, call: Call<'_, (String, String)>| {
                let (room, question) = call.args;
                let vote = Vote { asker: socket.sid(), number: call.ack.unwrap_or_default() };
                let question = json!(question).to_string();
                socket.io().to(&room).collect("vote", &question, VOTE_TIMEOUT, vote);
            })
            .on("typing", |_, socket: InVotes<'_, '_>, call: Call<'_, (String,)>| {
                // Who is behind can do without.
                socket.to(&call.args.0).volatile().emit("typing", "");
            });
        Self { handlers: Arc::new(handlers) }
    }
}

impl App for Votes {
    /// How often the client has come back.
    type Session = u32;
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = Vote;

    fn connect(&mut self, _handshake: &Handshake<'_>) -> Result<u32, Refusal> {
        Ok(0)
    }

    fn connected(&mut self, socket: &mut Socket<'_, Self>) {
        if socket.is_recovered() {
            *socket.session_mut() += 1;
            let times = json!(socket.session()).to_string();
            socket.emit("welcome back", &times);
        }
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        Arc::clone(&self.handlers).handle(self, socket, event);
    }

    fn collected(&mut self, io: &mut Io<'_, Self>, vote: Vote, collected: Collected) {
        let answers = collected.answers.join(",");
        let told = format!("{{\"asked\":{},\"answers\":[{answers}]}}", collected.asked);
        io.answer(vote.asker, vote.number, &told);
    }

    fn member(&mut self, _sid: Sid, _times: &u32) {}

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}
}

/// Votes, and clients that come back.
#[derive(Parser)]
struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = 5000)]
    port: u16,
    /// Shards
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Args { port, workers } = Args::parse();
    let recovery_window = Duration::from_secs(120);
    let config = Config { port, workers, recovery_window, ..Config::default() };
    let host = Host::start(config, |_| Votes::new(), &without_history)?;
    println!("votes on http://localhost:{}", host.port());
    host.run()
}
