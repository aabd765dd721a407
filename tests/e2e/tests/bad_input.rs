//! Bad input: a clear error, exit 2 or 3, nothing changed, and the old certificate goes on being served.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and say which case they are at"
)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use deploy_e2e::{NAME, Run, Tree, World, assert_same, system};
use deploy_testkit::nginx::free_port;
use deploy_testkit::{Issued, KeyKind, Request};

/// A wrong configuration, what the error has to say, and how to come by it.
type ConfigurationCase = (&'static str, &'static [&'static str], fn(&World) -> String);

/// Bad material, what the error has to say, and how to come by it.
type MaterialCase = (&'static str, &'static [&'static str], fn(&World));

fn append(world: &World, lines: &str) -> String {
    format!("{}\n{lines}\n", world.configuration())
}

fn replace(world: &World, from: &str, to: &str) -> String {
    let text = world.configuration();
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

/// A second target with other files, of which some stand in the lines that are given.
fn second_target(fullchain: &str, key: &str) -> String {
    format!(
        "[[target]]\nname = \"back\"\nkind = \"nginx\"\ncertificate = \"www\"\nfullchain = \"{fullchain}\"\nkey = \"{key}\"\nverify = []\n"
    )
}

const CONFIGURATIONS: &[ConfigurationCase] = &[
    ("unknown field of a target", &[":", "unknown field `fullchian`", "`fullchain`"], |world| {
        replace(world, "\nfullchain = ", "\nfullchian = ")
    }),
    ("unknown field of a certificate", &["unknown field `kye`", "`key`"], |world| {
        replace(world, "[[certificate]]\n", "[[certificate]]\nkye = \"/x\"\n")
    }),
    ("unknown table", &["unknown field `targets`", "`target`"], |world| append(world, "[[targets]]\nname = \"x\"")),
    ("unknown kind", &["there is no kind `ngnix`", "`nginx`"], |world| replace(world, "kind = \"nginx\"", "kind = \"ngnix\"")),
    ("unknown certificate", &["there is no certificate `wwww`", "`www`"], |world| {
        replace(world, "certificate = \"www\"", "certificate = \"wwww\"")
    }),
    ("masked value", &["`********` is a placeholder"], |world| {
        append(world, "").replace("\nkind =", "\ngroup = \"********\"\nkind =")
    }),
    ("placeholder in a path", &["placeholder"], |world| replace(world, "/source/www/", "/source/<domain>/")),
    ("relative path of a target", &["`www.crt` is not an absolute path"], |world| {
        let path = world.fullchain().display().to_string();
        replace(world, &path, "www.crt")
    }),
    ("relative path of a certificate", &["not an absolute path"], |world| {
        let path = world.source_key().display().to_string();
        replace(world, &path, "../privkey.pem")
    }),
    ("broken TOML", &[], |world| append(world, "[[target")),
    ("two targets of one name", &["another target has this name"], |world| {
        append(world, &second_target("/x/crt", "/x/key").replace("back", "front"))
    }),
    ("key open to all", &["key_mode", "0644"], |world| replace(world, "\nkind =", "\nkey_mode = \"0644\"\nkind =")),
    ("duration without a unit", &["timeout"], |world| replace(world, "\nkind =", "\ntimeout = \"5\"\nkind =")),
    ("chain and key in one file", &["the same file as `fullchain`"], |world| {
        let (fullchain, key) = (world.fullchain().display().to_string(), world.key().display().to_string());
        replace(world, &key, &fullchain)
    }),
    ("two targets write one file", &["`front`", "`back`", "write one file"], |world| {
        let (key, other) = (world.path("live/b.key"), world.fullchain());
        append(world, &second_target(other.to_str().unwrap(), key.to_str().unwrap()))
    }),
    ("two targets write one file, by a symbolic link", &["`front`", "`back`", "write one file"], |world| {
        append(world, &second_target(&aside(world, "link.crt"), &aside(world, "b.key")))
    }),
    ("two targets write one file, by a directory's symbolic link", &["`front`", "`back`", "write one file"], |world| {
        append(world, &second_target(&aside(world, "directory/www.crt"), &aside(world, "b.key")))
    }),
    ("two targets write one file, by a hard link", &["`front`", "`back`", "write one file"], |world| {
        append(world, &second_target(&aside(world, "hard.crt"), &aside(world, "b.key")))
    }),
];

fn aside(world: &World, name: &str) -> String {
    world.path("aside").join(name).to_str().unwrap().to_owned()
}

#[test]
fn a7_wrong_configurations_are_refused_with_2_and_nothing_is_looked_at() {
    let (world, old) = World::serving();
    world.renew();
    std::fs::create_dir(world.path("aside")).unwrap();
    std::os::unix::fs::symlink(world.fullchain(), aside(&world, "link.crt")).unwrap();
    std::os::unix::fs::symlink(world.path("live"), aside(&world, "directory")).unwrap();
    std::fs::hard_link(world.fullchain(), aside(&world, "hard.crt")).unwrap();
    let right = world.configuration();
    let (live, state) = (Tree::untouched(&world.path("live")), Tree::untouched(&world.program.state));
    for (name, words, wrong) in CONFIGURATIONS {
        world.configure_text(&wrong(&world));
        for command in ["deploy", "plan", "verify", "status"] {
            println!("{name}: {command}");
            let run = world.run(&[command, "--json"]);
            run.refused("configuration_invalid", words);
            assert!(!run.stderr.is_empty(), "a person is told, too");
        }
        println!("{name}: check-config");
        assert_eq!(world.run(&["check-config"]).code, 2);
        world.configure_text(&right);
    }
    assert_same(&live, &Tree::untouched(&world.path("live")));
    assert_same(&state, &Tree::untouched(&world.program.state));
    assert_eq!(world.served().as_ref(), Ok(&old.fingerprint));
}

#[test]
fn an_unknown_field_is_named_with_line_column_and_the_nearest_name() {
    let (world, _) = World::serving();
    let line = world.configuration().lines().position(|line| line.starts_with("verify")).unwrap() + 1;
    world.configure_text(&replace(&world, "\nverify = ", "\nverfy = "));
    let file = world.program.config.display();
    world.deploy().refused("configuration_invalid", &[&format!("{file}:{line}:1:"), "`verfy`", "`verify`"]);
}

#[test]
fn a_missing_configuration_is_refused() {
    let world = World::new();
    world.deploy().refused("configuration_invalid", &["there is no such file"]);
    assert!(!world.program.state.exists(), "nothing was created");
}

const MATERIAL: &[MaterialCase] = &[
    ("missing chain", &["fullchain.pem"], |world| std::fs::remove_file(world.source_fullchain()).unwrap()),
    ("missing key", &["privkey.pem"], |world| std::fs::remove_file(world.source_key()).unwrap()),
    ("empty chain", &["empty"], |world| std::fs::write(world.source_fullchain(), "").unwrap()),
    ("empty key", &["empty"], |world| std::fs::write(world.source_key(), "").unwrap()),
    ("no PEM at all", &[], |world| std::fs::write(world.source_fullchain(), "not a certificate\n").unwrap()),
    ("garbage between the blocks", &["outside of a PEM block"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        put(world, &format!("{}-- garbage --\n{}", issued.leaf_pem, issued.chain_pem), &issued.key_pem);
    }),
    ("truncated", &["does not end"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        put(world, &issued.fullchain_pem[..issued.fullchain_pem.len() - 60], &issued.key_pem);
    }),
    ("encrypted key", &["encrypted"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        put(world, &issued.fullchain_pem, &issued.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"));
    }),
    ("key of a type that can't be loaded", &["cannot load", "Ed448"], |world| put(world, ED448_CERTIFICATE, ED448)),
    ("such a key for another certificate", &["Ed448"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        put(world, &issued.fullchain_pem, ED448);
    }),
    ("leaf not first", &["leaf must come first"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        put(world, &format!("{}{}", issued.chain_pem, issued.leaf_pem), &issued.key_pem);
    }),
    ("key of another certificate", &["private key", "not the one"], |world| {
        let (one, other) = (world.issue(&Request::new(&[NAME])), world.issue(&Request::new(&[NAME])));
        put_issued(world, &one.with_key_of(&other));
    }),
    ("EC certificate with an RSA key", &["RSA"], |world| {
        let (one, other) = (world.issue(&Request::new(&[NAME])), world.issue_with(KeyKind::Rsa2048));
        put_issued(world, &one.with_key_of(&other));
    }),
    ("RSA certificate with an EC key", &["RSA"], |world| {
        let (one, other) = (world.issue_with(KeyKind::Rsa2048), world.issue(&Request::new(&[NAME])));
        put_issued(world, &one.with_key_of(&other));
    }),
    ("broken chain", &["made by"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        // Another authority with the same names: only the signature gives it away.
        let foreign = deploy_testkit::Authority::new().intermediate_pem();
        put(world, &format!("{}{foreign}", issued.leaf_pem), &issued.key_pem);
    }),
    ("expired", &["expired"], |world| put_issued(world, &world.issue(&Request::new(&[NAME]).days_from_now(-90, -1)))),
    ("not yet valid", &["not valid before"], |world| {
        put_issued(world, &world.issue(&Request::new(&[NAME]).days_from_now(1, 90)));
    }),
    ("issued earlier and ends earlier", &["lasts longer"], |world| {
        put_issued(world, &world.issue(&Request::new(&[NAME]).days_from_now(-30, 30)));
    }),
    ("loses a name", &["does not", NAME], |world| put_issued(world, &world.issue(&Request::new(&["other.example.test"])))),
    ("private key in the chain file", &["a private key"], |world| {
        let issued = world.issue(&Request::new(&[NAME]));
        put(world, &format!("{}{}", issued.fullchain_pem, issued.key_pem), &issued.key_pem);
    }),
];

/// A certificate with a key that OpenSSL knows and the engine's crypto provider does not, valid from 2020 to 2120: made with
/// `openssl req -new -newkey ed448 -nodes` and `openssl ca -selfsign`. The key protects nothing.
const ED448_CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBfTCB/qADAgECAgEBMAUGAytlcTAbMRkwFwYDVQQDDBB3d3cuZXhhbXBsZS50\n\
    ZXN0MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAbMRkwFwYDVQQD\n\
    DBB3d3cuZXhhbXBsZS50ZXN0MEMwBQYDK2VxAzoABYi2TZK9MmGKybHMFh5FPCdS\n\
    Xj6VcgHXuIUcwrWae7JyRsyiHhzgMEbOFdb9rU+m49z+BdA/IyqAo0wwSjAbBgNV\n\
    HREEFDASghB3d3cuZXhhbXBsZS50ZXN0MAwGA1UdEwEB/wQCMAAwHQYDVR0OBBYE\n\
    FAi5gusxOBPAwtLmZQg4XnAljJ1FMAUGAytlcQNzAG01yj19nvAfNrL6alRqFwuu\n\
    eNEu7hJvkm4ZbcYDzq4Qy5+MeAcf1FXIaQE12FutbiIVefYCooBtAEGU8Yok63Fu\n\
    V1h4PfZlgoLf/qBge+SvJXt+tDXDMaARSmtuooaO/7uBBxwJMQTo6/3RngxrQc8R\n\
    AA==\n\
    -----END CERTIFICATE-----\n";
const ED448: &str = "-----BEGIN PRIVATE KEY-----\n\
    MEcCAQAwBQYDK2VxBDsEOUyPLnWFMsHw+ZkbAqEm8g7QUQL3Sj/1GRmzxnjj/+Mb\n\
    WyBvGci6lWaWKaI9uygERgLWDxyzBOB42Q==\n\
    -----END PRIVATE KEY-----\n";

fn put(world: &World, fullchain: &str, key: &str) {
    std::fs::write(world.source_fullchain(), fullchain).unwrap();
    std::fs::write(world.source_key(), key).unwrap();
}

fn put_issued(world: &World, issued: &Issued) {
    put(world, &issued.fullchain_pem, &issued.key_pem);
}

#[test]
fn m2_bad_material_is_rejected_with_3_before_anything_is_written() {
    let (world, old) = World::serving();
    let live = Tree::untouched(&world.path("live"));
    for (name, words, spoil) in MATERIAL {
        println!("{name}");
        spoil(&world);
        let run = world.deploy();
        run.expect(3, "rejected").because("material_rejected", words);
        assert_eq!(run.only()["live"], "unchanged");
        assert_same(&live, &Tree::untouched(&world.path("live")));
        world.put("www", &old);
    }
    world.assert_nothing_left();
    assert_eq!(world.served().as_ref(), Ok(&old.fingerprint));
    world.deploy().expect(0, "unchanged");
}

#[test]
fn m4_force_overrides_the_regress_guard() {
    let (world, _) = World::serving();
    let earlier = world.issue(&Request::new(&[NAME]).days_from_now(-30, 30));
    world.put("www", &earlier);
    world.deploy().expect(3, "rejected");
    world.run(&["deploy", "--json", "--force"]).expect(0, "changed");
    world.assert_served(&earlier);
}

#[test]
fn a_key_that_may_not_be_read_is_rejected() {
    system::needs_root("it runs the program as another user, from whom the key is kept");
    let (world, user) = World::of_user();
    let old = world.serve_as_user();
    world.renew();
    std::os::unix::fs::chown(world.source_key(), Some(0), Some(0)).unwrap();
    let before = world.live();
    let run = world.deploy();
    run.expect(3, "rejected").because("material_rejected", &["privkey.pem", "ermission denied"]);
    assert_same(&before, &world.live());
    std::os::unix::fs::chown(world.source_key(), Some(user), Some(user)).unwrap();
    assert_eq!(world.served(), Ok(old.fingerprint));
}

#[test]
fn f19_destinations_that_are_no_files_are_rejected() {
    system::needs_root("it makes a device");
    let (world, old) = World::serving();
    world.renew();
    let at = |name: &str| world.path("live").join(name);
    std::fs::create_dir(at("directory")).unwrap();
    system::tool("coreutils", &["mkfifo", at("fifo").to_str().unwrap()]);
    system::tool("coreutils", &["mknod", at("device").to_str().unwrap(), "c", "1", "3"]);
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    let before = world.live();
    for (name, words) in [("directory", "is a directory"), ("fifo", "named pipe"), ("device", "device"), ("socket", "socket")] {
        world.configure(&[world.front().path("key", &at(name))]);
        world.deploy().expect(3, "rejected").because("plan_invalid", &[words, name]);
        world.configure(&[world.front().path("fullchain", &at(name))]);
        world.deploy().expect(3, "rejected").because("plan_invalid", &[words, name]);
    }
    assert_same(&before, &world.live());
    world.assert_nothing_left();
    assert_eq!(world.served(), Ok(old.fingerprint));
}

/// Rejects a renewal to other places than the live ones; nothing below `directory` changes, and the old one is served.
#[track_caller]
fn rejected(world: &World, old: &Issued, kind: &str, words: &[&str]) -> Run {
    let before = Tree::of(&world.path(""));
    let run = world.deploy();
    run.expect(3, "rejected").because(kind, words);
    assert_eq!(run.only()["live"], "unchanged");
    let ours = |tree: Tree| tree.without(&world.program.state).without(&world.path("nginx"));
    assert_same(&ours(before), &ours(Tree::of(&world.path(""))));
    world.assert_nothing_left();
    assert_eq!(world.served().as_ref(), Ok(&old.fingerprint));
    run
}

#[test]
fn two_names_of_one_file_in_one_target_are_rejected() {
    let (world, old) = World::serving();
    world.renew();
    let link = world.path("live/link.key");
    std::os::unix::fs::symlink(world.fullchain(), &link).unwrap();
    world.configure(&[world.front().path("key", &link)]);
    rejected(&world, &old, "plan_invalid", &["two names of one file"]);
    std::fs::remove_file(&link).unwrap();
    std::fs::hard_link(world.fullchain(), &link).unwrap();
    rejected(&world, &old, "plan_invalid", &["hard links"]);
}

#[test]
fn a_missing_parent_directory_is_rejected() {
    let (world, old) = World::serving();
    world.renew();
    world.configure(&[world.front().path("key", &world.path("live/missing/www.key"))]);
    rejected(&world, &old, "plan_invalid", &["live/missing", "does not exist"]);
}

#[test]
fn a_parent_that_is_a_file_is_rejected() {
    let (world, old) = World::serving();
    world.renew();
    world.configure(&[world.front().path("key", &world.fullchain().join("www.key"))]);
    rejected(&world, &old, "plan_invalid", &["www.crt"]);
}

#[test]
fn a_parent_that_others_can_write_is_rejected_unless_it_is_allowed() {
    let (world, old) = World::serving();
    let new = world.renew();
    std::fs::set_permissions(world.path("live"), Permissions::from_mode(0o777)).unwrap();
    let run = rejected(&world, &old, "plan_invalid", &["no safe place for a key", "written to by everybody"]);
    assert!(run.only()["error"]["next_step"].as_str().unwrap().contains("allow_unsafe_parent"));
    world.configure(&[world.front().set("allow_unsafe_parent", "true")]);
    let run = world.deploy();
    run.expect(0, "changed");
    assert_ne!(run.only()["warnings"].as_array().map(Vec::len), Some(0), "it is said all the same");
    world.assert_served(&new);
}

#[test]
fn a_parent_that_we_may_not_write_is_rejected() {
    system::needs_root("it runs the program as another user, from whom the directory is kept");
    let (world, _) = World::of_user();
    let old = world.serve_as_user();
    world.renew();
    let other = world.path("live/other");
    std::fs::create_dir(&other).unwrap();
    world.configure(&[world.front().path("key", &other.join("www.key"))]);
    rejected(&world, &old, "stage_failed", &["live/other", "ermission denied"]);
}

#[test]
fn a_validator_that_is_not_there_is_rejected() {
    let (world, old) = World::serving();
    world.renew();
    world.configure(&[world.front().command("validate", &["no-such-program-here", "-t"])]);
    rejected(&world, &old, "plan_invalid", &["no-such-program-here", "not found"]);
}

#[test]
fn a_verify_address_that_refuses_is_rejected_for_a_renewal() {
    let (world, old) = World::serving();
    world.renew();
    let nobody = format!("[{{ connect = \"127.0.0.1:{}\", server_name = \"{NAME}\" }}]", free_port());
    world.configure(&[world.front().set("verify", nobody).text("verify_timeout", "1s")]);
    let run = world.deploy();
    run.expect(3, "rejected");
    assert!(run.only()["error"]["message"].as_str().unwrap().contains("127.0.0.1"), "{run:#?}");
    world.assert_on_disk(&old);
    world.assert_nothing_left();
    assert_eq!(world.served(), Ok(old.fingerprint));
}

#[test]
fn an_unknown_owner_is_rejected() {
    let (world, old) = World::serving();
    world.renew();
    world.configure(&[world.front().text("owner", "nobody-of-this-name")]);
    rejected(&world, &old, "plan_invalid", &["there is no user `nobody-of-this-name`"]);
}

#[test]
fn wrong_command_lines_are_refused() {
    let (world, _) = World::serving();
    for arguments in [
        &["deploy", "--json", "--target", "frnt"][..],
        &["deploy", "--json", "--certificate", "nobody"],
        &["deploy", "--json", "--timeout", "5"],
        &["deploy", "--json", "--no-such-flag"],
        &["rollback", "--json", "no-such-target"],
        &["deplyo", "--json"],
    ] {
        println!("{arguments:?}");
        let run = world.run(arguments);
        run.refused("usage", &[]);
    }
    world.run(&["deploy", "--json", "--target", "frnt"]).refused("usage", &["`frnt`", "`front`"]);
}

#[test]
fn a_state_directory_of_somebody_else_is_rejected() {
    system::needs_root("it gives a directory away");
    let (mut world, old) = World::serving();
    world.renew();
    let state: PathBuf = world.path("other-state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(1234), None).unwrap();
    world.program.state = state;
    let before = world.live();
    world.deploy().expect(3, "rejected").because("state_invalid", &["must belong to user 0"]);
    assert_same(&before, &world.live());
    assert_eq!(world.served(), Ok(old.fingerprint));
}

#[test]
fn another_state_directory_is_refused_beside_the_files_of_the_first() {
    let (mut world, old) = World::serving();
    world.renew();
    let second = world.path("second-state");
    let first = std::mem::replace(&mut world.program.state, second);
    world.deploy().expect(3, "rejected").because("conflict", &[first.to_str().unwrap()]);
    world.assert_on_disk(&old);
    assert_eq!(world.served(), Ok(old.fingerprint));
}
