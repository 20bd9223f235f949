//! Whoever started the master, if it wants to know how it is doing: systemd, for a unit of
//! `Type=notify` or `notify-reload`, or another gracefork. By sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::debug;

/// Where to tell, if it is to be told.
#[derive(Debug)]
pub struct Service(Option<(UnixDatagram, SocketAddr)>);

impl Service {
    /// As `NOTIFY_SOCKET` says; nobody is told where there is none, or it makes no sense.
    #[must_use]
    pub fn of(name: Option<&str>) -> Self {
        let address = name.and_then(|name| match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name).ok(),
            None => SocketAddr::from_pathname(name).ok(),
        });
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Self(socket.ok().zip(address))
    }

    /// The pod serves.
    pub fn ready(&self) {
        self.say("READY=1\nSTATUS=serving");
    }

    /// A reload has begun; [`ready`](Self::ready) is its end. `now`: on CLOCK_MONOTONIC.
    pub fn reloading(&self, now: Duration) {
        let micros = now.as_micros();
        self.say(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"
        ));
    }

    /// The pod goes down; `phase` says how far it is.
    pub fn stopping(&self, phase: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={phase}"));
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            debug!(%error, "whoever started the master cannot be told: NOTIFY_SOCKET");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(by: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = by.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn it_is_told_by_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = Service::of(path.to_str());
        service.ready();
        assert_eq!(heard(&manager), "READY=1\nSTATUS=serving");
        service.reloading(Duration::from_micros(7));
        assert_eq!(
            heard(&manager),
            "RELOADING=1\nMONOTONIC_USEC=7\nSTATUS=reloading"
        );
        let name = format!("gracefork-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Service::of(Some(&format!("@{name}"))).stopping("lameduck");
        assert_eq!(heard(&manager), "STOPPING=1\nSTATUS=lameduck");
    }

    #[test]
    fn nobody_and_whoever_has_gone_are_no_trouble() {
        Service::of(None).ready();
        Service::of(Some("vsock:2:1234")).ready();
        Service::of(Some("/no/such/folder/notify")).ready();
    }
}
