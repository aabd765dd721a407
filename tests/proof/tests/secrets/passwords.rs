//! Passwords, through an agent with a connector of a third party: from a file, a variable and a program.

use deploy_e2e::{Program, quoted, until};
use deploy_proof::Site;
use deploy_proof::leaks::leaks;
use deploy_testkit::Canary;
use rustix::process::Signal;

use super::{Search, write};

const PASSWORD: &str = "canary of the remote/3f9a+7c51";
const VARIABLE: &str = "CERTDEPLOY_PROOF_PASSWORD";

/// One way to find the password.
struct Way {
    name: &'static str,
    reference: String,
    /// A wrapper that puts it into the environment of the agent.
    wrapper: Vec<String>,
}

fn ways(search: &Search) -> Vec<Way> {
    let file = search.site.path("password");
    write(&file, &format!("{PASSWORD}\n"), 0o600);
    let program = search.script("prints", &format!("cat {}", file.display()));
    let sets = search.script("sets", &format!("export {VARIABLE}=\"$(cat {})\"\nexec \"$@\"", file.display()));
    let way = |name, reference: String| Way { name, reference: quoted(&reference), wrapper: Vec::new() };
    vec![
        way("file", format!("file:{}", file.display())),
        // The arguments of a process are anybody's to read: the variable is set where they are not.
        Way { wrapper: vec![sets], ..way("variable", format!("env:{VARIABLE}")) },
        way("program", format!("exec:{program}")),
    ]
}

/// The agent of a third party, and its remote.
fn search() -> (Search, Program) {
    let site = Site::new();
    let issued = site.renew();
    let remote = site.path("remote");
    std::fs::create_dir(&remote).unwrap();
    write(&remote.join("password"), PASSWORD, 0o600);
    let canary = Canary::new(&issued).and_password(PASSWORD).kept_in(&remote).kept_in(site.path("password"));
    let mut program = Program::new(site.path("third-party.toml"), site.path("state"));
    program.path = env!("CARGO_BIN_EXE_third-party-agent").into();
    (Search::new("secrets/passwords", site, canary), program)
}

fn configure(search: &Search, reference: &str, more: &str) {
    let path = |name: &str| quoted(search.site.path(name).to_str().unwrap());
    let text = format!(
        "[[certificate]]\nname = \"www\"\nfullchain = {}\nkey = {}\n\n\
         [[target]]\nname = \"far\"\nkind = \"remote\"\ncertificate = \"www\"\ndirectory = {}\npassword = {reference}\n{more}\n",
        path("source/fullchain.pem"),
        path("source/privkey.pem"),
        path("remote"),
    );
    write(&search.site.path("third-party.toml"), &text, 0o600);
}

#[test]
fn s1_no_command_and_no_failure_shows_a_password() {
    let (mut search, agent) = search();
    for Way { name, reference, wrapper } in ways(&search) {
        let mut agent = agent.clone();
        agent.wrapper.clone_from(&wrapper);
        let run = |search: &mut Search, what: &str, code: i32, arguments: &[&str]| {
            search.run_as(&agent, &format!("{name}: {what}"), code, arguments);
        };
        configure(&search, &reference, "");
        for (code, arguments) in [
            (0, &["plan"][..]),
            (0, &["plan", "--json"]),
            (0, &["deploy", "--json", "--force"]),
            (0, &["deploy"]),
            (0, &["status"]),
            (0, &["status", "--json"]),
            (6, &["verify", "--json"]),
            (0, &["recover"]),
            (3, &["rollback", "far"]),
            (0, &["doctor"]),
            (0, &["check-config"]),
            (0, &["connectors", "schema", "remote"]),
        ] {
            run(&mut search, &arguments.join(" "), code, arguments);
        }
        for call in ["observe", "validate", "snapshot", "upload", "activate"] {
            let next = search.site.renew();
            search.canary = search.canary.clone().and(&next);
            configure(&search, &reference, &format!("refuses = {}", quoted(call)));
            let running = agent.start(&["deploy", "--json", "--timeout", "300ms"]);
            let run = search.watched(&format!("{name}: refuses to {call}"), running, |_| {});
            assert!([3, 4, 5].contains(&run.code), "{run:#?}");
        }
        killed(&mut search, &agent, &reference);
    }
    wrong(&mut search, &agent);
    search.tally.finish();
}

/// Killed with a snapshot on disk; then the next run settles it.
fn killed(search: &mut Search, agent: &Program, reference: &str) {
    configure(search, reference, "hangs = \"activate\"");
    let snapshot = search.site.path("state/vault/far.snapshot");
    for signal in [Signal::TERM, Signal::KILL] {
        let next = search.site.renew();
        search.canary = search.canary.clone().and(&next);
        let running = agent.start(&["deploy", "--timeout", "3s"]);
        search.watched("killed", running, |running| {
            until("the snapshot is written", || snapshot.exists());
            running.signal(signal);
        });
    }
    configure(search, reference, "");
    search.run_as(agent, "recovery", 0, &["recover", "--json"]);
    search.run_as(agent, "after recovery", 0, &["deploy", "--json"]);
}

/// References that lead to no password or to another one, and a password where its reference belongs.
fn wrong(search: &mut Search, agent: &Program) {
    let file = search.site.path("password");
    let open = search.site.path("open");
    write(&open, PASSWORD, 0o644);
    search.canary = search.canary.clone().kept_in(search.site.path("third-party.toml")).kept_in(&open).with_mode(0o644);
    let shows = |name: &str, more: &str| {
        let text = format!("cat {0}; {{ printf 'wrong: '; cat {0}; }} >&2; {more}", file.display());
        quoted(&format!("exec:{}", search.script(name, &text)))
    };
    let cases = [
        ("open to all", 3, quoted(&format!("file:{}", open.display()))),
        ("not set", 3, quoted("env:CERTDEPLOY_PROOF_NOT_SET")),
        ("fails and shows it", 3, shows("fails", "exit 1")),
        ("too much", 3, shows("much", "head -c 100000 /dev/zero")),
        ("hangs", 3, shows("hangs", "exec tail -f \"$0\"")),
        ("no text", 3, shows("binary", "printf '\\377'")),
        ("the key instead", 3, quoted(&format!("file:{}", search.site.path("source/privkey.pem").display()))),
        ("itself", 2, quoted(PASSWORD)),
        ("itself after env:", 2, quoted(&format!("env:{PASSWORD}"))),
        ("itself after exec:", 2, quoted(&format!("exec:{PASSWORD}"))),
        ("itself without quotes", 2, PASSWORD.to_owned()),
        ("itself in a table", 2, format!("{{ value = {} }}", quoted(PASSWORD))),
        ("itself in a list", 2, format!("[{}]", quoted(PASSWORD))),
        ("itself as an argument", 3, format!("{{ exec = [\"false\", {}] }}", quoted(PASSWORD))),
    ];
    search.site.renew();
    for (name, code, reference) in cases {
        configure(search, &reference, "");
        if name == "itself as an argument" {
            // Whoever lists processes sees it: that was the operator's choice, and is not the agent's to repeat.
            let run = agent.run(&["deploy", "--json", "--timeout", "1s"]);
            assert_eq!(run.code, code, "{run:#?}");
            search.found(name, leaks(&search.canary, &search.site, &run));
            continue;
        }
        search.run_as(agent, name, code, &["deploy", "--json", "--timeout", "1s"]);
        if code == 2 {
            search.run_as(agent, name, 2, &["check-config"]);
        }
    }
}
