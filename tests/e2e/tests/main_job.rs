//! The main job: a certificate goes live, and is seen there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use deploy_e2e::{NAME, World, assert_same};
use deploy_testkit::{KeyKind, NginxConfig, observe};

#[test]
fn first_deployment_works_before_the_files_of_the_configuration_exist() {
    let world = World::new();
    let issued = world.renew();
    world.use_tls();
    assert!(world.served().is_err(), "nothing is served over TLS yet");
    world.configure(&[world.front()]);
    let run = world.deploy();
    run.expect(0, "changed");
    let report = run.only();
    assert_eq!(report["live"], "applied");
    assert_eq!(report["fingerprint"]["wanted"], issued.fingerprint);
    assert_eq!(report["fingerprint"]["served"], issued.fingerprint);
    assert_eq!(report["changed_files"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["degraded"].as_array().map(Vec::len), Some(0), "{run:#?}");
    assert_eq!(report["validated"], "V6");
    world.assert_served(&issued);
    world.assert_on_disk(&issued);
    world.assert_nothing_left();
    let mode = |path: &std::path::Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(&world.fullchain()), mode(&world.key())), (0o644, 0o600));
}

#[test]
fn renewal_goes_live_and_a_second_run_is_unchanged() {
    let (world, old) = World::serving_as(|target| target);
    let new = world.renew();
    world.assert_served(&old);
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
    world.assert_on_disk(&new);
    world.assert_nothing_left();

    world.configure(&[world.front().command("reload", &["false"]).command("validate", &["false"])]);
    let before = deploy_e2e::Tree::untouched(&world.path("live"));
    let state = deploy_e2e::Tree::untouched(&world.path("state/targets"));
    world.deploy().expect(0, "unchanged");
    assert_same(&before, &deploy_e2e::Tree::untouched(&world.path("live")));
    assert_same(&state, &deploy_e2e::Tree::untouched(&world.path("state/targets")));
    world.assert_served(&new);
}

#[test]
fn a3_detailed_exit_code_tells_a_change_from_none() {
    let world = World::new();
    world.renew();
    world.use_tls();
    world.configure(&[world.front()]);
    world.run(&["deploy", "--json", "--detailed-exitcode"]).expect(10, "changed");
    world.run(&["deploy", "--json", "--detailed-exitcode"]).expect(0, "unchanged");
}

#[test]
fn rsa_certificate_goes_live_and_is_renewed() {
    let (world, _) = World::serving();
    for _ in 0..2 {
        let issued = world.issue_with(KeyKind::Rsa2048);
        world.put("www", &issued);
        world.deploy().expect(0, "changed");
        world.assert_served(&issued);
    }
}

#[test]
fn rsa_and_ecdsa_side_by_side_are_one_deployment_with_one_reload() {
    let world = World::new();
    let (ecdsa, rsa) = (world.renew(), world.issue_with(KeyKind::Rsa2048));
    world.put("www-rsa", &rsa);
    let (rsa_fullchain, rsa_key) = (world.path("live/rsa.crt"), world.path("live/rsa.key"));
    let second = format!("ssl_certificate {};\n    ssl_certificate_key {};", rsa_fullchain.display(), rsa_key.display());
    world.nginx.set_config(&NginxConfig::tls(NAME, &world.fullchain(), &world.key()).line(&second));
    let reload = [world.counting_reload()];
    let verify = |kind: &str| format!("[{}]", world.endpoint(&format!(", key_type = \"{kind}\"")));
    let front = world.front().command("reload", &reload).set("verify", verify("ecdsa"));
    let back = world
        .target("back", &rsa_fullchain, &rsa_key)
        .text("certificate", "www-rsa")
        .command("reload", &reload)
        .set("verify", verify("rsa"));
    world.configure(&[front, back]);
    let run = world.deploy();
    assert_eq!(run.code, 0, "{run:#?}");
    for (target, issued) in [("front", &ecdsa), ("back", &rsa)] {
        assert_eq!(run.target(target)["outcome"], "changed", "{run:#?}");
        assert_eq!(run.target(target)["fingerprint"]["served"], issued.fingerprint);
    }
    assert_eq!(world.reloads(), 1, "one reload for both");

    let new = world.issue_with(KeyKind::Rsa2048);
    world.put("www-rsa", &new);
    let run = world.deploy();
    assert_eq!((run.code, world.reloads()), (0, 2), "{run:#?}");
    assert_eq!(run.target("front")["outcome"], "unchanged");
    assert_eq!(run.target("back")["outcome"], "changed");
    world.assert_on_disk(&ecdsa);
    assert_eq!(std::fs::read_to_string(&rsa_fullchain).unwrap(), new.fullchain_pem);
}

#[test]
fn trusted_chain_is_a_third_file() {
    let world = World::new();
    let issued = world.renew();
    let chain = world.path("live/www.chain.crt");
    let line = format!("ssl_trusted_certificate {};", chain.display());
    world.nginx.set_config(&NginxConfig::tls(NAME, &world.fullchain(), &world.key()).line(&line));
    world.configure(&[world.front().path("trusted_chain", &chain)]);
    let run = world.deploy();
    run.expect(0, "changed");
    assert_eq!(run.only()["changed_files"].as_array().map(Vec::len), Some(3));
    assert_eq!(std::fs::read_to_string(&chain).unwrap(), issued.chain_pem);
    world.assert_served(&issued);
}

#[test]
fn f25_only_the_file_that_differs_is_written() {
    let (world, issued) = World::serving();
    std::fs::write(world.fullchain(), "somebody's slip\n").unwrap();
    let key = world.key().metadata().unwrap();
    let run = world.deploy();
    run.expect(0, "changed");
    assert_eq!(run.only()["changed_files"].as_array().map(Vec::len), Some(1));
    world.assert_on_disk(&issued);
    assert_eq!(world.key().metadata().unwrap().ino(), key.ino());
}

#[test]
fn f34_drift_of_the_mode_is_repaired_without_a_reload() {
    let (world, issued) = World::serving_as(|target| target.text("key_mode", "0640").text("mode", "0644"));
    world.configure(&[world.front().text("key_mode", "0640").text("mode", "0644").command("reload", &["false"])]);
    std::fs::set_permissions(world.key(), Permissions::from_mode(0o604)).unwrap();
    let run = world.run(&["deploy", "--json", "--detailed-exitcode"]);
    run.expect(10, "repaired");
    assert_eq!(world.key().metadata().unwrap().mode() & 0o7777, 0o640);
    world.assert_on_disk(&issued);
    world.assert_served(&issued);
    world.assert_nothing_left();
}

#[test]
fn f6_existing_owner_group_and_mode_are_kept() {
    deploy_e2e::system::needs_root("it gives files away");
    let (world, _) = World::serving();
    std::os::unix::fs::chown(world.key(), Some(1234), Some(1235)).unwrap();
    std::fs::set_permissions(world.key(), Permissions::from_mode(0o440)).unwrap();
    let new = world.renew();
    world.deploy().expect(0, "changed");
    let metadata = world.key().metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1234, 1235, 0o440));
    world.assert_on_disk(&new);
    assert_eq!(world.fullchain().metadata().unwrap().uid(), 0);
}

#[test]
fn f7_a_group_alone_is_an_override() {
    deploy_e2e::system::needs_root("it gives files away");
    let (world, _) = World::serving_as(|target| target.text("group", "1235"));
    std::os::unix::fs::chown(world.key(), Some(1234), None).unwrap();
    world.renew();
    world.deploy().expect(0, "changed");
    let metadata = world.key().metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 1235));
}

#[test]
fn f5_force_runs_the_reload_once_although_nothing_differs() {
    let (world, issued) = World::serving();
    world.configure(&[world.front().command("reload", &[world.counting_reload()])]);
    world.deploy().expect(0, "unchanged");
    assert_eq!(world.reloads(), 0);
    let run = world.run(&["deploy", "--json", "--force"]);
    assert_eq!((run.code, world.reloads()), (0, 1), "{run:#?}");
    world.assert_served(&issued);
}

#[test]
fn m6_clients_get_the_whole_chain_in_order_without_the_root() {
    let world = World::new();
    let mut issued = world.renew();
    issued.fullchain_pem.push_str(&world.authority.root_pem());
    world.put("www", &issued);
    world.use_tls();
    world.configure(&[world.front()]);
    world.deploy().expect(0, "changed");
    world.settle();
    let chain = observe::served_chain(world.nginx.address(), Some(NAME)).unwrap();
    let wanted: Vec<Vec<u8>> = std::iter::once(issued.leaf_der.clone()).chain(issued.chain_der.clone()).collect();
    assert!(chain == wanted, "{} certificates are served", chain.len());
}

#[test]
fn m3_windows_line_ends_and_comments_are_normalised() {
    let world = World::new();
    let issued = world.renew();
    let text = issued.fullchain_pem.replace('\n', "\r\n");
    std::fs::write(world.source_fullchain(), format!("# from the vendor\r\n{}", text.trim_end())).unwrap();
    world.use_tls();
    world.configure(&[world.front()]);
    let run = world.deploy();
    run.expect(0, "changed");
    world.assert_on_disk(&issued);
    world.assert_served(&issued);
}

#[test]
fn m5_ed25519_key_is_written_in_the_form_that_openssl_reads() {
    let world = World::new();
    let issued = world.issue_with(KeyKind::Ed25519);
    world.put("www", &issued);
    world.use_tls();
    world.configure(&[world.front()]);
    world.deploy().expect(0, "changed");
    world.assert_served(&issued);
    assert!(std::fs::read_to_string(world.key()).unwrap() == issued.ed25519_key_pem_version_1());
}

#[test]
fn a4_without_an_endpoint_it_is_unverified_once_and_waived_when_that_is_said() {
    let world = World::new();
    let issued = world.renew();
    world.use_tls();
    world.configure(&[world.front().without("verify")]);
    world.deploy().expect(6, "unverified");
    world.assert_served(&issued);
    world.deploy().expect(0, "unchanged");
    let new = world.renew();
    world.configure(&[world.front().set("verify", "[]")]);
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
}

#[test]
fn a8_every_outcome_is_one_line_of_history() {
    let (world, _) = World::serving();
    world.renew();
    world.deploy().expect(0, "changed");
    std::fs::write(world.source_key(), "").unwrap();
    world.deploy().expect(3, "rejected");
    let outcomes: Vec<String> =
        world.history().iter().map(|line| line["outcome"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(outcomes, ["changed", "changed", "rejected"]);
}
