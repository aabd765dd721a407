//! A description of a deployment of files: plain data, made by a connector, carried out by the engine.

use std::path::{Component, Path, PathBuf};

use crate::certificate::Certificate;
use crate::context::Context;
use crate::digest::sha256;
use crate::generation::CURRENT;
use crate::hooks::Hooks;
use crate::host::Attributes;
use crate::report::Report;
use crate::secret::SecretBytes;
use crate::settings::{Mode, default_backups};

/// All that has to happen for one target to serve new files.
///
/// A plan does nothing by itself. [`Plan::apply`] has the engine carry it out: all or nothing, and proven.
///
/// ```no_run
/// # async fn example(fullchain: Vec<u8>, key: deploy_core::secret::SecretBytes, context: deploy_core::Context) {
/// use deploy_core::command::Command;
/// use deploy_core::{Hooks, Plan, PlanFile, Reload, Role, Validate, Verify};
///
/// let hooks = Hooks::new()
///     .with_validate(Validate::new(Command::new(["nginx", "-t"])))
///     .with_reload(Reload::Command(Command::new(["nginx", "-s", "reload"])))
///     .with_verify(Verify::endpoints([deploy_core::probe::Endpoint::new("127.0.0.1:443")]));
/// let report = Plan::new("front")
///     .with_file(PlanFile::new("/etc/nginx/tls/www.crt", Role::Fullchain, fullchain))
///     .with_file(PlanFile::new("/etc/nginx/tls/www.key", Role::Key, key))
///     .with_hooks(hooks)
///     .apply(&context)
///     .await;
/// println!("{}", report.outcome.name());
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The target's name: journals, backups and the applied marker go by it. Unique in a state directory.
    pub name: String,
    /// What is to stand where, in the order in which the files are switched. The file that triggers a watcher comes last.
    pub files: Vec<PlanFile>,
    /// Checking, telling and asking the target.
    pub hooks: Hooks,
    /// Owner, group and mode for files that do not exist yet.
    pub defaults: Defaults,
    /// How many earlier deployments can be rolled back to; 3 by default, 0 for none.
    pub backups: usize,
    /// What to do where a destination is a symbolic link.
    pub links: LinkPolicy,
    /// How the files take their places.
    pub layout: Layout,
    /// Accept keys in a directory that other ordinary users can write to.
    pub allow_unsafe_parent: bool,
    /// Write into files that cannot be replaced: a single file that is mounted (as into a container), and one with other hard
    /// links. A reader can then see a part of the new file; a crash is repaired by recovery.
    pub allow_in_place: bool,
    /// The certificate that the files hold. Where it is not given, the engine reads it out of the files by their roles.
    pub certificate: Option<Certificate>,
    /// Files that were read to make this plan, with the SHA-256 of what was read (`None`: did not exist). The engine looks
    /// again under its locks.
    pub reads: Vec<(PathBuf, Option<[u8; 32]>)>,
    /// Goes back to an earlier certificate, so that the regress guard does not apply.
    pub(crate) going_back: bool,
}

impl Plan {
    /// An empty plan for a target.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            files: Vec::new(),
            hooks: Hooks::default(),
            defaults: Defaults::default(),
            backups: default_backups(),
            links: LinkPolicy::default(),
            layout: Layout::default(),
            allow_unsafe_parent: false,
            allow_in_place: false,
            certificate: None,
            reads: Vec::new(),
            going_back: false,
        }
    }

    /// With one more file.
    #[must_use]
    pub fn with_file(mut self, file: PlanFile) -> Self {
        self.files.push(file);
        self
    }

    /// With these hooks.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// With the certificate that the files hold.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// With owner, group and mode for new files.
    #[must_use]
    pub fn with_defaults(mut self, defaults: Defaults) -> Self {
        self.defaults = defaults;
        self
    }

    /// Made from what was read of this file (`None`: there was none), by its real path: see [`crate::Destination`].
    #[must_use]
    pub fn with_read(mut self, path: impl Into<PathBuf>, read: Option<&[u8]>) -> Self {
        self.reads.push((path.into(), read.map(sha256)));
        self
    }

    /// With another number of deployments to keep.
    #[must_use]
    pub fn with_backups(mut self, backups: usize) -> Self {
        self.backups = backups;
        self
    }

    /// With another policy for symbolic links.
    #[must_use]
    pub fn with_links(mut self, links: LinkPolicy) -> Self {
        self.links = links;
        self
    }

    /// With another layout.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Accepting keys in a directory that other ordinary users can write to.
    #[must_use]
    pub fn with_unsafe_parent_allowed(mut self, allowed: bool) -> Self {
        self.allow_unsafe_parent = allowed;
        self
    }

    /// Writing into files that cannot be replaced.
    #[must_use]
    pub fn with_in_place_allowed(mut self, allowed: bool) -> Self {
        self.allow_in_place = allowed;
        self
    }

    /// Carries the plan out; see [`crate::deploy`] for the stages. Needs a Tokio runtime, and uses one blocking thread of it.
    pub async fn apply(self, context: &Context) -> Report {
        crate::engine::apply(self, context).await
    }
}

/// One file of a plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanFile {
    /// Where it is to stand: an absolute path whose parent directory exists.
    pub path: PathBuf,
    /// What is to stand there.
    pub content: Content,
    /// What it is for.
    pub role: Role,
    /// Owner, by name or number; default: as it is, or the plan's default for a new file.
    pub owner: Option<String>,
    /// Group, by name or number; default: as it is, or the plan's default for a new file.
    pub group: Option<String>,
    /// Mode; default: as it is, or the plan's default for a new file.
    pub mode: Option<Mode>,
    /// Written anew whenever another file of the plan changes, although its bytes stay the same: for a server that watches
    /// this file and not the others. It stands last in the plan.
    pub touched: bool,
    /// What two plans are compared by in place of the bytes, where these are random; default: the bytes.
    pub identity: Option<[u8; 32]>,
    /// Extended attributes; default: as they are, or none for a new file. Known where an earlier file is brought back.
    pub(crate) attributes: Option<Attributes>,
}

impl PlanFile {
    /// A file with these bytes.
    pub fn new(path: impl Into<PathBuf>, role: Role, bytes: impl Into<SecretBytes>) -> Self {
        Self::with_content(path.into(), Content::Bytes(bytes.into()), role)
    }

    /// A file that is not to exist.
    pub fn absent(path: impl Into<PathBuf>, role: Role) -> Self {
        Self::with_content(path.into(), Content::Absent, role)
    }

    fn with_content(path: PathBuf, content: Content, role: Role) -> Self {
        Self { path, content, role, owner: None, group: None, mode: None, touched: false, identity: None, attributes: None }
    }

    /// Written anew whenever another file of the plan changes.
    #[must_use]
    pub fn touched(mut self) -> Self {
        self.touched = true;
        self
    }

    /// With this owner, by name or number.
    #[must_use]
    pub fn with_owner(mut self, owner: Option<String>) -> Self {
        self.owner = owner;
        self
    }

    /// With this group, by name or number.
    #[must_use]
    pub fn with_group(mut self, group: Option<String>) -> Self {
        self.group = group;
        self
    }

    /// With this mode.
    #[must_use]
    pub fn with_mode(mut self, mode: Option<Mode>) -> Self {
        self.mode = mode;
        self
    }

    /// With this in place of the bytes where plans are compared, to know what was deployed or rolled back before.
    ///
    /// For formats with random parts. Derive it from all that decides what the file means, and from nothing else.
    #[must_use]
    pub fn with_identity(mut self, identity: [u8; 32]) -> Self {
        self.identity = Some(identity);
        self
    }
}

/// What is to stand at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// Nothing.
    Absent,
    /// A file with these bytes.
    Bytes(SecretBytes),
}

/// What a file is for. Checks of the material, the regress guard, verification and recovery go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// Intermediates.
    Chain,
    /// Leaf, intermediates and private key.
    Combined,
    /// Leaf and intermediates.
    Fullchain,
    /// Private key.
    Key,
    /// Leaf alone.
    Leaf,
    /// Anything else: not looked into, and the report says so.
    Opaque,
}

impl Role {
    /// Whether a file of this role holds, or may hold, a private key.
    #[must_use]
    pub fn holds_key(self) -> bool {
        matches!(self, Self::Combined | Self::Key | Self::Opaque)
    }

    /// Whether a file of this role starts with the leaf.
    #[must_use]
    pub fn holds_leaf(self) -> bool {
        matches!(self, Self::Combined | Self::Fullchain | Self::Leaf)
    }
}

/// Owner, group and mode for files that do not exist yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Defaults {
    /// Owner, by name or number; default: who runs the engine.
    pub owner: Option<String>,
    /// Group, by name or number; default: that of who runs the engine.
    pub group: Option<String>,
    /// Mode; default 0600 for what may hold a key, 0644 for the rest.
    pub mode: Option<Mode>,
}

impl Defaults {
    /// Defaults of one's own; `None` leaves the engine's.
    #[must_use]
    pub fn new(owner: Option<String>, group: Option<String>, mode: Option<Mode>) -> Self {
        Self { owner, group, mode }
    }
}

/// What to do where a destination is a symbolic link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LinkPolicy {
    /// Replace the file that it leads to; the link stays. A dangling link is an error.
    #[default]
    Follow,
    /// Refuse.
    Refuse,
    /// Replace the link itself by a regular file.
    Replace,
}

/// How the files of a deployment take their places.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// Each file replaces the one at its path, by a rename of its own.
    #[default]
    Replace,
    /// `{ generation = "/a/directory" }`: all files go into a new directory in this one, and the symbolic link `current` in
    /// it is switched to that.
    ///
    /// An absolute path. Each file of the deployment is directly in its `current`.
    Generation(PathBuf),
}

impl Layout {
    /// Why a file cannot have this path, by its form alone.
    ///
    /// ```
    /// use deploy_core::Layout;
    /// let layout = Layout::Generation("/etc/nginx/tls/www".into());
    /// assert_eq!(layout.problem_with("/etc/nginx/tls/www/current/www.crt".as_ref()), None);
    /// assert!(layout.problem_with("/etc/nginx/tls/www.crt".as_ref()).is_some());
    /// ```
    #[must_use]
    pub fn problem_with(&self, path: &Path) -> Option<String> {
        let directory = self.directory()?;
        let current = directory.join(CURRENT);
        let misplaced = path.parent() != Some(&*current) || path.file_name().is_none();
        let upwards = directory.components().any(|component| component == Component::ParentDir);
        if !directory.is_absolute() || directory.file_name().is_none() || upwards {
            Some(format!("`{}` cannot be a directory of generations: write its whole path, without `..`", directory.display()))
        } else if misplaced {
            Some(format!(
                "`{}` is not directly in `{}`, where the layout `generation` puts every file",
                path.display(),
                current.display()
            ))
        } else {
            None
        }
    }

    /// The directory of the generations.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Replace => None,
            Self::Generation(directory) => Some(directory),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Layout {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// The same, read in a way that can say what is expected.
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected \"replace\", or a table such as { generation = \"/etc/nginx/tls/www\" }")]
        enum Written {
            Word(Word),
            Table(Table),
        }
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            Replace,
        }
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            generation: PathBuf,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Word(Word::Replace) => Self::Replace,
            Written::Table(table) => Self::Generation(table.generation),
        })
    }
}
