//! A lighttpd that ends in a reload, as it does whenever it cannot load something.
#![allow(clippy::unwrap_used, reason = "a test")]

mod server;

use std::sync::Arc;
use std::time::Duration;

use deploy_core::certificate::PemFiles;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_core::{Connector as _, Context, Job, Outcome, Report, Target, deploy};
use deploy_lighttpd::{Lighttpd, LighttpdSettings};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Request, ScriptedCommand, observe, provider, write_pair};

use crate::server::Server;

/// Deploys what the directory `source` has.
fn run(server: &Server, settings: LighttpdSettings) -> Report {
    let target: Arc<dyn Target> = Lighttpd::build("front", settings).unwrap().into();
    let source = server.directory.join("source");
    let source = PemFiles::new(source.join("fullchain.pem"), source.join("privkey.pem"));
    let context = Context::new(server.directory.join("state"), provider());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(deploy(&[Job::new("front", Lighttpd::KIND, target, Arc::new(source))], &context)).remove(0)
}

#[test]
fn lighttpd_that_ended_in_a_reload_is_started_with_the_old_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::prepare(directory.path()).unwrap();
    let source = directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let restart = ScriptedCommand::new(directory.path(), "restart", &server.command("restart", "wanted.conf"));
    let reload = |action, name| ReloadSetting::Command(CommandSetting::Arguments(server.command(action, name)));

    let mut settings = LighttpdSettings::new(&server.fullchain, &server.key);
    settings.validate = CommandSetting::Arguments(server.check_command());
    settings.reload = reload("reload-or-restart", "wanted.conf");
    settings.restart = CommandSetting::Arguments(restart.command());
    settings.verify = Some(vec![Endpoint::new(server.address.to_string()).with_server_name(NAME)]);
    settings.verify_timeout = Period::new(Duration::from_secs(3));

    let authority = Authority::new();
    let old = authority.issue(&Request::new(&[NAME]));
    write_pair(&source, &old);
    assert_eq!(run(&server, settings.clone()).outcome, Outcome::Changed);
    assert_eq!(observe::served_fingerprint(server.address, Some(NAME)).as_ref(), Ok(&old.fingerprint));

    // The signal is sent, and what lighttpd then reads names a file that is not there.
    server.configure("broken.conf", &directory.path().join("missing"), &server.key).unwrap();
    settings.reload = reload("reload", "broken.conf");
    write_pair(&source, &authority.issue(&Request::new(&[NAME])));
    let report = run(&server, settings);
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(restart.runs(), 1);
    assert_eq!(observe::served_fingerprint(server.address, Some(NAME)), Ok(old.fingerprint));
    assert_eq!(std::fs::read_to_string(&server.fullchain).unwrap(), old.fullchain_pem);
}
