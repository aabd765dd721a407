//! Running a command to its end, or to the end of its time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use zeroize::Zeroizing;

use super::super::Signal;
use crate::command::{Command, CommandError, CommandOutput, Limits, OUTPUT_LIMIT, PATH};
use crate::secret::SecretBytes;
use crate::staged_view::{self, StagedView};

/// How long a process group has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// How long what a command left behind may keep its pipes. A daemon lets go of them when it has come loose, and one that
/// writes to a pipe that nobody reads any more before that, as Apache does, is ended by it.
const LETS_GO_IN: Duration = Duration::from_secs(1);

/// How long a wait may last when there is something to look for that cannot be polled.
const SLICE: Duration = Duration::from_millis(50);

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// At most this much is read of each stream after the command has ended: what a pipe may still hold, and not what a process
/// that it left behind goes on writing.
const LAST_READ: usize = 1024 * 1024;

/// Runs a command in its own process group; see [`crate::host::Host::run`].
pub(super) fn run(command: &Command, view: Option<&StagedView>, limits: &Limits<'_>) -> Result<CommandOutput, CommandError> {
    let started = Instant::now();
    let cancelled = || limits.cancellation.is_some_and(crate::context::Cancellation::is_cancelled);
    if cancelled() {
        return Err(CommandError::Interrupted);
    }
    let given = command.timeout.min(limits.deadline.saturating_duration_since(started));
    if given.is_zero() {
        return Err(CommandError::Timeout { after: given, output: Box::default() });
    }
    let deadline = started + given;
    let mut running = Running::start(command, view)?;
    loop {
        running.exchange();
        if running.has_ended() {
            return running.finish();
        }
        if command.end_mark.as_deref().is_some_and(|mark| running.has_said(mark)) {
            running.await_pipes(Instant::now() + LETS_GO_IN);
            return Ok(if running.has_ended() { running.finish()? } else { running.kill() });
        }
        let over = if cancelled() {
            CommandError::Interrupted
        } else if Instant::now() >= deadline {
            CommandError::Timeout { after: given, output: Box::default() }
        } else {
            let left = deadline.saturating_duration_since(Instant::now());
            running.wait(if limits.cancellation.is_some() { left.min(SLICE) } else { left });
            continue;
        };
        let output = running.end();
        return Err(match over {
            CommandError::Timeout { after, .. } => CommandError::Timeout { after, output: Box::new(output) },
            other => other,
        });
    }
}

/// Whether a process runs; a zombie does not. Its name, in parentheses, may hold anything (proc_pid_stat(5)).
pub(super) fn is_running(process: u32) -> io::Result<bool> {
    let stat = match std::fs::read(format!("/proc/{process}/stat")) {
        Ok(stat) => stat,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let name_ends = stat.iter().rposition(|byte| *byte == b')').unwrap_or_default();
    let state = stat[name_ends..].iter().skip(1).find(|byte| !byte.is_ascii_whitespace());
    Ok(!matches!(state, None | Some(b'Z' | b'X' | b'x')))
}

/// Sends one of the signals that a plan may send.
pub(super) fn signal(process: u32, signal: Signal) -> io::Result<()> {
    let signal = match signal {
        Signal::Hup => rustix::process::Signal::HUP,
        Signal::Term => rustix::process::Signal::TERM,
        Signal::Usr1 => rustix::process::Signal::USR1,
        Signal::Usr2 => rustix::process::Signal::USR2,
    };
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a process number"))?;
    Ok(rustix::process::kill_process(process, signal)?)
}

/// A command that was started: the process, and our ends of its pipes.
pub(super) struct Running {
    child: Child,
    pid: Pid,
    /// Readable once the process has ended. Kernels before 5.3 have none: then waits are sliced.
    ended: Option<OwnedFd>,
    input: Option<Input>,
    stdout: Stream,
    stderr: Stream,
}

/// What is still to be written to standard input.
pub(super) struct Input {
    pub(super) pipe: File,
    bytes: SecretBytes,
    written: usize,
}

/// One output pipe and the end of what came through it.
struct Stream {
    pipe: Option<File>,
    kept: VecDeque<u8>,
    limit: usize,
    dropped: bool,
}

impl Running {
    pub(super) fn start(command: &Command, view: Option<&StagedView>) -> Result<Self, CommandError> {
        Self::spawn(prepare(command)?, command, view)
    }

    /// A process that ends when the thread that starts it does, however that ends.
    pub(super) fn start_for_us_alone(command: &Command, view: &StagedView) -> Result<Self, CommandError> {
        let mut prepared = prepare(command)?;
        staged_view::end_with_parent(&mut prepared);
        Self::spawn(prepared, command, Some(view))
    }

    fn spawn(mut prepared: std::process::Command, command: &Command, view: Option<&StagedView>) -> Result<Self, CommandError> {
        let directory = command.directory.as_deref().unwrap_or(Path::new("/"));
        let report = view.map(|view| staged_view::attach(&mut prepared, view, directory)).transpose()?;
        staged_view::keep_out(&mut prepared).map_err(CommandError::Spawn)?;
        let spawned = prepared.spawn();
        // It holds the child's end of the report: that must be closed before the report is read.
        drop(prepared);
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return Err(report.and_then(staged_view::Report::failure).unwrap_or(CommandError::Spawn(error))),
        };
        let input = child.stdin.take().map(OwnedFd::from);
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let pid = Pid::from_child(&child);
        let mut running = Self {
            child,
            pid,
            ended: rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok(),
            input: None,
            stdout: Stream::new(None, command.output_limit),
            stderr: Stream::new(None, command.output_limit),
        };
        let piped = (|| {
            for pipe in [&input, &stdout, &stderr].into_iter().flatten() {
                rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK)?;
            }
            Ok(())
        })();
        if let Err(error) = piped {
            drop(running.end());
            return Err(CommandError::Spawn(error));
        }
        running.input = input.zip(command.input.clone()).map(|(pipe, bytes)| Input { pipe: pipe.into(), bytes, written: 0 });
        running.stdout = Stream::new(stdout.map(File::from), command.output_limit);
        running.stderr = Stream::new(stderr.map(File::from), command.output_limit);
        Ok(running)
    }

    /// Moves what can be moved through the pipes without blocking, a bounded amount at a time.
    pub(super) fn exchange(&mut self) {
        self.stdout.read(OUTPUT_LIMIT);
        self.stderr.read(OUTPUT_LIMIT);
        if let Some(input) = &mut self.input
            && !input.write()
        {
            self.input = None;
        }
    }

    /// Takes over what would close its standard input when everything is written.
    pub(super) fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// Moves what it has printed since the last time to the end of `to`; says whether that was anything.
    pub(super) fn move_output(&mut self, to: &mut Zeroizing<Vec<u8>>) -> bool {
        let printed = &mut self.stdout.kept;
        let any = !printed.is_empty();
        if to.capacity() - to.len() < printed.len() {
            // A buffer that grows by itself would leave a copy behind.
            let mut larger = Zeroizing::new(Vec::with_capacity((to.len() + printed.len()) * 2));
            larger.extend_from_slice(to);
            *to = larger;
        }
        to.extend(printed.iter());
        printed.iter_mut().for_each(zeroize::Zeroize::zeroize);
        printed.clear();
        any
    }

    /// Whether nobody can print anything any more.
    pub(super) fn is_silent(&self) -> bool {
        self.stdout.pipe.is_none()
    }

    /// The end of what came through standard error.
    pub(super) fn errors(&self) -> Vec<u8> {
        self.stderr.kept.iter().copied().collect()
    }

    /// Waits until something can be moved or the process has ended.
    fn wait(&self, at_most: Duration) {
        self.wait_for(None, at_most);
    }

    /// The same, or until something else has come.
    pub(super) fn wait_for(&self, also: Option<PollFd<'_>>, at_most: Duration) {
        let at_most = if self.ended.is_some() { at_most } else { at_most.min(SLICE) };
        let mut wanted = Vec::with_capacity(5);
        wanted.extend(also);
        for pipe in [&self.stdout.pipe, &self.stderr.pipe].into_iter().flatten() {
            wanted.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        if let Some(input) = &self.input {
            wanted.push(PollFd::from_borrowed_fd(input.pipe.as_fd(), PollFlags::OUT));
        }
        if let Some(ended) = &self.ended {
            wanted.push(PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN));
        }
        // Interrupted or not, the caller looks at everything again.
        rustix::event::poll(&mut wanted, Timespec::try_from(at_most).ok().as_ref()).ok();
    }

    /// Whether the process has ended. It is not reaped yet, so that its number, which is also its group's, stays taken.
    pub(super) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        match rustix::process::waitid(WaitId::Pid(self.pid), options) {
            Ok(status) => status.is_some(),
            // Somebody else in this program reaped it (SIGCHLD ignored): there is nothing left to wait for.
            Err(error) => error == rustix::io::Errno::CHILD,
        }
    }

    pub(super) fn finish(mut self) -> Result<CommandOutput, CommandError> {
        let status = self.child.wait().map_err(CommandError::Spawn)?;
        self.await_pipes(Instant::now() + LETS_GO_IN);
        Ok(self.output(Some(status)))
    }

    /// Whether a line of standard error begins with this, and is whole.
    fn has_said(&mut self, mark: &[u8]) -> bool {
        let mut lines = self.stderr.kept.make_contiguous().split_inclusive(|byte| *byte == b'\n');
        lines.any(|line| line.starts_with(mark) && line.ends_with(b"\n"))
    }

    /// Reads until nobody has the other ends any more.
    fn await_pipes(&mut self, deadline: Instant) {
        (self.ended, self.input) = (None, None);
        self.exchange();
        while (self.stdout.pipe.is_some() || self.stderr.pipe.is_some()) && Instant::now() < deadline {
            self.wait(deadline.saturating_duration_since(Instant::now()));
            self.exchange();
        }
    }

    /// Waits a moment, or until something can be moved or the process has ended.
    pub(super) fn wait_a_moment(&self) {
        self.wait(SLICE);
    }

    /// Ends the process without asking, and what it started with it where it is the first of its namespace.
    pub(super) fn kill(mut self) -> CommandOutput {
        let ended_by_itself = self.has_ended();
        if !ended_by_itself {
            rustix::process::kill_process_group(self.pid, rustix::process::Signal::KILL).ok();
        }
        let status = if self.await_end(Instant::now() + GRACE) { self.child.wait().ok() } else { None };
        self.output(status.filter(|_| ended_by_itself))
    }

    /// Ends the whole process group: asks, waits, and then makes sure.
    pub(super) fn end(mut self) -> CommandOutput {
        rustix::process::kill_process_group(self.pid, rustix::process::Signal::TERM).ok();
        let status = if self.await_end(Instant::now() + GRACE) {
            rustix::process::kill_process_group(self.pid, rustix::process::Signal::KILL).ok();
            self.child.wait().ok()
        } else {
            rustix::process::kill_process_group(self.pid, rustix::process::Signal::KILL).ok();
            // A process that hangs in the kernel ends some time later; nobody waits for it for ever.
            if self.await_end(Instant::now() + GRACE) { self.child.wait().ok() } else { None }
        };
        self.output(status)
    }

    pub(super) fn await_end(&mut self, deadline: Instant) -> bool {
        loop {
            self.exchange();
            if self.has_ended() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.wait(left);
        }
    }

    /// What came out. The pipes are read until they are empty, and not until they are closed: a daemon that the command left
    /// behind may hold them open for years.
    fn output(mut self, status: Option<ExitStatus>) -> CommandOutput {
        self.stdout.read(LAST_READ);
        self.stderr.read(LAST_READ);
        CommandOutput {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            truncated: self.stdout.dropped || self.stderr.dropped,
            stdout: self.stdout.kept.into(),
            stderr: self.stderr.kept.into(),
        }
    }
}

impl Input {
    /// Whether there is more to write.
    fn write(&mut self) -> bool {
        while let Some(rest) = self.bytes.expose().get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.pipe.write(rest) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The command does not want the rest.
                Err(_) => return false,
            }
        }
        false
    }
}

impl Stream {
    fn new(pipe: Option<File>, limit: usize) -> Self {
        // It may be a secret: a buffer that grows would leave copies behind.
        let room = if pipe.is_some() { limit + CHUNK } else { 0 };
        Self { pipe, kept: VecDeque::with_capacity(room), limit, dropped: false }
    }

    /// Reads what is there, about `at_most` bytes of it, and keeps the end of it.
    fn read(&mut self, at_most: usize) {
        let mut buffer = Zeroizing::new([0; CHUNK]);
        let mut total = 0;
        while let Some(pipe) = self.pipe.as_mut().filter(|_| total < at_most) {
            match pipe.read(&mut *buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    total += count;
                    self.keep(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let excess = self.kept.len().saturating_sub(self.limit);
        if excess > 0 {
            self.kept.drain(..excess);
            self.dropped = true;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
fn prepare(command: &Command) -> Result<std::process::Command, CommandError> {
    let (name, arguments) = command
        .arguments
        .split_first()
        .ok_or_else(|| CommandError::Spawn(io::Error::new(io::ErrorKind::InvalidInput, "the command is empty")))?;
    let program =
        resolve(Path::new(name)).ok_or_else(|| CommandError::NotFound { program: Path::new(name).display().to_string() })?;
    let mut prepared = std::process::Command::new(program);
    prepared.arg0(name).args(arguments);
    prepared.env_clear().env("PATH", PATH).env("LC_ALL", "C").envs(&command.environment);
    prepared.current_dir(command.directory.as_deref().unwrap_or(Path::new("/")));
    prepared.stdin(if command.input.is_some() { Stdio::piped() } else { Stdio::null() });
    prepared.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    Ok(prepared)
}

/// The program by its path: a name with a slash is one already (whether it is there, starting it tells), others are looked
/// up in [`PATH`].
fn resolve(program: &Path) -> Option<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return Some(program.to_owned());
    }
    let mut candidates = PATH.split(':').map(|directory| Path::new(directory).join(program));
    candidates.find(|candidate| {
        rustix::fs::stat(candidate)
            .is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode).is_file() && status.st_mode & 0o111 != 0)
    })
}
