//! Listeners of every kind: TCP, IPv6, Unix, inherited.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::harness::{Builder, Conn, Load, Signal, Target};
use crate::reload::settled;

#[test]
fn an_ipv6_address_is_served() {
    let Ok(probe) = TcpListener::bind("[::1]:0") else {
        return crate::harness::skip::skip("IPv6 on the loopback");
    };
    drop(probe);
    let address = format!("[::1]:{}", crate::harness::ports::free_port());
    let server = Builder::axum()
        .bind([address.clone()])
        .target(Target::Tcp(address.parse().unwrap()))
        .start();
    assert_eq!(server.get("/").text(), "hello");
    server.shut_down();
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    for builder in [Builder::axum(), Builder::plain("plain.py", &[])] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let server = builder
            .bind([format!("unix:{}", path.display())])
            .target(Target::Unix(path.clone()))
            .start();
        let load = Load::start(&server.target);
        load.wait_for(100);
        load.stop().assert_none_lost();
        server.shut_down();
        assert!(!path.exists(), "the socket file is removed");
    }
}

#[test]
fn everybody_may_connect_to_a_unix_socket_unless_a_umask_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let server = Builder::axum()
        .bind([format!("unix:{}", path.display())])
        .target(Target::Unix(path.clone()))
        .start();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o777);
    server.shut_down();
}

#[test]
fn a_reload_keeps_a_unix_socket_as_it_is_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let server = Builder::axum()
        .bind([format!("unix:{}", path.display())])
        .set("security.umask", "077")
        .target(Target::Unix(path.clone()))
        .start();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o700);
    server.set("security.umask", "007");
    server.set("listen.backlog", 7);
    server.signal(Signal::HUP);
    server.wait_log(&["unix sockets", "stay as they are until the next start"]);
    server.wait_log(&["reload done"]);
    assert_eq!(mode(), 0o700);
    // Of a Unix socket the kernel lets one more wait than it was told. What a worker has accepted
    // before it stood still does not wait, and so it is tried again.
    server.wait_status("the new generation alone", settled);
    let workers = server.watch_workers();
    server.wait("the new backlog", || {
        (workers.iter()).for_each(|worker| worker.signal(Signal::STOP));
        let waiting: Vec<_> = (0..50).map_while(|_| connect_at_once(&path).ok()).collect();
        let count = waiting.len();
        drop(waiting);
        (workers.iter()).for_each(|worker| worker.signal(Signal::CONT));
        (count == 8).then_some(())
    });
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}

/// An error where the queue is full.
fn connect_at_once(path: &Path) -> std::io::Result<Socket> {
    let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    client.connect(&SockAddr::unix(path)?).map(|()| client)
}

#[test]
fn a_stale_unix_socket_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(
        path.exists(),
        "a socket that nobody listens on is left behind"
    );
    let server = Builder::axum()
        .bind([format!("unix:{}", path.display())])
        .target(Target::Unix(path))
        .start();
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
}

#[test]
fn a_live_unix_socket_is_an_error_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let _live = UnixListener::bind(&path).unwrap();
    let server = Builder::axum()
        .bind([format!("unix:{}", path.display())])
        .spawn();
    server.expect_exit(1);
    server.wait_log(&[path.to_str().unwrap(), "in use"]);
    assert!(
        Conn::open(&Target::Unix(path)).is_ok(),
        "the other's socket still stands"
    );
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    std::fs::write(&path, "precious").unwrap();
    let server = Builder::axum()
        .bind([format!("unix:{}", path.display())])
        .spawn();
    server.expect_exit(1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn sockets_of_socket_activation_are_used_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let target = Target::Tcp(tcp.local_addr().unwrap());
    let sockets: Vec<OwnedFd> = vec![tcp.into(), unix.into()];
    let mut builder = Builder::axum().socket_activated(sockets).target(target);
    builder.config.remove("listen");
    let server = builder.start();
    assert_eq!(server.get("/").text(), "hello");
    assert_eq!(
        Conn::open(&Target::Unix(path))
            .unwrap()
            .get("/")
            .unwrap()
            .text(),
        "hello"
    );
    server.shut_down();
}

#[test]
fn sockets_that_nobody_accepts_from_are_told() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Builder::axum().socket_activated(vec![tcp.into()]).start();
    server.wait_log(&["sockets were handed over", "1 of them", "`listen.bind`"]);
    server.shut_down();
}

#[test]
fn a_socket_is_inherited_by_its_number() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = Target::Tcp(tcp.local_addr().unwrap());
    let server = Builder::axum()
        .inherited(vec![tcp.into()])
        .bind(["fd:3"])
        .target(target)
        .start();
    assert_eq!(server.get("/").text(), "hello");
    server.signal(Signal::HUP);
    server.wait_status("the next generation", |status| {
        status.generation == 2 && status.workers.iter().all(|worker| worker.generation == 2)
    });
    assert_eq!(
        server.get("/").text(),
        "hello",
        "the inherited socket is kept over a reload"
    );
    server.shut_down();
}

#[test]
fn a_number_that_is_no_socket_is_an_error() {
    let server = Builder::axum().bind(["fd:77"]).spawn();
    server.expect_exit(1);
    server.wait_log(&["fd:77"]);
}

#[test]
fn several_addresses_are_served_and_named() {
    let ports = [
        crate::harness::ports::free_port(),
        crate::harness::ports::free_port(),
    ];
    let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
    let targets = addresses
        .clone()
        .map(|address| Target::Tcp(address.parse().unwrap()));
    let server = Builder::axum()
        .bind(addresses)
        .target(targets[0].clone())
        .start();
    for target in &targets {
        assert_eq!(Conn::open(target).unwrap().get("/").unwrap().status, 200);
    }
    server.shut_down();
}

#[test]
fn a_port_is_free_again_right_after_the_end() {
    let server = Builder::axum().start();
    let Target::Tcp(address) = server.target else {
        unreachable!()
    };
    assert_eq!(server.get("/").status, 200);
    server.shut_down();
    let again = Builder::axum()
        .bind([address.to_string()])
        .target(Target::Tcp(address))
        .start();
    assert_eq!(again.get("/").status, 200);
    again.shut_down();
}
