//! Connections that an app took over.

use worker_api::message::Command;

use super::Pod;
use crate::client::Client;

fn upgraded(pod: &mut Pod) -> Client {
    let mut client = pod.connect();
    client.send(
        "GET /upgrade HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly",
    );
    let reply = client.reply();
    assert_eq!(
        (reply.status, reply.header("connection")),
        (101, Some("upgrade"))
    );
    pod.expect("upgraded");
    assert_eq!(client.bytes(5).unwrap(), b"early");
    client
}

fn echoes(client: &mut Client) {
    client.send("ping");
    assert_eq!(client.bytes(4).unwrap(), b"ping");
}

#[test]
fn an_upgraded_connection_lives_through_lameduck_and_drain_until_it_ends() {
    let mut pod = Pod::start();
    let mut client = upgraded(&mut pod);
    echoes(&mut client);
    pod.lameduck();
    echoes(&mut client);
    pod.drain();
    echoes(&mut client);
    assert_eq!(pod.row().in_flight, 0);
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    pod.expect("upgrade ended");
    client.expect_end();
    assert_eq!(pod.drained().1, 0);
}

#[test]
fn force_cuts_an_upgraded_connection_and_counts_it() {
    let mut pod = Pod::start();
    let mut client = upgraded(&mut pod);
    pod.drain();
    echoes(&mut client);
    pod.command(&Command::Quit);
    assert!(client.bytes(1).is_err());
    assert_eq!(pod.drained().1, 1);
}
