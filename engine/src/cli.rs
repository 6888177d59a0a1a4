//! The command line: `throng` and its commands, and a flag for every setting.
//!
//! It owns the flags, which it derives from the settings' table, and how a refusal reaches the
//! operator. It never looks at a setting's value, nor at the process: arguments and environment are
//! handed to it.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::config::{self, GROUPS, Loaded, Problems, Setting};

/// What the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `throng`: serve.
    Run,
    /// `throng check`: validate the settings and the host.
    Check {
        /// `--strict`: advice counts as failure.
        strict: bool,
    },
    /// `throng config`: print the effective settings.
    ShowConfig,
    /// `throng backup`: copy the store.
    Backup {
        /// `--to`: into this folder instead of `backups` in `DATA_DIR`.
        to: Option<PathBuf>,
        /// `--keep`: how many complete backups may stand there.
        keep: usize,
        /// `--dry-run`: only say what would be done.
        dry_run: bool,
    },
    /// `throng restore`: put a backup back.
    Restore {
        /// The backup's folder.
        from: PathBuf,
        /// `--dry-run`: check it and say what would be done.
        dry_run: bool,
        /// `--force`: move aside what is there.
        force: bool,
    },
    /// `throng maintain`: run retention once and tend the store.
    Maintain {
        /// `--dry-run`: only say what would be done.
        dry_run: bool,
    },
}

/// Why the program ends before it began.
#[derive(Debug)]
pub enum Exit {
    /// Help or version was asked for, or an argument was not understood.
    Usage(clap::Error),
    /// The settings are wrong.
    Settings(Problems),
}

impl Exit {
    /// Prints it where it belongs: 0 is the code of what was asked for, 2 of what must be mended.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Usage(error) => {
                let _closed_pipe = error.print();
                if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
            }
            Self::Settings(problems) => {
                eprintln!("throng: {problems}");
                ExitCode::from(2)
            }
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) => error.fmt(f),
            Self::Settings(problems) => problems.fmt(f),
        }
    }
}

/// Reads the arguments (the program's name first), the file they name and the environment, which is
/// asked by a variable's name.
///
/// # Errors
/// Help and version, which are no errors; an argument that is not understood; every problem with
/// the settings.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(Command, Loaded), Exit> {
    let matches = command_line().try_get_matches_from(args).map_err(Exit::Usage)?;
    let (command, matches) = match matches.subcommand() {
        Some((name, matches)) => (command(name, matches), matches),
        None => (Command::Run, &matches),
    };
    let loaded = load(matches, env).map_err(Exit::Settings)?;
    Ok((command, loaded))
}

fn command(name: &str, matches: &ArgMatches) -> Command {
    let path = |name| matches.get_one::<PathBuf>(name).cloned();
    match name {
        "check" => Command::Check { strict: matches.get_flag("strict") },
        "backup" => Command::Backup {
            to: path("to"),
            keep: matches.get_one("keep").copied().unwrap_or(KEEP) as usize,
            dry_run: matches.get_flag("dry-run"),
        },
        "restore" => Command::Restore {
            from: path("from").unwrap_or_default(),
            dry_run: matches.get_flag("dry-run"),
            force: matches.get_flag("force"),
        },
        "maintain" => Command::Maintain { dry_run: matches.get_flag("dry-run") },
        _ => Command::ShowConfig,
    }
}

fn load(matches: &ArgMatches, env: impl Fn(&str) -> Option<OsString>) -> Result<Loaded, Problems> {
    let file = matches.get_one::<PathBuf>("config");
    config::load(file.map(Path::new), env, |name| matches.get_one(name).cloned())
}

fn command_line() -> clap::Command {
    let file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("TOML file with settings, their names in lower case")
        .global(true);
    let strict =
        switch("strict", "Exit with 1 if the host falls short of anything that is only advised");
    let flags = GROUPS.iter().flat_map(|group| {
        group.settings.iter().map(|setting| flag(setting).help_heading(group.title))
    });
    clap::Command::new("throng")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Realtime connection engine: rooms, chat, presence and signalling over Socket.IO")
        .after_help(AFTER_HELP)
        .disable_help_subcommand(true)
        .arg(file)
        .args(flags)
        .subcommand(
            clap::Command::new("check")
                .about("Validate the settings and the host, then exit")
                .arg(strict),
        )
        .subcommand(
            clap::Command::new("config")
                .about("Print the effective settings as TOML, secrets masked"),
        )
        .subcommands(keeping())
}

/// Backups to keep where nothing is said: a week of nightly ones.
const KEEP: u32 = 7;

/// The commands that look after the store.
fn keeping() -> [clap::Command; 3] {
    let dry_run = || switch("dry-run", "Say what would be done; write and delete nothing");
    let path = |name| Arg::new(name).value_parser(value_parser!(PathBuf));
    let to = path("to")
        .long("to")
        .value_name("DIR")
        .help("Folder that backups stand in [default: backups in DATA_DIR]");
    let keep = Arg::new("keep")
        .long("keep")
        .value_name("N")
        .value_parser(value_parser!(u32).range(1..))
        .help(format!("Delete the oldest backups beyond so many [default: {KEEP}]"));
    let from = path("from").value_name("FROM").required(true).help("The backup: a folder throng-…");
    let force = switch("force", "Replace what is there; it is moved aside, not deleted");
    [
        clap::Command::new("backup")
            .about("Copy the store to a new folder, beside a running engine")
            .args([to, keep, dry_run()]),
        clap::Command::new("restore")
            .about("Check a backup and put it back; the engine must not run")
            .args([from, dry_run(), force]),
        clap::Command::new("maintain")
            .about("Run retention once and tend the store")
            .arg(dry_run()),
    ]
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn flag(setting: &'static Setting) -> Arg {
    // Leaked once per process: clap keeps names for as long as the program lives.
    let long: &'static str = setting.flag().leak();
    Arg::new(setting.name)
        .long(long)
        .value_name("VALUE")
        .help(format!("{} [{}, default: {}]", setting.meaning, setting.name, setting.preset))
        .global(true)
}

const AFTER_HELP: &str = "\
Settings come from defaults < file < environment < flags; in brackets: the environment variable.
An empty variable counts as not set. Times carry a unit (300ms, 25s, 5m, 24h, 7d), sizes may carry
one (64KiB, 1MB).";

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<(Command, Loaded), Exit> {
        let env = |name: &str| (name == "PORT").then(|| OsString::from("1234"));
        parse(["throng"].iter().chain(args).map(OsString::from), env)
    }

    fn refusal(args: &[&str]) -> String {
        run(args).expect_err("these arguments are bad").to_string()
    }

    #[test]
    fn clap_finds_no_fault_with_the_table() {
        command_line().debug_assert();
    }

    #[test]
    fn each_command_takes_flags_on_either_side() {
        for (args, command) in [
            (&["--max-workers", "3"][..], Command::Run),
            (&["--max-workers=3", "check"], Command::Check { strict: false }),
            (&["check", "--max-workers=3", "--strict"], Command::Check { strict: true }),
            (&["config", "--max-workers", "3"], Command::ShowConfig),
            (
                &["--max-workers=3", "backup", "--to", "/b", "--keep=2", "--dry-run"],
                Command::Backup { to: Some("/b".into()), keep: 2, dry_run: true },
            ),
            (&["backup", "--max-workers=3"], Command::Backup { to: None, keep: 7, dry_run: false }),
            (
                &["restore", "/b/it", "--max-workers", "3", "--force"],
                Command::Restore { from: "/b/it".into(), dry_run: false, force: true },
            ),
            (&["maintain", "--max-workers=3"], Command::Maintain { dry_run: false }),
        ] {
            let (parsed, loaded) = run(args).expect("these arguments are good");
            assert_eq!((parsed, loaded.config.workers, loaded.config.port), (command, 3, 1234));
        }
        assert_eq!(run(&["--port", "5"]).map(|(_, loaded)| loaded.config.port).ok(), Some(5));
    }

    #[test]
    fn the_file_is_read() {
        assert!(
            refusal(&["check", "--config", "/no/such/file"]).contains("/no/such/file: No such")
        );
        assert!(
            refusal(&["--config", "/no/such/file", "check"]).contains("/no/such/file: No such")
        );
    }

    #[test]
    fn help_names_every_setting() {
        for args in [&["--help"][..], &["check", "--help"], &["config", "-h"]] {
            let help = refusal(args);
            for setting in GROUPS.iter().flat_map(|group| group.settings) {
                let flag = format!("--{} <VALUE>", setting.flag());
                let tail = format!("[{}, default: {}]", setting.name, setting.preset);
                assert!(help.contains(&flag) && help.contains(&tail), "{}", setting.name);
            }
        }
    }

    #[test]
    fn what_is_asked_for_succeeds_and_what_is_wrong_does_not() {
        for args in ["--help", "--version"] {
            let exit = run(&[args]).expect_err("nothing runs");
            assert!(matches!(&exit, Exit::Usage(error) if !error.use_stderr()));
        }
        assert!(refusal(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
        assert!(refusal(&["--max-worker", "3"]).contains("--max-workers"));
        assert!(refusal(&["serve"]).contains("unrecognized subcommand"));
        assert!(refusal(&["restore"]).contains("FROM"));
        assert!(refusal(&["backup", "--keep", "0"]).contains("0 is not in 1.."));
        assert!(refusal(&["--max-workers", "0"]).contains("MAX_WORKERS=0 (flag)"));
    }
}
