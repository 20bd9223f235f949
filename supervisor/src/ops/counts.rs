//! What workers count, summed over the living and the dead.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use worker_api::Latency;

use super::view::WorkerView;

/// Requests and what became of them. Workers write the rows, so a sum must bear any number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Requests that were taken up.
    pub requests: u64,
    /// Responses by class: 1xx to 5xx.
    pub responses: [u64; 5],
    /// Requests that did not get their whole response.
    pub aborted: u64,
    /// Bytes read from clients.
    pub received_bytes: u64,
    /// Bytes written to clients.
    pub sent_bytes: u64,
    /// How long answered requests took.
    pub latency: Latency,
    /// Lines of the access log that could not be written.
    pub log_lines_dropped: u64,
    /// Requests that were refused ahead of the app.
    pub refused: u64,
}

impl Counts {
    /// What a living worker's row says.
    pub(super) fn of(worker: &WorkerView) -> Counts {
        Counts {
            requests: worker.requests,
            responses: worker.responses,
            aborted: worker.aborted,
            received_bytes: worker.received_bytes,
            sent_bytes: worker.sent_bytes,
            latency: worker.latency,
            log_lines_dropped: worker.log_lines_dropped,
            refused: worker.refused,
        }
    }

    /// Adds another's; no number is too large.
    pub(super) fn add(&mut self, more: &Counts) {
        for (sum, count) in [
            (&mut self.requests, more.requests),
            (&mut self.aborted, more.aborted),
            (&mut self.received_bytes, more.received_bytes),
            (&mut self.sent_bytes, more.sent_bytes),
            (&mut self.log_lines_dropped, more.log_lines_dropped),
            (&mut self.refused, more.refused),
        ] {
            *sum = sum.saturating_add(count);
        }
        for (sum, count) in self.responses.iter_mut().zip(more.responses) {
            *sum = sum.saturating_add(count);
        }
        self.latency.add(&more.latency);
    }
}

/// The times of requests, as a histogram.
#[derive(Debug)]
pub(super) struct Times(pub(super) Latency);

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut all = 0_u64;
        let buckets: Vec<(f64, u64)> = (self.0.counts.iter().enumerate())
            .map(|(at, count)| {
                let bound = Latency::bound(at).map_or(f64::INFINITY, |bound| bound.as_secs_f64());
                // The encoder adds them up, and would not survive a liar's numbers.
                let before = all;
                all = all.saturating_add(*count);
                (bound, all - before)
            })
            .collect();
        let sum = self.0.sum.as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, all, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}
