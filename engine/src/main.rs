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
use throng::keep;
use throng::limits::DRAIN_STORE_PERCENT;
use throng::outside::{self, Outside};
use throng::tuning;
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
        Command::Backup { to, keep, dry_run } => {
            return keep::backup(&loaded, to.as_deref(), keep, dry_run);
        }
        Command::Restore { from, dry_run, force } => {
            return keep::restore(&loaded.config, &from, dry_run, force);
        }
        Command::Maintain { dry_run } => return keep::maintain(&loaded.config, dry_run),
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
    println!("redis     {}", outside::try_out_redis(config)?);
    println!("store     {}", outside::try_out(config)?);
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
    let outside = Outside::start(&config)?;
    let app = |seat: &Seat<'_>| Chat::new(seat.config, seat.limiter, seat.cells, outside.users());
    let host = Host::start(config, app, &outside)?;
    greet(&shown, &host);
    let ended = host.run();
    outside.finish(shown.drain_timeout * DRAIN_STORE_PERCENT / 100);
    ended
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
    println!("  capacity  {} connections on {} shards", facts.connections_max, facts.shards);
    println!("  messages  {}", outside::describe(config));
    println!("  fleet     {}", outside::describe_fleet(config));
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
