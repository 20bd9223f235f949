//! The time budget of a shutdown: settled, and held against the grace period.

use std::time::Duration;

use super::load::Layers;
use super::origin::Origin;
use super::units::format_duration;
use super::{Probe, Shutdown};

/// Added to what the probe needs: endpoints take a moment to reach every proxy.
const PROPAGATION: Duration = Duration::from_secs(3);

/// Lameduck in a pod whose probe is not known: the default probe fails within it once.
const UNDER_KUBERNETES: Duration = Duration::from_secs(10);

/// Kubernetes' own values for what is left out of a probe.
const PROBE_DEFAULTS: Probe = Probe {
    period: Duration::from_secs(10),
    failure_threshold: 3,
    timeout: Duration::from_secs(1),
};

/// Fills in `probe`, `lameduck` and `drain_timeout`, and checks that all fits into `grace_period`.
pub(crate) fn settle(layers: &mut Layers, under_kubernetes: bool) {
    layers.draft.config.shutdown.probe = probe(layers);
    let lameduck = lameduck(layers, under_kubernetes);
    layers.draft.config.shutdown.lameduck = lameduck;
    grow_for_gunicorn(layers, under_kubernetes);
    let shutdown = layers.draft.config.shutdown.clone();
    let drain_timeout = match layers.draft.drain_timeout.0 {
        Some(given) => {
            check_sum(layers, &shutdown, given);
            given
        }
        None => what_is_left(layers, &shutdown),
    };
    layers.draft.config.shutdown.drain_timeout = drain_timeout;
    layers.draft.lameduck.0 = Some(lameduck);
    layers.draft.drain_timeout.0 = Some(drain_timeout);
    if shutdown.unready_delay > lameduck && !lameduck.is_zero() {
        layers.warnings.push(format!(
            "shutdown.unready_delay {} is longer than lameduck {}: no probe sees the pod unhealthy before it drains",
            format_duration(shutdown.unready_delay),
            format_duration(lameduck),
        ));
    }
}

/// gunicorn knows no grace period: where a Python app gives only the time to
/// drain, what must be granted for it follows.
fn grow_for_gunicorn(layers: &mut Layers, under_kubernetes: bool) {
    let origin = layers.origins.get("shutdown.grace_period");
    let unsaid =
        origin.is_none_or(|place| matches!(place.origin, Origin::Default | Origin::Script(_)));
    let shutdown = &mut layers.draft.config.shutdown;
    let Some(drain_timeout) = layers.draft.drain_timeout.0 else {
        return;
    };
    let sum = shutdown.lameduck + drain_timeout + shutdown.kill_margin;
    if layers.draft.config.python.is_none() || !unsaid || sum <= shutdown.grace_period {
        return;
    }
    shutdown.grace_period = sum;
    if under_kubernetes {
        let sum = format_duration(sum);
        layers.warnings.push(format!(
            "to drain for so long takes a grace period of {sum}: set terminationGracePeriodSeconds to it, and shutdown.grace_period"
        ));
    }
    layers.note(
        "shutdown.grace_period",
        "lameduck + drain_timeout + kill_margin",
    );
}

fn probe(layers: &Layers) -> Option<Probe> {
    let given = &layers.draft.probe;
    if given.period.0.is_none() && given.failure_threshold.0.is_none() && given.timeout.0.is_none()
    {
        return None;
    }
    Some(Probe {
        period: given.period.0.unwrap_or(PROBE_DEFAULTS.period),
        failure_threshold: given
            .failure_threshold
            .0
            .unwrap_or(PROBE_DEFAULTS.failure_threshold),
        timeout: given.timeout.0.unwrap_or(PROBE_DEFAULTS.timeout),
    })
}

fn lameduck(layers: &mut Layers, under_kubernetes: bool) -> Duration {
    let shutdown = &layers.draft.config.shutdown;
    // From SIGTERM until the probe has failed often enough to stop traffic.
    let unrouted = shutdown.probe.as_ref().map(|probe| {
        let until = shutdown.unready_delay + probe.period * probe.failure_threshold + probe.timeout;
        let (period, timeout) = (
            format_duration(probe.period),
            format_duration(probe.timeout),
        );
        (
            until,
            format!("{} x {period} + {timeout}", probe.failure_threshold),
        )
    });
    match (layers.draft.lameduck.0, unrouted) {
        (Some(given), Some((until, sum))) if given < until => {
            layers.warnings.push(format!(
                "shutdown.lameduck is {}, but the probe ({sum}) takes up to {} to stop traffic, and requests that come later are lost: set it to {} or leave it out",
                format_duration(given),
                format_duration(until),
                format_duration(until + PROPAGATION),
            ));
            given
        }
        (Some(given), _) => given,
        (None, Some((until, sum))) => {
            derived(layers, until + PROPAGATION, &format!("probe, {sum} + 3s"))
        }
        (None, None) if under_kubernetes => derived(layers, UNDER_KUBERNETES, "under Kubernetes"),
        (None, None) => derived(layers, Duration::ZERO, "not under Kubernetes"),
    }
}

fn derived(layers: &mut Layers, lameduck: Duration, how: &str) -> Duration {
    layers.note("shutdown.lameduck", how);
    lameduck
}

/// What the grace period leaves for requests in flight; an error when that is nothing.
fn what_is_left(layers: &mut Layers, shutdown: &Shutdown) -> Duration {
    let Shutdown {
        grace_period,
        lameduck,
        kill_margin,
        ..
    } = *shutdown;
    let left = grace_period.saturating_sub(lameduck + kill_margin);
    if left.is_zero() {
        let label = format!(
            "lameduck {} + kill_margin {} leave nothing of grace_period {}",
            format_duration(lameduck),
            format_duration(kill_margin),
            format_duration(grace_period),
        );
        let help = format!(
            "raise grace_period (terminationGracePeriodSeconds) above {}, or lower lameduck",
            format_duration(lameduck + kill_margin)
        );
        let paths = [
            "shutdown.lameduck",
            "shutdown.probe.period",
            "shutdown.probe.failure_threshold",
            "shutdown.probe.timeout",
            "shutdown.kill_margin",
            "shutdown.grace_period",
        ];
        layers.conflict("no time is left to drain", &paths, &label, &help);
    }
    layers.note(
        "shutdown.drain_timeout",
        "grace_period - lameduck - kill_margin",
    );
    left
}

fn check_sum(layers: &mut Layers, shutdown: &Shutdown, drain_timeout: Duration) {
    let Shutdown {
        grace_period,
        lameduck,
        kill_margin,
        ..
    } = *shutdown;
    let sum = lameduck + drain_timeout + kill_margin;
    if sum <= grace_period {
        return;
    }
    let label = format!(
        "lameduck {} + drain_timeout {} + kill_margin {} = {}, but grace_period is {}",
        format_duration(lameduck),
        format_duration(drain_timeout),
        format_duration(kill_margin),
        format_duration(sum),
        format_duration(grace_period),
    );
    let room = grace_period.saturating_sub(lameduck + kill_margin);
    let lower = if room.is_zero() {
        "lameduck".to_owned()
    } else {
        format!("drain_timeout to {}", format_duration(room))
    };
    let help = format!(
        "raise grace_period (terminationGracePeriodSeconds) to {}, or lower {lower}",
        format_duration(sum)
    );
    let paths = [
        "shutdown.drain_timeout",
        "shutdown.lameduck",
        "shutdown.kill_margin",
        "shutdown.grace_period",
    ];
    layers.conflict(
        "the shutdown does not fit into `shutdown.grace_period`",
        &paths,
        &label,
        &help,
    );
}
