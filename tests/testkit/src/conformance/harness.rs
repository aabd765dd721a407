//! What the author of a connector writes: a world to try it in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy_core::Connector;
use deploy_core::host::Host;
use serde::{Deserialize, Serialize};

use crate::pki::KeyKind;
use crate::tree::Tree;

/// The name that the certificates of the suite are for. A world serves at least this one.
pub const NAME: &str = "www.example.test";

/// An isolated world for one case: what a connector deploys to, in a directory and on ports of its own, gone when it is
/// dropped. Every case starts a new one, and many run at once.
pub trait Harness: Sized + 'static {
    /// The connector that is tried.
    type Connector: Connector;

    /// What can be made to go wrong in this world. Cases that need another fault are skipped, and say so; a fault that a
    /// declared capability is proven with must be here.
    const FAULTS: &'static [Fault];

    /// What the remote says is missing with [`Fault::Forbidden`].
    const PERMISSION: &'static str = "";

    /// Whether [`Self::served`] gives the whole chain and not the leaf alone.
    const SHOWS_CHAIN: bool = true;

    /// Starts a world, with nothing deployed yet, in an empty directory of its own: a server that listens, or one that cannot
    /// run without a certificate and that the first reload starts.
    ///
    /// # Errors
    /// One sentence that says what is missing on this machine. A world that cannot be started fails every case.
    fn start(directory: &Path) -> Result<Self, String>;

    /// The machine that it deploys to, where that is reached in another way than this process reaches its own: made anew for
    /// every process, from what [`Self::start`] left in the directory.
    fn host(_directory: &Path) -> Option<Arc<dyn Host>> {
        None
    }

    /// The target as the operator would configure it. The endpoints of `verify` ask for [`NAME`]; a verification that fails
    /// takes as long as its timeout, so a few seconds are right for it.
    fn settings(&self) -> Settings<Self>;

    /// What is served now, leaf first, each as DER: read by other means than the connector or the engine. `None` while
    /// nothing is served.
    fn served(&self) -> Option<Vec<Vec<u8>>>;

    /// Everything that a deployment may change, to the last bit: destinations, objects of the remote. What certdeploy keeps
    /// for itself is left out.
    fn state(&self) -> Tree;

    /// The part of it that belongs to others and that no deployment may touch. It should not be empty where the remote is
    /// shared.
    fn foreign(&self) -> Tree {
        Tree::of_objects([])
    }

    /// Has things go wrong in this way from now on, or only once where [`Fault`] says so. Only faults of [`Self::FAULTS`].
    fn break_with(&mut self, fault: Fault);

    /// Ends every fault.
    fn heal(&mut self);

    /// [`Self::FAULTS`], for a world that finds out when it is run. Has to be the same every time.
    fn faults() -> &'static [Fault] {
        Self::FAULTS
    }

    /// [`Self::PERMISSION`], for a world that finds out when it is run.
    fn permission() -> &'static str {
        Self::PERMISSION
    }

    /// Why a case that could be tried is left out of this world's suite; shown in its place. For a world that others run in
    /// full: the second program for one remote, say.
    fn left_out(_case: &str) -> Option<&'static str> {
        None
    }

    /// Whether the target can serve keys of this kind so that the engine sees it. Others have to be refused, or taken back, with
    /// nothing changed in the end.
    fn serves(_: KeyKind) -> bool {
        true
    }

    /// Passwords and tokens of the settings, at least 16 characters long, each with the file that it is in: they must show up
    /// nowhere else.
    fn secrets(&self) -> Vec<(String, PathBuf)> {
        Vec::new()
    }

    /// Directories of the world where keys belong, for a remote that is one. Files of a plan are known anyway. What is in them has
    /// to be closed to others all the same.
    fn keeps_keys_in(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Begins something that a hot update must not disturb, such as half a request on an open connection. What is returned
    /// finishes it. Needed by connectors that declare `hot_update`.
    fn begin_work(&self) -> Option<Work> {
        None
    }
}

/// The settings of a harness's connector.
pub type Settings<H> = <<H as Harness>::Connector as Connector>::Settings;

/// Finishes what [`Harness::begin_work`] began, or says why it cannot.
pub type Work = Box<dyn FnOnce() -> Result<(), String>>;

/// A way for things to go wrong in a [`Harness`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// The target's checker refuses the next new certificate that it is shown, and is content with the old one. For an API:
    /// its dry run refuses it.
    CheckerRefuses,
    /// The target's checker does not end.
    CheckerHangs,
    /// The next reload fails, and what comes after it works. For an API: the next switch is refused.
    ReloadFails,
    /// Every reload fails and the target goes on with what it has. For an API: it takes the next switch, goes on serving the
    /// old certificate, and then refuses every switch.
    ReloadAlwaysFails,
    /// The next reload does not end, and what comes after it works. For an API: the next switch is not answered.
    ReloadHangs,
    /// The target says that it took the next certificate, and goes on serving the old one.
    Ignored,
    /// After the next reload or switch something else is served than what was deployed; going back works.
    ServesAnother,
    /// The remote does not know who asks (401).
    Unauthenticated,
    /// The remote knows who asks, who may not change anything (403).
    Forbidden,
    /// What the settings name is not there (404).
    Missing,
    /// Between the next look and the next change somebody else changes the same thing (409, 412).
    Overtaken,
    /// The next request is refused because there are too many, with a `Retry-After` of one second (429).
    RateLimited,
    /// The next request is refused because the remote is busy, with a `Retry-After` of one second (503).
    Busy,
    /// The connection of the next change breaks before the remote takes the request.
    DropsBefore,
    /// The connection of the next change breaks when the remote has done what it says.
    DropsAfter,
    /// Every change reaches the remote twice, and what is answered is the answer to the second time.
    ArrivesTwice,
    /// Every answer takes a tenth of a second.
    Slow,
    /// No request is answered.
    Silent,
    /// The remote shows a certificate that nobody trusts.
    UntrustedTls,
    /// An upload of several requests breaks off after the first one, as often as it is tried within one deployment.
    PartialUpload,
}
