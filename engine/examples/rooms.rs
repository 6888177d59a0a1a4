//! An application of one's own, in a page: rooms in which everybody hears what anybody says.
//!
//! Run it, then from Node or a browser:
//!
//! ```js
//! const socket = io("http://localhost:5000", {
//!   transports: ["websocket"],
//!   auth: { name: "ann" },
//! });
//! await socket.emitWithAck("enter", "lobby");
//! socket.on("said", (name, what) => console.log(name, what));
//! socket.emit("say", "lobby", "hello");
//! ```
#![forbid(unsafe_code)]

use std::error::Error;

use throng::app::{App, Audience, Event, Refusal, Room, Socket};
use throng::clock::Now;
use throng::config::Config;
use throng::host::Host;
use throng::ids::Sid;
use throng_bridge::{Memory, MemoryLimits};

struct Rooms;

#[derive(serde::Deserialize)]
struct Auth {
    name: String,
}

impl App for Rooms {
    /// A name per socket; nothing else is kept anywhere.
    type Session = String;
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = ();

    fn connect(&mut self, _now: Now, sid: Sid, auth: &str) -> Result<String, Refusal> {
        let auth: Auth = serde_json::from_str(auth)
            .map_err(|_| Refusal { code: "invalid", message: "say your name".into() })?;
        println!("{} is here as {sid:?}", auth.name);
        Ok(auth.name)
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        match event.name {
            "enter" => {
                if let Ok(room) = serde_json::from_str::<String>(event.args) {
                    // The ack leaves when the room's home has let the socket in.
                    let _ = socket.join(&room, (), event.ack);
                }
            }
            "leave" => {
                if let Ok(room) = serde_json::from_str::<String>(event.args) {
                    socket.leave(&room, event.ack);
                }
            }
            "say" => {
                let args = format!("[{}]", event.args);
                if let Ok((room, what)) = serde_json::from_str::<(String, String)>(&args)
                    && socket.is_in(&room)
                {
                    let said = serde_json::json!([socket.session(), what]).to_string();
                    let args = &said[1..said.len() - 1];
                    socket.broadcast(&room, "said", args, Audience::All);
                }
            }
            _ => socket.emit("unknown", &serde_json::json!(event.name).to_string()),
        }
    }

    fn disconnect(&mut self, _sid: Sid, name: String, reason: &'static str) {
        println!("{name} is gone: {reason}");
    }

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let limits = MemoryLimits { messages_per_room: 0, ttl_ms: 0, bytes_max: 0 };
    let bridge = |seat: &throng::host::Seat<'_>| -> Box<dyn throng_bridge::Port> {
        Box::new(Memory::new(limits, seat.id_prefix))
    };
    let host = Host::start(Config::default(), |_| Rooms, bridge)?;
    println!("rooms on http://localhost:{}", host.port());
    host.run()
}
