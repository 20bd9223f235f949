//! What probes and people see of the fleet.

use std::time::Duration;

use rustix::process::Pid;
use worker_api::RequestUnderway;
use worker_api::scoreboard::{PodPhase, monotonic_now};

use crate::fleet::{Fleet, Level, Moment, Worker};
use crate::ops::{Depth, ReloadView, RequestView, View, WorkerView};
use crate::sys::process;

use super::crew::{Crew, Process};
use super::host::Hosts;

/// A view of the fleet at the time `now`.
pub(super) fn view(
    fleet: &Fleet,
    crew: &Crew,
    hosts: &Hosts,
    pod_healthy: bool,
    depth: Depth,
    now: Moment,
) -> View {
    let workers: Vec<WorkerView> = fleet
        .workers()
        .iter()
        .filter_map(|worker| Some(worker_view(worker, crew.get(worker.id())?, depth, now)))
        .collect();
    let ready_workers = workers
        .iter()
        .filter(|worker| worker.state == "ready" && worker.healthy)
        .count();
    let phase = fleet.phase();
    View {
        phase: phase_name(phase),
        live: !matches!(phase, PodPhase::Force | PodPhase::Exit),
        // Health turns `unready_delay` after lameduck has begun.
        ready: pod_healthy && ready_workers >= fleet.min_ready(),
        generation: fleet.generation().0,
        target: fleet.target(),
        ready_workers,
        uptime: now.elapsed(),
        last_reload: fleet.last_reload().map(|report| ReloadView {
            generation: report.generation.0,
            outcome: report.outcome.name(),
            reason: report.reason.clone(),
            age: now - report.at,
        }),
        hosts: hosts.views(depth, now),
        workers,
    }
}

fn worker_view(worker: &Worker, process: &Process, depth: Depth, now: Moment) -> WorkerView {
    let row = process
        .row
        .as_ref()
        .map(worker_api::scoreboard::Row::snapshot);
    let native = worker.level() == Level::Native;
    let row = row.filter(|_| native);
    let count =
        |read: fn(&worker_api::scoreboard::RowSnapshot) -> u64| row.as_ref().map_or(0, read);
    WorkerView {
        slot: worker.slot(),
        pid: Pid::as_raw(Some(process.pid)).unsigned_abs(),
        generation: worker.generation().0,
        level: worker.level().name(),
        state: worker.state_name(),
        // A native worker's row is the later word: it can say that all is well again.
        healthy: row.as_ref().map_or(worker.is_healthy(), |row| row.healthy),
        in_flight: count(|row| u64::from(row.in_flight)),
        connections: count(|row| u64::from(row.connections)),
        requests: count(|row| row.requests),
        responses: row.as_ref().map_or([0; 5], |row| row.responses),
        aborted: count(|row| row.aborted),
        received_bytes: count(|row| row.received_bytes),
        sent_bytes: count(|row| row.sent_bytes),
        latency: row
            .as_ref()
            .map_or_else(Default::default, |row| row.latency),
        log_lines_dropped: count(|row| row.log_lines_dropped),
        refused: count(|row| row.refused),
        oldest_requests: if native {
            oldest(&process.oldest())
        } else {
            Vec::new()
        },
        age: now - worker.spawned(),
        restarts: worker.restarts(),
        status: worker.status().map(str::to_owned),
        rss_bytes: resident(process.pid, depth),
    }
}

/// Memory is read of each process: only where somebody wants to see it.
pub(super) fn resident(pid: Pid, depth: Depth) -> Option<u64> {
    (depth == Depth::Memory)
        .then(|| process::resident_bytes(pid))
        .flatten()
}

fn oldest(requests: &[RequestUnderway]) -> Vec<RequestView> {
    let now = monotonic_now();
    let requests = requests.iter().map(|request| RequestView {
        method: request.method.clone(),
        path: request.path.clone(),
        age: now.saturating_sub(request.started),
    });
    requests.collect()
}

pub(super) fn phase_name(phase: PodPhase) -> &'static str {
    match phase {
        PodPhase::Boot => "boot",
        PodPhase::Ready => "ready",
        PodPhase::Lameduck => "lameduck",
        PodPhase::Drain => "drain",
        PodPhase::Force => "force",
        PodPhase::Exit => "exit",
    }
}

/// Requests that were answered by anything but "unhealthy", and those that were answered so.
pub(super) fn traffic(crew: &mut Crew) -> (u64, u64) {
    crew.iter_mut()
        .filter_map(|(_, process)| {
            process
                .row
                .as_ref()
                .map(worker_api::scoreboard::Row::snapshot)
        })
        .fold((0, 0), |(served, refused): (u64, u64), row| {
            let others = row.requests.saturating_sub(row.unhealthy_answers);
            (
                served.wrapping_add(others),
                refused.wrapping_add(row.unhealthy_answers),
            )
        })
}

/// The time since the master's start, as the core counts it.
pub(super) fn moment(start: std::time::Instant) -> Moment {
    Moment::at(start.elapsed().max(Duration::from_nanos(1)))
}
