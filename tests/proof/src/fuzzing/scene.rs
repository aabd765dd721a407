//! A small site on disk with whatever the input puts into its state directory, and everything that can be asked of it.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deploy_core::certificate::Loaded;
use deploy_core::host::Host;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, CertificateSource, Context, Deployment, Error, ErrorKind, Hooks, Job, Outcome, Plan, PlanFile,
    Recovery, RecoveryScope, Reload, ReloadCall, Role, Target, Verify,
};
use deploy_testkit::{Authority, Issued, Request};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use super::scratch;
use super::template::{self, Names};

/// Longer than this is a hang: nothing here waits for anybody.
const LIMIT: Duration = Duration::from_secs(10);

/// The one journal of an interrupted deployment, after a first line that says what is on disk.
///
/// That line has a letter for certificate and key each (`o` old, `n` new, `f` foreign, `a` absent), `s` if new files are
/// staged, `b` if old ones are backed up, and `F` if only files are to be recovered.
pub fn journal(input: &[u8]) {
    let (disk, journal) = first_line(input);
    play(disk, &[("journal/front-00000002.jnl", journal)]);
}

/// Any files in the state directory, after the same first line: each begins with a line `== NAME`. Names that begin with
/// `hidden/` lie where staged files and backups are, those with `beside/` in the directory above it.
pub fn state(input: &[u8]) {
    let (disk, rest) = first_line(input);
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    let mut rest = rest.strip_prefix(b"== ").unwrap_or_default();
    while !rest.is_empty() {
        let (name, after) = first_line(rest);
        let end = after.windows(4).position(|window| window == b"\n== ");
        let (content, next) = match end {
            Some(end) => (&after[..=end], &after[end + 4..]),
            None => (after, &[][..]),
        };
        files.extend(std::str::from_utf8(name).ok().filter(|name| is_name(name)).map(|name| (name, content)));
        rest = next;
    }
    play(disk, &files);
}

fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[]),
    }
}

fn is_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() <= 2 && parts.iter().all(|part| !matches!(*part, "" | "." | "..") && part.len() < 200 && !part.contains('\0'))
}

/// The certificates: what stood there, what the interrupted deployment brought, what is deployed then.
struct Material {
    old: Issued,
    new: Issued,
    wanted: Issued,
    runtime: Runtime,
}

static MATERIAL: LazyLock<Material> = LazyLock::new(|| {
    let authority = Authority::new();
    let issue = || authority.issue(&Request::new(&[crate::NAME]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    Material { old: issue(), new: issue(), wanted: issue(), runtime }
});

/// Recovers, looks, deploys, goes back; and sees each time that nothing happened to what is nobody's business.
fn play(disk: &[u8], files: &[(&str, &[u8])]) {
    let scene = Scene::set_up(disk, files);
    let started = Instant::now();
    let runtime = &MATERIAL.runtime;
    let (jobs, before) = ([scene.job()], scene.live());
    let scope = if disk.contains(&b'F') { RecoveryScope::FilesOnly } else { RecoveryScope::Full };
    let recovered = runtime.block_on(deploy_core::recover(&jobs, scope, &scene.context));
    recovered.iter().filter_map(|recovered| recovered.error.as_ref()).for_each(no_defect);
    let after = scene.live();
    for (before, after) in before.iter().zip(&after) {
        scene.may_become(before.as_deref(), after.as_deref());
    }
    scene.look(runtime);
    let report = runtime.block_on(deploy_core::deploy(&jobs, &scene.context)).pop().expect("one job has one report");
    report.error.iter().for_each(no_defect);
    let held = report.warnings.iter().any(|warning| warning.starts_with("held"));
    let success = matches!(report.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged | Outcome::Unverified);
    match success && !held {
        true => assert!(scene.holds_wanted(), "{:?} without the wanted files", report.outcome),
        false => after.iter().zip(scene.live()).for_each(|(before, now)| scene.may_become(before.as_deref(), now.as_deref())),
    }
    scene.look(runtime);
    let report = runtime.block_on(deploy_core::rollback(&jobs[0], None, &scene.context));
    report.error.iter().for_each(no_defect);
    scene.bystanders_are_unharmed();
    assert!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
}

/// The engine turns a panic of its thread into an error of this kind.
fn no_defect(error: &Error) {
    assert_ne!(error.kind(), ErrorKind::Internal, "{}", error.full_message());
    assert!(!error.full_message().is_empty(), "an error without words");
}

struct Scene {
    root: tempfile::TempDir,
    context: Context,
    bystanders: Vec<(PathBuf, (u64, i64, i64))>,
}

impl Scene {
    fn set_up(disk: &[u8], files: &[(&str, &[u8])]) -> Self {
        let root = scratch();
        let path = |name: &str| root.path().join(name);
        for name in ["live", "live/.certdeploy", "elsewhere", "state", "state/journal", "state/targets"] {
            std::fs::create_dir(path(name)).expect("a new directory");
            std::fs::set_permissions(path(name), Permissions::from_mode(0o700)).expect("our own directory");
        }
        let context = Context::new(path("state"), deploy_testkit::provider()).with_timeout(Duration::from_secs(5));
        let bystanders = ["live/bystander", "live/www.csr", "elsewhere/precious"].map(|name| {
            std::fs::write(path(name), name).expect("a new file");
            (path(name), stamp(&path(name)))
        });
        let scene = Self { context, bystanders: bystanders.into(), root };
        std::fs::create_dir(scene.hidden()).expect("a new directory");
        std::fs::set_permissions(scene.hidden(), Permissions::from_mode(0o700)).expect("our own directory");
        scene.put_live(disk);
        let names = scene.names();
        for (name, content) in files {
            // What cannot be there is not there: a name below one that is a file.
            std::fs::write(scene.place(name), template::fill_in(content, &names, scene.root.path())).ok();
        }
        scene
    }

    fn put_live(&self, disk: &[u8]) {
        let Material { old, new, .. } = &*MATERIAL;
        let contents = [(&old.fullchain_pem, &new.fullchain_pem), (&old.key_pem, &new.key_pem)];
        for (index, (path, (old, new))) in self.files().into_iter().zip(contents).enumerate() {
            match disk.get(index) {
                Some(b'o') => std::fs::write(path, old),
                Some(b'n') => std::fs::write(path, new),
                Some(b'f') => std::fs::write(path, "somebody else's"),
                _ => Ok(()),
            }
            .expect("a new file");
            for (letter, ending, content) in [(b's', "new", new), (b'b', "old", old)] {
                if disk.contains(&letter) {
                    std::fs::write(self.hidden().join(format!("00000002.{index}.{ending}")), content).expect("a new file");
                }
            }
        }
    }

    fn files(&self) -> [PathBuf; 2] {
        ["www.crt", "www.key"].map(|name| self.root.path().join("live").join(name))
    }

    /// The bytes of certificate and key.
    fn live(&self) -> [Option<Vec<u8>>; 2] {
        self.files().map(|path| std::fs::read(path).ok())
    }

    fn hidden_name(&self) -> String {
        let state = self.context.state_directory().as_os_str().as_encoded_bytes();
        format!("front-{}", template::hex(&template::digest([state, b"front"])[..4]))
    }

    fn hidden(&self) -> PathBuf {
        self.root.path().join("live/.certdeploy").join(self.hidden_name())
    }

    fn place(&self, name: &str) -> PathBuf {
        if let Some(name) = name.strip_prefix("hidden/") {
            return self.hidden().join(name);
        }
        match name.strip_prefix("beside/") {
            Some(name) => self.root.path().join("live/.certdeploy").join(name),
            None => self.root.path().join("state").join(name),
        }
    }

    fn names(&self) -> Names {
        let Material { old, new, wanted, .. } = &*MATERIAL;
        let directory = self.root.path().join("live").metadata().expect("it was made");
        let sha = |text: &str| template::hex(&Sha256::digest(text));
        let plan = |issued: &Issued| {
            let [crt, key] = self.files();
            let parts = [crt.as_os_str().as_encoded_bytes(), issued.fullchain_pem.as_bytes()];
            template::hex(&template::digest(
                parts.into_iter().chain([key.as_os_str().as_encoded_bytes(), issued.key_pem.as_bytes()]),
            ))
        };
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has one");
        vec![
            ("root", self.root.path().to_str().expect("UTF-8").to_owned()),
            ("device", directory.dev().to_string()),
            ("inode", directory.ino().to_string()),
            ("boot", boot.trim().to_owned()),
            ("hidden", self.hidden_name()),
            ("crt.old", sha(&old.fullchain_pem)),
            ("crt.new", sha(&new.fullchain_pem)),
            ("key.old", sha(&old.key_pem)),
            ("key.new", sha(&new.key_pem)),
            ("plan.old", plan(old)),
            ("plan.new", plan(new)),
            ("plan.wanted", plan(wanted)),
            ("pem.crt", old.fullchain_pem.clone()),
            ("pem.key", old.key_pem.clone()),
        ]
    }

    fn job(&self) -> Job {
        let [crt, key] = self.files();
        Job::new("front", "files", Arc::new(Front { crt, key }), Arc::new(Wanted))
    }

    fn look(&self, runtime: &Runtime) {
        let status = runtime.block_on(deploy_core::status(&self.job(), &self.context));
        status.error.iter().for_each(no_defect);
        let preview = runtime.block_on(deploy_core::preview(&self.job(), &self.context));
        preview.error.iter().for_each(no_defect);
        self.bystanders_are_unharmed();
    }

    fn holds_wanted(&self) -> bool {
        let wanted = &MATERIAL.wanted;
        self.live() == [Some(wanted.fullchain_pem.clone().into_bytes()), Some(wanted.key_pem.clone().into_bytes())]
    }

    /// What an interrupted deployment can be settled to: files of its own, and nothing where somebody else's stands.
    fn may_become(&self, before: Option<&[u8]>, after: Option<&[u8]>) {
        let Material { old, new, .. } = &*MATERIAL;
        let own = [&old.fullchain_pem, &old.key_pem, &new.fullchain_pem, &new.key_pem];
        let is_own = |bytes: Option<&[u8]>| bytes.is_none_or(|bytes| own.iter().any(|own| own.as_bytes() == bytes));
        let show = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes[..bytes.len().min(40)].escape_ascii().to_string());
        assert!(before == after || (is_own(before) && is_own(after)), "{:?} became {:?}", show(before), show(after));
    }

    fn bystanders_are_unharmed(&self) {
        for (path, before) in &self.bystanders {
            assert!(path.exists() && stamp(path) == *before, "{} was touched", path.display());
        }
    }
}

/// Inode and time of the last change.
fn stamp(path: &Path) -> (u64, i64, i64) {
    let metadata = path.symlink_metadata().expect("it is there");
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[derive(Debug)]
struct Front {
    crt: PathBuf,
    key: PathBuf,
}

impl Front {
    fn hooks() -> Hooks {
        Hooks::new().with_reload(Reload::Call(Arc::new(Nothing))).with_verify(Verify::Waived)
    }
}

#[async_trait]
impl Target for Front {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(Self::hooks())
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let plan = Plan::new("front")
            .with_file(PlanFile::new(&self.crt, Role::Fullchain, certificate.fullchain_pem()))
            .with_file(PlanFile::new(&self.key, Role::Key, certificate.key_pem()))
            .with_hooks(Self::hooks());
        Ok(Deployment::Files(plan))
    }
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl ReloadCall for Nothing {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Debug)]
struct Wanted;

impl CertificateSource for Wanted {
    fn load(&self, _: &dyn Host) -> Result<Loaded, Error> {
        let wanted = &MATERIAL.wanted;
        let key = SecretBytes::from(wanted.key_pem.clone().into_bytes());
        Ok(Loaded::new(Certificate::from_pem(wanted.fullchain_pem.as_bytes(), &key)?))
    }
}
