//! Proves that the repository keeps its own rules: which crate and module may import which, how
//! long lines, functions and files may be, where `unsafe` and `unwrap` belong, that every metric is
//! written by something and every setting is documented.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const WIDTH_MAX: usize = 100;
const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Crates of the workspace, and those each may import.
const CRATES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("ring", &[]),
    ("bridge", &["throng_protocol"]),
    ("engine", &["throng_protocol", "throng_ring", "throng_bridge", "throng"]),
    ("load-tests", &["throng_protocol", "throng_ring", "throng_load"]),
    ("benches", &["throng_protocol", "throng_ring", "throng_bridge", "throng"]),
];

/// Modules of the engine, lowest first: each may import only those of the layers before its own.
/// `room` and `app` alone know each other: the handle an application gets of a room is the room's.
const LAYERS: &[&[&str]] = &[
    &["limits"],
    &["clock", "codec", "config", "ids", "metrics", "tuning"],
    &["cli", "close", "handover", "limiter", "mesh", "outbox", "spaces", "wheel"],
    &["app", "room"],
    &["recovery", "request"],
    &["table"],
    &["chat"],
    &["shard"],
    &["control"],
    &["host"],
    &["outside"],
    &["keep"],
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust source of the workspace, with its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, _) in CRATES {
        collect(&root().join(name), &mut found);
    }
    assert!(found.len() > 50, "only {} sources were found", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | "node_modules" | "fuzz") {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let path = path.strip_prefix(root()).expect("inside").display().to_string();
            found.push((path, text));
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of a source that is not its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn lines_and_files_are_short() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let count = text.lines().count();
        if count > FILE_LINES_MAX {
            faults.push(format!("{path} has {count} lines"));
        }
        for (index, line) in text.lines().enumerate() {
            if line.chars().count() > WIDTH_MAX {
                faults.push(format!("{path}:{} is wider than {WIDTH_MAX}", index + 1));
            }
        }
    }
    report(&faults);
}

#[test]
fn functions_are_short() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let mut open: Vec<(usize, usize, String)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let word = line.trim_start();
            let starts = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn "];
            let whole = line.ends_with(';') || line.ends_with('}');
            if starts.iter().any(|start| word.starts_with(start)) && !whole {
                open.push((indent, index, word.chars().take(60).collect()));
            } else if (word == "}" || (word.starts_with(')') && word.ends_with(';')))
                && let Some(at) = open.iter().position(|(it, ..)| *it == indent)
            {
                let (_, start, name) = open.remove(at);
                if index - start > FUNCTION_LINES_MAX {
                    faults.push(format!(
                        "{path}:{}: {name} has {} lines",
                        start + 1,
                        index - start
                    ));
                }
            }
        }
    }
    report(&faults);
}

#[test]
fn crates_import_only_what_they_may() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let (_, allowed) =
            CRATES.iter().find(|(name, _)| path.starts_with(&format!("{name}/"))).expect("a crate");
        // A crate's tests and examples use the crate itself.
        let own = format!("throng_{}", path.split('/').next().unwrap_or_default());
        for name in ["throng_protocol", "throng_ring", "throng_bridge", "throng"] {
            let used =
                text.contains(&format!("use {name}::")) || text.contains(&format!(" {name}::"));
            if used && name != own && !allowed.contains(&name) {
                faults.push(format!("{path} imports {name}"));
            }
        }
    }
    report(&faults);
}

#[test]
fn modules_import_only_what_is_below_them() {
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let Some(rest) = path.strip_prefix("engine/src/") else { continue };
        let module = rest.split(['/', '.']).next().unwrap_or_default();
        if matches!(module, "lib" | "main") {
            continue;
        }
        let Some(own) = layer(module) else {
            faults.push(format!("{path}: the module `{module}` stands in no layer"));
            continue;
        };
        for used in code(&text).split("crate::").skip(1) {
            let used = used.split(|it: char| !it.is_alphanumeric() && it != '_').next();
            let Some((used, other)) = used.and_then(|used| Some((used, layer(used)?))) else {
                continue;
            };
            if used != module
                && (other > own || (other == own && module != "app" && module != "room"))
            {
                faults.push(format!("{path}: `{module}` imports `{used}`"));
            }
        }
    }
    report(&faults);
}

#[test]
fn unsafe_code_stays_in_the_ring() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
        if is_root && !path.starts_with("ring/") && !text.contains("#![forbid(unsafe_code)]") {
            faults.push(format!("{path} does not forbid unsafe code"));
        }
        let marker = concat!("uns", "afe {");
        for (index, line) in text.lines().enumerate() {
            if line.contains(marker) && !path.starts_with("ring/") {
                faults.push(format!("{path}:{} has unsafe code", index + 1));
            }
        }
        if path.starts_with("ring/src/") {
            let reasons = text.matches("// SAFETY: ").count();
            let blocks = code(&text).matches(marker).count();
            if reasons < blocks {
                faults.push(format!("{path}: {blocks} unsafe blocks, {reasons} reasons"));
            }
        }
    }
    report(&faults);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        if !path.contains("/src/") || path.contains("/tests") {
            continue;
        }
        for (index, line) in code(&text).lines().enumerate() {
            if line.contains(".unwrap()") && !line.trim_start().starts_with("//") {
                faults.push(format!("{path}:{} unwraps", index + 1));
            }
        }
    }
    report(&faults);
}

#[test]
fn every_metric_is_written_by_something() {
    let sources = sources();
    let mut writers: HashMap<&str, usize> = HashMap::new();
    for metric in throng::metrics::METRICS {
        let uses = sources
            .iter()
            .filter(|(path, _)| path.starts_with("engine/src") && !path.ends_with("metrics.rs"))
            .map(|(_, text)| text.matches(&format!("cells.{}", metric.name)).count())
            .sum();
        writers.insert(metric.name, uses);
    }
    let unwritten: Vec<_> = writers.iter().filter(|(_, uses)| **uses == 0).collect();
    assert!(unwritten.is_empty(), "written by nothing: {unwritten:?}");
}

#[test]
fn every_setting_and_limit_is_documented() {
    let readme = read("README.md");
    let settings = throng::config::GROUPS.iter().flat_map(|group| group.settings);
    let missing: Vec<_> =
        settings.map(|it| it.name).filter(|name| !readme.contains(*name)).collect();
    assert!(missing.is_empty(), "README.md does not name {missing:?}");
    let limits = read("engine/src/limits.rs");
    let mut documented = false;
    for line in limits.lines() {
        if line.starts_with("pub const") {
            assert!(documented, "limits.rs: no reason given for: {line}");
        }
        documented = line.starts_with("///");
    }
}

#[test]
fn dependencies_have_their_reasons() {
    let manifest = read("Cargo.toml");
    let architecture = read("ARCHITECTURE.md");
    let dependencies = manifest.split("[workspace.dependencies]").nth(1).expect("dependencies");
    let dependencies = dependencies.split("\n[").next().expect("a section");
    let names =
        dependencies.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let missing: Vec<_> =
        names.filter(|name| !architecture.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md gives no reason for {missing:?}");
}
