//! What is believed of a journal: everything up to the first line that does not check, and nothing after it.

#![allow(clippy::disallowed_methods, reason = "these tests damage files")]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use proptest::prelude::*;

use super::*;
use crate::host::Local;
use crate::plan::Role;
use crate::state::{Hold, Marker, Verified};

const NAME: &str = "front-00000007.jnl";

struct World {
    root: tempfile::TempDir,
    host: Local,
    directory: Directory,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Local::new();
        let directory = host.open_directory(root.path()).unwrap();
        Self { root, host, directory }
    }

    fn create(&self, begin: &Begin) -> Journal {
        Journal::create(&self.host, &self.directory, begin).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.root.path().join(NAME)).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        std::fs::write(self.root.path().join(NAME), bytes).unwrap();
    }

    fn read(&self) -> Result<Journal, Error> {
        read(&self.host, &self.directory, OsStr::new(NAME)).map(|journal| journal.expect("it exists"))
    }
}

fn begin() -> Begin {
    let name = OsString::from_vec(b"not \xff utf-8\n.pem".to_vec());
    let facts = |inode: u64| Some(Facts { sha256: "ab".repeat(32), inode, uid: 1, gid: 2, mode: 0o640 });
    let file = FileRecord {
        member: 0,
        role: Role::Key,
        path: Path::new("/etc/tls").join(&name).as_path().into(),
        directory: Path::new("/etc/tls").into(),
        directory_id: (u64::MAX, 3),
        name: name.as_os_str().into(),
        hidden: "front-01234567".to_owned(),
        staged: Some("00000007.0.new".to_owned()),
        backup: Some("00000007.0.old".to_owned()),
        old_is_link: false,
        old: facts(5),
        new: facts(6),
        changes: true,
        in_place: false,
        generation: None,
    };
    let absent = FileRecord { role: Role::Opaque, old: None, new: None, staged: None, backup: None, ..file.clone() };
    let before = Marker {
        version: Marker::VERSION,
        plan: "cd".repeat(32),
        leaf: None,
        reloaded: true,
        verified: Verified::Seen,
        sequence: 6,
        sets: vec![4, 5, 6],
        hold: None,
        open: false,
        note: None,
        at: None,
    };
    let member = Member {
        target: "front".to_owned(),
        plan: "ef".repeat(32),
        backups: 3,
        old_leaf: None,
        new_leaf: Some("01".repeat(32)),
        reload: RecordedReload::Steps(vec![
            RecordedReload::Command(vec![OsStr::new("postmap").into(), name.as_os_str().into()]),
            RecordedReload::Signal { signal: Signal::Hup, pid_file: Path::new("/run/x.pid").into() },
        ]),
        restart: Some(vec![OsStr::new("systemctl").into(), name.as_os_str().into()]),
        verify: vec![Endpoint::new("127.0.0.1:443").with_server_name("www.example.test")],
        baseline: vec![None],
        hold: Some(Hold { plan: "23".repeat(32), leaf: None }),
        before: Some(before),
    };
    Begin {
        id: 7,
        boot: "a boot".to_owned(),
        process: 42,
        started: 1_800_000_000,
        validated: Rung::V3,
        members: vec![member],
        files: vec![file, absent],
    }
}

#[test]
fn round_trip_keeps_everything_even_names_that_are_not_text() {
    let world = World::new();
    let written = world.create(&begin());
    assert_eq!(written.file, NAME);
    let read = world.read().unwrap();
    assert_eq!(read.begin, Some(begin()));
    assert!(!read.rollback && !read.conflict && !read.torn);
    assert_eq!(read.targets(), ["front"]);
    assert_eq!(world.bytes().iter().filter(|&&byte| byte == b'\n').count(), 2, "the magic and one line");
}

#[test]
fn way_back_and_conflict_are_recorded_once_and_read_again() {
    let world = World::new();
    let mut journal = world.create(&begin());
    journal.record_rollback(&world.host, &world.directory, "reload_failed").unwrap();
    journal.record_rollback(&world.host, &world.directory, "again").unwrap();
    // By another process, which has only read it.
    let mut journal = world.read().unwrap();
    assert!(journal.rollback && !journal.conflict);
    journal.record_conflict(&world.host, &world.directory, "somebody else's \"file\"\nwith two lines").unwrap();
    let journal = world.read().unwrap();
    assert!(journal.rollback && journal.conflict);
    assert_eq!(world.bytes().iter().filter(|&&byte| byte == b'\n').count(), 4);
}

#[test]
fn torn_last_line_is_not_believed_and_what_is_appended_after_it_is() {
    let world = World::new();
    let mut journal = world.create(&begin());
    let whole = world.bytes().len();
    journal.record_rollback(&world.host, &world.directory, "reload_failed").unwrap();
    let bytes = world.bytes();
    for length in whole + 1..bytes.len() {
        world.write(&bytes[..length]);
        let mut journal = world.read().unwrap();
        assert!(journal.begin.is_some() && !journal.rollback && journal.torn, "{length}");
        journal.record_rollback(&world.host, &world.directory, "recovery").unwrap();
        assert!(world.read().unwrap().rollback, "{length}");
    }
}

#[test]
fn torn_first_line_is_no_beginning_at_any_length() {
    let world = World::new();
    world.create(&begin());
    let bytes = world.bytes();
    for length in 0..bytes.len() {
        world.write(&bytes[..length]);
        let journal = world.read().unwrap_or_else(|error| panic!("{length}: {error}"));
        assert_eq!(journal.begin, None, "{length}");
        assert_eq!(journal.targets(), ["front"], "by its name");
    }
}

#[test]
fn changed_bit_anywhere_in_a_line_is_not_believed() {
    let world = World::new();
    world.create(&begin());
    let bytes = world.bytes();
    for index in MAGIC.len()..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1;
        world.write(&damaged);
        assert_eq!(world.read().unwrap().begin, None, "{index}");
    }
}

#[test]
fn line_that_is_not_chained_to_the_one_before_is_not_believed() {
    let world = World::new();
    let mut journal = world.create(&begin());
    journal.record_rollback(&world.host, &world.directory, "of another journal").unwrap();
    let line = world.bytes().split_inclusive(|&byte| byte == b'\n').nth(2).unwrap().to_vec();
    let other = Begin { process: 43, ..begin() };
    std::fs::remove_file(world.root.path().join(NAME)).unwrap();
    world.create(&other);
    let bytes = [world.bytes(), line].concat();
    world.write(&bytes);
    let journal = world.read().unwrap();
    assert_eq!((journal.begin, journal.rollback), (Some(other), false));
}

#[test]
fn second_beginning_and_repeated_lines_are_not_believed() {
    let world = World::new();
    world.create(&begin());
    let bytes = world.bytes();
    let line = bytes[MAGIC.len()..].to_vec();
    world.write(&[bytes, line.clone(), line].concat());
    let journal = world.read().unwrap();
    assert_eq!((journal.begin, journal.lines), (Some(begin()), 1));
}

#[test]
fn unknown_version_is_an_error_that_says_what_to_do() {
    let world = World::new();
    for bytes in [&b"CDJ2\n"[..], b"CDJ10\nx", b"CDJ1 \n"] {
        world.write(bytes);
        let error = world.read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StateInvalid, "{bytes:?}");
        assert!(error.next_step().contains("leave it alone"), "{error}");
    }
}

#[test]
fn first_line_of_unknown_content_is_an_error_and_no_beginning() {
    let world = World::new();
    let rest = "0 BEGIN {\"from\":\"the future\"}";
    world.write(format!("{MAGIC}{} {rest}\n", chain("", rest)).as_bytes());
    assert_eq!(world.read().unwrap_err().kind(), ErrorKind::StateInvalid);
}

#[test]
fn empty_file_zeros_and_bytes_of_another_file_are_torn() {
    let world = World::new();
    for bytes in [&b""[..], b"C", b"CDJ1", b"CDJ1\n", &[0; 4096], b"\0\0\0x", b"of another file"] {
        world.write(bytes);
        assert_eq!(world.read().unwrap().begin, None, "{bytes:?}");
    }
}

#[test]
fn journal_whose_files_belong_to_no_target_or_have_paths_for_names_is_not_understood() {
    let spoilt: [fn(&mut Begin); 6] = [
        |begin| begin.members.clear(),
        |begin| begin.files[0].member = 1,
        |begin| begin.files[0].name = OsStr::new("../www.key").into(),
        |begin| begin.files[0].hidden = "..".to_owned(),
        |begin| begin.files[0].staged = Some("../owner".to_owned()),
        |begin| begin.files[0].backup = Some(String::new()),
    ];
    for (number, spoil) in spoilt.into_iter().enumerate() {
        let (world, mut begin) = (World::new(), begin());
        spoil(&mut begin);
        let file = world.create(&begin).file;
        let error = read(&world.host, &world.directory, &file).expect_err(&format!("number {number}"));
        assert_eq!(error.kind(), ErrorKind::StateInvalid, "number {number}");
    }
}

#[test]
fn failed_append_leaves_no_part_of_a_new_journal() {
    let world = World::new();
    std::fs::create_dir(world.root.path().join(NAME)).unwrap();
    Journal::create(&world.host, &world.directory, &begin()).unwrap_err();
    assert!(world.root.path().join(NAME).is_dir(), "what is not ours is left alone");
}

#[test]
fn all_journals_are_read_by_name_and_others_are_passed_over() {
    let world = World::new();
    world.create(&begin());
    world.create(&Begin { id: 3, ..begin() });
    std::fs::write(world.root.path().join("notes.txt"), "CDJ9").unwrap();
    let names: Vec<OsString> = read_all(&world.host, &world.directory).unwrap().into_iter().map(|journal| journal.file).collect();
    assert_eq!(names, ["front-00000003.jnl", NAME]);
}

proptest! {
    #[test]
    fn any_bytes_give_a_journal_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool) {
        let bytes = if magic { [MAGIC.as_bytes(), &bytes].concat() } else { bytes };
        if let Ok(journal) = parse(OsStr::new("x-1.jnl"), &bytes) {
            prop_assert_eq!(journal.begin, None);
        }
    }

    #[test]
    fn any_damage_gives_the_beginning_or_none(at in 0_usize..10_000, with in any::<u8>(), cut in 0_usize..10_000) {
        let mut journal = parse(OsStr::new(NAME), MAGIC.as_bytes()).unwrap();
        let lines = [
            journal.line("BEGIN", &serde_json::to_string(&begin()).unwrap()),
            journal.line("ROLLBACK", "{}"),
            journal.line("CONFLICT", "{}"),
        ];
        let mut bytes = [MAGIC, &lines.concat()].concat().into_bytes();
        let (at, cut) = (at % bytes.len(), cut % (bytes.len() + 1));
        bytes[at] = with;
        bytes.truncate(cut);
        if let Ok(read) = parse(OsStr::new(NAME), &bytes) {
            prop_assert!(read.begin.is_none() || read.begin == Some(begin()));
            prop_assert!(read.begin.is_some() || (!read.rollback && !read.conflict));
            prop_assert!(read.rollback || !read.conflict);
        }
    }

    #[test]
    fn paths_of_any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let path = EncodedPath(OsString::from_vec(bytes));
        let text = serde_json::to_string(&path).unwrap();
        prop_assert_eq!(serde_json::from_str::<EncodedPath>(&text).unwrap(), path);
    }
}
