//! The search itself: leaks that were put there are found, each by the part that looks there.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use deploy_proof::leaks::{leaks, printed};
use deploy_proof::watch::Watch;
use deploy_proof::{Site, Tally};
use deploy_testkit::Canary;

use super::{Search, write};

const PASSWORD: &str = "canary of the search/61aa+20ff";

/// Where a leak is, and how it is made.
type Seed<'a> = (&'static str, Box<dyn Fn() + 'a>);

#[test]
fn seeded_leaks_are_found() {
    let (site, issued) = Site::serving();
    let canary = Canary::new(&issued).and_password(PASSWORD);
    let mut tally = Tally::new("secrets/seeded");
    let mut search = Search::new("secrets/seeds", site, canary);
    let run = search.run("nothing to do", 0, &["deploy", "--json"]);
    let site = &search.site;
    let look = || leaks(&search.canary, site, &run);
    assert_eq!(look(), [""; 0], "before anything is seeded");
    let body = issued.key_pem.lines().nth(1).unwrap();
    let hidden = site.tls().join(".certdeploy");
    let backup = hidden.join("backup");
    let seeds: [Seed<'_>; 8] = [
        ("a file of the state directory", Box::new(|| write(&site.path("state/history.jsonl"), body, 0o600))),
        ("a destination", Box::new(|| write(&site.tls().join("www.crt"), &issued.key_pem, 0o600))),
        ("a name", Box::new(|| write(&site.path(&PASSWORD.replace('/', "%2F")), "", 0o600))),
        ("a link", Box::new(|| symlink(PASSWORD, site.path("link")).unwrap())),
        ("a mode", Box::new(|| write(&backup, &issued.key_pem, 0o644))),
        (
            "an open directory",
            Box::new(|| {
                write(&backup, &issued.key_pem, 0o600);
                std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o755)).unwrap();
            }),
        ),
        ("the live key", Box::new(|| write(&site.tls().join("www.key"), &issued.key_pem, 0o604))),
        ("the configuration", Box::new(|| write(&site.program.config, &format!("# {PASSWORD}"), 0o600))),
    ];
    let mut before = 0;
    for (name, seed) in &seeds {
        seed();
        let found = look().len();
        tally.add("leaks seeded", 1);
        tally.expect(found > before || *name == "an open directory" && found == before, || format!("{name} was not found"));
        before = found;
    }
    let mut shown = run.clone();
    shown.stderr = format!("error: {body}");
    tally.add("leaks seeded", 1);
    tally.expect(!printed(&search.canary, &shown).is_empty(), || "the output was not looked at".to_owned());
    drop(seeds);
    tally.add("leaks seeded", 3);
    let found = family(&search, &issued.key_pem);
    for what in ["among the arguments", "in the environment", "has inherited"] {
        tally.expect(found.iter().any(|found| found.contains(what)), || format!("nothing was found {what}: {found:?}"));
    }
    tally.finish();
}

/// A program that hands the key to a child in every way that there is.
fn family(search: &Search, key: &str) -> std::collections::BTreeSet<String> {
    let text = format!(
        "exec 3<{}; KEY=\"$1\" sh -c 'exec tail -f /dev/null' sh \"$1\" & wait",
        search.site.path("source/privkey.pem").display()
    );
    let script = search.script("leaks", &text);
    let mut program = std::process::Command::new(&script).arg(key).spawn().unwrap();
    let watch = Watch::family(program.id(), &search.canary);
    deploy_e2e::until("the child runs", || !deploy_e2e::system::children(program.id()).is_empty());
    std::thread::sleep(std::time::Duration::from_millis(200));
    deploy_e2e::system::children(program.id()).into_iter().for_each(super::kill);
    program.wait().unwrap();
    watch.end().found
}
