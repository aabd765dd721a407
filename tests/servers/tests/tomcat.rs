//! Tomcat as docs/java-keystore.md has it: first deployments, renewals, and what its manager says when it cannot reload.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files and start servers")]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use deploy_core::{Entry, ErrorKind, Outcome, Registry};
use deploy_java_keystore::JavaKeystore;
use deploy_servers::{World, block, served};
use deploy_testkit::nginx::free_port;

const HOME: &str = "/usr/share/tomcat10";
const PAGE: &str = "java-keystore.md";

fn entry() -> Entry {
    *Registry::new().with::<JavaKeystore>().get("java-keystore").unwrap()
}

/// A Tomcat that is not started, with a store that does not exist.
struct Tomcat {
    world: World,
    address: SocketAddr,
    manager: u16,
}

impl Tomcat {
    fn new() -> Self {
        let (https, manager) = (free_port(), free_port());
        let mut tomcat = Self { world: World::new(), address: SocketAddr::from(([127, 0, 0, 1], https)), manager };
        let world = &tomcat.world;
        for name in ["base/logs", "base/temp", "base/work", "base/webapps", "etc/tomcat10/tls"] {
            fs::create_dir_all(world.path(name)).unwrap();
        }
        for name in ["catalina.properties", "context.xml", "logging.properties", "web.xml"] {
            world.write(&format!("base/conf/{name}"), fs::read(Path::new(HOME).join("etc").join(name)).unwrap());
        }
        let manager_context = "<Context docBase=\"/usr/share/tomcat10-admin/manager\" privileged=\"true\" />";
        world.write("base/conf/Catalina/localhost/manager.xml", manager_context);
        let server = format!(
            r#"<Server port="-1">
<Listener className="org.apache.catalina.core.JreMemoryLeakPreventionListener" />
<GlobalNamingResources>
<Resource name="UserDatabase" auth="Container" type="org.apache.catalina.UserDatabase"
    factory="org.apache.catalina.users.MemoryUserDatabaseFactory" pathname="conf/tomcat-users.xml" />
</GlobalNamingResources>
<Service name="Catalina">
<Connector address="127.0.0.1" port="{manager}" protocol="HTTP/1.1" />
{}
<Engine name="Catalina" defaultHost="localhost">
<Realm className="org.apache.catalina.realm.UserDatabaseRealm" resourceName="UserDatabase" />
<Host name="localhost" appBase="webapps" />
</Engine>
</Service>
</Server>
"#,
            tomcat.adapted(&block(PAGE, "xml", "tomcat"))
        );
        world.write("base/conf/server.xml", server);
        let user = block(PAGE, "xml", "tomcat-users");
        world.write("base/conf/tomcat-users.xml", format!("<tomcat-users>{user}</tomcat-users>"));
        world.write("etc/certdeploy/secrets/tomcat.netrc", block(PAGE, "text", "tomcat-netrc"));
        world.write("etc/tomcat10/tls/password", "the password of a store\n");
        tomcat.script("tomcat-reload", "sslReload");
        let target = tomcat.adapted(&block(PAGE, "toml", "tomcat"));
        tomcat.world.set_target(&target);
        // The world's user runs all of it, and there is no systemd.
        tomcat.world.settings.remove("group");
        tomcat.world.settings.remove("restart");
        tomcat
    }

    /// The script of the page, for another call.
    fn script(&self, name: &str, call: &str) {
        let script = self.adapted(&block(PAGE, "sh", "tomcat-reload")).replace("sslReload", call);
        let path = self.world.write(&format!("usr/local/sbin/{name}"), script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// With the directories and the ports of the page replaced by ours.
    fn adapted(&self, text: &str) -> String {
        let root = self.world.root.path().display();
        text.replace("/etc/tomcat10/", &format!("{root}/etc/tomcat10/"))
            .replace("/etc/certdeploy/", &format!("{root}/etc/certdeploy/"))
            .replace("/usr/local/", &format!("{root}/usr/local/"))
            .replace("8443", &self.address.port().to_string())
            .replace("8080", &self.manager.to_string())
    }

    fn start(&mut self) {
        let base = self.world.path("base");
        let mut command = Command::new("/bin/sh");
        command.arg(format!("{HOME}/bin/catalina.sh")).arg("run");
        command.env("CATALINA_HOME", HOME).env("CATALINA_BASE", &base);
        command.env("CATALINA_TMPDIR", base.join("temp"));
        self.world.start(&mut command);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Tomcat: cargo xtask test --servers all"]
async fn tomcat_takes_up_renewals_and_keeps_what_it_has_when_it_cannot() {
    let mut tomcat = Tomcat::new();
    let told = tomcat.world.settings.clone();
    let [first, second, third] = [(); 3].map(|()| tomcat.world.issue());

    tomcat.world.set("reload = []\nverify = []");
    let report = tomcat.world.deploy(&entry(), &first).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    tomcat.start();
    tomcat.world.await_served(tomcat.address, &first);
    tomcat.world.settings = told.clone();

    let report = tomcat.world.deploy(&entry(), &second).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(served(tomcat.address).as_ref(), Some(&second.fingerprint));
    assert_eq!(tomcat.world.deploy(&entry(), &second).await.outcome, Outcome::Unchanged);

    // A swap alone changes nothing, and is taken back.
    tomcat.world.set("reload = []\nverify_timeout = \"1s\"");
    let report = tomcat.world.deploy(&entry(), &third).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(served(tomcat.address).as_ref(), Some(&second.fingerprint));

    // Under an alias that Tomcat does not serve.
    tomcat.world.settings = told.clone();
    tomcat.world.set("alias = \"another\"\nverify_timeout = \"1s\"");
    let report = tomcat.world.deploy(&entry(), &third).await;
    let error = report.error.as_ref().unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::RolledBack, ErrorKind::VerifyFailed), "{report:?}");

    // 200 and `FAIL`, of a host that Tomcat does not know.
    tomcat.world.settings = told.clone();
    tomcat.script("fails", "sslReload?tlsHostName=nowhere.example.com");
    tomcat.world.set(&format!("reload = [{:?}]", tomcat.world.path("usr/local/sbin/fails")));
    let report = tomcat.world.deploy(&entry(), &third).await;
    let error = report.error.as_ref().unwrap();
    assert!(error.full_message().contains("FAIL"), "{report:?}");

    // 500, of a store that has another password than Tomcat has now.
    tomcat.world.settings = told;
    tomcat.world.write("etc/tomcat10/tls/password", "another password of a store\n");
    let output = Command::new(tomcat.world.path("usr/local/sbin/tomcat-reload")).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(served(tomcat.address).as_ref(), Some(&second.fingerprint));
    let report = tomcat.world.deploy(&entry(), &third).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");

    tomcat.world.write("etc/tomcat10/tls/password", "the password of a store\n");
    let report = tomcat.world.deploy(&entry(), &third).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(served(tomcat.address).as_ref(), Some(&third.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Tomcat: cargo xtask test --servers all"]
async fn tomcat_runs_without_its_store_and_does_not_listen_until_it_is_started_again() {
    let mut tomcat = Tomcat::new();
    tomcat.start();
    let end = Instant::now() + Duration::from_secs(30);
    let log = tomcat.world.path("log");
    while !fs::read_to_string(&log).unwrap().contains("Server startup in") {
        assert!(Instant::now() < end, "Tomcat does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(TcpStream::connect(tomcat.address).is_err());
    let issued = tomcat.world.issue();
    tomcat.world.set("verify_timeout = \"1s\"");
    let report = tomcat.world.deploy(&entry(), &issued).await;
    assert_eq!(report.outcome, Outcome::Unverified, "{report:?}");
    assert_eq!(served(tomcat.address), None);

    tomcat.start();
    tomcat.world.await_served(tomcat.address, &issued);
    let report = tomcat.world.deploy(&entry(), &issued).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(report.changed_files, Vec::<std::path::PathBuf>::new());
}
