//! The binary `throng`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use mimalloc::MiMalloc;
use throng::chat::Chat;
use throng::cli::{self, Command};
use throng::config::{Config, LogFormat};
use throng::host::{Facts, Host, Seat, examine};
use throng::limits::HISTORY_BYTES_PER_SHARD_MAX;
use throng::tuning;
use throng_bridge::{Memory, MemoryLimits, Port};
use throng_ring::memory;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    memory::refuse_huge_pages(); // before anything is allocated that would be in one
    let (command, loaded) = match cli::parse(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(parsed) => parsed,
        Err(exit) => return exit.report(),
    };
    let done = match command {
        Command::ShowConfig => {
            print!("{}", loaded.settings);
            Ok(())
        }
        Command::Check { strict } => check(&loaded.config, strict),
        Command::Run => run(loaded.config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `throng check`: the settings have been found good; now the host.
fn check(config: &Config, strict: bool) -> Result<(), Box<dyn Error>> {
    println!("settings  ok");
    let host = examine()?;
    let facts = Facts::new(config, &host);
    println!("kernel    ok ({})", facts.kernel);
    println!("io_uring  ok (operations, direct descriptors, buffer rings)");
    println!("backlog   {} (net.core.somaxconn)", host.backlog_max);
    println!("files     {} (RLIMIT_NOFILE)", host.open_files_max);
    match &facts.shortfall {
        None => println!("capacity  ok ({} connections)", facts.connections_max),
        Some(why) => println!("capacity  {} connections: {why}", facts.connections_max),
    }
    let advised = advise(config);
    println!("redis     off\nstore     memory (nothing is kept over a restart yet)");
    if strict && (advised || facts.shortfall.is_some()) {
        return Err("the host falls short (--strict)".into());
    }
    Ok(())
}

/// Says which of the kernel's settings are not as many connections want them; whether any is.
fn advise(config: &Config) -> bool {
    if config.connections_max < tuning::CONNECTIONS_MIN {
        println!("sysctl    not compared: MAX_CONNECTIONS is below {}", tuning::CONNECTIONS_MIN);
        return false;
    }
    let findings = tuning::findings();
    if findings.is_empty() {
        println!("sysctl    ok (60-throng.conf)");
        return false;
    }
    println!("sysctl    {} not as a million connections want (sysctl/apply.sh):", findings.len());
    for finding in &findings {
        println!("  {finding}");
    }
    true
}

fn run(config: Config) -> Result<(), Box<dyn Error>> {
    start_log(&config);
    let shown = config.clone();
    let app = |seat: &Seat<'_>| Chat::new(seat.config, seat.limiter, seat.cells);
    let host = Host::start(config, app, in_memory)?;
    greet(&shown, &host);
    host.run()
}

fn in_memory(seat: &Seat<'_>) -> Box<dyn Port> {
    let limits = MemoryLimits {
        messages_per_room: seat.config.history_size,
        ttl_ms: seat.config.history_ttl.as_millis() as u64,
        bytes_max: HISTORY_BYTES_PER_SHARD_MAX,
    };
    Box::new(Memory::new(limits, seat.id_prefix))
}

/// The first lines: where to look, and what was found.
fn greet(config: &Config, host: &Host<Chat>) {
    let facts = host.facts();
    let name = config.host.map_or("localhost".into(), |host| host.to_string());
    let name = if name.contains(':') { format!("[{name}]") } else { name };
    let base = format!("http://{name}:{}", host.port());
    println!("throng {} on Linux {}", env!("CARGO_PKG_VERSION"), facts.kernel);
    println!("  clients   {base}  (Socket.IO; WebSocket on /ws)");
    println!("  health    {base}/health");
    println!("  metrics   {base}/metrics");
    println!("  rooms     {base}/api/rooms");
    println!(
        "  capacity  {} connections on {} shards; messages in memory",
        facts.connections_max, facts.shards
    );
    if let Some(why) = &facts.shortfall {
        println!("  limit     {why}");
    }
    if config.flush_interval > Duration::ZERO {
        println!("  sends     gathered for {:?} (FLUSH_INTERVAL)", config.flush_interval);
    }
}

fn start_log(config: &Config) {
    // The filter was found valid with the settings.
    let filter = EnvFilter::new(&config.log);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
