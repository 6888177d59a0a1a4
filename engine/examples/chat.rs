//! The smallest chat: rooms in which everybody hears what anybody says.
//!
//! Run it, then from Node or a browser:
//!
//! ```js
//! const socket = io("http://localhost:5000", { auth: { name: "ann" } });
//! await socket.emitWithAck("enter", "lobby");
//! socket.on("said", (name, what) => console.log(name, what));
//! socket.emit("say", "lobby", "hello");
//! ```
#![forbid(unsafe_code)]

use std::error::Error;
use std::sync::Arc;

use clap::Parser;
use serde_json::json;
use throng::app::{App, Audience, Call, Event, Handlers, Handshake, Refusal, Room, Socket};
use throng::config::Config;
use throng::host::{Host, without_history};
use throng::ids::Sid;

struct Chat {
    handlers: Arc<Handlers<Self>>,
}

type InChat<'a, 'b> = &'a mut Socket<'b, Chat>;

impl Chat {
    fn new() -> Self {
        let handlers = Handlers::default()
            .on("enter", |_, socket: InChat<'_, '_>, call: Call<'_, (String,)>| {
                // The ack leaves when the room's home has let the socket in.
                let _ = socket.join(&call.args.0, (), call.ack);
            })
            .on("leave", |_, socket: InChat<'_, '_>, call: Call<'_, (String,)>| {
                socket.leave(&call.args.0, call.ack);
            })
            .on("say", |_, socket: InChat<'_, '_>, call: Call<'_, (String, String)>| {
                let (room, what) = call.args;
                if socket.is_in(&room) {
                    let args = format!("{},{}", json!(socket.session()), json!(what));
                    socket.broadcast(&room, "said", &args, Audience::All);
                }
            })
            .on_any(|_, socket, event| socket.emit("unknown", &json!(event.name).to_string()));
        Self { handlers: Arc::new(handlers) }
    }
}

impl App for Chat {
    /// A name per socket; nothing else is kept anywhere.
    type Session = String;
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = ();

    fn connect(&mut self, handshake: &Handshake<'_>) -> Result<String, Refusal> {
        #[derive(serde::Deserialize)]
        struct Auth {
            name: String,
        }
        let auth: Auth = serde_json::from_str(handshake.auth)
            .map_err(|_| Refusal::coded("invalid", "say your name"))?;
        println!("{} is here as {:?}", auth.name, handshake.sid);
        Ok(auth.name)
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        Arc::clone(&self.handlers).handle(self, socket, event);
    }

    fn disconnect(&mut self, _sid: Sid, name: &mut String, reason: &'static str) {
        println!("{name} is gone: {reason}");
    }

    fn member(&mut self, _sid: Sid, _name: &String) {}

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}
}

/// The smallest chat.
#[derive(Parser)]
struct Args {
    /// Port to listen on
    #[arg(long, default_value_t = 5000)]
    port: u16,
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config { port: Args::parse().port, ..Config::default() };
    let host = Host::start(config, |_| Chat::new(), &without_history)?;
    println!("chat on http://localhost:{}", host.port());
    host.run()
}
