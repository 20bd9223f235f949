//! The readiness probe of a load balancer, and one that only watches.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::http::{Conn, Target};
use super::load::Route;

/// Every half a second, three failures to take the pod out: the setting of the requirement.
pub(crate) const PERIOD: Duration = Duration::from_millis(500);
const FAILURE_THRESHOLD: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(2);

/// One probe: when it was answered, and with what status (`None`: not at all).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) at: Instant,
    pub(crate) status: Option<u16>,
}

/// Probes at a fixed period, each on a connection of its own, until it is stopped.
pub(crate) struct Prober {
    probes: Arc<Mutex<Vec<Probe>>>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// A prober that takes the pod out of the load's route once it is unready.
pub(crate) struct LoadBalancer(Prober);

impl Prober {
    /// Asks `path` of `target` every `period`.
    pub(crate) fn start(target: &Target, path: &str, period: Duration) -> Prober {
        Prober::with(target, path, period, |_| {})
    }

    /// Whether a probe was answered, or was not.
    pub(crate) fn has_probed(&self) -> bool {
        !self.probes().is_empty()
    }

    /// The probes so far.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.clone()
    }

    /// Ends the probing; all probes, oldest first.
    pub(crate) fn stop(self) -> Vec<Probe> {
        drop(self.stop);
        self.thread.join().expect("the prober panicked");
        std::mem::take(&mut *self.probes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with(
        target: &Target,
        path: &str,
        period: Duration,
        mut told: impl FnMut(&[Probe]) + Send + 'static,
    ) -> Prober {
        let (stop, stopped) = mpsc::channel::<()>();
        let probes: Arc<Mutex<Vec<Probe>>> = Arc::default();
        let (record, target, path) = (Arc::clone(&probes), target.clone(), path.to_owned());
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            loop {
                let probe = probe(&target, &path);
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                record.push(probe);
                told(&record);
                drop(record);
                due += period;
                match stopped.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Prober {
            probes,
            stop,
            thread,
        }
    }
}

impl LoadBalancer {
    /// Probes `path` of `target`: the app's own health or the ops listener's `/readyz`.
    pub(crate) fn start(target: &Target, path: &str, route: Route) -> LoadBalancer {
        LoadBalancer(Prober::with(target, path, PERIOD, move |probes| {
            let failing = probes
                .iter()
                .rev()
                .take_while(|probe| probe.status != Some(200))
                .count();
            if failing >= FAILURE_THRESHOLD {
                route.take_out();
            }
        }))
    }

    pub(crate) fn stop(self) -> Vec<Probe> {
        self.0.stop()
    }
}

/// The first 503 of a record, where there is one.
pub(crate) fn first_503(probes: &[Probe]) -> Option<Instant> {
    probes
        .iter()
        .find(|probe| probe.status == Some(503))
        .map(|probe| probe.at)
}

/// A 200 that came after the first 503: the requirement says that there is none.
pub(crate) fn last_200_after_first_503(probes: &[Probe]) -> Option<Instant> {
    let first = first_503(probes)?;
    let later = probes
        .iter()
        .rev()
        .find(|probe| probe.at > first && probe.status == Some(200));
    later.map(|probe| probe.at)
}

fn probe(target: &Target, path: &str) -> Probe {
    let asked =
        Conn::open_within(target, TIMEOUT, TIMEOUT).and_then(|mut connection| connection.get(path));
    Probe {
        at: Instant::now(),
        status: asked.ok().map(|response| response.status),
    }
}
