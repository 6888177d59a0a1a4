//! The same chat events on socketioxide, set up as its documentation recommends.

#![forbid(unsafe_code)]

use axum::Router;
use axum::serve::ListenerExt;
use clap::Parser;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Packets a connection may owe. The default of 128 would lose messages at saturation, and
/// messages that are dropped cost nothing.
const OUTBOX_PACKETS_MAX: usize = 4096;
const BACKLOG: u32 = 4096;

/// A Socket.IO server on socketioxide, one thread.
#[derive(Parser)]
struct Args {
    /// Port to listen on, on all IPv4 addresses.
    #[arg(long, default_value_t = 5200)]
    port: u16,
}

#[derive(Deserialize)]
struct Join {
    room: String,
}

#[derive(Deserialize, Serialize)]
struct Message {
    room: String,
    body: Value,
}

async fn on_join(socket: SocketRef, Data(join): Data<Join>, ack: AckSender) {
    socket.join(join.room.clone());
    ack.send(&json!({"ok": true, "room": join.room})).ok();
}

async fn on_message(socket: SocketRef, Data(message): Data<Message>, ack: AckSender) {
    socket.within(message.room.clone()).emit("message", &message).await.ok();
    ack.send(&json!({"ok": true})).ok();
}

async fn on_connect(socket: SocketRef) {
    socket.on("join", on_join);
    socket.on("message", on_message);
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = Args::parse().port;
    let (layer, io) = SocketIo::builder().max_buffer_size(OUTBOX_PACKETS_MAX).build_layer();
    io.ns("/", on_connect);
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([0, 0, 0, 0], port).into())?;
    let listener = socket.listen(BACKLOG)?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().layer(layer)).await?;
    Ok(())
}
