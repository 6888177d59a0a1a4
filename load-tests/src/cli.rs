//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::dialect::Protocol;
use crate::workload::{chat, connect, fanout, million, soak, storm};

/// Load for Throng and for servers like it: what can it carry, at which cost, and does everything
/// arrive? Each workload answers one question; it fails (status 1) when something was lost, came
/// twice or in the wrong order.
#[derive(Parser, Debug)]
#[command(name = "throng-load", version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    /// The question.
    #[command(subcommand)]
    pub workload: Workload,
}

/// The workloads, by the question they answer.
#[derive(Subcommand, Clone, Debug)]
pub enum Workload {
    /// How fast do connections come up, how many, and what does each cost?
    Connect(connect::Options),
    /// How many messages reach everybody in their rooms, how late, at which cost?
    Fanout(fanout::Options),
    /// How does it do with people: joins, messages, typing, leaves, reconnects?
    Chat(chat::Options),
    /// What happens when all clients lose their connections and come back at once?
    Storm(storm::Options),
    /// Does it stay as it is for hours: does memory grow, is anything ever lost?
    Soak(soak::Options),
    /// Does one host hold a million connections?
    Million(million::Options),
}

/// What all workloads have in common.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Common {
    /// Server: ws://HOST:PORT
    #[arg(long, default_value = "ws://127.0.0.1:5000")]
    pub url: String,
    /// How it is spoken to
    #[arg(long, value_enum, default_value = "socketio")]
    #[serde(skip)]
    pub protocol: Protocol,
    /// Path of the WebSocket; with `plain`, {room} stands for the room [default: by protocol]
    #[arg(long)]
    pub path: Option<String>,
    /// Connections [default: 1000; million: 1000000]
    #[arg(long, short = 'n')]
    pub connections: Option<u64>,
    /// Rooms; connection i is in room i modulo this [default: one for each 100 connections]
    #[arg(long)]
    pub rooms: Option<u32>,
    /// Addresses to connect to instead of the URL's host, in turn; on loopback they are spread
    /// without it
    #[arg(long, value_delimiter = ',')]
    pub targets: Vec<IpAddr>,
    /// Addresses to connect from, in turn [default: as the system chooses]
    #[arg(long, value_delimiter = ',')]
    pub sources: Vec<IpAddr>,
    /// Rings, each with a thread [default: one per core, more where the open-file limit, which
    /// bounds each ring's table, asks for it]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub rings: Option<u32>,
    /// Connections on their way up at one time
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub window: u32,
    /// Connections begun per second at most [default: as fast as it goes]
    #[arg(long, value_parser = positive)]
    pub connect_rate: Option<f64>,
    /// A connection that takes longer to come up has failed
    #[arg(long, default_value = "30s", value_parser = duration)]
    #[serde(skip)]
    pub timeout: Duration,
    /// Poll without sleeping: the server never pays for waking the generator; a core per ring
    #[arg(long)]
    pub spin: bool,
    /// The server's process, on this host: its CPU and memory are measured
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Where the server tells about itself, or `off` [default: /metrics at the URL]
    #[arg(long)]
    pub metrics: Option<String>,
    /// Of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the outcome as one JSON object, and nothing else
    #[arg(long)]
    pub json: bool,
    /// Write a page with plots over time
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
}

/// Reads `300ms`, `10s`, `5m`, `2h`, or plain seconds.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 =
        digits.parse().map_err(|_| format!("{text}: a time is written 300ms, 10s, 5m or 2h"))?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("{text}: {unit} is no unit; ms, s, m and h are")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("{text}: {error}"))
}

/// Reads a time as [`duration`] does, but not none at all.
///
/// # Errors
/// What is wrong with it.
pub fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text}: must be longer than nothing")),
        time => Ok(time),
    }
}

/// Reads a number above 0.
///
/// # Errors
/// What is wrong with it.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number < 1e12 => Ok(number),
        _ => Err(format!("{text}: must be a number above 0")),
    }
}

/// Reads `30/m`, `2/s`, `10/h`, or a plain number per minute; in times per second.
///
/// # Errors
/// What is wrong with it.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "m"));
    let number: f64 =
        number.parse().map_err(|_| format!("{text}: a rate is written 2/s, 30/m or 10/h"))?;
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        unit => return Err(format!("{text}: {unit} is no unit; s, m and h are")),
    };
    if !(0.0..1e9).contains(&number) {
        return Err(format!("{text}: must be a number from 0"));
    }
    Ok(number / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_and_rates_are_read() {
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("7"), Ok(Duration::from_secs(7)));
        assert!(some_time("0s").is_err() && some_time("1ms").is_ok());
        assert!(positive("0").is_err() && positive("nan").is_err() && positive("1e3") == Ok(1e3));
        assert!(duration("-1s").is_err() && duration("5d").is_err() && duration("").is_err());
        assert_eq!((rate("30/m"), rate("30"), rate("2/s")), (Ok(0.5), Ok(0.5), Ok(2.0)));
        assert!(rate("-1/s").is_err() && rate("x").is_err() && rate("1/d").is_err());
    }
}
