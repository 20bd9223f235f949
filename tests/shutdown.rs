//! SIGTERM: unhealthy first, serving on, nothing lost, and gone as soon as it is drained.

use std::time::{Duration, Instant};

use crate::harness::balancer::{first_503, last_200_after_first_503};
use crate::harness::load::Plan;
use crate::harness::programs::{need, uvicorn};
use crate::harness::schedule::alone;
use crate::harness::{
    Builder, Exit, Load, LoadBalancer, Prober, Server, Signal, Target, eventually,
};

/// The requirement: so long after lameduck, or after the last response, the master may run.
const PROMPT: Duration = Duration::from_millis(200);
pub(crate) const LAMEDUCK: Duration = Duration::from_secs(3);

#[test]
fn sigterm_under_load_loses_nothing_with_the_axum_app() {
    promptly("the exit, after lameduck", || {
        let server = Builder::axum().lameduck("3s").start();
        let (term, exit) = sigterm_under_load(&server, &server.target, "/health");
        exit.after(term + LAMEDUCK)
    });
}

#[test]
fn sigterm_under_load_loses_nothing_with_the_mio_app() {
    promptly("the exit, after lameduck", || {
        let server = Builder::mio().lameduck("3s").start();
        let (term, exit) = sigterm_under_load(&server, &server.target, "/health");
        exit.after(term + LAMEDUCK)
    });
}

#[test]
fn sigterm_under_load_loses_nothing_with_blocking_handlers() {
    promptly("the exit, after lameduck", || {
        let server = Builder::hello().lameduck("3s").start();
        let (term, exit) = sigterm_under_load(&server, &server.target, "/health");
        exit.after(term + LAMEDUCK)
    });
}

#[test]
fn sigterm_under_load_loses_nothing_with_a_plain_uvicorn() {
    let program = need!(uvicorn(), "uvicorn");
    promptly(
        "the stop signal, and the exit, around uvicorn's own end",
        || {
            let server = Builder::new(program.clone()).lameduck("3s").start();
            let workers = server.watch_workers();
            let watched = std::thread::spawn(move || {
                let limit = Duration::from_secs(60);
                let ends = workers
                    .iter()
                    .map(|worker| worker.wait_exit(limit).unwrap());
                ends.max().unwrap()
            });
            let (term, exit) = sigterm_under_load(&server, &server.ops, "/readyz");
            let last_worker = watched.join().unwrap();
            let told = server.wait_log(&["phase drain"]).at;
            // uvicorn looks for a signal every 0.1 s and then sleeps another 0.1 s, whoever sends it.
            let own = last_worker.saturating_duration_since(told);
            println!("uvicorn itself took {own:?} from its signal to its end");
            let late = told.saturating_duration_since(term + LAMEDUCK);
            late.max(exit.after(last_worker))
        },
    );
}

/// The counter-proof: the requirement's load does notice a pod that goes away under it.
#[test]
fn without_lameduck_the_same_load_loses_requests() {
    let server = Builder::axum().start();
    let load = Load::start(&server.target);
    load.wait_for(500);
    let balancer = LoadBalancer::start(&server.target, "/health", load.route());
    server.shut_down();
    eventually("the pod is taken out", || load.is_stopped());
    balancer.stop();
    let report = load.stop();
    println!("{}", report.describe());
    assert!(!report.lost.is_empty());
}

#[test]
fn without_lameduck_an_idle_pod_ends_at_once() {
    for builder in [Builder::axum, Builder::mio] {
        promptly("the exit, after SIGTERM", || {
            let server = builder().start();
            let term = server.signal(Signal::TERM);
            server.expect_exit(0).after(term)
        });
    }
}

#[test]
fn idle_connections_that_their_clients_keep_do_not_hold_the_exit_up() {
    for builder in [Builder::axum, Builder::mio] {
        promptly("the exit, after SIGTERM", || {
            let server = builder().start();
            let mut idle: Vec<_> = (0..64).map(|_| server.connect()).collect();
            for connection in &mut idle {
                assert_eq!(connection.get("/").unwrap().status, 200);
            }
            let silent: Vec<_> = (0..8).map(|_| server.connect()).collect();
            let term = server.signal(Signal::TERM);
            let exit = server.expect_exit(0);
            drop((idle, silent));
            exit.after(term)
        });
    }
}

#[test]
fn an_in_flight_request_of_two_seconds_survives_and_the_exit_follows_it() {
    for builder in [Builder::axum, Builder::mio] {
        promptly("the exit, after the last response", || {
            let server = builder().start();
            let mut connection = server.connect();
            connection.send_get("/slow/2").unwrap();
            server.wait_status("the request", |status| {
                status.workers.iter().any(|worker| worker.in_flight == 1)
            });
            server.signal(Signal::TERM);
            let response = connection.read_response().unwrap();
            assert_eq!(response.status, 200);
            let headers = &response.headers;
            assert!(response.close, "it announces the end: {headers:?}");
            drop(connection);
            server.expect_exit(0).after(response.at)
        });
    }
}

#[test]
fn a_plain_worker_finishes_its_request_of_two_seconds() {
    let server = Builder::plain("plain.py", &[]).workers(1).start();
    let mut connection = server.connect();
    connection.get("/").unwrap();
    connection.send_get("/slow/2").unwrap();
    server.wait_log(&["takes its time"]);
    server.signal(Signal::TERM);
    assert_eq!(connection.read_response().unwrap().status, 200);
    server.expect_exit(0);
}

#[test]
fn in_lameduck_health_says_503_while_the_app_serves_on() {
    for builder in [Builder::axum(), Builder::mio()] {
        let server = builder.lameduck("30s").start();
        let mut kept = server.connect();
        assert_eq!(kept.get("/health").unwrap().status, 200);
        let mut idle = server.connect();
        assert!(!idle.get("/").unwrap().close);

        server.signal(Signal::TERM);
        server.wait("503 of /readyz", || {
            (server.ops("/readyz")?.status == 503).then_some(())
        });
        assert_eq!(server.status().phase, "lameduck");
        assert_eq!(server.ops("/livez").unwrap().status, 200);
        let health = server.get("/health");
        assert_eq!(health.status, 503);
        assert_eq!(health.json()["status"], "unhealthy");
        let fresh = server.get("/");
        assert_eq!((fresh.status, fresh.text().as_str()), (200, "hello"));
        // The pod's health is one word for all; that it is lameduck each worker is told by itself.
        eventually("a response in lameduck announces the end", || {
            let told = kept.get("/").unwrap();
            assert_eq!(told.status, 200);
            told.close
        });
        assert!(!idle.is_closed(), "an idle connection is kept in lameduck");
        server.signal(Signal::INT);
        server.expect_exit(0);
    }
}

#[test]
fn health_stays_at_200_for_the_unready_delay_and_never_comes_back() {
    let server = Builder::axum()
        .lameduck("30s")
        .set("shutdown.unready_delay", "1s")
        .start();
    let health = Prober::start(&server.target, "/health", Duration::from_millis(20));
    let term = server.signal(Signal::TERM);
    server.wait("503 of /health", || {
        (server.get("/health").status == 503).then_some(())
    });
    eventually("the prober sees it", || {
        first_503(&health.probes()).is_some()
    });
    server.signal(Signal::INT);
    server.expect_exit(0);
    let probes = health.stop();
    let first = first_503(&probes).expect("a 503 of /health before the end");
    let delay = first.saturating_duration_since(term);
    assert!(
        delay >= Duration::from_secs(1),
        "unhealthy {delay:?} after SIGTERM"
    );
    assert!(last_200_after_first_503(&probes).is_none());
}

#[test]
fn a_quiet_lameduck_ends_early_once_the_probe_knows() {
    let server = Builder::axum()
        .lameduck("15s")
        .set("shutdown.lameduck_quiet", "500ms")
        .start();
    let term = server.signal(Signal::TERM);
    let balancer = Prober::start(&server.target, "/health", Duration::from_millis(100));
    let exit = server.expect_exit(0);
    balancer.stop();
    let took = exit.after(term);
    assert!(
        took < Duration::from_secs(10),
        "lameduck did not end early: {took:?}"
    );
}

#[test]
fn a_lameduck_with_requests_is_not_quiet() {
    let server = Builder::axum()
        .lameduck("30s")
        .set("shutdown.lameduck_quiet", "2s")
        .start();
    let load = Load::start(&server.target);
    load.wait_for(10);
    server.signal(Signal::TERM);
    let balancer = Prober::start(&server.target, "/health", Duration::from_millis(100));
    // The load ends well before lameduck does: no request of it may find the door closed.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(server.status().phase, "lameduck");
    load.stop().assert_none_lost();
    server.wait_log(&["phase drain"]);
    server.expect_exit(0);
    balancer.stop();
}

/// SIGTERM under the load of the requirement, probed at `path`: nothing lost, health never back,
/// a clean end. When SIGTERM was sent, and the end. The probe has to notice within the 3 s of
/// lameduck: to be run [`alone`].
pub(crate) fn sigterm_under_load(server: &Server, probed: &Target, path: &str) -> (Instant, Exit) {
    let (term, exit) = down_under_load(server, probed, path, |_| {});
    let early = (term + LAMEDUCK).saturating_duration_since(exit.at);
    assert!(early.is_zero(), "lameduck ended {early:?} early");
    (term, exit)
}

/// The same beside other tests: lameduck lasts until the load was turned away, however late that is.
pub(crate) fn goes_down_under_load(builder: Builder) {
    let server = builder.lameduck("45s").start();
    down_under_load(&server, &server.target, "/health", |load| {
        eventually("the pod is taken out", || load.is_stopped());
        server.signal(Signal::INT);
    });
}

/// `then` comes after SIGTERM.
fn down_under_load(
    server: &Server,
    probed: &Target,
    path: &str,
    then: impl FnOnce(&Load),
) -> (Instant, Exit) {
    let plan = Plan {
        fresh_every: Some(10),
        slow_every: Some(100),
        ..Plan::default()
    };
    let load = Load::with(&server.target, plan);
    load.wait_for(500);
    let balancer = LoadBalancer::start(probed, path, load.route());
    let watch = Prober::start(probed, path, Duration::from_millis(20));
    eventually("a first probe", || watch.has_probed());
    let term = server.signal(Signal::TERM);
    then(&load);
    let exit = server.expect_exit(0);
    let (probes, watched) = (balancer.stop(), watch.stop());
    let report = load.stop();
    println!("{}", report.describe());

    report.assert_none_lost();
    let unrouted = report.stopped_at.unwrap();
    assert!(
        unrouted < exit.at,
        "the probe took the pod out before the end"
    );
    for probes in [&probes, &watched] {
        assert!(
            first_503(probes).is_some(),
            "the probe saw a 503: {probes:?}"
        );
        assert!(
            last_200_after_first_503(probes).is_none(),
            "200 after 503: {probes:?}"
        );
    }
    let sick_after = first_503(&watched).unwrap().saturating_duration_since(term);
    println!("the first 503 came {sick_after:?} after SIGTERM");
    (term, exit)
}

/// Runs a scenario by itself, and holds the time that it says against the requirement. Whoever else
/// uses the machine only ever adds to it: the best of ten attempts counts. All else that the
/// scenario asserts has to hold in each.
#[track_caller]
pub(crate) fn promptly(what: &str, scenario: impl Fn() -> Duration) {
    let _alone = alone();
    let mut best = Duration::MAX;
    for _ in 0..10 {
        best = best.min(scenario());
        println!("{what}: {best:?} (at most {PROMPT:?})");
        if best <= PROMPT {
            return;
        }
    }
    panic!("{what}: {best:?}, at most {PROMPT:?}");
}
