//! What the program takes from its surroundings. Nothing else in the workspace reads the environment.

use std::path::PathBuf;

use deploy_core::secret::SecretString;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;

/// The value of an environment variable that is text.
#[expect(clippy::disallowed_methods, reason = "this is the program, and the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<SecretString> {
    std::env::var(name).ok().map(SecretString::from)
}

/// Where state is kept unless the operator says otherwise: `/var/lib/certdeploy` for root, the XDG state home for others.
/// `None` if there is no home directory either.
pub(crate) fn default_state_directory() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from("/var/lib/certdeploy"));
    }
    state_home(absolute_variable("XDG_STATE_HOME"), absolute_variable("HOME"))
}

/// Whether the program runs as root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Keeps private keys out of core files.
pub(crate) fn forbid_core_files() {
    // Lowering a limit cannot fail; if a sandbox forbids the call, the program is no worse off than before it.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
}

/// The XDG Base Directory Specification has relative paths ignored.
#[expect(clippy::disallowed_methods, reason = "this is the program, and the one place that reads the environment")]
fn absolute_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn state_home(xdg: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let base = xdg.or_else(|| home.map(|home| home.join(".local/state")))?;
    Some(base.join("certdeploy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_xdg_state_home_wins_over_the_home_directory() {
        let home = || Some(PathBuf::from("/home/a"));
        assert_eq!(state_home(Some("/s".into()), home()), Some(PathBuf::from("/s/certdeploy")));
        assert_eq!(state_home(None, home()), Some(PathBuf::from("/home/a/.local/state/certdeploy")));
        assert_eq!(state_home(None, None), None);
    }
}
