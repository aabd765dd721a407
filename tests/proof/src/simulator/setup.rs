//! What is deployed on simulated machines: generations of files, the target that describes them, the service that loads
//! them, and the observer that knows them on a disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::host::Attributes;
use deploy_core::secret::SecretBytes;
use deploy_core::settings::Mode;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Error, ErrorKind, Hooks, Job, Layout, Plan, PlanFile, Recovery, Reload,
    ReloadCall, Role, Target, Validate, Verify,
};
use deploy_testkit::pki::{Authority, Issued, Request};

use super::disk::{Content, Disk, Facts, Kind};
use super::generations;
use super::machine::{Machine, STATE};

/// The name of the target, and of its journals and markers.
pub const TARGET: &str = "front";

/// As many generations there are; the last ones are for deployments after all is settled.
pub(super) const GENERATIONS: usize = 7;

/// What every live file that an operator put there carries.
const ATTRIBUTE: (&str, &[u8]) = ("user.note", b"of the operator");

/// Files in generations.
#[derive(Debug)]
pub struct Setup {
    files: Vec<(PathBuf, Role)>,
    generations: Vec<Generation>,
    backups: usize,
    /// The plan names the files by symbolic links in this directory.
    links: Option<PathBuf>,
    layout: Layout,
}

#[derive(Debug)]
struct Generation {
    files: Vec<Option<(Vec<u8>, Facts)>>,
    certificate: Certificate,
}

/// What the service and its checker refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// A reload with the files of this generation fails.
    pub reload: Option<usize>,
    /// The checker refuses the files of this generation at their final places.
    pub checker: Option<usize>,
}

impl Refusal {
    /// A reload with the files of this generation fails.
    #[must_use]
    pub fn reload_of(generation: usize) -> Self {
        Self { reload: Some(generation), checker: None }
    }

    /// The checker refuses the files of this generation at their final places.
    #[must_use]
    pub fn check_of(generation: usize) -> Self {
        Self { reload: None, checker: Some(generation) }
    }
}

impl Setup {
    /// Of files with their roles: each generation with a certificate of its own. What is not in the first is absent
    /// before the first deployment.
    ///
    /// # Panics
    ///
    /// When the certificates cannot be made.
    #[must_use]
    pub fn new(files: &[(&str, Role)], in_first: impl Fn(Role) -> bool) -> Self {
        let files: Vec<(PathBuf, Role)> = files.iter().map(|(path, role)| (PathBuf::from(path), *role)).collect();
        let authority = Authority::new();
        let generations = (0..GENERATIONS).map(|number| {
            let issued = authority.issue(&Request::new(&[crate::NAME]));
            let file = |role: Role| (number > 0 || in_first(role)).then(|| (bytes(&issued, role), facts(number, in_first(role))));
            Generation { files: files.iter().map(|(_, role)| file(*role)).collect(), certificate: certificate(&issued) }
        });
        Self { generations: generations.collect(), files, backups: 1, links: None, layout: Layout::Replace }
    }

    /// With another number of backups.
    #[must_use]
    pub fn with_backups(mut self, backups: usize) -> Self {
        self.backups = backups;
        self
    }

    /// With a directory of symbolic links, by which the files are named.
    #[must_use]
    pub fn named_by_links(mut self, directory: &str) -> Self {
        self.links = Some(PathBuf::from(directory));
        self
    }

    /// With another layout; for `generation`, all files are absent in the first generation, and so is the directory.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// With one file, of the role that is given, that differs between the first two generations.
    #[must_use]
    pub fn with_one_change(mut self, role: Role) -> Self {
        for (index, (_, own)) in self.files.iter().enumerate() {
            if *own != role {
                self.generations[1].files[index] = self.generations[0].files[index].clone();
            }
        }
        self.generations[1].certificate = self.generations[0].certificate.clone();
        self
    }

    /// With files that differ in owner and mode only between the first two generations.
    #[must_use]
    pub fn with_drift(mut self) -> Self {
        for index in 0..self.files.len() {
            let bytes = self.generations[0].files[index].as_ref().map(|(bytes, _)| bytes.clone());
            if let (Some(bytes), Some(file)) = (bytes, &mut self.generations[1].files[index]) {
                file.0 = bytes;
            }
        }
        self.generations[1].certificate = self.generations[0].certificate.clone();
        self
    }

    /// How many earlier deployments are kept.
    #[must_use]
    pub fn backups(&self) -> usize {
        self.backups
    }

    /// A disk with the files of the first generation, as an operator puts them there.
    #[must_use]
    pub fn disk(&self) -> Disk {
        let mut disk = Disk::new();
        disk.make_directory(Path::new(STATE).parent().unwrap_or(Path::new("/")));
        for ((path, _), file) in self.files.iter().zip(&self.generations[0].files) {
            disk.make_directory(self.layout.directory().unwrap_or(path).parent().unwrap_or(Path::new("/")));
            if let Some((bytes, facts)) = file {
                disk.put(path, bytes, facts.clone());
            }
            if let Some(links) = &self.links {
                disk.make_directory(links);
                disk.put_link(&self.name(path), path);
            }
        }
        disk
    }

    /// Whether the link to a file, if it is named by one, is as the operator put it there.
    fn is_named(&self, disk: &Disk, path: &Path) -> bool {
        let link = disk.at(&self.name(path)).map(|inode| &disk.node(inode).kind);
        self.links.is_none() || matches!(link, Some(Kind::Link(target)) if target == path)
    }

    /// What the plan calls a file.
    fn name(&self, path: &Path) -> PathBuf {
        self.links.as_ref().map_or_else(|| path.to_owned(), |links| links.join(path.file_name().unwrap_or_default()))
    }

    /// The generation whose files are live, all of them, to the last bit; or what is there instead.
    ///
    /// # Errors
    /// A mixture, or something that belongs to no generation.
    pub fn live(&self, disk: &Disk) -> Result<usize, String> {
        if let Some((path, _)) = self.files.iter().find(|(path, _)| !self.is_named(disk, path)) {
            return Err(format!("the symbolic link to {} is gone", path.display()));
        }
        if let Some(problem) = self.layout.directory().and_then(|directory| generations::problem(disk, directory)) {
            return Err(problem);
        }
        let is_live =
            |generation: &Generation| self.files.iter().zip(&generation.files).all(|((path, _), file)| is(disk, path, file));
        if let Some(number) = self.generations.iter().position(is_live) {
            return Ok(number);
        }
        let each = self.files.iter().enumerate().map(|(index, (path, _))| {
            let found = self.generations.iter().position(|generation| is(disk, path, &generation.files[index]));
            let what = match (found, disk.file(path)) {
                (Some(number), _) => format!("of generation {number}"),
                (None, None) => "missing".to_owned(),
                (None, Some((content, _))) if content.bytes().is_empty() => "empty".to_owned(),
                (None, Some((content, facts))) => format!("of no generation ({content:?}, {facts:?})"),
            };
            format!("{} is {what}", path.display())
        });
        Err(each.collect::<Vec<_>>().join(", "))
    }

    /// What a run that has ended must not leave: staging files, journals, other names of live files, a torn owner file; and
    /// where asked for, backups that neither a set nor the marker names. Of generations, all but the one that was replaced
    /// last must have had that done to them long ago.
    #[must_use]
    pub fn litter(&self, disk: &Disk, backups: bool) -> Vec<String> {
        let paths = disk.paths();
        let mut sets: Vec<String> = paths
            .iter()
            .filter_map(|(path, _)| Some(path.file_name()?.to_str()?.strip_suffix(".set")?.rsplit_once('-')?.1.to_owned()))
            .collect();
        sets.extend(marked_sets(disk));
        let is_litter = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match name.rsplit_once('.') {
                // The next marker takes it away, and there is no secret in it.
                Some((target, "new")) if target == format!(".{TARGET}") => false,
                Some((_, "new" | "back" | "jnl")) => true,
                Some((backup, "old")) => backups && !sets.iter().any(|set| backup.starts_with(&format!("{set}."))),
                _ => ["owner-", "minimal-", "plan-", "preview-"].iter().any(|start| name.starts_with(start)),
            }
        };
        let mut litter: Vec<String> =
            paths.iter().filter(|(path, _)| is_litter(path)).map(|(path, _)| path.display().to_string()).collect();
        let torn = |content: &Content| content.bytes().is_empty() || content.bytes().contains(&0);
        let owners = paths.iter().filter(|(path, _)| path.ends_with(".certdeploy/owner"));
        let torn = owners.filter(|(path, _)| disk.file(path).is_none_or(|(content, _)| torn(content)));
        litter.extend(torn.map(|(path, _)| format!("{}, torn", path.display())));
        let shared = self.files.iter().filter(|(path, _)| disk.at(path).is_some_and(|inode| disk.links(inode) > 1));
        litter.extend(shared.map(|(path, _)| format!("another name of {}", path.display())));
        if let Some(directory) = self.layout.directory() {
            litter.extend(generations::stray_links(disk, directory));
            litter.extend(generations::stray_generations(disk, directory));
        }
        litter
    }

    /// The job that deploys a generation on a machine.
    #[must_use]
    pub fn job(self: &Arc<Self>, machine: &Arc<Machine>, generation: usize, refusal: Refusal) -> Job {
        let service = Arc::new(Service { setup: Arc::clone(self), machine: Arc::clone(machine), refusal });
        let certificate = self.generations[generation].certificate.clone();
        Job::new(TARGET, "simulated", Arc::new(Front { service, generation }), Arc::new(certificate))
    }

    /// Whether the checker, the only command on these machines, is content: staged files are there and whole, and live ones
    /// are of a generation that it does not refuse.
    #[must_use]
    pub fn check(&self, disk: &Disk, staged: Option<&[(PathBuf, PathBuf)]>, refusal: Refusal) -> bool {
        match staged {
            Some(staged) => {
                staged.iter().all(|(path, _)| disk.file(path).is_some_and(|(content, _)| !content.bytes().is_empty()))
            }
            None => self.live(disk).is_ok_and(|generation| refusal.checker != Some(generation)),
        }
    }

    fn plan(&self, generation: usize) -> Plan {
        let files = self.files.iter().zip(&self.generations[generation].files).map(|((path, role), file)| {
            let Some((bytes, facts)) = file else { return PlanFile::absent(self.name(path), *role) };
            PlanFile::new(self.name(path), *role, bytes.clone())
                .with_owner(Some(facts.uid.to_string()))
                .with_group(Some(facts.gid.to_string()))
                .with_mode(Some(Mode::new(facts.mode)))
        });
        files.fold(Plan::new(TARGET).with_backups(self.backups).with_layout(self.layout.clone()), Plan::with_file)
    }
}

/// The sets that the marker of the target names; their backups go when they are the oldest.
fn marked_sets(disk: &Disk) -> Vec<String> {
    let marker = disk.file(&Path::new(STATE).join(format!("targets/{TARGET}.json")));
    let marker = marker.and_then(|(content, _)| serde_json::from_slice::<serde_json::Value>(content.bytes()).ok());
    let sets = marker.as_ref().and_then(|marker| marker["sets"].as_array()).into_iter().flatten();
    sets.filter_map(|id| Some(format!("{:08}", id.as_u64()?))).collect()
}

/// The service: it takes up what is on the disk, if that is a generation and nobody refuses it.
#[derive(Debug)]
struct Service {
    setup: Arc<Setup>,
    machine: Arc<Machine>,
    refusal: Refusal,
}

impl Service {
    fn load(&self) -> Result<(), Error> {
        let failed = |problem: String| Error::new(ErrorKind::ReloadFailed, problem);
        let generation = self.setup.live(&self.machine.disk()).map_err(failed)?;
        if self.refusal.reload == Some(generation) {
            return Err(failed(format!("the service does not take up generation {generation}")));
        }
        self.machine.serve(Some(generation));
        Ok(())
    }
}

#[async_trait]
impl ReloadCall for Service {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        self.load()
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        self.load()
    }
}

#[derive(Debug)]
struct Front {
    service: Arc<Service>,
    generation: usize,
}

impl Front {
    fn hooks(&self) -> Hooks {
        Hooks::new()
            .with_validate(Validate::new(Command::new(["/usr/sbin/checker"])))
            .with_reload(Reload::Call(Arc::<Service>::clone(&self.service)))
            .with_verify(Verify::Waived)
    }
}

#[async_trait]
impl Target for Front {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let plan = self.service.setup.plan(self.generation);
        Ok(Deployment::Files(plan.with_hooks(self.hooks())))
    }
}

fn is(disk: &Disk, path: &Path, wanted: &Option<(Vec<u8>, Facts)>) -> bool {
    let Some(inode) = disk.at(path) else { return wanted.is_none() };
    let node = disk.node(inode);
    let Some((bytes, facts)) = wanted else { return false };
    matches!(&node.kind, Kind::File(content) if content.bytes() == bytes.as_slice()) && node.facts == *facts
}

fn bytes(issued: &Issued, role: Role) -> Vec<u8> {
    match role {
        // One authority has one chain; with this line, its file changes like the others.
        Role::Chain => format!("# for {}\n{}", issued.fingerprint, issued.chain_pem),
        Role::Combined => format!("{}{}", issued.fullchain_pem, issued.key_pem),
        Role::Fullchain => issued.fullchain_pem.clone(),
        Role::Key => issued.key_pem.clone(),
        Role::Leaf => issued.leaf_pem.clone(),
        _ => format!("options for {}\n", issued.fingerprint),
    }
    .into_bytes()
}

/// Owner and mode change from each generation to the next, so that a mixture of them is seen, too.
fn facts(generation: usize, was_there: bool) -> Facts {
    let (uid, gid, mode) = if generation.is_multiple_of(2) { (33, 34, 0o640) } else { (0, 34, 0o600) };
    let mut facts = Facts::new(uid, gid, mode);
    if was_there {
        facts.attributes = Arc::new(Attributes::from([(ATTRIBUTE.0.into(), ATTRIBUTE.1.to_vec())]));
    }
    facts
}

fn certificate(issued: &Issued) -> Certificate {
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).expect("a certificate of the kit")
}
