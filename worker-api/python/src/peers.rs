//! What Python gets to see of an address, made once where it comes again.

use std::net::SocketAddr;

/// So many addresses are kept; each has its place, and a later one takes it over. Many clients
/// behind one proxy differ in their ports alone.
const PLACES: usize = 256;

/// The addresses that came last, as `T`.
pub(crate) struct Peers<T> {
    places: Box<[Option<Box<Known<T>>>]>,
}

struct Known<T> {
    address: SocketAddr,
    kept: T,
}

impl<T> Peers<T> {
    pub(crate) fn new() -> Self {
        Self {
            places: std::iter::repeat_with(|| None).take(PLACES).collect(),
        }
    }

    /// What is kept of an address, or is made now: perhaps of what another one of the same host
    /// leaves behind.
    pub(crate) fn get_or_try_make<E>(
        &mut self,
        address: SocketAddr,
        make: impl FnOnce(Option<T>) -> Result<T, E>,
    ) -> Result<&T, E> {
        let place = &mut self.places[place_of(address.port())];
        let known = match place.take() {
            Some(known) if known.address == address => known,
            other => {
                let of_host = other.filter(|known| known.address.ip() == address.ip());
                let kept = make(of_host.map(|known| known.kept))?;
                Box::new(Known { address, kept })
            }
        };
        Ok(&place.insert(known).kept)
    }
}

/// Ports that a client gets one after the other, often every second one, have places far apart.
fn place_of(port: u16) -> usize {
    let mixed = u32::from(port).wrapping_mul(0x9e37_79b1);
    usize::try_from(mixed >> 24).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_a_row_have_places_of_their_own() {
        for step in 1..=2 {
            let ports = (0..64).map(|at| 40_000 + at * step);
            let places: std::collections::BTreeSet<_> = ports.map(place_of).collect();
            assert_eq!(places.len(), 64, "by {step}");
        }
    }

    #[test]
    fn a_place_goes_to_another_address_with_what_its_host_has_left() {
        let mut peers = Peers::new();
        let mut make = |address: &str, left_of: Option<&str>| {
            let address: SocketAddr = address.parse().unwrap();
            let made = peers.get_or_try_make(address, |left| {
                assert_eq!(left.as_deref(), left_of);
                Ok::<_, ()>(address.to_string())
            });
            made.unwrap().clone()
        };
        let twins: Vec<_> = (0..=u16::MAX).filter(|port| place_of(*port) == 7).collect();
        let [one, two] = [twins[0], twins[1]].map(|port| format!("10.0.0.1:{port}"));
        let other = format!("10.0.0.2:{}", twins[0]);
        assert_eq!(make(&one, None), one);
        assert_eq!(make(&two, Some(&one)), two);
        assert_eq!(make(&other, None), other);
    }
}
