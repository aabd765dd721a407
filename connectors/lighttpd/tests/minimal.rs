//! The minimal configuration, as lighttpd sees it where no private view can be had.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test that starts a real lighttpd")]

use std::path::Path;
use std::process::Command;

use deploy_core::{Connector as _, Hooks, Recovery};
use deploy_lighttpd::{Lighttpd, LighttpdSettings};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Request, write_pair};

fn hooks(settings: LighttpdSettings) -> Hooks {
    match Lighttpd::build("front", settings).unwrap().recovery() {
        Recovery::Files(hooks) => hooks,
        other => panic!("{other:?} is not about files"),
    }
}

/// Whether lighttpd accepts this pair in the minimal configuration.
fn accepts(directory: &Path, issued: &Issued) -> bool {
    let (fullchain, key) = write_pair(directory, issued);
    let settings = LighttpdSettings::new("/etc/lighttpd/tls/www.crt", "/etc/lighttpd/tls/www.key");
    let minimal = hooks(settings).validate.and_then(|checker| checker.minimal).unwrap();
    let path = directory.join("minimal.conf");
    let fill = |text: &str| {
        let text = text.replace("{staged:0}", fullchain.to_str().unwrap()).replace("{staged:1}", key.to_str().unwrap());
        text.replace("{scratch}", directory.to_str().unwrap()).replace("{configuration}", path.to_str().unwrap())
    };
    std::fs::write(&path, fill(&minimal.configuration)).unwrap();
    let arguments: Vec<_> = minimal.command.arguments.iter().map(|word| fill(word.to_str().unwrap())).collect();
    let mut command = Command::new(&arguments[0]);
    command.args(&arguments[1..]).env("PATH", deploy_core::command::PATH).status().unwrap().success()
}

#[test]
fn lighttpd_loads_the_pair_and_refuses_one_that_does_not_match() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [one, other] = [(); 2].map(|()| authority.issue(&Request::new(&[NAME])));
    assert!(accepts(directory.path(), &one));
    assert!(!accepts(directory.path(), &one.with_key_of(&other)));
}

#[test]
fn other_programs_get_no_minimal_configuration() {
    let mut settings = LighttpdSettings::new("/etc/lighttpd/tls/www.crt", "/etc/lighttpd/tls/www.key");
    settings.validate = deploy_core::settings::CommandSetting::new(&["docker", "exec", "web", "lighttpd", "-tt"]);
    assert!(hooks(settings).validate.unwrap().minimal.is_none());
}
