//! SIGTERM, reloads, recycling and crashes under load.

use super::{answers, hosted, hosted_in};
use crate::harness::http::Stage;
use crate::harness::programs::need;
use crate::harness::{Builder, Load, Signal};
use crate::recycle::recycles;
use crate::reload::twenty_reloads_lose_nothing;
use crate::shutdown::goes_down_under_load;

fn raw_wsgi(threads: i64) -> Option<Builder> {
    Some(hosted("raw_wsgi:app", "sys")?.set("workers.threads", threads))
}

fn flask(threads: i64) -> Option<Builder> {
    Some(hosted("flask_app:app", "flask")?.set("workers.threads", threads))
}

fn raw_asgi() -> Option<Builder> {
    hosted("raw_asgi:app", "sys")
}

fn fastapi() -> Option<Builder> {
    hosted("fastapi_app:app", "fastapi")
}

#[test]
fn raw_wsgi_loses_nothing_to_sigterm() {
    goes_down_under_load(need!(raw_wsgi(1), "the package"));
    goes_down_under_load(need!(raw_wsgi(8), "the package"));
}

#[test]
fn flask_loses_nothing_to_sigterm() {
    goes_down_under_load(need!(flask(1), "the package, and Flask"));
    goes_down_under_load(need!(flask(8), "the package, and Flask"));
}

#[test]
fn raw_asgi_loses_nothing_to_sigterm() {
    goes_down_under_load(need!(raw_asgi(), "the package"));
}

#[test]
fn fastapi_loses_nothing_to_sigterm() {
    goes_down_under_load(need!(fastapi(), "the package, and FastAPI"));
}

#[test]
fn raw_wsgi_loses_nothing_to_twenty_reloads() {
    twenty_reloads_lose_nothing(need!(raw_wsgi(1), "the package"));
}

#[test]
fn raw_wsgi_of_eight_threads_loses_nothing_to_twenty_reloads() {
    twenty_reloads_lose_nothing(need!(raw_wsgi(8), "the package"));
}

#[test]
fn flask_loses_nothing_to_twenty_reloads() {
    twenty_reloads_lose_nothing(need!(flask(1), "the package, and Flask"));
}

#[test]
fn flask_of_eight_threads_loses_nothing_to_twenty_reloads() {
    twenty_reloads_lose_nothing(need!(flask(8), "the package, and Flask"));
}

#[test]
fn flask_of_eight_threads_loses_nothing_to_twenty_reloads_with_preload() {
    let builder = need!(flask(8), "the package, and Flask");
    twenty_reloads_lose_nothing(builder.set("workers.preload", true));
}

#[test]
fn raw_asgi_loses_nothing_to_twenty_reloads() {
    twenty_reloads_lose_nothing(need!(raw_asgi(), "the package"));
}

#[test]
fn fastapi_loses_nothing_to_twenty_reloads() {
    twenty_reloads_lose_nothing(need!(fastapi(), "the package, and FastAPI"));
}

#[test]
fn fastapi_loses_nothing_to_twenty_reloads_with_preload() {
    let builder = need!(fastapi(), "the package, and FastAPI");
    twenty_reloads_lose_nothing(builder.set("workers.preload", true));
}

#[test]
fn raw_wsgi_loses_nothing_to_max_requests() {
    recycles(need!(raw_wsgi(1), "the package"));
    recycles(need!(raw_wsgi(8), "the package"));
}

#[test]
fn flask_loses_nothing_to_max_requests() {
    recycles(need!(flask(1), "the package, and Flask"));
    recycles(need!(flask(8), "the package, and Flask"));
}

#[test]
fn raw_asgi_loses_nothing_to_max_requests() {
    recycles(need!(raw_asgi(), "the package"));
}

#[test]
fn fastapi_loses_nothing_to_max_requests() {
    recycles(need!(fastapi(), "the package, and FastAPI"));
}

#[test]
fn a_crash_under_load_costs_only_what_the_worker_had() {
    for builder in [raw_wsgi(8), raw_asgi()] {
        let server = need!(builder, "the package").start();
        let load = Load::start(&server.target);
        load.wait_for(200);
        let victim = server.watch(server.worker_pids()[0]);
        victim.signal(Signal::KILL);
        server.wait_status("the replacement", |status| {
            status.ready_workers == 2 && !status.pids().contains(&victim.pid)
        });
        load.wait_for(200);
        let report = load.stop();
        println!("{}", report.describe());
        let connected = report.lost.iter().all(|lost| lost.stage != Stage::Connect);
        assert!(connected, "{}", report.describe());
        // Each client has one request at a time, and none lost two.
        let mut clients: Vec<_> = report.lost.iter().map(|lost| lost.client).collect();
        clients.sort_unstable();
        clients.dedup();
        assert_eq!(clients.len(), report.lost.len(), "{}", report.describe());
        server.shut_down();
    }
}

#[test]
fn a_signal_to_one_worker_replaces_it_and_loses_nothing() {
    for builder in [raw_wsgi(1), raw_asgi()] {
        let server = need!(builder, "the package").start();
        let load = Load::start(&server.target);
        load.wait_for(200);
        for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
            let worker = server.watch(server.worker_pids()[0]);
            worker.signal(signal);
            server.wait_gone(&worker);
            server.wait_status("two workers", |status| {
                status.ready_workers == 2 && status.workers.len() == 2
            });
        }
        load.wait_for(200);
        load.stop().assert_none_lost();
        assert_eq!(server.log.count(&["worker retires", "own_will"]), 3);
        server.shut_down();
    }
}

#[test]
fn a_child_of_the_app_ends_by_its_signal_and_its_worker_stays() {
    let folder = tempfile::tempdir().unwrap();
    let app = "
import os, signal

def app(environ, start):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # What comes before the fork is over is lost: Python clears it.
        os.write(write, b'up')
        signal.pause()
        os._exit(0)
    os.close(write)
    os.read(read, 2)
    os.close(read)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    start('200 OK', [])
    return [str(os.waitstatus_to_exitcode(status)).encode()]
";
    // Called by a loop, which keeps handlers from raising, as well.
    let app = format!(
        "{app}
async def loop(scope, receive, send):
    said = []
    body = app({{}}, lambda status, fields: said.append(status))
    await send({{'type': 'http.response.start', 'status': 200}})
    await send({{'type': 'http.response.body', 'body': body[0]}})
"
    );
    std::fs::write(folder.path().join("forks.py"), app).unwrap();
    for name in ["forks:app", "forks:loop"] {
        let builder = need!(hosted_in(name, "sys", folder.path()), "the package");
        let server = builder.start();
        let before = server.worker_pids();
        for _ in 0..5 {
            answers(&server, "/", 200, "-15");
        }
        assert_eq!(server.worker_pids(), before);
        assert_eq!(server.log.count(&["own_will"]), 0);
        server.shut_down();
    }
}

#[test]
fn a_reload_takes_new_code_and_one_that_does_not_import_changes_nothing() {
    for preload in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("fresh.py"), text).unwrap();
        let app = |answer: &str| {
            format!("def app(environ, start):\n    start('200 OK', [])\n    return [b'{answer}']\n")
        };
        write(&app("one"));
        let builder = need!(hosted_in("fresh:app", "sys", folder.path()), "the package");
        let server = builder.set("workers.preload", preload).start();
        answers(&server, "/", 200, "one");

        write("import nothing_like_this\n");
        let before = server.worker_pids();
        reload(&server, "rolled_back");
        assert_eq!(server.worker_pids(), before);
        answers(&server, "/", 200, "one");
        server.wait_log(&["needs the module", "nothing_like_this"]);

        write(&app("two"));
        reload(&server, "done");
        answers(&server, "/", 200, "two");
        server.shut_down();
    }
}

/// SIGHUP, and how it ended.
#[track_caller]
fn reload(server: &crate::harness::Server, outcome: &str) {
    server.signal(Signal::HUP);
    server.wait_status(outcome, |status| {
        let reload = status.last_reload.as_ref();
        reload.is_some_and(|reload| reload.outcome == outcome)
            && status.workers.len() == 2
            && status.ready_workers == 2
    });
}

#[test]
fn background_work_that_the_end_cuts_off_counts() {
    let folder = tempfile::tempdir().unwrap();
    let app = "
import asyncio

async def app(scope, receive, send):
    assert scope['type'] == 'http'
    await send({'type': 'http.response.start', 'status': 200})
    await send({'type': 'http.response.body', 'body': b'answered'})
    await asyncio.sleep(600)
";
    std::fs::write(folder.path().join("main.py"), app).unwrap();
    let builder = hosted_in("main:app", "asyncio", folder.path());
    let server = need!(builder, "the package").drain_timeout("1s").start();
    answers(&server, "/", 200, "answered");
    server.signal(Signal::TERM);
    server.expect_exit(5);
    server.wait_log(&["background work of an answered request cut off"]);
}
