//! What the core says, as log lines and metrics.

use std::time::Duration;

use tracing::{debug, error, info, warn};
use worker_api::scoreboard::{PodPhase, RequestUnderway, monotonic_now};

use crate::config::visible::visible;
use crate::fleet::{Cause, Death, ExitStatus, Notice, SpawnFailure};
use crate::ops::Metrics;
use crate::sys::signals;

/// Restart reasons that are counted from the start.
pub(super) const RESTART_REASONS: [&str; 8] = [
    "crash",
    "boot_failed",
    "boot_timeout",
    "hung",
    "own_will",
    "max_requests",
    "max_lifetime",
    "max_rss",
];

/// What is known of the worker that a notice is about.
#[derive(Debug, Default)]
pub(super) struct Subject {
    pub(super) slot: Option<usize>,
    pub(super) pid: Option<i32>,
    pub(super) in_flight: u32,
    /// The oldest of them by name, if there are any.
    pub(super) requests: Option<String>,
}

/// The requests by name, with their age.
pub(super) fn in_words(requests: &[RequestUnderway]) -> Option<String> {
    let now = monotonic_now();
    let named = requests.iter().map(|request| {
        let age = now.saturating_sub(request.started).as_secs_f64();
        format!("{} {} for {age:.3}s", request.method, request.path)
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// Log a notice and count it.
#[expect(clippy::too_many_lines, reason = "one line a notice: a table")]
pub(super) fn narrate(notice: &Notice, subject: &Subject, metrics: &mut Metrics) {
    let &Subject {
        slot,
        pid,
        in_flight,
        ref requests,
    } = subject;
    match notice {
        Notice::PhaseChanged { phase, limit } => phase_changed(*phase, *limit),
        Notice::WorkerReady { level, after, .. } => {
            info!(
                slot,
                pid,
                level = level.name(),
                after_seconds = seconds(*after),
                "worker ready"
            );
        }
        Notice::WorkerRetired { cause, .. } => {
            if RESTART_REASONS.contains(&cause.name()) {
                metrics.restarted(cause.name());
            }
            info!(slot, pid, cause = cause.name(), in_flight, "worker retires");
        }
        Notice::WorkerHealth { healthy: true, .. } => {
            info!(slot, pid, "worker is healthy again");
        }
        Notice::WorkerHealth { .. } => warn!(slot, pid, "worker says that it is unhealthy"),
        Notice::WorkerDrained {
            served, aborted, ..
        } => {
            info!(slot, pid, served, aborted, "worker drained");
        }
        Notice::WorkerLeft {
            cause, death, took, ..
        } => {
            metrics.drained(*took);
            info!(slot, pid, cause = cause.name(), end = %describe(*death), took_seconds = seconds(*took), "worker gone");
        }
        Notice::WorkerDied {
            death,
            was_ready,
            age,
            ..
        } => {
            let reason = if *was_ready { "crash" } else { "boot_failed" };
            metrics.restarted(reason);
            error!(slot, pid, end = %describe(*death), age_seconds = seconds(*age), in_flight, requests, "worker died{}", stage(*was_ready));
        }
        Notice::SpawnFailed { failure, .. } => {
            metrics.restarted("boot_failed");
            match failure {
                SpawnFailure::App(reason) => error!(slot, "the app cannot be started: {reason}"),
                SpawnFailure::Config(reason) => {
                    error!(slot, "the configuration does not hold: {reason}")
                }
                SpawnFailure::System(reason) => {
                    error!(slot, "a worker cannot be started: {reason}")
                }
            }
        }
        Notice::Respawn { crashes, delay } if *crashes > 1 => {
            let delay_seconds = seconds(*delay);
            warn!(
                crashes,
                delay_seconds,
                "worker will be replaced after a wait: it ended {crashes} times in a row"
            );
        }
        Notice::Respawn { .. } => info!("worker will be replaced at once"),
        Notice::Fatal { reason, .. } => {
            let reason = visible(reason);
            error!(slot, pid, "worker asks not to be replaced: {reason}")
        }
        Notice::Forced { .. } => forced(notice, subject, metrics),
        Notice::StartFailed { failures, status } => start_failed(*failures, *status),
        Notice::ReloadStarted { generation } => info!(%generation, "reload: replacing the workers"),
        Notice::ReloadDone { generation, took } => {
            metrics.reload("done");
            info!(%generation, took_seconds = seconds(*took), "reload done");
        }
        Notice::ReloadAbandoned { generation, why } => {
            metrics.reload("abandoned");
            info!(%generation, "reload abandoned: {why}");
        }
        Notice::ReloadRefused { reason } => {
            metrics.reload("refused");
            let reason = in_one_line(reason);
            error!("reload refused, the running workers stay: {reason}");
        }
        Notice::RolledBack {
            generation,
            to,
            reason,
        } => {
            metrics.reload("rolled_back");
            error!(%generation, %to, "reload rolled back, the workers before it stay: {reason}");
        }
        Notice::TargetChanged { target: 0 } => {
            warn!("every worker retires, the master stays: SIGWINCH")
        }
        Notice::TargetChanged { target } => {
            info!(target_workers = target, "number of workers changed")
        }
        Notice::Ignored { what, why } => warn!("ignored: {what}: {why}"),
    }
}

fn phase_changed(phase: PodPhase, limit: Option<Duration>) {
    let limit_seconds = limit.map(seconds);
    match phase {
        PodPhase::Boot => debug!("phase boot"),
        PodPhase::Ready => info!("phase ready: serving"),
        PodPhase::Lameduck => info!(limit_seconds, "phase lameduck: unhealthy, and serving on"),
        PodPhase::Drain => info!(limit_seconds, "phase drain: finishing what is in flight"),
        PodPhase::Force => warn!(limit_seconds, "phase force: aborting what is left"),
        PodPhase::Exit => info!("phase exit: every worker is gone"),
    }
}

fn forced(notice: &Notice, subject: &Subject, metrics: &mut Metrics) {
    let Notice::Forced {
        cause,
        ordered,
        drained,
        kill,
        ..
    } = *notice
    else {
        return;
    };
    let &Subject {
        slot,
        pid,
        in_flight,
        ref requests,
    } = subject;
    let why = match cause {
        _ if ordered => "somebody asked for it",
        _ if drained => "it reported drained and did not exit",
        Cause::Hung => {
            "it showed no sign of life (WATCHDOG=1), or its calls did not return, within hang_timeout (--timeout)"
        }
        Cause::BootTimeout => "it was not Ready within boot_timeout",
        Cause::Shutdown => "it did not drain in time",
        _ => "it was told to leave and did not drain in time",
    };
    if matches!(cause, Cause::Hung | Cause::BootTimeout) && !kill {
        metrics.restarted(cause.name());
    }
    if kill {
        metrics.forced_kill();
        warn!(
            slot,
            pid,
            cause = cause.name(),
            in_flight,
            requests,
            "worker killed: {why}"
        );
    } else {
        warn!(
            slot,
            pid,
            cause = cause.name(),
            in_flight,
            requests,
            "worker told to abort: {why}"
        );
    }
}

fn start_failed(failures: u32, status: ExitStatus) {
    let code = status.code();
    let why = match status {
        ExitStatus::AppLoad => "the app could not be loaded",
        ExitStatus::Config => "what the app is run by does not hold",
        _ => "no worker gets Ready; see their output above",
    };
    error!(failures, exit = code, "start given up: {why}");
}

fn stage(was_ready: bool) -> &'static str {
    if was_ready {
        ""
    } else {
        " before it was Ready"
    }
}

/// A length as collectors want it: one unit, a number, to the microsecond.
pub(super) fn seconds(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e6
}

/// An error block as part of a log line.
fn in_one_line(block: &str) -> String {
    let lines = block.lines().map(str::trim).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" ");
    joined.replace("error: ", "")
}

/// How a process ended, for people.
pub(super) fn describe(death: Death) -> String {
    match death {
        Death::Exited(status) => format!("exit status {status}"),
        Death::Killed { oom: true, .. } => {
            "SIGKILL by the kernel: the container is out of memory (raise its limit, or set workers.max_rss)".to_owned()
        }
        Death::Killed { signal, core, .. } => {
            let dumped = if core { " (core dumped)" } else { "" };
            format!("{}{dumped}", signals::name(signal))
        }
    }
}
