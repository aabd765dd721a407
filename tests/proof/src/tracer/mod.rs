//! Stops a program before each of its system calls, in all its threads and children, and lets the call happen, fail, be cut
//! short, or never happen because the program is killed there. Needs no privilege; x86-64 only.
//!
//! The program has to be started by the thread that calls [`trace`], through the stub `traced` of this crate.

mod call;
mod fault;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub use call::{Call, Kind};
pub use fault::{Fault, faults_of};

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It happens.
    Go,
    /// It does not happen; the system says this instead, or does half of it.
    Fail(Fault),
    /// The program and its children are killed before it.
    Kill,
}

/// How a traced program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// By itself, with this exit code.
    Exited(i32),
    /// By a signal; SIGKILL where that was the decision.
    Signalled(i32),
}

/// Starts the command, asks before each call what is to become of it, and waits for the end of the program and of all its
/// children. One that hangs for 90 seconds is killed.
///
/// # Panics
///
/// When the system does not let us trace, or the command is not started by the stub.
#[expect(clippy::zombie_processes, reason = "it is waited for as a tracee")]
pub fn trace(command: &mut Command, decide: impl FnMut(&Call) -> Decision) -> Ended {
    let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    let main = Pid::from_raw(i32::try_from(child.id()).expect("a process number"));
    // The program was stopped when it took the place of the stub.
    let first = waitpid(main, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).expect("the stub is our child");
    assert_eq!(first, WaitStatus::Stopped(main, Signal::SIGTRAP), "the stub stops when it has become the program");
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(main, options).expect("a stopped tracee");
    let watchdog = Watchdog::of(main);
    let mut tracer = Tracer { main, threads: HashMap::from([(main, Thread::new(main))]), decide, killed: false };
    resume(main, None);
    let ended = tracer.follow();
    drop(watchdog);
    ended
}

/// Kills a program that hangs, so that a defect is found and not waited for.
struct Watchdog {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Much longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(90);

impl Watchdog {
    fn of(process: Pid) -> Self {
        let (done, ended) = channel();
        let thread = std::thread::spawn(move || {
            if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _gone = kill(process, Signal::SIGKILL);
            }
        });
        Self { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.done.take();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|ended| ended.is_ok()), "the watchdog has no reason to panic");
    }
}

struct Tracer<D> {
    main: Pid,
    threads: HashMap<Pid, Thread>,
    decide: D,
    killed: bool,
}

struct Thread {
    process: Pid,
    started: bool,
    /// The process runs another program than the one that was started.
    foreign: bool,
    /// Between the entry of a call and its return; with what the return is to be.
    inside: Option<Option<Errno>>,
}

impl Thread {
    fn new(thread: Pid) -> Self {
        Self { process: process_of(thread), started: false, foreign: false, inside: None }
    }
}

impl<D: FnMut(&Call) -> Decision> Tracer<D> {
    fn follow(&mut self) -> Ended {
        let mut ended = None;
        while !self.threads.is_empty() {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.threads.remove(&pid);
                    if pid == self.main {
                        ended = Some(Ended::Exited(code));
                    }
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.threads.remove(&pid);
                    if pid == self.main {
                        ended = Some(Ended::Signalled(signal as i32));
                    }
                }
                Ok(WaitStatus::PtraceSyscall(pid)) => self.at_call(pid),
                Ok(WaitStatus::PtraceEvent(pid, _, event)) => self.at_event(pid, event),
                Ok(WaitStatus::Stopped(pid, signal)) => self.at_signal(pid, signal),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => panic!("tracees cannot be waited for: {error}"),
            }
            if self.killed {
                // Nobody is waited for who was waited for before we were told of him.
                self.threads.retain(|thread, _| Path::new(&format!("/proc/{thread}")).exists());
            }
        }
        ended.expect("the program is among them")
    }

    fn at_call(&mut self, pid: Pid) {
        match self.thread(pid).inside.take() {
            Some(answer) => {
                if let Some(errno) = answer {
                    answer_with(pid, errno);
                }
                resume(pid, None);
            }
            None => self.before_call(pid),
        }
    }

    fn before_call(&mut self, pid: Pid) {
        // A thread that is being killed has no registers any more.
        let Ok(registers) = ptrace::getregs(pid) else { return resume(pid, None) };
        let (process, foreign) = (self.thread(pid).process, self.thread(pid).foreign);
        let call = Call::new(&registers, pid, process, process == self.main, foreign);
        let decision = if self.killed { Decision::Go } else { (self.decide)(&call) };
        self.thread(pid).inside = Some(None);
        match decision {
            Decision::Go => {}
            Decision::Fail(Fault::Short) => fault::cut_short(pid, registers),
            Decision::Fail(Fault::Error(errno)) => {
                if !fault::is_carried_out(&call) {
                    fault::suppress(pid, registers);
                }
                self.thread(pid).inside = Some(Some(errno));
            }
            Decision::Kill => return self.kill_all(),
        }
        resume(pid, None);
    }

    fn at_event(&mut self, pid: Pid, event: i32) {
        if event == Event::PTRACE_EVENT_EXEC as i32 {
            self.thread(pid).foreign = true;
        } else if let (Ok(child), false) = (ptrace::getevent(pid), self.killed) {
            // Known before its first stop, so that nobody is forgotten when the others have ended. Once all are killed, it may
            // have ended before we are told that it began.
            self.thread(Pid::from_raw(i32::try_from(child).expect("a thread number")));
        }
        resume(pid, None);
    }

    fn at_signal(&mut self, pid: Pid, signal: Signal) {
        // The first stop of a new thread or child is ours, not its own.
        let is_first = !std::mem::replace(&mut self.thread(pid).started, true);
        if self.killed {
            let _gone = kill(self.thread(pid).process, Signal::SIGKILL);
        }
        resume(pid, (!(is_first && signal == Signal::SIGSTOP)).then_some(signal));
    }

    fn thread(&mut self, pid: Pid) -> &mut Thread {
        self.threads.entry(pid).or_insert_with(|| Thread::new(pid))
    }

    /// As a supervisor does it that ends all processes of a service. Nobody gets on with a call before which it stands.
    fn kill_all(&mut self) {
        self.killed = true;
        let mut processes: Vec<Pid> = self.threads.values().map(|thread| thread.process).collect();
        processes.sort_unstable();
        processes.dedup();
        for process in processes {
            let _gone = kill(process, Signal::SIGKILL);
        }
    }
}

/// Lets it go on until its next stop. It may have been killed meanwhile.
fn resume(pid: Pid, signal: Option<Signal>) {
    let _gone = ptrace::syscall(pid, signal);
}

fn answer_with(pid: Pid, errno: Errno) {
    if let Ok(mut registers) = ptrace::getregs(pid) {
        registers.rax = i64::from(-(errno as i32)).cast_unsigned();
        let _gone = ptrace::setregs(pid, registers);
    }
}

fn process_of(thread: Pid) -> Pid {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
    line.and_then(|number| number.trim().parse().ok()).map_or(thread, Pid::from_raw)
}
