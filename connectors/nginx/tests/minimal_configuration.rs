//! The minimal configuration, checked by a real nginx.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, with a world of its own"
)]

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use deploy_core::settings::CommandSetting;
use deploy_core::{Connector as _, Recovery};
use deploy_nginx::{Nginx, NginxSettings};
use deploy_testkit::{Authority, Issued, Request, find_nginx, write_pair};
use tempfile::TempDir;

/// The user `nobody` of Debian.
const NOBODY: u32 = 65_534;

/// Has nginx check the minimal configuration with these files, as the engine does; `user` is for tests that run as root.
fn check(root: &Path, staged: &[PathBuf], user: Option<u32>) -> Output {
    let nginx = find_nginx().expect("this test needs nginx: apt-get install nginx-light");
    let mut settings = NginxSettings::new("/t/www.crt", "/t/www.key");
    settings.trusted_chain = (staged.len() == 3).then(|| "/t/www.chain".into());
    settings.validate = CommandSetting::new(&[nginx.to_str().unwrap(), "-t"]);
    let target = Nginx::build("front", settings).unwrap();
    let Recovery::Files(hooks) = target.recovery() else { panic!("nginx is files") };
    let minimal = hooks.validate.unwrap().minimal.unwrap();

    let scratch = root.join("scratch");
    fs::create_dir(&scratch).unwrap();
    let configuration = scratch.join("configuration");
    let fill = |text: &str| {
        let text =
            text.replace("{scratch}", scratch.to_str().unwrap()).replace("{configuration}", configuration.to_str().unwrap());
        staged.iter().enumerate().fold(text, |text, (n, path)| text.replace(&format!("{{staged:{n}}}"), path.to_str().unwrap()))
    };
    fs::write(&configuration, fill(&minimal.configuration)).unwrap();
    let arguments: Vec<String> = minimal.command.arguments.iter().map(|argument| fill(argument.to_str().unwrap())).collect();
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).env_clear().current_dir(&scratch);
    if let Some(user) = user {
        for path in staged.iter().chain([&scratch]) {
            chown(path, Some(user), Some(user)).unwrap();
        }
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    fs::remove_dir_all(&scratch).unwrap();
    output
}

fn issue() -> Issued {
    Authority::new().issue(&Request::new(&["www.example.test"]))
}

/// A world that every user can enter, and the two files in it.
fn world(issued: &Issued) -> (TempDir, Vec<PathBuf>) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (fullchain, key) = write_pair(directory.path(), issued);
    (directory, vec![fullchain, key])
}

fn assert_accepted(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nginx_accepts_a_good_pair() {
    let (directory, staged) = world(&issue());
    assert_accepted(&check(directory.path(), &staged, None));
}

#[test]
fn nginx_accepts_a_good_pair_with_a_trusted_chain() {
    let issued = issue();
    let (directory, mut staged) = world(&issued);
    let chain = directory.path().join("chain.pem");
    fs::write(&chain, &issued.chain_pem).unwrap();
    staged.insert(0, chain);
    assert_accepted(&check(directory.path(), &staged, None));
}

#[test]
fn nginx_refuses_a_pair_that_does_not_match() {
    let (directory, staged) = world(&issue().with_key_of(&issue()));
    let output = check(directory.path(), &staged, None);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("key values mismatch"), "{message}");
}

#[test]
fn nginx_needs_no_privilege_for_it() {
    let root = rustix::process::geteuid().is_root();
    let user = root.then_some(NOBODY);
    let (directory, staged) = world(&issue());
    assert_accepted(&check(directory.path(), &staged, user));
    let (directory, staged) = world(&issue().with_key_of(&issue()));
    assert!(!check(directory.path(), &staged, user).status.success());
}
