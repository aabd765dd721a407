//! One configuration for every server that there is a connector for: deployed, run again, and renewed with one of them broken.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test with real servers, which prints its table"
)]

#[path = "../../../connectors/apache/tests/server/mod.rs"]
mod apache;
#[path = "../../../connectors/caddy/tests/server/mod.rs"]
mod caddy;
#[path = "../../../connectors/dovecot/tests/server/mod.rs"]
mod dovecot;
#[path = "../../../connectors/envoy/tests/server/mod.rs"]
mod envoy;
#[path = "../../../connectors/haproxy/tests/server/mod.rs"]
mod haproxy;
#[path = "../../../connectors/lighttpd/tests/server/mod.rs"]
mod lighttpd;
#[path = "../../../connectors/postfix/tests/server/mod.rs"]
mod postfix;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use deploy_e2e::{Program, Run, TargetConfig, quoted, system};
use deploy_testkit::{
    Authority, Issued, Nginx, NginxConfig, Order, ReloadingServer, Request, ScriptedCommand, observe, write_pair,
};

const NAME: &str = "www.example.test";

/// What broke on purpose.
const BROKEN: &str = "dovecot";

/// A target, and where its server serves; `None` where it is a file that no server reads.
struct Served {
    target: &'static str,
    address: Option<SocketAddr>,
    toml: String,
}

impl Served {
    fn new(kind: &'static str, address: SocketAddr, target: TargetConfig) -> Self {
        Self { target: kind, address: Some(address), toml: target.text("name", kind).text("kind", kind).to_toml() }
    }

    fn shows(&self) -> Option<String> {
        observe::served_fingerprint(self.address?, Some(NAME)).ok()
    }
}

#[test]
fn a1_a6_all_servers_at_once_are_deployed_and_renewed_and_a_broken_one_stops_no_other() {
    system::needs_root("Postfix and Dovecot, and servers that are started in private");
    let root = tempfile::Builder::new().prefix("certdeploy-all-").tempdir().unwrap();
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let directory = |name: &str| {
        let path = root.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let source = directory("source");
    let mut worlds = Worlds::start(&directory);
    let program = Program::new(root.path().join("certdeploy.toml"), root.path().join("state"));
    write(&program.config, &worlds.configuration(&source));
    let authority = Authority::new();
    let renew = || {
        let issued = authority.issue(&Request::new(&[NAME]));
        write_pair(&source, &issued);
        issued
    };

    let first = renew();
    let run = deploy(&program);
    assert_eq!(run.code, 0, "{run:#?}");
    worlds.assert_all(&run, "changed", &first, None);
    let again = deploy(&program);
    assert_eq!(again.code, 0, "{again:#?}");
    worlds.assert_all(&again, "unchanged", &first, None);

    let second = renew();
    let renewed = deploy(&program);
    worlds.assert_all(&renewed, "changed", &second, None);
    worlds.print(&[("first", &run), ("again", &again), ("renewal", &renewed)]);

    worlds.dovecot_reload.order(Order::Ignore);
    let third = renew();
    let broken = deploy(&program);
    assert_eq!(broken.code, 4, "{broken:#?}");
    worlds.assert_all(&broken, "changed", &third, Some(&second));
    worlds.dovecot_reload.heal();

    // A key of another certificate: everybody refuses, and nobody loses anything.
    write_pair(&source, &authority.issue(&Request::new(&[NAME])).with_key_of(&third));
    let mismatch = deploy(&program);
    assert_eq!(mismatch.code, 3, "{mismatch:#?}");
    let outcomes = worlds.outcomes(&mismatch);
    assert!(outcomes.iter().all(|outcome| outcome == "rejected"), "{outcomes:?}");
    worlds.print(&[("broken", &broken), ("mismatch", &mismatch)]);

    let fourth = renew();
    let healed = deploy(&program);
    assert_eq!(healed.code, 0, "{healed:#?}");
    worlds.assert_all(&healed, "changed", &fourth, None);
}

fn deploy(program: &Program) -> Run {
    program.run(&["deploy", "--json"])
}

/// All servers. They end with this.
struct Worlds {
    served: Vec<Served>,
    dovecot_reload: ScriptedCommand,
    _nginx: Nginx,
    _apache: apache::Server,
    _caddy: caddy::Server,
    _dovecot: dovecot::Server,
    _envoy: envoy::Server,
    _haproxy: haproxy::Server,
    _lighttpd: lighttpd::Server,
    _postfix: postfix::Server,
    _reading: ReloadingServer,
}

impl Worlds {
    fn start(directory: &dyn Fn(&str) -> PathBuf) -> Self {
        let [nginx_directory, tls] = ["nginx", "nginx-tls"].map(directory);
        let mut nginx = Nginx::prepare(&nginx_directory, &NginxConfig::plain()).unwrap();
        nginx.launch().unwrap();
        let [crt, key] = ["www.crt", "www.key"].map(|name| tls.join(name));
        nginx.set_config(&NginxConfig::tls(NAME, &crt, &key));
        let nginx_target = target(&crt, &key, nginx.address())
            .command("validate", &nginx.validate_command())
            .command("reload", &nginx.reload_command());

        let apache = apache::Server::prepare(&directory("apache")).unwrap();
        let apache_target = target(&apache.fullchain, &apache.key, apache.address)
            .command("validate", &apache.check_command())
            .command("shadow", &apache.shadow_command())
            .command("reload", &apache.command("graceful", "wanted.conf"))
            .command("restart", &apache.command("graceful", "wanted.conf"))
            .path("pid_file", &apache.pid_file());

        let caddy = caddy::Server::start(&directory("caddy")).unwrap();
        let caddy_target = target(&caddy.fullchain, &caddy.key, caddy.address)
            .command("validate", &caddy.check_command())
            .command("reload", &caddy.reload_command());

        let dovecot = dovecot::Server::start(&directory("dovecot")).unwrap();
        let dovecot_reload = ScriptedCommand::new(&dovecot.directory, "reload", &dovecot.command("reload", "wanted.conf"));
        let dovecot_target = target(&dovecot.fullchain, &dovecot.key, dovecot.imaps)
            .command("validate", &dovecot.check_command())
            .command("shadow", &dovecot.shadow_command())
            .path("pid_file", &dovecot.pid_file())
            .command("reload", &dovecot_reload.command());

        let envoy = envoy::Server::prepare(&directory("envoy")).unwrap();
        let envoy_target = target(&envoy.sds, &envoy.sds, envoy.address)
            .without("fullchain")
            .without("key")
            .path("sds", &envoy.sds)
            .text("secret_name", envoy::SECRET)
            .command("reload", &envoy.start_command("wanted.json"));

        let haproxy = haproxy::Server::start(&directory("haproxy")).unwrap();
        let crt_list = haproxy.directory.join("tls");
        let haproxy_target = target(&crt_list, &crt_list, haproxy.address)
            .without("fullchain")
            .without("key")
            .path("combined", &haproxy.combined)
            .command("runtime", &[haproxy.admin().display().to_string()])
            .path("crt_list", &crt_list)
            .command("validate", &haproxy.check_command());

        let lighttpd = lighttpd::Server::prepare(&directory("lighttpd")).unwrap();
        let lighttpd_target = target(&lighttpd.fullchain, &lighttpd.key, lighttpd.address)
            .command("validate", &lighttpd.check_command())
            .command("reload", &lighttpd.command("reload-or-restart", "wanted.conf"))
            .command("restart", &lighttpd.command("restart", "wanted.conf"));

        let postfix = postfix::Server::start(&directory("postfix")).unwrap();
        let postfix_target = target(&postfix.chain_file, &postfix.chain_file, postfix.smtps)
            .without("fullchain")
            .without("key")
            .path("chain_file", &postfix.chain_file)
            .command("reload", &postfix.command("reload", "wanted.cf"));

        let files = directory("files");
        let combined = files.join("combined.pem");
        let reading = ReloadingServer::start(&files, &combined, &combined).unwrap();
        let files_target = target(&combined, &combined, reading.address())
            .without("fullchain")
            .without("key")
            .set("files", format!("[{{ path = {}, content = \"combined\" }}]", quoted(combined.to_str().unwrap())))
            .command("reload", &reading.reload_command());

        let stores = directory("stores");
        let password = stores.join("password");
        write(&password, "correct horse battery");
        std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let store = |kind: &'static str, name: &str, more: &str| {
            let path = quoted(stores.join(name).to_str().unwrap());
            let password = quoted(&format!("file:{}", password.display()));
            let toml = format!(
                "[[target]]\nname = \"{kind}\"\nkind = \"{kind}\"\ncertificate = \"www\"\npath = {path}\npassword = {password}\n{more}verify = []\n"
            );
            Served { target: kind, address: None, toml }
        };

        let served = vec![
            Served::new("nginx", nginx.address(), nginx_target),
            Served::new("apache", apache.address, apache_target),
            Served::new("caddy", caddy.address, caddy_target),
            Served::new("dovecot", dovecot.imaps, dovecot_target),
            Served::new("envoy", envoy.address, envoy_target),
            Served::new("haproxy", haproxy.address, haproxy_target),
            Served::new("lighttpd", lighttpd.address, lighttpd_target),
            Served::new("postfix", postfix.smtps, postfix_target),
            Served::new("files", reading.address(), files_target),
            store("java-keystore", "store.jks", "alias = \"www\"\ntype = \"jks\"\n"),
            store("pkcs12", "store.p12", ""),
        ];
        Self {
            served,
            dovecot_reload,
            _nginx: nginx,
            _apache: apache,
            _caddy: caddy,
            _dovecot: dovecot,
            _envoy: envoy,
            _haproxy: haproxy,
            _lighttpd: lighttpd,
            _postfix: postfix,
            _reading: reading,
        }
    }

    fn configuration(&self, source: &Path) -> String {
        let file = |name: &str| quoted(source.join(name).to_str().unwrap());
        let certificate =
            format!("[[certificate]]\nname = \"www\"\nfullchain = {}\nkey = {}\n", file("fullchain.pem"), file("privkey.pem"));
        std::iter::once(certificate.as_str())
            .chain(self.served.iter().map(|served| served.toml.as_str()))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn outcomes(&self, run: &Run) -> Vec<String> {
        self.served.iter().map(|served| run.target(served.target)["outcome"].as_str().unwrap().to_owned()).collect()
    }

    /// All have this outcome and serve this certificate; but for the broken one, which serves `old`, if it is broken.
    fn assert_all(&mut self, run: &Run, outcome: &str, issued: &Issued, old: Option<&Issued>) {
        for served in &self.served {
            let is_broken = served.target == BROKEN && old.is_some();
            let wanted = if is_broken { "rolled_back" } else { outcome };
            assert_eq!(run.target(served.target)["outcome"], wanted, "{run:#?}");
            let expected = old.filter(|_| is_broken).unwrap_or(issued);
            if served.address.is_some() {
                assert_eq!(served.shows().as_ref(), Some(&expected.fingerprint), "{}", served.target);
            }
        }
    }

    /// Outcome and milliseconds of each target, in each run.
    fn print(&self, runs: &[(&str, &Run)]) {
        for served in &self.served {
            let cells: Vec<String> = runs
                .iter()
                .map(|(name, run)| {
                    let target = run.target(served.target);
                    format!("{name}: {} {} ms", target["outcome"].as_str().unwrap_or("?"), target["duration_ms"])
                })
                .collect();
            println!("{:14} {}", served.target, cells.join(" | "));
        }
    }
}

fn target(fullchain: &Path, key: &Path, address: SocketAddr) -> TargetConfig {
    let endpoint = format!("[{{ connect = {}, server_name = {} }}]", quoted(&address.to_string()), quoted(NAME));
    TargetConfig::new("front", fullchain, key).set("verify", endpoint).text("verify_timeout", "5s")
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
