//! SIGINT and SIGTERM: finish or roll back what runs, start nothing more.

use std::io;
use std::sync::Arc;

use deploy_core::Cancellation;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output::progress::Progress;

/// Has signals cancel from now on, for as long as the runtime lives. Call it inside the runtime.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn listen(cancellation: Cancellation, progress: Arc<Progress>) -> io::Result<()> {
    let interrupt = signal(SignalKind::interrupt())?;
    let terminate = signal(SignalKind::terminate())?;
    tokio::spawn(cancel(interrupt, terminate, cancellation, progress));
    Ok(())
}

async fn cancel(mut interrupt: Signal, mut terminate: Signal, cancellation: Cancellation, progress: Arc<Progress>) {
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        if cancellation.is_cancelled() {
            // Ending now could leave a target between the old and the new certificate.
            progress.note(&format!("{name} again: already stopping, running targets are finishing or rolling back"));
        } else {
            progress.note(&format!("{name}: stopping; running targets finish or roll back, no other is started"));
            cancellation.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{self, raise};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_cancels_and_another_one_is_survived() {
        for name in [signal::SIGTERM, signal::SIGINT] {
            let cancellation = Cancellation::default();
            listen(cancellation.clone(), Arc::new(Progress::new(true))).unwrap();
            raise(name).unwrap();
            let waiting = cancellation.clone();
            assert!(tokio::task::spawn_blocking(move || waiting.wait(Duration::from_secs(10))).await.unwrap(), "{name}");
            raise(name).unwrap();
        }
    }
}
