//! A directory for one case, a context, and hooks that can be made to fail.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use deploy_core::certificate::Loaded;
use deploy_core::host::Host;
use deploy_core::settings::Mode;
use deploy_core::{
    Capabilities, Certificate, CertificateSource, Context, Deployment, Error, ErrorKind, Hooks, Job, Plan, PlanFile, Recovery,
    Reload, ReloadCall, Report, Role, Target, Verify,
};
use deploy_testkit::{Authority, Issued, Request};

use super::acl;
use super::case::{BEHIND, Before, Bytes, Case, DIRECTORIES, Owner, Planned, Previous};

/// The certificates that are deployed, all valid for the same time, so that none is a regress.
pub(crate) fn material() -> &'static [Issued] {
    static MATERIAL: OnceLock<Vec<Issued>> = OnceLock::new();
    MATERIAL.get_or_init(|| {
        let (authority, day, now) = (Authority::new(), Duration::from_secs(86_400), SystemTime::now());
        let request = Request::new(&[deploy_proof::NAME]).validity(now - day, now + 90 * day);
        (0..4).map(|_| authority.issue(&request)).collect()
    })
}

/// What a file of a role holds.
pub(crate) fn content(role: Role, issued: &Issued, opaque: &[u8]) -> Vec<u8> {
    match role {
        Role::Chain => issued.chain_pem.clone().into_bytes(),
        Role::Combined => format!("{}{}", issued.fullchain_pem, issued.key_pem).into_bytes(),
        Role::Fullchain => issued.fullchain_pem.clone().into_bytes(),
        Role::Key => issued.key_pem.clone().into_bytes(),
        Role::Leaf => issued.leaf_pem.clone().into_bytes(),
        _ => opaque.to_vec(),
    }
}

pub(crate) struct World {
    root: tempfile::TempDir,
    pub(crate) context: Context,
    pub(crate) reload: Arc<Switchable>,
}

impl World {
    /// The directories, with nothing in them.
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("certdeploy-proof-").tempdir().expect("a directory");
        let context = Context::new(root.path().join("state"), deploy_testkit::provider()).with_timeout(Duration::from_secs(20));
        let world = Self { root, context, reload: Arc::default() };
        std::fs::create_dir(world.live()).expect("a new directory");
        for index in 0..DIRECTORIES.len() - 1 {
            std::fs::create_dir(world.directory(index)).expect("a new directory");
        }
        std::fs::create_dir(world.live().join(BEHIND)).expect("a new directory");
        symlink(BEHIND, world.directory(DIRECTORIES.len() - 1)).expect("a new link");
        world
    }

    /// With everything that stands there before.
    pub(crate) fn of(case: &Case) -> Self {
        let world = Self::new();
        case.files.iter().for_each(|file| world.set_up(case, file));
        world
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The directory that everything visible is in.
    pub(crate) fn live(&self) -> PathBuf {
        self.root().join("live")
    }

    pub(crate) fn directory(&self, index: usize) -> PathBuf {
        self.live().join(OsStr::from_bytes(DIRECTORIES[index]))
    }

    /// Where the plan says that a file is.
    pub(crate) fn path(&self, file: &Planned) -> PathBuf {
        self.directory(file.directory).join(file.name.name())
    }

    pub(crate) fn plan(&self, case: &Case, new: usize) -> Plan {
        let plan = Plan::new("front")
            .with_links(case.links)
            .with_defaults(case.defaults.defaults())
            .with_backups(case.backups)
            .with_hooks(self.hooks());
        let file = |file: &Planned| {
            let bytes = content(file.role, &material()[new], &file.opaque);
            owned(PlanFile::new(self.path(file), file.role, bytes), file.owner)
        };
        case.files.iter().map(file).fold(plan, Plan::with_file)
    }

    pub(crate) fn hooks(&self) -> Hooks {
        Hooks::new().with_reload(Reload::Call(self.reload.clone())).with_verify(Verify::Waived)
    }

    /// The same target for those who only go back.
    pub(crate) fn job(&self) -> Job {
        Job::new("front", "files", Arc::new(GoingBack(self.hooks())), Arc::new(NoSource))
    }

    pub(crate) async fn deploy(&self, plan: Plan) -> Report {
        plan.apply(&self.context).await
    }

    fn set_up(&self, case: &Case, file: &Planned) {
        match &file.before {
            Before::Absent => {}
            Before::File(previous) => place(case, file, previous, &self.path(file)),
            Before::Link { hops, directory, behind } => {
                let end = self.directory(*directory).join(file.name.behind(*hops));
                let mut from = self.path(file);
                for hop in 1..*hops {
                    // Relative, and beside the first one.
                    symlink(file.name.behind(hop), &from).expect("a new link");
                    from = self.directory(file.directory).join(file.name.behind(hop));
                }
                symlink(&end, &from).expect("a new link");
                if let Some(previous) = behind {
                    place(case, file, previous, &end);
                }
            }
        }
    }
}

fn owned(file: PlanFile, owner: Owner) -> PlanFile {
    let Owner { uid, gid, mode } = owner;
    file.with_owner(uid.map(|uid| uid.to_string())).with_group(gid.map(|gid| gid.to_string())).with_mode(mode.map(Mode::new))
}

fn place(case: &Case, file: &Planned, previous: &Previous, path: &Path) {
    let bytes = match &previous.bytes {
        Bytes::Same => content(file.role, &material()[case.new], &file.opaque),
        Bytes::Old => content(file.role, &material()[case.old], b"old"),
        Bytes::Garbage(bytes) => bytes.clone(),
    };
    std::fs::write(path, bytes).expect("a new file");
    for (name, value) in &previous.attributes {
        xattr::set(path, name, value).expect("the file system of the temporary directory keeps extended attributes");
    }
    if let Some(named) = previous.named {
        let list = acl::encode(previous.mode, named, 4);
        xattr::set(path, acl::NAME, &list).expect("the file system of the temporary directory keeps ACLs");
    }
    chown(path, Some(previous.uid), Some(previous.gid)).expect("we are root");
    std::fs::set_permissions(path, Permissions::from_mode(previous.mode)).expect("our own file");
}

/// A reload that does nothing but count, and fails when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Switchable {
    applied: AtomicUsize,
    fails: AtomicBool,
}

impl Switchable {
    pub(crate) fn applied(&self) -> usize {
        self.applied.load(Ordering::SeqCst)
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }
}

#[async_trait]
impl ReloadCall for Switchable {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        self.applied.fetch_add(1, Ordering::SeqCst);
        match self.fails.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::ReloadFailed, "told to fail")),
            false => Ok(()),
        }
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug)]
struct GoingBack(Hooks);

#[async_trait]
impl Target for GoingBack {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.0.clone())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Err(Error::new(ErrorKind::Internal, "going back needs no plan"))
    }
}

#[derive(Debug)]
struct NoSource;

impl CertificateSource for NoSource {
    fn load(&self, _: &dyn Host) -> Result<Loaded, Error> {
        Err(Error::new(ErrorKind::Internal, "going back needs no certificate"))
    }
}
