//! A directory with a few files that three targets share: in different orders, through different names.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploy_core::host::Signal;
use deploy_core::probe::Endpoint;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Error, Hooks, Job, Layout as PlanLayout, Plan, PlanFile, Recovery, Reload,
    Role, Target, Verify,
};
use serde::{Deserialize, Serialize};

use crate::NAME;
use crate::mark::Marked;

/// How the files are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Layout {
    /// All in a new directory each time, to which one link is switched.
    Generation,
    /// Each at a path of its own.
    Replace,
}

impl Layout {
    /// As in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Replace => "replace",
        }
    }
}

/// Where everything is. Plain data, so that it can be handed to a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ground {
    /// The layout of the files.
    pub layout: Layout,
    /// Who serves them, if anybody does.
    pub server: Option<SocketAddr>,
    root: PathBuf,
    shared: bool,
}

/// A target whose files are marked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MarkedTarget {
    /// Its name.
    pub name: &'static str,
    /// Its files, in the order of its plan.
    pub files: Vec<(PathBuf, Role)>,
    layout: PlanLayout,
}

impl Ground {
    pub(super) fn new(root: &Path, layout: Layout) -> Self {
        std::fs::create_dir(root.join("tls")).expect("a new directory");
        symlink("tls", root.join("alias")).expect("a new link");
        Self { layout, server: None, root: root.to_owned(), shared: false }
    }

    /// Lets the other targets in: from now on there are files that a link can lead to.
    pub(super) fn share(&mut self) {
        std::fs::create_dir(self.root.join("links")).expect("a new directory");
        symlink("../tls/www.crt", self.root.join("links/www.crt")).expect("a new link");
        self.shared = true;
    }

    /// The directory that readers open.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        match self.layout {
            Layout::Generation => self.root.join("tls/site/current"),
            Layout::Replace => self.root.join("tls"),
        }
    }

    /// The certificate.
    #[must_use]
    pub fn crt(&self) -> PathBuf {
        self.directory().join("www.crt")
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.directory().join("www.key")
    }

    /// A file that only one of the targets has.
    #[must_use]
    pub fn stamp(&self) -> PathBuf {
        self.directory().join("stamp")
    }

    /// The state directory that all of them use.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where everybody writes down what they do.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The server is told by a signal, and asked afterwards; nothing at all where there is none.
    #[must_use]
    pub fn hooks(&self) -> Hooks {
        let Some(address) = self.server else { return Hooks::new().with_verify(Verify::Waived) };
        let endpoint = Endpoint::new(address.to_string()).with_server_name(NAME);
        let verify = Verify::Endpoints { endpoints: vec![endpoint], timeout: Duration::from_secs(10) };
        Hooks::new().with_reload(Reload::Signal { signal: Signal::Hup, pid_file: self.pid_file() }).with_verify(verify)
    }

    /// The server's number.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("pid")
    }

    /// A file that whoever is at work locks, to see that nobody else is.
    pub(super) fn critical(&self) -> PathBuf {
        self.root.join("critical")
    }

    /// The targets.
    #[must_use]
    pub fn targets(&self) -> Vec<MarkedTarget> {
        let mut targets = match self.layout {
            Layout::Generation => self.two_paths_to_generations(),
            Layout::Replace => self.three_targets(),
        };
        targets.truncate(if self.shared { targets.len() } else { 1 });
        targets
    }

    fn three_targets(&self) -> Vec<MarkedTarget> {
        let front = [("tls/www.crt", Role::Fullchain), ("tls/www.key", Role::Key)];
        let back = [("alias/www.key", Role::Key), ("alias/www.crt", Role::Fullchain)];
        let side = [("alias/stamp", Role::Opaque), ("links/www.crt", Role::Fullchain), ("alias/../tls/www.key", Role::Key)];
        let target = |name, files: &[(&str, Role)]| self.target(name, files, PlanLayout::Replace);
        vec![target("front", &front), target("back", &back), target("side", &side)]
    }

    /// Generations belong to one target; two configurations of it may name their directory in two ways.
    fn two_paths_to_generations(&self) -> Vec<MarkedTarget> {
        let layout = |directory: &str| PlanLayout::Generation(self.root.join(directory));
        let front = [("tls/site/current/www.crt", Role::Fullchain), ("tls/site/current/www.key", Role::Key)];
        let again = [("alias/site/current/www.key", Role::Key), ("alias/site/current/www.crt", Role::Fullchain)];
        vec![self.target("front", &front, layout("tls/site")), self.target("front", &again, layout("alias/site"))]
    }

    fn target(&self, name: &'static str, files: &[(&str, Role)], layout: PlanLayout) -> MarkedTarget {
        MarkedTarget { name, files: files.iter().map(|(path, role)| (self.root.join(path), *role)).collect(), layout }
    }
}

impl MarkedTarget {
    /// The job of deploying a certificate to it.
    #[must_use]
    pub fn job(&self, marked: &Marked, hooks: Hooks) -> Job {
        let certificate = marked.certificate.clone();
        let target = Carrier { target: self.clone(), marked: marked.clone(), hooks };
        Job::new(self.name, "files", Arc::new(target), Arc::new(certificate))
    }

    /// Whether it has a file of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|(path, _)| path.file_name().is_some_and(|other| other == name))
    }
}

/// Carries the marked bytes past the engine's reading of the certificate, which would leave the marks out.
#[derive(Debug)]
struct Carrier {
    target: MarkedTarget,
    marked: Marked,
    hooks: Hooks,
}

#[async_trait]
impl Target for Carrier {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks.clone())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let mut plan = Plan::new(self.target.name).with_hooks(self.hooks.clone()).with_layout(self.target.layout.clone());
        for (path, role) in &self.target.files {
            plan = plan.with_file(PlanFile::new(path, *role, self.marked.bytes(*role)));
        }
        Ok(Deployment::Files(plan))
    }
}
