//! A listening socket with a thread per connection, which ends when it is dropped.

use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long one connection may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Listener {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens and hands every connection, with timeouts set, to `serve` on a thread of its own.
    pub(crate) fn start(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&accepted));
        let thread = std::thread::spawn(move || accept(&listener, &stopped, &counter, &Arc::new(serve)));
        Ok(Self { address, stop, accepted, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // This connection wakes the accept loop up.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Ends a connection so that what was written arrives: a close with unread input would reset it.
pub(crate) fn close_gently(stream: &mut TcpStream) {
    drop(stream.shutdown(Shutdown::Write));
    let mut rest = [0; 1024];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
}

fn accept<F>(listener: &TcpListener, stop: &AtomicBool, accepted: &AtomicUsize, serve: &Arc<F>)
where
    F: Fn(TcpStream) + Send + Sync + 'static,
{
    let mut connections: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        accepted.fetch_add(1, Ordering::SeqCst);
        connections.retain(|(_, thread)| !thread.is_finished());
        let timeouts = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        let Ok(handle) = timeouts.and_then(|()| stream.try_clone()) else { continue };
        let serve = Arc::clone(serve);
        connections.push((
            handle,
            std::thread::spawn(move || {
                serve(stream.try_clone().expect("a second handle"));
                // The handle that is kept for the shutdown must not keep the connection open.
                drop(stream.shutdown(Shutdown::Both));
            }),
        ));
    }
    for (stream, thread) in connections {
        drop(stream.shutdown(Shutdown::Both));
        drop(thread.join());
    }
}
