//! Java reads what the connector `java-keystore` writes, and finds what keytool put there before.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files and start programs")]

use std::path::Path;
use std::process::{Command, Output};

use deploy_core::{Entry, Outcome, Registry};
use deploy_java_keystore::JavaKeystore;
use deploy_servers::World;
use deploy_testkit::Issued;
use deploy_testkit::pki::fingerprint;

const PASSWORD: &str = "password-of-store";

fn entry() -> Entry {
    *Registry::new().with::<JavaKeystore>().get("java-keystore").unwrap()
}

/// A world with a password, a password of the key, and the settings of a keystore.
fn world(more: &str) -> World {
    let mut world = World::new();
    let password = world.write("password", PASSWORD);
    world.write("key-password", "password-of-key");
    std::fs::create_dir(world.path("tls")).unwrap();
    let path = world.path("tls/store");
    world.set(&format!("path = {path:?}\npassword = \"file:{}\"\nalias = \"Www\"\nverify = []", password.display()));
    world.set(&more.replace("ROOT", world.root.path().to_str().unwrap()));
    world
}

fn keytool(world: &World, arguments: &str) -> String {
    let mut command = Command::new("keytool");
    command.current_dir(world.root.path()).args(arguments.split(' ')).args(["-keystore", "tls/store", "-storepass", PASSWORD]);
    checked(&mut command)
}

/// What the program in Java finds under the alias.
fn read(world: &World, store_type: &str, alias: &str, key_password: &str) -> String {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("java/Keystore.java");
    let mut command = Command::new("java");
    command.current_dir(world.root.path()).arg(program).args([store_type, "tls/store", alias, "password", key_password]);
    checked(&mut command)
}

fn checked(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{command:?}: {stdout}{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// What the program prints of a chain.
fn chain(issued: &Issued) -> String {
    let all = std::iter::once(&issued.leaf_der).chain(&issued.chain_der);
    all.map(|certificate| format!("chain {}\n", fingerprint(certificate))).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a JDK: cargo xtask test --servers all"]
async fn new_stores_of_every_type_are_read_by_java_and_by_keytool() {
    let cases = [("", "PKCS12"), ("encryption = \"legacy\"", "PKCS12"), ("type = \"jks\"", "JKS")];
    for (more, store_type) in cases {
        let world = world(more);
        for _ in 0..2 {
            let issued = world.issue();
            let report = world.deploy(&entry(), &issued).await;
            assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
            assert_eq!(world.deploy(&entry(), &issued).await.outcome, Outcome::Unchanged);
            assert_eq!(read(&world, store_type, "WWW", "password"), chain(&issued) + "entry www key\n");
            let listed = keytool(&world, "-list -v");
            assert!(listed.contains(&format!("Keystore type: {store_type}")), "{listed}");
            assert!(listed.contains("Certificate chain length: 2"), "{listed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a JDK: cargo xtask test --servers all"]
async fn java_finds_what_keytool_had_put_there_and_keytool_can_go_on() {
    for (store_type, legacy) in [("jks", "false"), ("pkcs12", "false"), ("pkcs12", "true")] {
        let world = world("");
        let java = format!("-J-Dkeystore.pkcs12.legacy{}", if legacy == "true" { "=true" } else { "x=false" });
        let keytool = |arguments: &str| keytool(&world, &format!("{java} {arguments} -storetype {store_type}"));
        keytool("-genkeypair -alias other -keyalg EC -dname CN=other");
        keytool("-exportcert -alias other -file other.crt");
        keytool("-importcert -noprompt -alias ca -file other.crt");
        let mut others = "entry ca certificate\nentry other key\n".to_owned();
        if store_type == "pkcs12" {
            keytool("-genseckey -alias secret -keyalg AES -keysize 256");
            others += "entry secret secret\n";
        }
        let other = read(&world, store_type, "other", "password");

        let (old, new) = (world.issue(), world.issue());
        for issued in [&old, &new] {
            let report = world.deploy(&entry(), issued).await;
            assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
            let with_ours = format!("{others}entry www key\n");
            assert_eq!(read(&world, store_type, "www", "password"), chain(issued) + &with_ours);
            assert_eq!(read(&world, store_type, "other", "password"), other.clone() + "entry www key\n");
        }
        // An entry that somebody adds is no reason to write, and stays.
        keytool("-importcert -noprompt -alias late -file other.crt");
        assert_eq!(world.deploy(&entry(), &new).await.outcome, Outcome::Unchanged);
        world.deploy(&entry(), &old).await;
        assert!(read(&world, store_type, "www", "password").contains("entry late certificate\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a JDK: cargo xtask test --servers all"]
async fn a_key_password_of_its_own_is_what_java_needs_for_the_key() {
    for (store_type, setting) in [("PKCS12", ""), ("JKS", "type = \"jks\"\n")] {
        let world = world(&format!("{setting}key_password = \"file:ROOT/key-password\""));
        let issued = world.issue();
        let report = world.deploy(&entry(), &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(read(&world, store_type, "www", "key-password"), chain(&issued) + "entry www key\n");
        assert_eq!(world.deploy(&entry(), &issued).await.outcome, Outcome::Unchanged);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a JDK: cargo xtask test --servers all"]
async fn a_truststore_and_a_jceks_of_keytool_are_refused_as_they_are() {
    for (store_type, told) in [("jks", "truststore"), ("pkcs12", "truststore"), ("jceks", "JCEKS")] {
        let world = world("");
        let keytool = |arguments: &str| keytool(&world, &format!("{arguments} -storetype {store_type}"));
        keytool("-genkeypair -alias other -keyalg EC -dname CN=other");
        keytool("-exportcert -alias other -file other.crt");
        keytool("-delete -alias other");
        keytool("-importcert -noprompt -alias ca -file other.crt");
        let bytes = std::fs::read(world.path("tls/store")).unwrap();
        let report = world.deploy(&entry(), &world.issue()).await;
        assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
        assert!(report.error.as_ref().unwrap().full_message().contains(told), "{report:?}");
        assert_eq!(std::fs::read(world.path("tls/store")).unwrap(), bytes);
    }
}
