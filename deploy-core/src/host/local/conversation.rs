//! A command that is talked to while it runs.

use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use zeroize::{Zeroize as _, Zeroizing};

use super::process::{Input, Running};
use crate::command::{Command, CommandError, OUTPUT_LIMIT};
use crate::secret::SecretBytes;

/// A command on this machine that is talked to, line by line, while it runs: for a program that carries on a session, such
/// as `ssh`. It ends with this, and everything in its process group with it.
///
/// What is said and heard may be secret, and is held in memory that is cleared.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use deploy_core::command::Command;
/// use deploy_core::host::Conversation;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let deadline = Instant::now() + Duration::from_secs(10);
/// let mut echo = Conversation::start(&Command::new(["cat"]))?;
/// echo.say(b"hello\n", deadline)?;
/// assert_eq!(*echo.line(1024, deadline)?, b"hello");
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
pub struct Conversation {
    /// `None` only while it is dropped.
    running: Option<Running>,
    input: Option<Input>,
    unread: Zeroizing<Vec<u8>>,
}

impl Conversation {
    /// Starts a command. Its timeout and its input are not used.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(command: &Command) -> Result<Self, CommandError> {
        // More than is moved at once, so that nothing is dropped.
        let command = Command { input: Some(SecretBytes::from(Vec::new())), output_limit: 2 * OUTPUT_LIMIT, ..command.clone() };
        let mut running = Running::start(&command, None)?;
        let input = running.take_input();
        Ok(Self { running: Some(running), input, unread: Zeroizing::default() })
    }

    /// Writes all of this to its standard input.
    ///
    /// # Errors
    /// `BrokenPipe` where it does not listen any more, `TimedOut` at the deadline.
    pub fn say(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let (Some(running), Some(input)) = (&mut self.running, &mut self.input) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match input.pipe.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = left(deadline)?;
                    running.exchange();
                    running.move_output(&mut self.unread);
                    running.wait_for(Some(PollFd::from_borrowed_fd(input.pipe.as_fd(), PollFlags::OUT)), left);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the next line from its standard output, without its end; at most `limit` bytes.
    ///
    /// # Errors
    /// `UnexpectedEof` where it has nothing more to say, `TimedOut` at the deadline, `FileTooLarge` above the limit.
    pub fn line(&mut self, limit: usize, deadline: Instant) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.unread[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = Zeroizing::new(self.unread[searched + end + 1..].to_vec());
                let mut line = std::mem::replace(&mut self.unread, rest);
                line[searched + end..].zeroize();
                line.truncate(searched + end);
                return Ok(line);
            }
            searched = self.unread.len();
            if searched > limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let Some(running) = &mut self.running else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            // Before the last look, so that nothing is missed.
            let over = running.has_ended();
            running.exchange();
            if running.move_output(&mut self.unread) {
                continue;
            }
            if over || running.is_silent() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            running.wait_for(None, left(deadline)?);
        }
    }

    /// The end of what it wrote to standard error.
    #[must_use]
    pub fn complaint(&mut self) -> Vec<u8> {
        let Some(running) = &mut self.running else { return Vec::new() };
        running.exchange();
        running.move_output(&mut self.unread);
        running.errors()
    }

    /// Tells it that nothing more will be said, and waits until it ends or the deadline comes.
    pub fn end(mut self, deadline: Instant) {
        self.input = None;
        if let Some(mut running) = self.running.take() {
            if running.await_end(deadline) {
                // Nobody asks for what it printed.
                drop(running.finish());
            } else {
                drop(running.end());
            }
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.input = None;
        if let Some(running) = self.running.take() {
            drop(running.end());
        }
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Conversation").finish_non_exhaustive()
    }
}

fn left(deadline: Instant) -> io::Result<std::time::Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::await_end_of;
    use super::*;

    fn start(script: &str) -> Conversation {
        Conversation::start(&Command::new(["sh", "-c", script])).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn lines_of_any_length_go_both_ways() {
        let mut echo = start("cat");
        let long = vec![b'x'; 1_000_000];
        for line in [&b"short"[..], b"", &long] {
            // Nobody reads while it is said, so that it must be read in between.
            echo.say(line, soon()).unwrap();
            echo.say(b"\n", soon()).unwrap();
            assert!(**echo.line(line.len(), soon()).unwrap() == *line, "{} bytes", line.len());
        }
        echo.say(b"one\ntwo\n", soon()).unwrap();
        assert_eq!(
            (echo.line(3, soon()).unwrap().as_slice(), echo.line(3, soon()).unwrap().as_slice()),
            (&b"one"[..], &b"two"[..])
        );
        echo.say(&long, soon()).unwrap();
        assert_eq!(echo.line(1000, soon()).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn an_end_is_told_from_silence() {
        let mut over = start("echo why >&2; echo last; exec <&-; exec >&-");
        assert_eq!(over.line(9, soon()).unwrap().as_slice(), b"last");
        assert_eq!(over.line(9, soon()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(over.complaint(), b"why\n");
        let mut silent = start("sleep 1000");
        let error = silent.line(9, Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let full = silent.say(&vec![0; 1_000_000], Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn it_ends_when_it_is_told_and_when_it_is_dropped() {
        let mut polite = start("echo $$; cat; exit 0");
        let pid = String::from_utf8(polite.line(99, soon()).unwrap().to_vec()).unwrap();
        polite.end(soon());
        await_end_of(&pid);
        let mut stubborn = start("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000");
        let pid = String::from_utf8(stubborn.line(99, soon()).unwrap().to_vec()).unwrap();
        drop(stubborn);
        await_end_of(&pid);
    }
}
