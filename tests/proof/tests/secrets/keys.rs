//! Keys, through every command and every failure.

use std::io::Read as _;
use std::process::Stdio;

use deploy_e2e::system::{Mount, needs_root};
use deploy_e2e::{array, quoted, until};
use deploy_proof::{Form, NAME, Site};
use deploy_testkit::Canary;
use deploy_testkit::{Authority, Issued, KeyKind, Request};
use rustix::process::Signal;

use super::{Search, kill, write};

/// What a command may print that has been told to show the key.
const FORMS: [&str; 5] = [
    "cat KEY",
    "base64 -w0 KEY",
    "tail -n +2 KEY | base64 -d | base64",
    "od -An -v -tx1 KEY | tr -d ' \\n'",
    "openssl pkey -in KEY -text",
];

fn kinds() -> &'static [KeyKind] {
    Form::asked().pick(&[KeyKind::EcP256], &[KeyKind::EcP256, KeyKind::EcP384, KeyKind::Ed25519, KeyKind::Rsa2048])
}

/// A site that serves a first certificate, and a second one in its source; both keys are searched for.
fn search(proof: &str, kind: KeyKind) -> (Search, [Issued; 2]) {
    let site = Site::new();
    let issued = [(); 2].map(|()| Authority::new().issue(&Request::new(&[NAME]).key(kind)));
    site.put(&issued[0]);
    site.deploy().expect(0, "changed");
    site.put(&issued[1]);
    let canary = Canary::new(&issued[0]).and(&issued[1]);
    (Search::new(&format!("{proof}/{kind:?}"), site, canary), issued)
}

#[test]
fn s1_no_command_shows_a_key() {
    for &kind in kinds() {
        let (mut search, _) = search("secrets/commands", kind);
        for (code, arguments) in [
            (0, &["plan"][..]),
            (0, &["plan", "--json"]),
            (3, &["verify"]),
            (3, &["verify", "--json"]),
            (0, &["doctor"]),
            (0, &["doctor", "--json"]),
            (0, &["deploy", "--json"]),
            (0, &["deploy", "--force"]),
            (0, &["deploy"]),
            (0, &["status"]),
            (0, &["status", "--json"]),
            (0, &["rollback", "front"]),
            (0, &["deploy", "--json"]),
            (0, &["rollback", "front", "--json"]),
            (0, &["recover"]),
            (0, &["recover", "--json", "--files-only"]),
            (0, &["check-config"]),
            (0, &["check-config", "--json"]),
            (0, &["connectors", "list"]),
            (0, &["connectors", "list", "--json"]),
            (0, &["connectors", "schema", "nginx"]),
        ] {
            search.run(&arguments.join(" "), code, arguments);
        }
        terminal(&mut search);
        search.tally.finish();
    }
}

/// A terminal sees every stage of every target: there is no more to be had.
fn terminal(search: &mut Search) {
    let pair = nix::pty::openpty(None, None).unwrap();
    let slave = || Stdio::from(pair.slave.try_clone().unwrap());
    let mut command = search.site.program.command(&["deploy", "--force"]);
    let mut child = command.env("TERM", "xterm").stdout(slave()).stderr(slave()).spawn().unwrap();
    drop(command);
    let mut screen = Vec::new();
    let reader = std::thread::spawn({
        let mut master = std::fs::File::from(pair.master);
        move || {
            // A terminal whose last user went away ends with an error.
            let _error = master.read_to_end(&mut screen);
            screen
        }
    });
    assert!(child.wait().unwrap().success());
    drop(pair.slave);
    let screen = reader.join().unwrap();
    assert!(String::from_utf8_lossy(&screen).contains("front: verify"), "{}", String::from_utf8_lossy(&screen));
    search.tally.add("runs searched", 1);
    let what = search.canary.found_in(&screen).map(|what| format!("{what} is on the terminal"));
    search.found("terminal", what.into_iter().collect());
}

#[test]
fn s1_no_refused_material_and_no_wrong_configuration_shows_a_key() {
    for &kind in kinds() {
        let (mut search, [old, new]) = search("secrets/refused", kind);
        let both = |search: &mut Search, name: &str, code: i32| {
            search.run(name, code, &["deploy", "--json"]);
            search.run(name, code, &["deploy"]);
            search.run(name, code, &["plan", "--json"]);
        };
        let source = |name: &str| search.site.path("source").join(name);
        let (fullchain, key) = (source("fullchain.pem"), source("privkey.pem"));
        for (name, certificate, key_text) in [
            ("the key as certificate", new.key_pem.clone(), new.key_pem.clone()),
            ("files changed places", new.key_pem.clone(), new.fullchain_pem.clone()),
            ("half a key", new.fullchain_pem.clone(), new.key_pem[..new.key_pem.len() / 2].to_owned()),
            ("text around the key", new.fullchain_pem.clone(), format!("{}\nkey: {}", new.key_pem, &new.key_pem[40..])),
            ("the key in one line", new.fullchain_pem.clone(), new.key_pem.replace('\n', "\\n")),
        ] {
            write(&fullchain, &certificate, 0o600);
            write(&key, &key_text, 0o600);
            search.tally.add("kinds of refused material", 1);
            both(&mut search, name, 3);
        }
        search.site.put(&new.with_key_of(&old));
        search.run("somebody else's key", 3, &["deploy", "--json"]);
        search.site.put(&Authority::new().issue(&Request::new(&[NAME]).days_from_now(-90, -1)).with_key_of(&new));
        search.run("expired", 3, &["deploy", "--json"]);
        search.site.put(&new);
        wrong_configurations(&mut search, &new);
        search.tally.finish();
    }
}

fn wrong_configurations(search: &mut Search, new: &Issued) {
    let config = search.site.program.config.clone();
    let right = std::fs::read_to_string(&config).unwrap();
    let pasted = quoted(&new.key_pem);
    let line = quoted(new.key_pem.lines().nth(1).unwrap());
    // Here the operator has put the key into the configuration: that is one place where it is.
    search.canary = search.canary.clone().kept_in(&config);
    let setting = |name: &str, value: &str| format!("{right}\n{name} = {value}\n");
    for (name, text) in [
        ("the key as configuration", new.key_pem.clone()),
        ("the key in front of it", format!("{}{right}", new.key_pem)),
        ("the key for its path", right.replace(&quoted(search.site.tls().join("www.key").to_str().unwrap()), &pasted)),
        ("the key for the source", right.replace(&quoted(search.site.path("source/privkey.pem").to_str().unwrap()), &pasted)),
        ("the key for a mode", setting("key_mode", &line)),
        ("the key for a number", setting("backups", &pasted)),
        ("the key for an owner", setting("owner", &format!("\":{}\"", new.key_pem.lines().nth(1).unwrap()))),
        ("the key for a command", right.replace("validate = []", &format!("validate = {pasted}"))),
        ("the key for a duration", setting("timeout", &line)),
        ("the key for a name", right.replace("\"front\"", &pasted)),
        ("the key for a kind", right.replace("\"nginx\"", &line)),
        ("the key for a certificate", right.replace("certificate = \"www\"", &format!("certificate = {line}"))),
        ("the key as a setting", setting(&line, "1")),
        ("the key without quotes", setting("key_mode", &new.key_pem)),
        (
            "the key as an endpoint",
            setting("more", &line).replace("connect = \"", &format!("connect = \"{}", &line[1..line.len() - 1])),
        ),
    ] {
        write(&config, &text, 0o600);
        search.tally.add("kinds of wrong configurations", 1);
        for arguments in [&["check-config"][..], &["deploy", "--json"], &["status"], &["doctor"]] {
            let running = search.site.program.start(arguments);
            let run = search.watched(name, running, |_| {});
            search.tally.expect(run.code != 0, || format!("{name} was accepted by {arguments:?}"));
        }
    }
    write(&config, &right, 0o600);
}

#[test]
fn s1_no_failing_command_shows_a_key_even_if_the_command_prints_it() {
    // What a command prints of an RSA key has many more lines.
    for &kind in Form::asked().pick(&[KeyKind::EcP256, KeyKind::Rsa2048][..], kinds()) {
        let (mut search, _) = search("secrets/failures", kind);
        let key = search.site.tls().join("www.key");
        for (number, form) in FORMS.iter().enumerate() {
            let form = form.replace("KEY", key.to_str().unwrap());
            let shows = |more: &str| format!("{{ {form}; }} 2>/dev/null {more}");
            let on_error = search.script(&format!("on-error-{number}"), &format!("{}; exit 1", shows(">&2")));
            let on_output = search.script(&format!("on-output-{number}"), &format!("{}; exit 1", shows("")));
            search.site.configure(&format!("validate = {}", array(&[&on_error])));
            search.run("the checker prints the key", 3, &["deploy", "--json"]);
            search.site.configure(&format!("reload = {}", array(&[&on_output])));
            search.run("the reload prints the key", 4, &["deploy"]);
        }
        once(&mut search, &key);
        interrupted(&mut search);
        full_and_read_only(&mut search);
        search.tally.finish();
    }
}

/// A reload that fails forward and works back, one that does nothing, one that is too slow.
fn once(search: &mut Search, key: &std::path::Path) {
    let key = key.display();
    let mark = search.site.path("mark");
    let server = std::fs::read_to_string(search.site.path("pid")).unwrap();
    let text = format!("test -e {0} && exec kill -HUP {1}; cat {key} >&2; touch {0}; exit 1", mark.display(), server.trim());
    let once = search.script("once", &text);
    search.site.configure(&format!("reload = {}", array(&[&once])));
    search.run("the reload fails once", 4, &["deploy", "--json"]);
    search.site.configure("reload = [\"true\"]\nverify_timeout = \"300ms\"");
    search.run("the server keeps the old one", 4, &["deploy", "--json"]);
    let slow = search.script("slow", &format!("cat {key}; exec tail -f \"$0\""));
    let limited = format!("{{ command = {}, timeout = \"300ms\" }}", array(&[&slow]));
    search.site.configure(&format!("validate = {limited}"));
    search.run("the checker hangs", 3, &["deploy", "--json"]);
    search.site.configure(&format!("validate = {}", array(&[&slow])));
    search.run("the time is up", 3, &["deploy", "--timeout", "500ms"]);
}

/// SIGTERM and SIGKILL in the middle, and what the next run says of it.
fn interrupted(search: &mut Search) {
    let hangs = search.script("hangs", "exec tail -f \"$0\"");
    let marker = format!("tail -f {hangs}");
    // The way back from a reload meets the same command.
    let limited = format!("{{ command = {}, timeout = \"2s\" }}", array(&[&hangs]));
    for stage in ["validate", "reload"] {
        search.site.configure(&format!("{stage} = {limited}"));
        let run = search.signalled(&format!("SIGTERM at {stage}"), &marker, Signal::TERM);
        search.tally.expect([5, 8].contains(&run.code), || format!("SIGTERM at {stage}: {run:?}"));
        if stage == "reload" {
            search.site.configure("");
            search.run("recovery", 0, &["recover", "--json"]);
            search.site.configure(&format!("{stage} = {limited}"));
        }
        search.signalled(&format!("SIGKILL at {stage}"), &marker, Signal::KILL);
        search.site.configure("");
        search.run("after the kill", 0, &["plan", "--json"]);
        search.run("after the kill", 0, &["status"]);
        search.run("after the kill", 0, &["recover"]);
        search.run("after the kill", 0, &["deploy", "--force", "--json"]);
    }
    search.site.configure("reload = [\"true\"]\nverify_timeout = \"20s\"");
    let key = search.site.tls().join("www.key");
    let old = std::fs::read(&key).unwrap();
    let next = search.site.renew();
    search.canary = search.canary.clone().and(&next);
    let running = search.site.program.start(&["deploy"]);
    search.watched("SIGKILL at verify", running, |running| {
        until("the key is switched", || std::fs::read(&key).is_ok_and(|now| now != old));
        kill(running.pid());
    });
    search.site.configure("");
    search.run("after the kill", 0, &["deploy", "--json"]);
}

fn full_and_read_only(search: &mut Search) {
    needs_root("it mounts file systems");
    let tls = search.site.tls();
    {
        let _mount = Mount::bind(&tls, &tls, true);
        let third = search.site.renew();
        search.canary = search.canary.clone().and(&third);
        search.run("read-only", 3, &["deploy", "--json"]);
    }
    // The certificates and the hidden directories fit, and the key does not.
    for pages in [1, 2, 3] {
        let _mount = Mount::tmpfs(&tls, &(pages * 4096).to_string());
        let run = search.run("full", 3, &["deploy", "--json"]);
        search.tally.expect(run.stdout.contains("disk") || run.stdout.contains("space"), || format!("full: {run:?}"));
    }
}
