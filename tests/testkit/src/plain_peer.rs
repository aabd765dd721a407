//! Peers that accept a connection and never speak TLS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::listener::{Listener, close_gently};

/// What a [`PlainPeer`] does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainBehaviour {
    /// Closes it at once.
    Close,
    /// Answers whatever comes first with `400 Bad Request` in plain HTTP.
    Http,
    /// Reads and says nothing, until the client leaves.
    Silent,
}

/// A TCP server without TLS on 127.0.0.1.
pub struct PlainPeer(Listener);

impl PlainPeer {
    /// Starts it on a free port.
    #[must_use]
    pub fn start(behaviour: PlainBehaviour) -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        Self(Listener::start(loopback, move |stream| serve(stream, behaviour)).expect("a listening socket"))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.0.accepted()
    }
}

impl std::fmt::Debug for PlainPeer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("PlainPeer").field(&self.address()).finish()
    }
}

fn serve(mut stream: TcpStream, behaviour: PlainBehaviour) {
    match behaviour {
        PlainBehaviour::Close => {}
        PlainBehaviour::Http => {
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request), Ok(1..)) {
                drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
                close_gently(&mut stream);
            }
        }
        PlainBehaviour::Silent => {
            let mut ignored = [0; 4096];
            while matches!(stream.read(&mut ignored), Ok(1..)) {}
        }
    }
}
