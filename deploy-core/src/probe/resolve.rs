//! Name look-up with a deadline, which the resolver of the system does not have.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::ProbeError;
use crate::context::Cancellation;

/// How long a cancellation may go unnoticed.
const SLICE: Duration = Duration::from_millis(100);

/// The addresses of a host, each once, in the resolver's order.
///
/// A look-up that outlives the deadline is left to its thread, which ends with the look-up.
pub(super) fn resolve(
    host: &str,
    port: u16,
    deadline: Instant,
    cancellation: Option<&Cancellation>,
) -> Result<Vec<SocketAddr>, ProbeError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |source| ProbeError::Resolve { host: host.to_owned(), source };
    let (sender, receiver) = sync_channel(1);
    let name = host.to_owned();
    let look_up = move || {
        let addresses = (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        // Nobody may be waiting any more, and then nobody wants to know.
        drop(sender.send(addresses));
    };
    thread::Builder::new().name("resolve".to_owned()).spawn(look_up).map_err(failed)?;
    let addresses = loop {
        if cancellation.is_some_and(Cancellation::is_cancelled) {
            return Err(ProbeError::Interrupted);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left.min(SLICE)) {
            Ok(addresses) => break addresses.map_err(failed)?,
            Err(RecvTimeoutError::Timeout) if left > SLICE => {}
            Err(RecvTimeoutError::Timeout) => return Err(failed(io::ErrorKind::TimedOut.into())),
            Err(RecvTimeoutError::Disconnected) => return Err(failed(io::Error::other("the look-up ended without an answer"))),
        }
    };
    let mut unique = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    if unique.is_empty() { Err(no_address(host)) } else { Ok(unique) }
}

pub(super) fn no_address(host: &str) -> ProbeError {
    ProbeError::Resolve { host: host.to_owned(), source: io::Error::new(io::ErrorKind::NotFound, "the name has no address") }
}
