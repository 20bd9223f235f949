//! What a worker answers to the question whether it is healthy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::channel::Channel;
use crate::message::Report;
use crate::scoreboard::{Row, Scoreboard, WorkerState};

/// The health of this worker: the pod's (set by the master for all workers in the same instant)
/// and its own flag. A clone is another handle on the same health.
///
/// ```
/// # let worker = worker_api::Worker::builder().standalone_bind("127.0.0.1:0").init()?;
/// let health = worker.health();
/// let pid = std::process::id();
/// assert_eq!(health.body(), format!(r#"{{"pid": {pid}, "status": "ok"}}"#));
/// health.mark_unhealthy();
/// assert!(!health.is_healthy());
/// assert_eq!(health.body(), format!(r#"{{"pid": {pid}, "status": "unhealthy"}}"#));
/// # Ok::<(), worker_api::InitError>(())
/// ```
#[derive(Clone)]
pub struct Health {
    shared: Arc<Shared>,
}

/// A health answer: whether it is yes, and what to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthAnswer {
    /// `true`: status 200; `false`: the `unhealthy_status` of the settings, 503 by default.
    pub healthy: bool,
    /// The JSON body, see [`Health::body`].
    pub body: String,
}

struct Shared {
    own: AtomicBool,
    link: Arc<Link>,
}

/// What ties a worker to its master: its row in the scoreboard and the control channel.
pub(crate) struct Link {
    pub(crate) board: Scoreboard,
    pub(crate) row: Row,
    pub(crate) channel: Option<Channel>,
}

impl Link {
    /// Tells the master, if there is one.
    pub(crate) fn report(&self, report: &Report) {
        if let Some(channel) = &self.channel {
            channel.report(report);
        }
    }
}

impl Health {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        link.row.set_healthy(true);
        Self {
            shared: Arc::new(Shared {
                own: AtomicBool::new(true),
                link,
            }),
        }
    }

    /// Whether the pod and this worker are both healthy: two atomic loads. A no is counted in the
    /// scoreboard, so ask once for each health request that is answered.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let healthy = self.look();
        if !healthy {
            self.shared.link.row.count_unhealthy_answer();
        }
        healthy
    }

    /// Whether the pod as a whole is healthy, whatever this worker's own flag says. After
    /// `LAMEDUCK` it may stay so for `unready_delay`.
    #[must_use]
    pub fn is_pod_healthy(&self) -> bool {
        self.shared.link.board.pod_healthy()
    }

    /// Makes this worker unhealthy, and tells the master. Doing it again does nothing.
    pub fn mark_unhealthy(&self) {
        if self.shared.own.swap(false, Ordering::AcqRel) {
            self.shared.link.row.set_healthy(false);
            self.shared.link.report(&Report::Unhealthy);
        }
    }

    /// Makes this worker healthy again, and tells the master. It does not help a pod that is on its
    /// way out.
    pub fn mark_healthy(&self) {
        if !self.shared.own.swap(true, Ordering::AcqRel) {
            self.shared.link.row.set_healthy(true);
            // Said again, READY means that all is well again; but it is the worker's to say first.
            if self.shared.link.row.snapshot().state == WorkerState::Ready {
                self.shared.link.report(&Report::Ready);
            }
        }
    }

    /// The JSON body of a health answer: `{"pid": 7, "status": "ok"}`, or with `"unhealthy"`.
    #[must_use]
    pub fn body(&self) -> String {
        body(self.look())
    }

    /// One health answer, status and body from the same look; a no is counted.
    #[must_use]
    pub fn answer(&self) -> HealthAnswer {
        let healthy = self.is_healthy();
        HealthAnswer {
            healthy,
            body: body(healthy),
        }
    }

    fn look(&self) -> bool {
        self.is_pod_healthy() && self.shared.own.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health")
            .field("healthy", &self.look())
            .finish()
    }
}

fn body(healthy: bool) -> String {
    let status = if healthy { "ok" } else { "unhealthy" };
    format!(r#"{{"pid": {}, "status": "{status}"}}"#, std::process::id())
}

#[cfg(test)]
mod tests {
    use crate::hooks::NoHooks;
    use crate::message::Report;
    use crate::testing::{patient, supervised};

    #[test]
    fn pod_and_own_flag_must_both_be_healthy() {
        let (worker, master) = supervised(NoHooks, patient());
        let health = worker.health();
        for (pod, own) in [(true, true), (true, false), (false, true), (false, false)] {
            master.board.set_pod_healthy(pod);
            if own {
                health.mark_healthy();
            } else {
                health.mark_unhealthy();
            }
            let answer = health.answer();
            assert_eq!(answer.healthy, pod && own);
            assert_eq!(answer.body, health.body());
            assert_eq!(answer.body.contains("\"ok\""), pod && own);
            assert_eq!(
                (health.is_pod_healthy(), master.row.snapshot().healthy),
                (pod, own)
            );
        }
        assert_eq!(
            master.row.snapshot().unhealthy_answers,
            3,
            "answers count, bodies do not"
        );
    }

    #[test]
    fn only_a_change_is_reported() {
        let (worker, master) = supervised(NoHooks, patient());
        assert!(matches!(master.hear(), Report::Hello { .. }));
        worker.health().mark_healthy();
        worker.health().mark_unhealthy();
        worker.health().mark_unhealthy();
        assert_eq!(master.hear(), Report::Unhealthy);
        worker.health().mark_healthy();
        worker.health().mark_unhealthy();
        assert_eq!(master.hear(), Report::Unhealthy);
        assert!(master.heard_all());
    }
}
