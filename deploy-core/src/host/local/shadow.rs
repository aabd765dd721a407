//! Running a server where nobody else sees it: on a network and with processes of its own, in a staged view.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use super::process::Running;
use crate::command::{Command, CommandError, CommandOutput, Limits};
use crate::staged_view::{self, StagedView};

/// See [`crate::host::Host::shadow`].
///
/// A namespace belongs to the thread that entered it and ends with the last one in it. So one thread enters a network and
/// looks, and a second one, begun from there, has the server as the first process of a process namespace: with that process
/// everything that it started ends, too.
pub(super) fn run(
    command: &Command,
    view: &StagedView,
    limits: &Limits<'_>,
    look: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
) -> Result<CommandOutput, CommandError> {
    joined(thread::scope(|scope| scope.spawn(|| beside(command, view, limits, look)).join()))
}

fn beside(
    command: &Command,
    view: &StagedView,
    limits: &Limits<'_>,
    look: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
) -> Result<CommandOutput, CommandError> {
    staged_view::enter_network().map_err(refused("private network"))?;
    let (ended, enough) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let output = serve(command, view, limits, &enough);
            ended.store(true, Ordering::Release);
            output
        });
        let looked = Enough(&enough);
        look(&|| !ended.load(Ordering::Acquire));
        drop(looked);
        joined(server.join())
    })
}

fn serve(command: &Command, view: &StagedView, limits: &Limits<'_>, enough: &AtomicBool) -> Result<CommandOutput, CommandError> {
    staged_view::enter_processes().map_err(refused("private processes"))?;
    let deadline = limits.deadline.min(Instant::now() + command.timeout);
    let over = || enough.load(Ordering::Acquire) || Instant::now() >= deadline;
    let mut server = Running::start_for_us_alone(command, view)?;
    while !over() && !server.has_ended() {
        server.exchange();
        server.wait_a_moment();
    }
    Ok(server.kill())
}

/// Says that the server is not needed any more, even where looking panics.
struct Enough<'a>(&'a AtomicBool);

impl Drop for Enough<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn refused(step: &str) -> impl FnOnce(io::Error) -> CommandError {
    let step = step.to_owned();
    move |source| CommandError::View { step, source }
}

fn joined<T>(result: thread::Result<Result<T, CommandError>>) -> Result<T, CommandError> {
    result.unwrap_or_else(|_| Err(CommandError::Spawn(io::Error::other("the thread of the server ended"))))
}

#[cfg(test)]
mod tests;
