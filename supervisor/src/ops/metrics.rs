//! `/metrics`: what the event loop counted, and what the workers' rows say, as OpenMetrics text.
//!
//! The counts are plain numbers, since the master has one thread. A registry of prometheus-client
//! is made for each scrape and dropped with it: nothing is held between scrapes, and the samples
//! keep one order.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::counts::{Counts, Times};
use super::view::{CLASSES, View, WorkerView};

/// The type of the answer to `/metrics`.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every phase of the pod, in its order.
const PHASES: [&str; 6] = ["boot", "ready", "lameduck", "drain", "force", "exit"];

/// The states of a worker that are always told, so that a graph shows 0 and not a gap.
const WORKER_STATES: [&str; 7] = [
    "booting", "ready", "retiring", "draining", "drained", "aborting", "killed",
];

/// The outcomes of a reload that are always told, so that the first one is seen as an increase.
const RELOAD_OUTCOMES: [&str; 4] = ["done", "refused", "rolled_back", "abandoned"];

/// Upper bounds in seconds: from "nothing was in flight" to a whole minute of grace.
const DRAIN_BUCKETS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Everything that only goes up, from the master's start on.
///
/// The event loop keeps it for the master's life, so that a reload of the ops listener loses no
/// count.
#[derive(Debug)]
pub struct Metrics {
    started: SystemTime,
    restarts: Tally,
    forced_kills: u64,
    reloads: Tally,
    drains: Histogram,
    /// What dead workers left behind; `aborted` also holds what the master aborted.
    retired: Counts,
}

impl Metrics {
    /// Starts all counts at zero. `started` is when the master started, by the wall clock: it is
    /// told as `process_start_time_seconds`. `restart_reasons` are the words that
    /// [`Metrics::restarted`] will be given: each is told from the start, as 0, since an increase
    /// of a series that did not exist before goes unseen.
    pub fn new(started: SystemTime, restart_reasons: &[&'static str]) -> Metrics {
        Metrics {
            started,
            restarts: Tally::of(restart_reasons),
            forced_kills: 0,
            reloads: Tally::of(&RELOAD_OUTCOMES),
            drains: Histogram::new(DRAIN_BUCKETS),
            retired: Counts::default(),
        }
    }

    /// A worker was replaced, and why, in one word such as `crash`, `hang` or `max_requests`
    /// (`gracefork_restarts_total`).
    pub fn restarted(&mut self, reason: &'static str) {
        self.restarts.add(reason);
    }

    /// A worker had to be killed at its deadline (`gracefork_forced_kills_total`).
    pub fn forced_kill(&mut self) {
        self.forced_kills = self.forced_kills.saturating_add(1);
    }

    /// A reload ended: `done`, `refused` or `rolled_back` (`gracefork_reloads_total`).
    pub fn reload(&mut self, outcome: &'static str) {
        self.reloads.add(outcome);
    }

    /// A worker was gone so long after it was told to drain (`gracefork_drain_seconds`).
    pub fn drained(&mut self, took: Duration) {
        self.drains.observe(took.as_secs_f64());
    }

    /// The master aborted `requests` that no row counts: those in flight in a worker that it
    /// killed or that crashed (`gracefork_aborted_requests_total`).
    pub fn aborted(&mut self, requests: u64) {
        self.retired.aborted = self.retired.aborted.saturating_add(requests);
    }

    /// Keeps the counts of a dead worker. To be called once for each worker, with the last
    /// snapshot of its row, at the moment it leaves [`View::workers`] and before the row is reset:
    /// so the totals neither fall back nor count it twice.
    pub fn retired_counts(&mut self, counts: &Counts) {
        self.retired.add(counts);
    }

    /// The whole OpenMetrics text.
    ///
    /// # Errors
    ///
    /// None in practice: a `String` takes all that is written to it.
    pub(super) fn text(&self, view: &View) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        self.register_pod(&mut registry, view);
        self.register_traffic(&mut registry, view);
        register_load(&mut registry, view);
        let mut out = String::with_capacity(6 * 1024);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    fn register_pod(&self, registry: &mut Registry, view: &View) {
        let phases = PHASES.map(|phase| (phase, u64::from(phase == view.phase)));
        registry.register(
            "gracefork_phase",
            "The phase of the pod: 1 for the one it is in",
            Series::labelled(MetricType::Gauge, "phase", &phases),
        );
        registry.register(
            "gracefork_ready",
            "Whether the pod wants new traffic, as /readyz tells it",
            ConstGauge::new(u64::from(view.ready)),
        );
        registry.register(
            "gracefork_workers",
            "Workers that are not reaped yet, by state",
            Series::labelled(MetricType::Gauge, "state", &by_state(view).0),
        );
        registry.register(
            "gracefork_workers_target",
            "How many workers there should be",
            ConstGauge::new(view.target as u64),
        );
        registry.register(
            "gracefork_generation",
            "The generation that new workers are started in",
            ConstGauge::new(view.generation),
        );
        registry.register(
            "gracefork_restarts",
            "Workers that were replaced, by reason",
            Series::labelled(MetricType::Counter, "reason", &self.restarts.0),
        );
        registry.register(
            "gracefork_forced_kills",
            "Workers that were killed at their deadline",
            Series::counter(self.forced_kills),
        );
        registry.register(
            "gracefork_reloads",
            "Reloads that ended, by outcome",
            Series::labelled(MetricType::Counter, "outcome", &self.reloads.0),
        );
        registry.register_with_unit(
            "gracefork_drain",
            "How long workers took to drain",
            Unit::Seconds,
            self.drains.clone(),
        );
        registry.register_with_unit(
            "process_start_time",
            "When the master started, since the Unix epoch",
            Unit::Seconds,
            ConstGauge::new(since_epoch(self.started)),
        );
    }

    fn register_traffic(&self, registry: &mut Registry, view: &View) {
        let mut total = self.retired;
        for worker in &view.workers {
            total.add(&Counts::of(worker));
        }
        let mut classes = CLASSES.map(|class| (class, 0));
        for (class, count) in classes.iter_mut().zip(total.responses) {
            class.1 = count;
        }
        registry.register(
            "gracefork_requests",
            "Requests that native workers took up",
            Series::counter(total.requests),
        );
        registry.register(
            "gracefork_responses",
            "Responses of native workers, by class",
            Series::labelled(MetricType::Counter, "class", &classes),
        );
        registry.register(
            "gracefork_refused_requests",
            "Requests that native workers refused ahead of the app: bad syntax, too long, too slow",
            Series::counter(total.refused),
        );
        registry.register(
            "gracefork_aborted_requests",
            "Requests that did not get their whole response because their worker ended",
            Series::counter(total.aborted),
        );
        registry.register_with_unit(
            "gracefork_request_duration",
            "How long requests of native workers took, from the head read to the last byte written",
            Unit::Seconds,
            Times(total.latency),
        );
        registry.register_with_unit(
            "gracefork_received",
            "Bytes that native workers read from clients",
            Unit::Bytes,
            Series::counter(total.received_bytes),
        );
        registry.register_with_unit(
            "gracefork_sent",
            "Bytes that native workers wrote to clients",
            Unit::Bytes,
            Series::counter(total.sent_bytes),
        );
        registry.register(
            "gracefork_access_log_dropped_lines",
            "Lines of the access log that native workers could not write",
            Series::counter(total.log_lines_dropped),
        );
    }
}

fn register_load(registry: &mut Registry, view: &View) {
    let sum = |count: fn(&WorkerView) -> u64| {
        let counts = view.workers.iter().map(count);
        counts.fold(0, u64::saturating_add)
    };
    registry.register(
        "gracefork_in_flight",
        "Requests that native workers run now",
        ConstGauge::new(sum(|worker| worker.in_flight)),
    );
    registry.register(
        "gracefork_connections",
        "Connections that native workers hold open now",
        ConstGauge::new(sum(|worker| worker.connections)),
    );
}

/// A count for each of a few words, in the order in which they were first seen.
#[derive(Debug, Default)]
struct Tally(Vec<(&'static str, u64)>);

impl Tally {
    fn of(words: &[&'static str]) -> Tally {
        Tally(words.iter().map(|word| (*word, 0)).collect())
    }

    fn add(&mut self, word: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.0.push((word, 1)),
        }
    }
}

/// The samples of one metric, in a fixed order (a `Family` would tell them in a random one).
#[derive(Debug)]
struct Series {
    kind: MetricType,
    label: &'static str,
    /// The label's value, none for a metric without labels, and the number.
    samples: Vec<(Option<&'static str>, u64)>,
}

impl Series {
    fn counter(value: u64) -> Series {
        Series {
            kind: MetricType::Counter,
            label: "",
            samples: vec![(None, value)],
        }
    }

    fn labelled(kind: MetricType, label: &'static str, samples: &[(&'static str, u64)]) -> Series {
        let samples = samples
            .iter()
            .map(|&(word, value)| (Some(word), value))
            .collect();
        Series {
            kind,
            label,
            samples,
        }
    }

    fn sample(&self, encoder: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
        match self.kind {
            MetricType::Counter => encoder.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => encoder.encode_gauge(&value),
        }
    }
}

impl EncodeMetric for Series {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for &(word, value) in &self.samples {
            match word {
                None => self.sample(&mut encoder, value)?,
                Some(word) => {
                    let labels = [(self.label, word)];
                    self.sample(&mut encoder.encode_family(&labels)?, value)?;
                }
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.kind
    }
}

fn by_state(view: &View) -> Tally {
    let mut states = Tally::of(&WORKER_STATES);
    for worker in &view.workers {
        states.add(worker.state);
    }
    states
}

/// A clock set before 1970 reads as 0.
fn since_epoch(moment: SystemTime) -> f64 {
    moment
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{view, worker};
    use super::*;

    fn metrics() -> Metrics {
        let started = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        Metrics::new(started, &["crash", "hang"])
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "no `{line}` in:\n{text}");
    }

    #[test]
    fn the_whole_text_of_a_quiet_pod() {
        let mut view = view();
        view.workers.clear();
        view.ready_workers = 0;
        let text = metrics().text(&view).unwrap();
        let samples: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(
            samples[..21],
            [
                "gracefork_phase{phase=\"boot\"} 0",
                "gracefork_phase{phase=\"ready\"} 1",
                "gracefork_phase{phase=\"lameduck\"} 0",
                "gracefork_phase{phase=\"drain\"} 0",
                "gracefork_phase{phase=\"force\"} 0",
                "gracefork_phase{phase=\"exit\"} 0",
                "gracefork_ready 1",
                "gracefork_workers{state=\"booting\"} 0",
                "gracefork_workers{state=\"ready\"} 0",
                "gracefork_workers{state=\"retiring\"} 0",
                "gracefork_workers{state=\"draining\"} 0",
                "gracefork_workers{state=\"drained\"} 0",
                "gracefork_workers{state=\"aborting\"} 0",
                "gracefork_workers{state=\"killed\"} 0",
                "gracefork_workers_target 4",
                "gracefork_generation 1",
                "gracefork_restarts_total{reason=\"crash\"} 0",
                "gracefork_restarts_total{reason=\"hang\"} 0",
                "gracefork_forced_kills_total 0",
                "gracefork_reloads_total{outcome=\"done\"} 0",
                "gracefork_reloads_total{outcome=\"refused\"} 0",
            ]
        );
        has(&text, "process_start_time_seconds 1700000000.5");
        has(&text, "# TYPE gracefork_drain_seconds histogram");
        has(&text, "# TYPE gracefork_requests counter");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_the_event_loop_counts_is_told() {
        let mut metrics = metrics();
        metrics.restarted("crash");
        metrics.restarted("crash");
        metrics.restarted("max_rss");
        metrics.forced_kill();
        metrics.reload("rolled_back");
        metrics.drained(Duration::from_millis(30));
        metrics.drained(Duration::from_secs(90));
        let text = metrics.text(&view()).unwrap();
        has(&text, "gracefork_restarts_total{reason=\"crash\"} 2");
        has(&text, "gracefork_restarts_total{reason=\"max_rss\"} 1");
        has(&text, "gracefork_forced_kills_total 1");
        has(&text, "gracefork_reloads_total{outcome=\"rolled_back\"} 1");
        has(&text, "gracefork_reloads_total{outcome=\"done\"} 0");
        has(&text, "gracefork_drain_seconds_bucket{le=\"0.025\"} 0");
        has(&text, "gracefork_drain_seconds_bucket{le=\"0.05\"} 1");
        has(&text, "gracefork_drain_seconds_bucket{le=\"60.0\"} 1");
        has(&text, "gracefork_drain_seconds_bucket{le=\"+Inf\"} 2");
        has(&text, "gracefork_drain_seconds_count 2");
    }

    #[test]
    fn totals_stay_when_a_worker_dies_and_its_row_is_reset() {
        let mut metrics = metrics();
        let mut view = view();
        view.workers = vec![worker(0), worker(1)];
        view.workers[0].requests = 100;
        view.workers[0].responses = [0, 90, 0, 5, 4];
        view.workers[0].aborted = 1;
        view.workers[0].received_bytes = 1_000;
        view.workers[0].latency.counts[3] = 99;
        view.workers[0].latency.sum = Duration::from_millis(1_500);
        view.workers[1].requests = 10;
        view.workers[1].received_bytes = 5;
        view.workers[1].sent_bytes = 7;
        view.workers[1].latency.counts[0] = 1;
        view.workers[1].latency.counts[31] = 2;
        has(
            &metrics.text(&view).unwrap(),
            "gracefork_requests_total 110",
        );

        let dead = view.workers.remove(0);
        metrics.retired_counts(&Counts::of(&dead));
        metrics.aborted(2);
        view.workers.push(worker(0));
        let text = metrics.text(&view).unwrap();
        has(&text, "gracefork_requests_total 110");
        has(&text, "gracefork_responses_total{class=\"2xx\"} 90");
        has(&text, "gracefork_responses_total{class=\"5xx\"} 4");
        has(&text, "gracefork_aborted_requests_total 3");
        has(&text, "gracefork_received_bytes_total 1005");
        has(&text, "gracefork_sent_bytes_total 7");
        has(&text, "gracefork_access_log_dropped_lines_total 0");
        has(&text, "# TYPE gracefork_request_duration_seconds histogram");
        let buckets = "gracefork_request_duration_seconds_bucket";
        for (bound, count) in [
            ("0.000001", 1),
            ("0.000004", 1),
            ("0.000008", 100),
            ("1.048576", 100),
            ("+Inf", 102),
        ] {
            has(&text, &format!("{buckets}{{le=\"{bound}\"}} {count}"));
        }
        has(&text, "gracefork_request_duration_seconds_count 102");
        has(&text, "gracefork_request_duration_seconds_sum 1.5");
    }

    #[test]
    fn workers_are_counted_by_state_and_summed() {
        let mut view = view();
        view.workers = vec![worker(0), worker(1), worker(2)];
        view.workers[1].state = "draining";
        view.workers[2].state = "unheard-of";
        view.workers[0].in_flight = 2;
        view.workers[1].in_flight = 3;
        view.workers[2].connections = 7;
        let text = metrics().text(&view).unwrap();
        has(&text, "gracefork_workers{state=\"ready\"} 1");
        has(&text, "gracefork_workers{state=\"draining\"} 1");
        has(&text, "gracefork_workers{state=\"unheard-of\"} 1");
        has(&text, "gracefork_in_flight 5");
        has(&text, "gracefork_connections 7");
    }

    #[test]
    fn a_worker_that_lies_in_its_row_breaks_nothing() {
        let mut metrics = metrics();
        let mut view = view();
        view.workers = vec![worker(0), worker(1)];
        for worker in &mut view.workers {
            worker.in_flight = u64::MAX;
            worker.requests = u64::MAX;
            worker.responses = [u64::MAX; 5];
            worker.aborted = u64::MAX;
            worker.received_bytes = u64::MAX;
            worker.latency.counts = [u64::MAX; 32];
            worker.latency.sum = Duration::MAX;
        }
        metrics.retired_counts(&Counts::of(&view.workers[0]));
        let text = metrics.text(&view).unwrap();
        has(&text, &format!("gracefork_requests_total {}", u64::MAX));
        has(&text, &format!("gracefork_in_flight {}", u64::MAX));
    }
}
