//! The recipes of docs/files.md that need more than the everyday run has, each with the server as Debian packages it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files and start servers")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use deploy_core::{Entry, Outcome, Registry};
use deploy_files::Files;
use deploy_servers::{World, block};
use deploy_testkit::nginx::free_port;

const PAGE: &str = "files.md";

fn entry() -> Entry {
    *Registry::new().with::<Files>().get("files").unwrap()
}

/// A recipe in a world: with its directories and its port replaced by ours.
struct Recipe {
    world: World,
    word: &'static str,
    replaced: Vec<(&'static str, String)>,
    address: SocketAddr,
}

impl Recipe {
    /// `replaced` are the directories of the page, each with its name in the world, and the port is that of `verify`.
    fn new(word: &'static str, port: &'static str, directories: &[(&'static str, &str)]) -> Self {
        let world = World::new();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut replaced = vec![(port, address.port().to_string())];
        for (page, ours) in directories {
            let ours = world.path(ours);
            fs::create_dir_all(&ours).unwrap();
            replaced.push((page, ours.to_str().unwrap().to_owned()));
        }
        let mut recipe = Self { world, word, replaced, address };
        let target = recipe.block("toml");
        recipe.world.set_target(&target);
        if !is_root() {
            for file in recipe.world.settings["files"].as_array_mut().unwrap() {
                file.as_table_mut().unwrap().remove("group");
            }
        }
        recipe
    }

    /// A block of the page in this language.
    fn block(&self, language: &str) -> String {
        let text = block(PAGE, language, self.word);
        self.replaced.iter().fold(text, |text, (page, ours)| text.replace(page, ours))
    }

    /// Writes a file that everybody may read.
    fn write(&self, name: &str, content: String) -> std::path::PathBuf {
        let path = self.world.write(name, content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    /// The first deployment as the page says in general: nobody is told or asked, and then the server is started.
    async fn begins(&mut self, command: &mut Command) {
        let told = self.world.settings.clone();
        let first = self.world.issue();
        self.world.set("validate = []\nreload = []\nverify = []");
        let report = self.world.deploy(&entry(), &first).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        self.world.start(command);
        self.world.await_served(self.address, &first);
        self.world.settings = told;
    }

    /// A renewal, nothing to do, and a renewal that the server is not told of.
    async fn lives_through_renewals(&mut self) {
        let [second, third] = [(); 2].map(|()| self.world.issue());
        let report = self.world.deploy(&entry(), &second).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(self.world.served(self.address).as_ref(), Some(&second.fingerprint));
        assert_eq!(self.world.deploy(&entry(), &second).await.outcome, Outcome::Unchanged);

        self.world.set("reload = []\nverify_timeout = \"1s\"");
        let report = self.world.deploy(&entry(), &third).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "the server takes up files without being told: {report:?}");
        assert_eq!(self.world.served(self.address).as_ref(), Some(&second.fingerprint));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A program as its own user, as its unit starts it, where the tests run as root.
fn as_user(user: &str, program: &str, directories: &[&Path]) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let owned = Command::new("chown").arg(user).args(directories).status().unwrap();
    assert!(owned.success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", user, "--clear-groups", program]);
    command
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MariaDB: cargo xtask test --servers all"]
async fn mariadb_is_told_by_a_statement() {
    let mut recipe = Recipe::new("mariadb", "3306", &[("/etc/mysql", "etc"), ("/run/mysqld", "run")]);
    recipe.world.starttls = Some("mysql");
    let [data, run] = ["data", "run"].map(|name| recipe.world.path(name));
    fs::create_dir(&data).unwrap();
    fs::create_dir(recipe.world.path("etc/tls")).unwrap();
    let more = format!("datadir = {}\nbind-address = 127.0.0.1\nport = {}\n", data.display(), recipe.address.port());
    let configuration = recipe.write("my.cnf", recipe.block("ini") + &more);
    let file = format!("--defaults-file={}", configuration.display());
    let mut made = as_user("mysql", "mariadb-install-db", &[&data, &run]);
    let made = made.args([&file, "--auth-root-authentication-method=normal", "--skip-test-db"]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    recipe.begins(as_user("mysql", "/usr/sbin/mariadbd", &[&data]).arg(file)).await;
    recipe.lives_through_renewals().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: cargo xtask test --servers all"]
async fn postgresql_is_told_by_a_signal() {
    let mut recipe = Recipe::new("postgresql", "5432", &[("/etc/postgresql/15/main", "etc"), ("/run/postgresql", "run")]);
    recipe.world.starttls = Some("postgres");
    let [data, run] = ["data", "run"].map(|name| recipe.world.path(name));
    fs::create_dir(&data).unwrap();
    fs::create_dir(recipe.world.path("etc/tls")).unwrap();
    let programs = Path::new("/usr/lib/postgresql/15/bin");
    let mut made = as_user("postgres", programs.join("initdb").to_str().unwrap(), &[&data, &run]);
    let made = made.args(["--auth", "trust", "--no-sync", "--pgdata"]).arg(&data).current_dir("/").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let more = format!(
        "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\nfsync = off\nhba_file = '{data}/pg_hba.conf'\n\
         ident_file = '{data}/pg_ident.conf'\n",
        recipe.address.port(),
        run.display(),
        data = data.display()
    );
    let configuration = recipe.write("postgresql.conf", recipe.block("ini") + &more);
    let mut command = as_user("postgres", programs.join("postgres").to_str().unwrap(), &[&data]);
    recipe.begins(command.arg("-D").arg(&data).arg(format!("--config-file={}", configuration.display())).current_dir("/")).await;
    recipe.lives_through_renewals().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ProFTPD, and to be root: cargo xtask test --servers all"]
async fn proftpd_needs_not_be_told() {
    let mut recipe = Recipe::new("proftpd", "21", &[("/etc/proftpd", "etc")]);
    recipe.world.starttls = Some("ftp");
    fs::create_dir(recipe.world.path("etc/tls")).unwrap();
    let run = recipe.world.path("run");
    fs::create_dir(&run).unwrap();
    let more = format!(
        "LoadModule mod_tls.c\nServerType standalone\nDefaultAddress 127.0.0.1\nPort {}\nUser nobody\nGroup nogroup\nUseIPv6 off\n\
         PidFile {run}/pid\nScoreboardFile {run}/scoreboard\nDelayEngine off\nWtmpLog off\nSystemLog {run}/log\n",
        recipe.address.port(),
        run = run.display()
    );
    let configuration = recipe.write("proftpd.conf", more + &recipe.block("apache"));
    recipe.begins(Command::new("/usr/sbin/proftpd").args(["-n", "-q", "-c"]).arg(configuration)).await;
    for _ in 0..2 {
        let issued = recipe.world.issue();
        let report = recipe.world.deploy(&entry(), &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(recipe.world.served(recipe.address).as_ref(), Some(&issued.fingerprint));
        assert_eq!(recipe.world.deploy(&entry(), &issued).await.outcome, Outcome::Unchanged);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs RabbitMQ: cargo xtask test --servers all"]
async fn rabbitmq_is_told_by_clearing_a_cache() {
    let mut recipe = Recipe::new("rabbitmq", "5671", &[("/etc/rabbitmq", "etc")]);
    let root = recipe.world.root.path().to_owned();
    for name in ["etc/tls", "data", "logs", "home"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    recipe.write("etc/rabbitmq.conf", recipe.block("ini") + "listeners.tcp = none\n");
    let _names = Epmd::start(&recipe.world);

    // The programs in PATH insist on becoming another user; the scripts behind them do not.
    let scripts = fs::read_dir("/usr/lib/rabbitmq/lib").unwrap().next().unwrap().unwrap().path().join("sbin");
    for name in ["rabbitmqctl", "rabbitmq-server"] {
        let script = format!(
            "#!/bin/sh\n. {root}/environment\ncd {root}/home\nexec {scripts}/{name} \"$@\"\n",
            root = root.display(),
            scripts = scripts.display()
        );
        let path = recipe.write(name, script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let reload = recipe.world.settings["reload"].as_array_mut().unwrap();
    assert_eq!(reload[0].as_str(), Some("rabbitmqctl"));
    reload[0] = root.join("rabbitmqctl").to_str().unwrap().into();

    recipe.begins(&mut Command::new(root.join("rabbitmq-server"))).await;
    recipe.lives_through_renewals().await;
}

/// Where Erlang's nodes find each other. It would be started by the first node, and stay.
struct Epmd(std::process::Child);

impl Epmd {
    /// Starts one for the world, and writes the environment of its node.
    fn start(world: &World) -> Self {
        let [port, node] = [free_port(), free_port()];
        let root = world.root.path().display();
        let environment = format!(
            "export HOME={root}/home ERL_EPMD_PORT={port} ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=world{port}@localhost\n\
             export RABBITMQ_DIST_PORT={node} RABBITMQ_CONFIG_FILE={root}/etc/rabbitmq.conf RABBITMQ_MNESIA_BASE={root}/data\n\
             export RABBITMQ_LOG_BASE={root}/logs RABBITMQ_ENABLED_PLUGINS_FILE={root}/etc/plugins RUNNING_UNDER_SYSTEMD=true\n"
        );
        world.write("environment", environment);
        let mut command = Command::new("epmd");
        command.args(["-port", &port.to_string(), "-address", "127.0.0.1"]);
        Self(command.spawn().unwrap())
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis: cargo xtask test --servers all"]
async fn redis_is_told_over_its_socket() {
    let mut recipe = Recipe::new("redis", "6379", &[("/etc/redis", "etc"), ("/run/redis", "run")]);
    let configuration = recipe.write("redis.conf", format!("{}bind 127.0.0.1\nsave \"\"\n", recipe.block("ini")));
    let mut command = as_user("redis", "redis-server", &[&recipe.world.path("run")]);
    command.arg(configuration).current_dir(recipe.world.path("run"));
    fs::create_dir(recipe.world.path("etc/tls")).unwrap();
    recipe.begins(&mut command).await;
    recipe.lives_through_renewals().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs slapd: cargo xtask test --servers all"]
async fn slapd_is_told_by_a_modification_which_also_turns_tls_on() {
    let mut recipe = Recipe::new("slapd", "636", &[("/etc/ldap", "etc")]);
    fs::create_dir(recipe.world.path("etc/tls")).unwrap();
    fs::create_dir(recipe.world.path("config")).unwrap();
    let socket = format!("ldapi://{}", recipe.world.path("etc/socket").to_str().unwrap().replace('/', "%2F"));
    recipe.write("etc/tls/www.ldif", recipe.block("ldif"));
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let initial = format!(
        "dn: cn=config\nobjectClass: olcGlobal\ncn: config\n\n\
         dn: olcDatabase={{0}}config,cn=config\nobjectClass: olcDatabaseConfig\nolcDatabase: {{0}}config\n\
         olcAccess: to * by dn.exact=gidNumber={group}+uidNumber={user},cn=peercred,cn=external,cn=auth manage\n"
    );
    let initial = recipe.write("initial.ldif", initial);
    let mut made = Command::new("/usr/sbin/slapadd");
    made.args(["-n", "0", "-F"]).arg(recipe.world.path("config")).arg("-l").arg(initial);
    assert!(made.status().unwrap().success());

    let urls = format!("{socket} ldaps://{}", recipe.address);
    let mut command = Command::new("/usr/sbin/slapd");
    command.args(["-d", "stats", "-h", &urls, "-F"]).arg(recipe.world.path("config"));
    recipe.world.start(&mut command);
    let reload = recipe.world.settings["reload"].as_array_mut().unwrap();
    *reload.iter_mut().find(|argument| argument.as_str() == Some("ldapi:///")).unwrap() = socket.into();
    deploy_servers::await_listener(recipe.address);

    let first = recipe.world.issue();
    let report = recipe.world.deploy(&entry(), &first).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    recipe.lives_through_renewals().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs squid: cargo xtask test --servers all"]
async fn squid_checks_and_is_told_by_its_own_program() {
    let mut recipe = Recipe::new("squid", "3129", &[("/etc/squid", "etc")]);
    fs::create_dir(recipe.world.path("etc/tls")).unwrap();
    fs::create_dir(recipe.world.path("run")).unwrap();
    let run = recipe.world.path("run");
    let more = format!(
        "http_port 127.0.0.1:{}\npid_filename {run}/squid.pid\ncache_log {run}/cache.log\naccess_log none\ncoredump_dir {run}\n\
         visible_hostname localhost\nshutdown_lifetime 0 seconds\nworkers 1\npinger_enable off\n",
        free_port(),
        run = run.display()
    );
    let configuration = recipe.write("etc/squid.conf", recipe.block("ini") + &more);
    if is_root() {
        assert!(Command::new("chown").arg("proxy").arg(&run).status().unwrap().success());
    }
    // Its name is that of its shared memory.
    let name = format!("world{}", std::process::id());
    recipe.begins(Command::new("/usr/sbin/squid").args(["-N", "-n", &name, "-f"]).arg(configuration)).await;
    recipe.lives_through_renewals().await;
}
