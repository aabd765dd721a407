//! A deployment that can be played again and again from the same beginning, and what has to be true after it.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use deploy_e2e::Run;
use deploy_testkit::Issued;

use crate::observer::{File, exposed, litter, secret_lines};
use crate::{Copy, Site, Tally};

/// A site, what is live there, and what is to come.
#[derive(Debug)]
pub struct Scene {
    /// The site. Its configuration is that of [`Scene::settings`] when a play begins.
    pub site: Site,
    /// What is live before; `None` at a first deployment.
    pub old: Option<Issued>,
    /// What is to be live.
    pub new: Issued,
    /// Lines of the target for the run that is disturbed; the run after it has the usual ones.
    pub settings: &'static str,
    base: Copy,
    before: [Option<File>; 3],
    after: [File; 3],
}

impl Scene {
    /// Three files that do not exist yet.
    ///
    /// # Panics
    ///
    /// When the site cannot be set up.
    #[must_use]
    pub fn first_deployment(site: Site) -> Self {
        let new = site.renew();
        let base = base(&site);
        site.deploy().expect(0, "changed");
        let after = site.live().map(|file| file.expect("it was deployed"));
        Self { base, old: None, new, before: [None, None, None], after, settings: "", site }
    }

    /// Three files that differ in every byte from those before, and keep their owner, mode and attributes.
    ///
    /// # Panics
    ///
    /// When the site cannot be set up.
    #[must_use]
    pub fn renewal(site: Site) -> Self {
        let old = site.serve();
        let [_, crt, key] = site.files();
        xattr::set(&crt, "user.note", b"kept").expect("attributes of users");
        chown(&key, None, Some(7)).expect("root may do that");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).expect("our own file");
        let new = site.renew();
        let (base, before) = (base(&site), site.live());
        let mut after = before.clone().map(|file| file.expect("it was deployed"));
        for (file, bytes) in after.iter_mut().zip(Site::contents(&new)) {
            file.bytes = bytes;
        }
        Self { base, old: Some(old), new, before, after, settings: "", site }
    }

    /// With other lines of the target for the run that is disturbed.
    #[must_use]
    pub fn with_settings(mut self, settings: &'static str) -> Self {
        self.settings = settings;
        self
    }

    /// Everything is as it was before: files, state directory, what is served, configuration.
    pub fn begin(&mut self) {
        self.base.put_back();
        match &self.old {
            Some(old) => self.site.hang_up(old),
            None => self.site.restart_server(),
        }
        self.site.configure(self.settings);
    }

    /// The destinations and the state directory.
    #[must_use]
    pub fn roots(&self) -> [PathBuf; 2] {
        [self.site.tls(), self.site.program.state.clone()]
    }

    /// Whether a path lies in one of them.
    #[must_use]
    pub fn touches(&self, path: &Path) -> bool {
        self.roots().iter().any(|root| path.starts_with(root))
    }

    /// Each file is the old one or the new one, with its owner, mode and attributes; in generations, all are.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        if self.site.has_generations() {
            return self.is_old() || self.is_new();
        }
        let live = self.site.live();
        live.iter().zip(&self.before).zip(&self.after).all(|((now, old), new)| match (now, old) {
            (None, old) => old.is_none(),
            (Some(now), old) => old.as_ref().is_some_and(|old| now.is_like(old)) || now.is_like(new),
        })
    }

    /// Every file is the old one.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.site.live().iter().zip(&self.before).all(|(now, old)| match (now, old) {
            (Some(now), Some(old)) => now.is_like(old),
            (now, old) => now.is_none() && old.is_none(),
        })
    }

    /// Every file is the new one.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.site.live().iter().zip(&self.after).all(|(now, new)| now.as_ref().is_some_and(|now| now.is_like(new)))
    }

    /// What nobody else may ever read.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let keys = self.old.iter().chain([&self.new]).map(|issued| issued.key_pem.as_str());
        keys.flat_map(secret_lines).collect()
    }

    /// Nobody else can read a key now.
    pub fn look_for_open_keys(&self, place: &str, tally: &mut Tally) {
        let open = exposed(self.site.root(), &self.secrets());
        tally.expect(open.is_empty(), || format!("{place}: anybody can read {open:?}"));
    }

    /// Runs the program with the usual configuration: after that everything is new, served, and nothing is left or owed.
    pub fn look_after_the_next_run(&self, place: &str, tally: &mut Tally) {
        self.site.configure("");
        let run = self.site.deploy();
        let code = run.code;
        tally.expect(code == 0, || format!("{place}: the next run ended with {code}: {}", run.stdout));
        tally.expect(self.is_new(), || format!("{place}: not all is new after the next run: {:?}", self.site.live()));
        let served = self.site.served();
        tally.expect(served.as_ref() == Some(&self.new.fingerprint), || format!("{place}: {served:?} is served"));
        let left = self.roots().map(|root| litter(&root)).concat();
        tally.expect(left.is_empty(), || format!("{place}: left over: {left:?}"));
        self.look_for_open_keys(place, tally);
        let quiet = self.site.deploy();
        tally.expect(outcome(&quiet) == "unchanged", || format!("{place}: something was still owed, or locked: {quiet:?}"));
    }
}

/// The outcome of the only target; empty if the run said nothing.
#[must_use]
pub fn outcome(run: &Run) -> &str {
    run.json.as_ref().and_then(|document| document["targets"][0]["outcome"].as_str()).unwrap_or_default()
}

fn base(site: &Site) -> Copy {
    Copy::of(&[site.tls(), site.program.state.clone()])
}
