//! nginx on another machine, which is reached with `via = { ssh = ... }`: a real SSH server and a real nginx, both here.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use deploy_e2e::{World, quoted, until};
use deploy_testkit::{NginxConfig, Sshd};

/// A world and the way to it.
fn remote() -> (World, Sshd) {
    let world = World::new();
    let sshd = Sshd::start(&world.path("sshd")).unwrap_or_else(|error| panic!("{error}"));
    (world, sshd)
}

/// The settings of a machine as TOML.
fn via(sshd: &Sshd) -> String {
    let settings = sshd.settings();
    let fields = settings.as_object().unwrap().iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} = {}", quoted(text)),
        None => format!("{name} = {value}"),
    });
    format!("{{ ssh = {{ {} }} }}", fields.collect::<Vec<_>>().join(", "))
}

#[test]
fn nginx_is_deployed_to_over_ssh_and_every_command_works() {
    let (world, sshd) = remote();
    let old = world.renew();
    world.use_tls();
    let reload = world.counting_reload();
    world.configure(&[world.front().set("via", via(&sshd)).command("reload", &[reload])]);
    assert_eq!(world.run(&["check-config"]).code, 0);
    let plan = world.run(&["plan", "--json", "--detailed-exitcode"]);
    assert_eq!((plan.code, plan.only()["state"].as_str()), (10, Some("change")), "{plan:#?}");
    assert!(!world.fullchain().exists(), "a plan changes nothing");
    let run = world.deploy();
    run.expect(0, "changed");
    assert_eq!(run.only()["fingerprint"]["served"], old.fingerprint);
    world.assert_served(&old);
    world.deploy().expect(0, "unchanged");

    let new = world.renew();
    assert!(world.run(&["verify", "--json"]).code != 0, "the new one is not served yet");
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
    world.assert_on_disk(&new);
    assert_eq!(world.reloads(), 2);
    assert_eq!(world.run(&["verify", "--json"]).code, 0);
    let status = world.run(&["status", "--json"]);
    assert_eq!((status.code, status.only()["on_disk"].as_str()), (0, Some(new.fingerprint.as_str())), "{status:#?}");
    assert_eq!(world.run(&["doctor", "--json"]).code, 0);

    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    world.assert_served(&old);
    // What is known of the target is kept over there, and not here.
    assert!(world.path("sshd/state/targets/front.json").exists());
    assert!(!world.path("state/targets/front.json").exists());
}

#[test]
fn two_targets_of_one_machine_are_one_service_and_the_same_reload_here_is_another() {
    let (world, sshd) = remote();
    world.renew();
    // A directory has one owner: who deploys from here and who deploys over there are two.
    std::fs::create_dir(world.path("here")).unwrap();
    let pair = |name: &str| ["crt", "key"].map(|end| world.path(&format!("{name}.{end}")));
    let [one, two, here] = ["live/one", "live/two", "here/www"].map(pair);
    let count = world.path("reloads");
    let reload = world.script("reload", &format!("echo reload >>'{}'", count.display()));
    let target = |name: &str, [fullchain, key]: &[std::path::PathBuf; 2]| {
        world.target(name, fullchain, key).command("reload", &[&reload]).set("validate", "[]").set("verify", "[]")
    };
    let there = |name: &str, pair| target(name, pair).set("via", via(&sshd));
    world.configure(&[there("one", &one), target("here", &here), there("two", &two)]);
    let services = world.run(&["check-config", "--json"]);
    let services: Vec<_> =
        services.document()["targets"].as_array().unwrap().iter().map(|target| target["service"].clone()).collect();
    assert_eq!(services, [1, 2, 1]);
    let run = world.deploy();
    for name in ["one", "two", "here"] {
        assert_eq!(run.target(name)["outcome"], "changed", "{run:#?}");
    }
    assert_eq!(world.reloads(), 2);
}

#[test]
fn f28_a_run_that_was_killed_in_its_reload_is_settled_by_recover_over_ssh() {
    let (world, sshd) = remote();
    let old = world.renew();
    world.use_tls();
    world.configure(&[world.front().set("via", via(&sshd))]);
    world.deploy().expect(0, "changed");
    let new = world.renew();
    let (begun, go) = (world.path("begun"), world.path("go"));
    let text = format!("touch '{}'; until [ -e '{}' ]; do sleep 0.02; done", begun.display(), go.display());
    let slow = world.script("slow", &text);
    world.configure(&[world.front().set("via", via(&sshd)).command("reload", &[slow])]);
    let running = world.start(&["deploy", "--json"]);
    until("the reload has begun over there", || begun.exists());
    running.kill();
    std::fs::write(go, "").unwrap();
    world.assert_on_disk(&new);
    world.configure(&[world.front().set("via", via(&sshd))]);
    let recovered = world.run(&["recover", "--json"]);
    assert_eq!(recovered.code, 0, "{recovered:#?}");
    assert_eq!(std::fs::read_dir(world.path("sshd/state/journal")).unwrap().count(), 0);
    let served = world.served().unwrap();
    assert!(served == new.fingerprint || served == old.fingerprint);
    assert_eq!(world.deploy().code, 0);
    world.assert_served(&new);
}

#[test]
fn a6_a_machine_that_cannot_be_reached_keeps_no_other_target_from_its_certificate() {
    let (world, sshd) = remote();
    let issued = world.renew();
    world.use_tls();
    let gone = via(&sshd).replace(&sshd.address().port().to_string(), "1");
    let lost = world.target("lost", &world.path("live/lost.crt"), &world.path("live/lost.key")).set("via", gone);
    world.configure(&[lost, world.front()]);
    let run = world.deploy();
    assert_eq!(run.code, 3, "{run:#?}");
    let error = &run.target("lost")["error"];
    assert_eq!(
        (run.target("lost")["outcome"].as_str(), error["kind"].as_str()),
        (Some("rejected"), Some("unavailable")),
        "{run:#?}"
    );
    assert!(error["message"].as_str().unwrap().contains("cannot be reached"), "{error}");
    assert_eq!(run.target("front")["outcome"], "changed");
    world.assert_served(&issued);
}

#[test]
fn the_configuration_of_the_page_works_as_it_stands_there() {
    let (world, sshd) = remote();
    let issued = world.issue(&deploy_testkit::Request::new(&["www.example.com"]));
    world.put("www", &issued);
    world.nginx.set_config(&NginxConfig::tls("www.example.com", &world.fullchain(), &world.key()));
    let page = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ssh.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let mut text = rest.split("```").next().unwrap().to_owned();
    let place = world.path("").display().to_string();
    let machine = "host = \"web1.example.com\", user = \"root\", identity = \"/etc/certdeploy/id_ed25519\"";
    let here = via(&sshd);
    let here = here.trim_start_matches("{ ssh = { ").trim_end_matches(" } }");
    // The addresses and directories of the test, and its nginx in place of the machine's.
    let commands = world.front().to_toml();
    let commands = commands.lines().filter(|line| line.starts_with("validate") || line.starts_with("reload"));
    let kind = format!("kind        = \"nginx\"\n{}", commands.collect::<Vec<_>>().join("\n"));
    for (from, to) in [
        (machine, here),
        ("/etc/letsencrypt/live/www.example.com", &format!("{place}source/www")),
        ("/etc/nginx/tls", &format!("{place}live")),
        ("web1.example.com:443", &world.nginx.address().to_string()),
        ("kind        = \"nginx\"", &kind),
    ] {
        assert!(text.contains(from), "{from} is not on the page");
        text = text.replace(from, to);
    }
    world.configure_text(&text);
    let run = world.deploy();
    run.expect(0, "changed");
    assert_eq!(run.only()["fingerprint"]["served"], issued.fingerprint, "{run:#?}");
}
