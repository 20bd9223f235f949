//! What the container allows: CPU quota, and whether the kernel killed for memory.
//!
//! Both cgroup versions are read: v2 `cpu.max` and `memory.events`, v1
//! `cpu.cfs_*` and `memory.oom_control` (Documentation/admin-guide of Linux).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// How many CPUs this process may use: the cgroup's quota, rounded up, and no
/// more than the CPUs that it may be scheduled on.
#[must_use]
pub fn cpus() -> usize {
    let schedulable = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // `available_parallelism` reads the quota too, but rounds it down.
    quota().map_or(schedulable, |quota| {
        quota.clamp(1, affinity().unwrap_or(schedulable))
    })
}

fn affinity() -> Option<usize> {
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    usize::try_from(set.count()).ok()
}

fn quota() -> Option<usize> {
    let unified = folders("")
        .into_iter()
        .filter_map(|folder| parse_cpu_max(&read(&folder.join("cpu.max"))?));
    let legacy = folders("cpu").into_iter().filter_map(|folder| {
        let quota = read(&folder.join("cpu.cfs_quota_us"))?;
        parse_cpu_max(&format!(
            "{} {}",
            quota.trim(),
            read(&folder.join("cpu.cfs_period_us"))?
        ))
    });
    unified.chain(legacy).min()
}

/// `$MAX $PERIOD` in microseconds, `max` or a negative number for no limit; in whole CPUs, rounded up.
fn parse_cpu_max(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let quota: u64 = quota.parse().ok()?;
    let period: u64 = period.parse().ok().filter(|period| *period > 0)?;
    usize::try_from(quota.div_ceil(period)).ok()
}

/// Counts the processes of this container that the kernel killed for memory.
#[derive(Debug)]
pub struct OomWatch {
    file: Option<PathBuf>,
    seen: u64,
}

impl OomWatch {
    /// Count from now.
    #[must_use]
    pub fn start() -> Self {
        let unified = folders("")
            .into_iter()
            .map(|folder| folder.join("memory.events"));
        let legacy = folders("memory")
            .into_iter()
            .map(|folder| folder.join("memory.oom_control"));
        let file = unified.chain(legacy).find(|file| count(file).is_some());
        let seen = file.as_deref().and_then(count).unwrap_or(0);
        Self { file, seen }
    }

    /// Whether the kernel killed since the last time of asking.
    pub fn has_struck(&mut self) -> bool {
        let now = self.file.as_deref().and_then(count).unwrap_or(self.seen);
        let struck = now > self.seen;
        self.seen = now;
        struck
    }
}

fn count(file: &Path) -> Option<u64> {
    parse_oom_kills(&read(file)?)
}

fn parse_oom_kills(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The folders of this process for a controller ("" is the unified hierarchy),
/// from its own up to the root; in a container the root is its own.
fn folders(controller: &str) -> Vec<PathBuf> {
    let root = if controller.is_empty() {
        PathBuf::from(ROOT)
    } else {
        Path::new(ROOT).join(controller)
    };
    let membership = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let own = parse_membership(&membership, controller).unwrap_or("/");
    let relative = Path::new(own.trim_start_matches('/'));
    relative.ancestors().map(|part| root.join(part)).collect()
}

/// `hierarchy:controllers:path` lines of cgroups(7).
fn parse_membership<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_rounded_up_to_whole_cpus() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(2));
        assert_eq!(parse_cpu_max("50000 100000"), Some(1));
        assert_eq!(parse_cpu_max("200000 100000"), Some(2));
    }

    #[test]
    fn no_limit_and_nonsense_are_no_quota() {
        for text in ["max 100000", "-1 100000", "1000 0", "", "x y"] {
            assert_eq!(parse_cpu_max(text), None, "{text}");
        }
    }

    #[test]
    fn the_membership_of_both_versions_is_found() {
        let text = "4:memory:/docker/a:b\n1:cpu,cpuacct:/c\n0::/d\n";
        assert_eq!(parse_membership(text, "memory"), Some("/docker/a:b"));
        assert_eq!(parse_membership(text, "cpu"), Some("/c"));
        assert_eq!(parse_membership(text, ""), Some("/d"));
        assert_eq!(parse_membership(text, "pids"), None);
    }

    #[test]
    fn kills_for_memory_are_counted_in_both_formats() {
        assert_eq!(
            parse_oom_kills("low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            Some(2)
        );
        assert_eq!(
            parse_oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"),
            Some(5)
        );
        assert_eq!(parse_oom_kills("oom_kill_disable 0\n"), None);
    }
}
