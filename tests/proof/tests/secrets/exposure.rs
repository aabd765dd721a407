//! At no instant can another user read a key: one tries, in a tight loop, and root looks at all modes meanwhile.

use std::path::Path;

use deploy_e2e::system::{needs_root, processes_with};
use deploy_e2e::{array, until};
use deploy_proof::watch::{OTHER, OtherUser, Watch};
use deploy_proof::{Form, Site};
use deploy_testkit::Canary;
use rustix::process::Signal;

use super::{Search, kill, other_user};

/// A default ACL (acl(5), as Linux keeps it) that gives a user, and everybody, all rights to each new file.
fn default_acl(user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 6] =
        [(1, 7, NOBODY), (2, 7, user), (4, 7, NOBODY), (16, 7, NOBODY), (32, 7, NOBODY), (0, 0, 0)];
    let entry = |(tag, rights, id): &(u16, u16, u32)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat();
    let entries = entries.iter().take_while(|(tag, ..)| *tag != 0).flat_map(entry);
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

/// No umask, and a default ACL on the directory where there can be one.
fn site(acl: bool) -> Site {
    let mut site = Site::new();
    site.program.wrapper = ["sh", "-c", "umask 0; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    site.configure("key_mode = \"0640\"");
    if acl {
        xattr::set(site.tls(), "system.posix_acl_default", &default_acl(OTHER)).unwrap();
    }
    site
}

#[test]
fn s2_a_key_is_never_readable_by_others() {
    needs_root("it tries as another user");
    for acl in [false, true] {
        let site = site(acl);
        let proof = if acl { "secrets/exposure with a default ACL" } else { "secrets/exposure" };
        let issued = site.renew();
        let mut search = Search::new(proof, site, Canary::new(&issued).with_mode(0o640));
        let directories = [search.site.tls(), search.site.path("state")];
        let watch = Watch::modes(&directories);
        let texts = directories.each_ref().map(|path| path.to_str().unwrap().to_owned());
        let other = OtherUser::start(&other_user(), &["peek", &texts[0], &texts[1]]);
        let deploy = |search: &mut Search| {
            search.tally.add("runs watched", 1);
            search.site.deploy().expect(0, "changed");
        };
        deploy(&mut search);
        for _ in 0..Form::asked().pick(2, 60) {
            search.site.renew();
            deploy(&mut search);
        }
        search.site.run(&["rollback", "front", "--json"]).expect(0, "changed");
        killed(&mut search);
        let said = other.end();
        let seen = watch.end();
        let looks = said.iter().find_map(|line| line.strip_prefix("looks ")?.parse::<u64>().ok()).unwrap();
        assert!(looks > 100 && seen.moments > 100, "{looks} and {} looks", seen.moments);
        search.tally.add("moments looked at", looks + seen.moments);
        search.found("modes", seen.found.into_iter().collect());
        search.found("read by another user", said.into_iter().filter(|line| line.starts_with("read ")).collect());
        search.tally.finish();
    }
}

/// What a killed run leaves is as closed as what others leave.
fn killed(search: &mut Search) {
    let hangs = search.script("hangs", "exec tail -f \"$0\"");
    let marker = format!("tail -f {hangs}");
    search.site.configure(&format!("key_mode = \"0640\"\nreload = {}", array(&[&hangs])));
    let next = search.site.renew();
    search.canary = search.canary.clone().and(&next);
    let running = search.site.program.start(&["deploy", "--json"]);
    search.watched("killed", running, |running| {
        until("the reload runs", || !processes_with(&marker).is_empty());
        running.signal(Signal::KILL);
    });
    processes_with(&marker).into_iter().for_each(kill);
    search.site.configure("key_mode = \"0640\"");
    search.run("after the kill", 0, &["deploy", "--json"]);
}

#[test]
fn the_other_user_and_the_look_at_modes_find_an_open_key() {
    needs_root("it tries as another user");
    let (site, _) = Site::serving();
    let key = site.tls().join("www.key");
    let open = |path: &Path, mode: u32| super::write(path, "not for you", mode);
    let watch = Watch::modes(&[site.tls()]);
    let other = OtherUser::start(&other_user(), &["peek", site.tls().to_str().unwrap()]);
    // A moment is enough.
    for _ in 0..200 {
        open(&key, 0o644);
        open(&key, 0o600);
    }
    assert!(other.end().contains(&format!("read {}", key.display())));
    assert!(!watch.end().found.is_empty());
}
