//! The application under test: it does to others what a client orders.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use throng::app::{App, Audience, Call, Cast, Collected, Event, Handlers, Handshake, Io};
use throng::app::{Namespaces, Refusal, Room, Socket};
use throng::ids::Sid;

/// What a client has the application do to others.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Order {
    /// `io`, or `others`: with the client left out.
    from: String,
    to: Vec<String>,
    except: Vec<String>,
    volatile: bool,
    /// `emit`, `binary`, `join`, `leave`, `disconnect`, `collect`.
    verb: String,
    /// The event's name, or the room.
    what: String,
    args: Vec<Value>,
    close: bool,
    timeout_ms: u64,
}

pub(crate) struct Surface {
    handlers: Arc<Handlers<Self>>,
    gone: Gone,
}

/// Who has been told to be gone, and why.
pub(crate) type Gone = Arc<Mutex<Vec<(Value, &'static str)>>>;

type Here<'a, 'b> = &'a mut Socket<'b, Surface>;

impl Surface {
    pub(crate) fn new(gone: &Gone) -> Self {
        let handlers = Handlers::default()
            .on("join", |_, socket: Here<'_, '_>, call: Call<'_, (String,)>| {
                if socket.join(&call.args.0, (), call.ack).is_err()
                    && let Some(id) = call.ack
                {
                    socket.ack(id, "\"too many\"");
                }
            })
            .on("leave", |_, socket: Here<'_, '_>, call: Call<'_, (String,)>| {
                socket.leave(&call.args.0, call.ack);
            })
            .on("rooms", |_, socket: Here<'_, '_>, call: Call<'_, ()>| {
                let mut rooms: Vec<_> = socket.rooms().iter().map(|it| it.to_string()).collect();
                rooms.sort();
                assert!(rooms.iter().all(|room| socket.is_in(room)));
                answer(socket, call.ack, &json!(rooms));
            })
            .on("add", |_, socket: Here<'_, '_>, call: Call<'_, (i64, i64)>| {
                answer(socket, call.ack, &json!(call.args.0 + call.args.1));
            })
            .on("maybe", |_, socket: Here<'_, '_>, call: Call<'_, (String, Option<u8>)>| {
                answer(socket, call.ack, &json!(call.args));
            })
            .on("set", |_, socket: Here<'_, '_>, call: Call<'_, (Value,)>| {
                *socket.session_mut() = call.args.0;
            })
            .on("get", |_, socket: Here<'_, '_>, call: Call<'_, ()>| {
                let told = json!([socket.session(), socket.namespace(), socket.is_recovered()]);
                answer(socket, call.ack, &told);
            })
            .on("alternate", |_, socket: Here<'_, '_>, call: Call<'_, (String, u64)>| {
                let (room, count) = call.args;
                alternate(socket, &room, count);
            })
            .on("ask me", |_, socket: Here<'_, '_>, call: Call<'_, (Value,)>| {
                let id = socket.emit_with_ack("asked", &call.args.0.to_string());
                answer(socket, call.ack, &json!(id));
            })
            .on("order", |_, socket: Here<'_, '_>, call: Call<'_, (Order,)>| {
                carry_out(socket, call.args.0, call.ack);
            })
            .on("kick me", |_, socket: Here<'_, '_>, call: Call<'_, (bool,)>| {
                socket.disconnect(call.args.0);
            })
            .on_any(|_, socket, event| {
                let args = format!("{},[{}]", json!(event.name), event.args);
                socket.emit("other", &args);
            });
        Self { handlers: Arc::new(handlers), gone: Arc::clone(gone) }
    }
}

fn answer(socket: Here<'_, '_>, ack: Option<u64>, value: &Value) {
    if let Some(id) = ack {
        socket.ack(id, &value.to_string());
    }
}

/// Says numbers to a room, by each way that leads there in turn.
fn alternate(socket: Here<'_, '_>, room: &str, count: u64) {
    let own = socket.sid();
    for number in 0..count {
        let args = number.to_string();
        match number % 4 {
            0 => socket.to(room).emit("n", &args),
            1 => socket.broadcast(room, "n", &args, Audience::Except(own)),
            2 => socket.io().to(room).except(own.encode().as_str()).emit("n", &args),
            _ => socket.broadcast(room, "n", &args, Audience::Listeners(Some(own))),
        }
    }
}

fn carry_out(socket: Here<'_, '_>, order: Order, ack: Option<u64>) {
    let ticket = (socket.sid(), ack.unwrap_or_default());
    if order.from == "others" {
        return finish(socket.others(), order, ticket);
    }
    finish(socket.io().all(), order, ticket);
}

fn finish(mut cast: Cast<'_, Surface>, order: Order, ticket: (Sid, u64)) {
    for room in &order.to {
        cast = cast.to(room);
    }
    for room in &order.except {
        cast = cast.except(room);
    }
    if order.volatile {
        cast = cast.volatile();
    }
    let args: Vec<_> = order.args.iter().map(Value::to_string).collect();
    let args = args.join(",");
    match &*order.verb {
        "emit" => cast.emit(&order.what, &args),
        "binary" => {
            let parts: [Box<[u8]>; 2] = [Box::new([1, 2, 3]), Box::new([4])];
            let args = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
            cast.emit_binary(&order.what, args, &parts);
        }
        "join" => cast.join(&order.what),
        "leave" => cast.leave(&order.what),
        "disconnect" => cast.disconnect(order.close),
        "collect" => {
            cast.collect(&order.what, &args, Duration::from_millis(order.timeout_ms), ticket);
        }
        other => panic!("no such verb: {other}"),
    }
}

impl App for Surface {
    type Session = Value;
    type Member = ();
    type Room = ();
    type Request = ();
    type Ticket = (Sid, u64);

    fn namespaces() -> Namespaces {
        let is_tenant = |name: &str| name.starts_with("/tenant-") && name.len() > 8;
        Namespaces::default().with("/custom").matching(is_tenant)
    }

    fn connect(&mut self, handshake: &Handshake<'_>) -> Result<Value, Refusal> {
        let auth: Value = serde_json::from_str(handshake.auth).expect("JSON");
        match auth.get("refuse") {
            Some(Value::Null) => Err(Refusal::new("no")),
            Some(data) => Err(Refusal { message: "no".into(), data: Some(data.clone()) }),
            None => Ok(auth),
        }
    }

    fn event(&mut self, socket: &mut Socket<'_, Self>, event: Event<'_>) {
        Arc::clone(&self.handlers).handle(self, socket, event);
    }

    fn acknowledged(&mut self, socket: &mut Socket<'_, Self>, id: u64, args: &str) {
        socket.emit("acknowledged", &format!("{id},[{args}]"));
    }

    fn collected(&mut self, io: &mut Io<'_, Self>, (to, id): (Sid, u64), all: Collected) {
        io.answer(to, id, &format!("{},[{}]", all.asked, all.answers.join(",")));
    }

    fn disconnect(&mut self, _sid: Sid, session: &mut Value, reason: &'static str) {
        self.gone.lock().expect("a lock").push((session.clone(), reason));
    }

    fn member(&mut self, _sid: Sid, _session: &Value) {}

    fn request(&mut self, _room: &mut Room<'_, Self>, _from: Sid, (): ()) {}
}
