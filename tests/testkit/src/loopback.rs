//! Addresses for servers that tests start.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::nginx::free_port;

/// An address for one server alone: a loopback address of its own, made of the process id, and a port that is free.
///
/// For a server that listens later or again: with `127.0.0.1` the port may by then have been given to another process.
#[must_use]
pub fn own_address() -> SocketAddr {
    static GIVEN: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let next = GIVEN.fetch_add(1, Ordering::Relaxed) % 200;
    SocketAddr::from((Ipv4Addr::new(127, 10 + next, high, low), free_port()))
}

/// Several ports of one such address, for a server with as many listeners. No two of them are the same.
///
/// # Panics
///
/// When the system has no port to give.
#[must_use]
pub fn own_addresses<const N: usize>() -> [SocketAddr; N] {
    let ip = own_address().ip();
    // All are held until the last one is there.
    let held = [(); N].map(|()| TcpListener::bind((ip, 0)).expect("a port that is free"));
    held.map(|listener| listener.local_addr().expect("a listener has an address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_can_have_the_same_port() {
        let [first, second] = [own_address(), own_address()];
        assert!(first.ip().is_loopback() && first.ip() != second.ip(), "{first}, {second}");
    }

    #[test]
    fn the_listeners_of_one_server_have_different_ports() {
        let [first, second, third] = own_addresses();
        assert_eq!((first.ip(), first.ip()), (second.ip(), third.ip()));
        assert!(first != second && second != third && third != first);
    }
}
