//! What it means when `ssh` itself fails. It says so with status 255 and a sentence (ssh(1)).

use deploy_core::command::CommandOutput;
use deploy_core::secret::withhold;
use deploy_core::{Error, ErrorKind, Retry};

use crate::settings::SshSettings;

/// What `ssh` says, what that means, and what to do. The first that fits counts.
const MEANINGS: &[(&str, ErrorKind, Retry, &str, &str)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        ErrorKind::Unauthenticated,
        Retry::Never,
        "shows another host key than the known one: it was set up anew, or somebody is in between",
        "find out which; only then put the new key into the file of known hosts, or its fingerprint into `host_key`",
    ),
    (
        "Host key verification failed",
        ErrorKind::Unauthenticated,
        Retry::Never,
        "shows a host key that is not known",
        "compare it with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub there), then add it to the file of \
         known hosts, or set `host_key` to its fingerprint",
    ),
    (
        "Permission denied (",
        ErrorKind::Unauthenticated,
        Retry::Never,
        "does not let us log in",
        "put the public key into authorized_keys of that user, and see that `identity` or `agent` names the private one; a key \
         with a passphrase needs an agent",
    ),
    (
        "Too many authentication failures",
        ErrorKind::Unauthenticated,
        Retry::Never,
        "was shown too many keys",
        "name the right one with `identity`",
    ),
    (
        "Could not resolve hostname",
        ErrorKind::Unavailable,
        Retry::Later,
        "has a name that cannot be resolved",
        "correct `host`, or add the name to the DNS",
    ),
    (
        "Bad configuration option",
        ErrorKind::ConfigurationInvalid,
        Retry::Never,
        "cannot be reached: the configuration of ssh has a mistake",
        "correct it, or name another with `config`",
    ),
];

impl SshSettings {
    /// Why `ssh` could not run anything on the machine. For output with status 255.
    #[must_use]
    pub fn failure(&self, output: &CommandOutput) -> Error {
        self.failure_from(&String::from_utf8_lossy(&output.stderr))
    }

    /// The same, from what `ssh` wrote to standard error.
    pub(crate) fn failure_from(&self, said: &str) -> Error {
        let said = withhold(said);
        let name = self.name();
        let found = MEANINGS.iter().find(|(phrase, ..)| said.contains(phrase));
        let (kind, retry, meaning, step) = found.map_or(
            (
                ErrorKind::Unavailable,
                Retry::Later,
                "cannot be reached",
                "see whether it is up and its SSH server can be reached from here, with: ssh -v",
            ),
            |&(_, kind, retry, meaning, step)| (kind, retry, meaning, step),
        );
        let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('@')).collect();
        let error = Error::new(kind, format!("{name} {meaning}")).with_retry(retry).with_next_step(step);
        if lines.is_empty() { error } else { error.with_source(std::io::Error::other(format!("ssh says: {}", lines.join(" ")))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_what_ssh_says_decides_whether_trying_again_can_help() {
        let settings = SshSettings::new("web1");
        for (said, kind, retry) in [
            ("Host key verification failed.", ErrorKind::Unauthenticated, Retry::Never),
            (
                "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\nHost key verification failed.",
                ErrorKind::Unauthenticated,
                Retry::Never,
            ),
            ("root@web1: Permission denied (publickey).", ErrorKind::Unauthenticated, Retry::Never),
            ("ssh: connect to host web1 port 22: Connection refused", ErrorKind::Unavailable, Retry::Later),
            ("ssh: Could not resolve hostname web1: Name or service not known", ErrorKind::Unavailable, Retry::Later),
            ("", ErrorKind::Unavailable, Retry::Later),
        ] {
            let error = settings.failure_from(said);
            assert_eq!((error.kind(), error.retry()), (kind, retry), "{said}");
            assert!(error.to_string().starts_with("web1 ") && !error.next_step().is_empty(), "{error}");
        }
        assert!(settings.failure_from("x HAS CHANGED").to_string().contains("cannot be reached"));
    }
}
