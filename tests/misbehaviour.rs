//! Native workers that break the contract: the master survives every one and the pod serves on.

use crate::harness::programs::{Program, example, python};
use crate::harness::{Builder, Server, Signal};

#[test]
fn frames_that_are_garbage_are_refused() {
    survives("garbage");
}

#[test]
fn frames_that_are_too_long_are_refused() {
    survives("long");
}

#[test]
fn frames_that_are_cut_short_are_refused() {
    survives("cut");
}

#[test]
fn a_flood_of_frames_does_not_keep_the_master_from_its_work() {
    let server = Builder::native(&["flood"]).start();
    // The flood lasts two seconds: the ops listener answers meanwhile.
    for _ in 0..20 {
        let answer = server.ops("/status").expect("an answer during the flood");
        assert!(answer.status == 200);
    }
    server.wait_log(&["has flooded"]);
    good_end(&server);
}

#[test]
fn a_scoreboard_full_of_lies_breaks_nothing() {
    let server = Builder::native(&["scribble"]).start();
    for _ in 0..30 {
        assert_eq!(server.ops("/status").unwrap().status, 200);
        assert_eq!(server.ops("/metrics").unwrap().status, 200);
        assert_eq!(server.get("/").status, 200);
    }
    server.signal(Signal::HUP);
    server.wait_status("the next generation", |status| {
        status.generation == 2 && status.workers.iter().all(|worker| worker.generation == 2)
    });
    server.signal(Signal::TERM);
    let exit = server.wait_exit();
    assert_eq!(exit.code(), Some(0), "{}", exit.status);
    server.assert_no_leftovers();
}

#[test]
fn a_neighbour_of_a_liar_serves_on_and_drains() {
    let liar = python("native.py");
    let script = format!(
        r#"[ "$GRACEFORK_WORKER" = 0 ] && exec {} {} scribble; exec {}"#,
        liar.path.display(),
        liar.args.join(" "),
        example("axum-app").path.display()
    );
    let program = Program::new("/bin/sh").arg("-c").arg(script);
    let server = Builder::new(program).level("native").spawn();
    let status = server.wait_status("both started", |status| {
        status.workers.len() == 2 && status.workers.iter().all(|worker| worker.is("ready"))
    });
    for _ in 0..100 {
        assert_eq!(server.get("/").status, 200);
    }
    assert_eq!(server.worker_pids(), status.pids(), "both live on");
    server.shut_down();
}

#[test]
fn a_worker_that_closes_its_channel_and_lives_on_holds_nothing_up() {
    let server = Builder::native(&["vanish"]).drain_timeout("1s").spawn();
    server.wait("both to vanish", || {
        (server.log.count(&["has vanished"]) == 2).then_some(())
    });
    assert_eq!(server.ops("/livez").unwrap().status, 200);
    server.signal(Signal::TERM);
    // Nobody hears whether they have drained: they are killed at their deadline.
    server.expect_exit(5);
    server.assert_no_leftovers();
}

#[test]
fn a_good_hand_made_native_worker_is_served_by_the_same_contract() {
    let server = Builder::native(&["good"]).lameduck("30s").start();
    let status = server.status();
    assert!(
        status.workers.iter().all(|worker| worker.level == "native"),
        "{status:?}"
    );
    server.signal(Signal::TERM);
    server.wait("a word of each worker", || {
        (server.log.count(&["was told", "LAMEDUCK"]) == 2).then_some(())
    });
    assert_eq!(server.get("/health").status, 503);
    server.signal(Signal::INT);
    server.expect_exit(0);
    server.wait_log(&["was told", "DRAIN"]);
}

/// Serves, is seen, retires and ends as if nothing had been.
fn survives(how: &str) {
    let server = Builder::native(&[how]).start();
    good_end(&server);
}

fn good_end(server: &Server) {
    let status = server.wait_status("both Ready", |status| status.ready_workers == 2);
    assert!(
        status.workers.iter().all(|worker| worker.level == "native"),
        "{status:?}"
    );
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}
