//! `throng-load`: one workload against a running server.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use throng_load::cli::{Cli, Workload};
use throng_load::workload::{chat, connect, fanout, million, soak, storm};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nothing was wrong: 0. Something was lost, late or refused: 1. It could not be run: 2.
fn main() -> ExitCode {
    throng_ring::memory::refuse_huge_pages();
    let ran = match Cli::parse().workload {
        Workload::Connect(options) => connect::run(&options),
        Workload::Fanout(options) => fanout::run(&options),
        Workload::Chat(options) => chat::run(&options),
        Workload::Storm(options) => storm::run(&options),
        Workload::Soak(options) => soak::run(&options),
        Workload::Million(options) => million::run(&options),
    };
    match ran {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("throng-load: {error}");
            ExitCode::from(2)
        }
    }
}
