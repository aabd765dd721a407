//! A TCP connection in which nothing outlasts a deadline.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::ProbeError;
use crate::context::Cancellation;

/// How long a cancellation may go unnoticed.
const SLICE: Duration = Duration::from_millis(100);

/// How long a peer may take to close its side after we closed ours, and how much it may still say.
const FAREWELL: Duration = Duration::from_millis(250);
const FAREWELL_BYTES: usize = 64 * 1024;

pub(super) struct Transport<'a> {
    stream: TcpStream,
    address: SocketAddr,
    limit: Instant,
    cancellation: Option<&'a Cancellation>,
}

impl<'a> Transport<'a> {
    pub(super) fn connect(
        address: SocketAddr,
        limit: Instant,
        cancellation: Option<&'a Cancellation>,
    ) -> Result<Self, ProbeError> {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ProbeError::Timeout { address });
        }
        let stream = TcpStream::connect_timeout(&address, left).map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ProbeError::Timeout { address },
            _ => ProbeError::Connect { address, source },
        })?;
        // Small messages in turn are what this is about; a failure only makes it slower.
        drop(stream.set_nodelay(true));
        Ok(Self { stream, address, limit, cancellation })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Our own end of the connection, where the system can say.
    pub(super) fn local_address(&self) -> Option<IpAddr> {
        self.stream.local_addr().ok().map(|address| address.ip())
    }

    /// What an I/O error before the certificate means.
    pub(super) fn error(&self, source: io::Error) -> ProbeError {
        if self.is_cancelled() {
            ProbeError::Interrupted
        } else if source.kind() == io::ErrorKind::TimedOut {
            ProbeError::Timeout { address: self.address }
        } else {
            ProbeError::Closed { address: self.address, source }
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancellation.is_some_and(Cancellation::is_cancelled)
    }

    /// Ends the connection in a way that does not look like an abort in the server's log: a close with unread input would
    /// send a reset.
    pub(super) fn close(mut self) {
        self.limit = self.limit.min(Instant::now() + FAREWELL);
        if self.stream.shutdown(Shutdown::Write).is_ok() {
            let mut rest = [0; 4096];
            let mut left = FAREWELL_BYTES;
            while let Ok(count @ 1..) = self.read(&mut rest) {
                match left.checked_sub(count) {
                    Some(fewer) => left = fewer,
                    None => break,
                }
            }
        }
    }

    /// Repeats a call with a short time limit until it is done, time is up, or the caller gives up.
    fn bounded(&mut self, mut call: impl FnMut(&mut TcpStream, Duration) -> io::Result<usize>) -> io::Result<usize> {
        loop {
            let left = self.limit.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cancelled() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match call(&mut self.stream, left.min(SLICE)) {
                Err(error) if is_transient(error.kind()) => {}
                result => return result,
            }
        }
    }
}

impl Read for Transport<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bounded(|stream, slice| {
            stream.set_read_timeout(Some(slice))?;
            stream.read(buffer)
        })
    }
}

impl Write for Transport<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bounded(|stream, slice| {
            stream.set_write_timeout(Some(slice))?;
            stream.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_transient(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
