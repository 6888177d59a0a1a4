//! How full the memory is that this process may use: what the kernel's OOM killer goes by.
//!
//! The limits of its cgroup and of those above (both versions) and the machine's memory, whichever
//! is nearest its end. What the kernel can take back at once does not count as used.

use std::fs;
use std::path::{Path, PathBuf};

/// Which files say it.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: pages of files nobody has used lately.
    idle: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    idle: "total_inactive_file",
};
const V2: Files = Files { limit: "memory.max", used: "memory.current", idle: "inactive_file" };

/// Percent of the memory that is used, where it is scarcest.
pub(super) fn percent() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| machine(&text));
    let groups = folders(&groups).into_iter().filter_map(|(folder, files)| {
        let limit = read(&folder.join(files.limit))?;
        let used = read(&folder.join(files.used))?;
        group(&limit, &used, &read(&folder.join("memory.stat"))?, files.idle)
    });
    groups.chain(machine).max()
}

/// From `/proc/meminfo`.
fn machine(text: &str) -> Option<u64> {
    let total = field(text, "MemTotal:")?;
    let available = field(text, "MemAvailable:")?;
    (total.saturating_sub(available) * 100).checked_div(total)
}

/// Of one group; none for one without a limit.
fn group(limit: &str, used: &str, stat: &str, idle: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let used = used.saturating_sub(field(stat, idle).unwrap_or(0));
    (used * 100).checked_div(limit)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find_map(|mut line| (line.next() == Some(name)).then_some(line))?;
    line.next()?.parse().ok()
}

/// Where the groups of `/proc/self/cgroup` and those above them are. In a container only the last
/// of them may be there, which is its own.
fn folders(text: &str) -> Vec<(PathBuf, &'static Files)> {
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (base, files) = match controllers {
            "" => ("/sys/fs/cgroup", &V2),
            it if it.split(',').any(|it| it == "memory") => ("/sys/fs/cgroup/memory", &V1),
            _ => continue,
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        folders.extend(above.map(|it| (Path::new(base).join(it), files)));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_of_the_process_and_all_above() {
        let paths = |text| folders(text).into_iter().map(|(it, _)| it).collect::<Vec<_>>();
        let paths =
            |text| paths(text).iter().map(|it| it.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths("0::/system.slice/throng.service\n"),
            [
                "/sys/fs/cgroup/system.slice/throng.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup/"
            ]
        );
        assert_eq!(
            paths("7:blkio:/x\n4:cpu,memory:/a:b\nnonsense"),
            ["/sys/fs/cgroup/memory/a:b", "/sys/fs/cgroup/memory/"]
        );
    }

    #[test]
    fn what_can_be_taken_back_is_not_used() {
        let stat = "anon 5\ninactive_file 20\ntotal_inactive_file 40\n";
        assert_eq!(group("200\n", "100\n", stat, V2.idle), Some(40));
        assert_eq!(group("200\n", "100\n", stat, V1.idle), Some(30));
        assert_eq!(group("max\n", "100\n", stat, V2.idle), None);
        assert_eq!(group("9223372036854771712", "100", "", V1.idle), Some(0), "no limit in v1");
        let meminfo = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   250 kB\n";
        assert_eq!((machine(meminfo), machine("")), (Some(75), None));
    }

    #[test]
    fn this_machine_says_it() {
        assert!(percent().is_some_and(|percent| percent <= 100), "{:?}", percent());
    }
}
