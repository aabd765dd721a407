//! What a server in private can reach, and what is left of it.

#![expect(clippy::disallowed_methods, reason = "tests set their files up without the engine")]

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::run;
use crate::command::{Command, CommandError, CommandOutput, Limits};
use crate::staged_view::StagedView;

/// Runs a shell script in private. Only root may; who is not sees that it is refused, and gets `None`.
fn shadow(script: &str, mut look: impl FnMut(&dyn Fn() -> bool) + Send) -> Option<CommandOutput> {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let view = StagedView::new(Vec::new(), place.path().to_owned());
    let limits = Limits::new(Instant::now() + Duration::from_secs(30), None);
    let ran = run(&Command::new(["sh", "-c", script]), &view, &limits, &mut look);
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(&ran, Err(CommandError::View { source, .. }) if source.kind() == ErrorKind::PermissionDenied));
        return None;
    }
    Some(ran.unwrap())
}

/// How many processes have this among their arguments.
fn processes(argument: &str) -> usize {
    let has =
        |path: &Path| fs::read(path).is_ok_and(|words| words.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()));
    fs::read_dir("/proc").unwrap().flatten().filter(|entry| has(&entry.path().join("cmdline"))).count()
}

fn await_processes(argument: &str, count: usize) {
    let end = Instant::now() + Duration::from_secs(10);
    while processes(argument) != count {
        assert!(Instant::now() < end, "{} processes with {argument}, not {count}", processes(argument));
        std::thread::yield_now();
    }
}

#[test]
fn a_server_in_private_is_alone_on_every_address_and_leaves_nothing_behind() {
    let seconds = format!("1000.{}", std::process::id());
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let mark = format!("/tmp/certdeploy-shadow-{}", std::process::id());
    let script = format!("echo > {mark}; sleep {seconds} & sleep {seconds}");
    let output = shadow(&script, |runs| {
        await_processes(&seconds, 2);
        assert!(runs());
        for free in ["192.0.2.1:443", "[2001:db8::1]:443", "127.0.0.1:443"] {
            let listener = TcpListener::bind(free).unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        }
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
    let Some(output) = output else { return };
    assert_eq!((output.code, output.signal), (None, None), "it was ended by us: {output:?}");
    await_processes(&seconds, 0);
    assert!(!Path::new(&mark).exists(), "what it wrote is to be seen");
    TcpStream::connect(address).unwrap();
}

#[test]
fn a_server_that_ends_by_itself_is_heard() {
    let output = shadow("echo broken >&2; exit 3", |runs| {
        let end = Instant::now() + Duration::from_secs(10);
        while runs() {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
    });
    let Some(output) = output else { return };
    assert_eq!(output.verdict(), "exit status 3: broken");
}
