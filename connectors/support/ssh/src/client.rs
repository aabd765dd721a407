//! The command line of the system's `ssh`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use deploy_core::command::Command;

use crate::settings::SshSettings;

/// What no configuration file may say otherwise: nobody is asked, host keys are checked, nothing is forwarded, no other
/// connection is shared.
const ALWAYS: &[&str] = &[
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "ControlMaster=no",
    "ControlPath=none",
    "EscapeChar=none",
    "ConnectionAttempts=1",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
];

impl SshSettings {
    /// The system's `ssh`, bound to run `line` on the machine: for [`deploy_core::host::Host::run`] of the machine that we are
    /// on. `line` is what the login shell of the user there reads; [`crate::quote`] makes one for a POSIX shell. Give it its
    /// input and its timeout as any other command.
    ///
    /// Status 255 means that `ssh` itself failed; [`SshSettings::failure`] then says how.
    pub fn command(&self, line: impl AsRef<OsStr>) -> Command {
        self.command_with(&[], line)
    }

    /// The same, with more options for `ssh`, which win over all others.
    pub(crate) fn command_with(&self, options: &[String], line: impl AsRef<OsStr>) -> Command {
        let mut arguments: Vec<OsString> = ["ssh", "-T", "-a", "-x"].map(OsString::from).to_vec();
        if let Some(config) = &self.config {
            arguments.extend(["-F".into(), config.into()]);
        }
        let mut option = |option: String| arguments.extend(["-o".into(), option.into()]);
        // Of two values of an option the first one counts (ssh_config(5)).
        options.iter().for_each(|given| option(given.clone()));
        ALWAYS.iter().for_each(|always| option((*always).to_owned()));
        let patience = self.connect_timeout.duration().as_secs().max(1);
        option(format!("ConnectTimeout={patience}"));
        option(format!("ServerAliveInterval={patience}"));
        if let Some(identity) = &self.identity {
            option(format!("IdentityFile={}", value(identity)));
            option("IdentitiesOnly=yes".to_owned());
        }
        if let Some(certificate) = &self.certificate {
            option(format!("CertificateFile={}", value(certificate)));
        }
        if let Some(agent) = &self.agent {
            option(format!("IdentityAgent={}", value(agent)));
        }
        if let Some(known_hosts) = &self.known_hosts {
            option(format!("UserKnownHostsFile={}", value(known_hosts)));
            option("GlobalKnownHostsFile=none".to_owned());
        }
        if let Some(fingerprint) = &self.host_key {
            option("UserKnownHostsFile=none".to_owned());
            option("GlobalKnownHostsFile=none".to_owned());
            option(format!("KnownHostsCommand={}", only_if_pinned(fingerprint)));
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        if let Some(user) = &self.user {
            arguments.extend(["-l".into(), user.into()]);
        }
        if !self.jump.is_empty() {
            arguments.extend(["-J".into(), self.jump.join(",").into()]);
        }
        arguments.extend(["--".into(), self.host.clone().into(), line.as_ref().to_owned()]);
        Command::new(arguments)
    }
}

/// A path as a value in the configuration language of `ssh`, which expands `%`.
fn value(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

/// A known host is what this prints: the key that the host shows, if it has this fingerprint. Of a fingerprint alone, `ssh`
/// can make nothing (ssh_config(5), `KnownHostsCommand` and its tokens, OpenSSH 8.5).
fn only_if_pinned(fingerprint: &str) -> String {
    let program = format!(r#"BEGIN {{ if (ARGV[1] == "{fingerprint}") print ARGV[2], ARGV[3], ARGV[4] }}"#);
    format!("/usr/bin/awk '{program}' %f %H %t %K")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_line_is_one_argument_after_the_host_and_host_keys_are_always_checked() {
        let settings = SshSettings {
            user: Some("deploy".to_owned()),
            port: Some(2222),
            identity: Some(PathBuf::from("/etc/my keys/100%")),
            jump: vec!["a".to_owned(), "b".to_owned()],
            ..SshSettings::new("web1")
        };
        let command = settings.command("nginx -t");
        let words: Vec<_> = command.arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        assert_eq!(words[words.len() - 3..], ["--", "web1", "nginx -t"]);
        for option in ["StrictHostKeyChecking=yes", "BatchMode=yes", "IdentityFile=\"/etc/my keys/100%%\"", "IdentitiesOnly=yes"]
        {
            assert!(words.windows(2).any(|pair| pair == ["-o", option]), "{option} in {words:?}");
        }
        assert!(words.windows(2).any(|pair| pair == ["-J", "a,b"]) && words.windows(2).any(|pair| pair == ["-p", "2222"]));
        assert!(command.environment.is_empty());
    }
}
