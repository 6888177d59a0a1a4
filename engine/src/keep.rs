//! `throng backup`, `throng restore`, `throng maintain`: what is done to the store from outside.
//!
//! Owns how these commands read the settings, what they print and their exit codes: 0 done,
//! 1 failed or refused, 75 busy (`EX_TEMPFAIL` of sysexits.h: the same command may succeed later).
//! The work itself is the bridge's. Never serves.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use throng_bridge::backup::{self, BackupError, Place, Plan, Return};
use throng_bridge::store::{Mongo, Retention, Store, StoreError, Swept};

use crate::clock::wall_ms;
use crate::config::{Config, Loaded};
use crate::outside;

const BUSY: u8 = 75;

/// `throng backup`.
#[must_use]
pub fn backup(loaded: &Loaded, to: Option<&Path>, keep: usize, dry_run: bool) -> ExitCode {
    let config = &loaded.config;
    report(place(config).and_then(|place| {
        let to = to.map(Path::to_owned).or_else(|| outside::backups_dir(config));
        let Some(to) = to else {
            return Err(BackupError::Refused("DATA_DIR is none: say --to DIR".to_owned()));
        };
        let plan = Plan {
            to: &to,
            keep,
            dry_run,
            settings: &loaded.settings.to_string(),
            version: env!("CARGO_PKG_VERSION"),
            now_ms: wall_ms(),
        };
        backup::make(place, &plan, &mut say).map(drop)
    }))
}

/// `throng restore`.
#[must_use]
pub fn restore(config: &Config, from: &Path, dry_run: bool, force: bool) -> ExitCode {
    let order = Return { dry_run, force, now_ms: wall_ms() };
    report(place(config).and_then(|place| backup::restore(from, place, &order, &mut say)))
}

/// `throng maintain`.
#[must_use]
pub fn maintain(config: &Config, dry_run: bool) -> ExitCode {
    report(place(config).and_then(|place| {
        if let Place::Sqlite(data_dir) = place {
            if !data_dir.join(outside::FILE).exists() {
                let why = format!("there is no store in {}", data_dir.display());
                return Err(BackupError::Refused(why));
            }
            backup::refuse_engine(data_dir).map_err(|_| {
                BackupError::Busy(format!(
                    "an engine runs on {} and does retention itself; stop it to tend the file",
                    data_dir.display()
                ))
            })?;
        }
        let retention = outside::retention(config);
        if dry_run {
            rehearse(retention);
        } else {
            sweep(config, retention)?;
        }
        match place {
            Place::Sqlite(data_dir) => tend(data_dir, dry_run),
            Place::Mongo(_) => Ok(()),
        }
    }))
}

fn place(config: &Config) -> Result<Place<'_>, BackupError> {
    match (&config.mongodb_uri, &config.data_dir) {
        (Some(uri), _) => Ok(Place::Mongo(uri.reveal())),
        (None, Some(dir)) => Ok(Place::Sqlite(dir)),
        (None, None) => {
            let why = "DATA_DIR is none and MONGODB_URI is not set: nothing is stored";
            Err(BackupError::Refused(why.to_owned()))
        }
    }
}

/// A reader that has gone must not end a run in its midst, as `println!` would.
fn say(line: String) {
    let _gone = writeln!(io::stdout(), "{line}");
}

fn report(done: Result<(), BackupError>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("throng: {error}");
    match error {
        BackupError::Busy(_) => ExitCode::from(BUSY),
        BackupError::Refused(_) | BackupError::Failed(_) => ExitCode::FAILURE,
    }
}

fn rehearse(retention: Retention) {
    let days =
        |ms: Option<u64>| ms.map_or("none".into(), |ms| format!("older than {} s", ms / 1000));
    say(format!("would delete messages: {}, or as their room says", days(retention.messages_ms)));
    say(format!("would delete users: {}", days(retention.users_ms)));
}

fn tend(data_dir: &Path, dry_run: bool) -> Result<(), BackupError> {
    let tended = backup::tend(data_dir, dry_run)?;
    let (before, after) = (tended.bytes_before, tended.bytes_after);
    match (tended.vacuumed, dry_run) {
        (true, true) => say(format!("would write the file anew, {before} bytes, a quarter empty")),
        (false, true) => say(format!("would tend the file, {before} bytes")),
        (true, false) => say(format!("wrote the file anew: {before} bytes before, {after} after")),
        (false, false) => say(format!("tended the file: {before} bytes before, {after} after")),
    }
    Ok(())
}

/// Runs retention over everything once.
fn sweep(config: &Config, retention: Retention) -> Result<(), BackupError> {
    let failed = |error: StoreError| BackupError::Failed(error.to_string());
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| BackupError::Failed(format!("no runtime: {error}")))?;
    let (messages, users) = runtime.block_on(async {
        let store = open_store(config).await.map_err(failed)?;
        let swept = sweep_all(store.as_ref(), retention, wall_ms()).await;
        store.close().await;
        swept.map_err(failed)
    })?;
    let took_ms = begun.elapsed().as_millis();
    say(format!("retention deleted {messages} messages and {users} users in {took_ms} ms"));
    Ok(())
}

async fn sweep_all(
    store: &dyn Store,
    retention: Retention,
    now_ms: u64,
) -> Result<(u64, u64), StoreError> {
    let (mut messages, mut users, mut from) = (0, 0, None);
    loop {
        let step: Swept = store.sweep(retention, now_ms, from).await?;
        messages += step.messages;
        users += step.users;
        match step.next {
            Some(next) => from = Some(next),
            None => return Ok((messages, users)),
        }
    }
}

/// The store that the settings name, its indexes brought into line.
async fn open_store(config: &Config) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(uri) = &config.mongodb_uri {
        let pool_size = config.mongodb_pool_size;
        let mended = Mongo::mend(uri.reveal(), pool_size, outside::retention(config)).await?;
        mended.into_iter().for_each(say);
    }
    outside::open(config).await
}
