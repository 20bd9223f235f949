//! Where containers are at their strictest: PID 1, a read-only root, no capability, a user without
//! a name.

use crate::harness::builder::confinement_works;
use crate::harness::skip::skip;
use crate::harness::{Builder, Load, LoadBalancer, Signal, eventually};

#[test]
fn confined_sigterm_under_load_loses_nothing_with_the_axum_app() {
    lives_its_life(Builder::axum());
}

#[test]
fn confined_sigterm_under_load_loses_nothing_with_blocking_handlers() {
    lives_its_life(Builder::hello());
}

/// Start, reload and shutdown, with clients all the time.
pub(crate) fn lives_its_life(builder: Builder) {
    if !confinement_works() {
        return skip("mount and pid namespaces, setpriv, and binaries that any user may execute");
    }
    let server = builder.lameduck("45s").confined().start();
    let load = Load::start(&server.target);
    load.wait_for(100);
    server.signal(Signal::HUP);
    server.wait_status("the reload", |status| {
        let reload = status.last_reload.as_ref();
        reload.is_some_and(|reload| reload.outcome == "done") && status.workers.len() == 2
    });
    let balancer = LoadBalancer::start(&server.target, "/health", load.route());
    server.signal(Signal::TERM);
    eventually("the pod is taken out", || load.is_stopped());
    server.signal(Signal::INT);
    server.expect_exit(0);
    balancer.stop();
    load.stop().assert_none_lost();
    assert!(
        server.log.count(&["WARN"]) == 0,
        "nothing that is missed there is needed"
    );
}
