//! How a machine is reached. The doc comments are the reference page.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy_core::SettingError;
use deploy_core::settings::{Period, check_path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A machine that is reached with the system's `ssh`, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SshSettings {
    /// The machine: a name, an address, or a `Host` of the configuration of `ssh`.
    ///
    /// Required. Example: `host = "web1.example.com"`.
    pub host: String,

    /// The user to log in as.
    ///
    /// Default: what `ssh` would take: its configuration, else the user that certdeploy runs as.
    /// Example: `user = "deploy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,

    /// The port of the SSH server.
    ///
    /// Default: what `ssh` would take: its configuration, else 22. Example: `port = 2222`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,

    /// The private key to log in with. It must not have a passphrase; one that has belongs in an agent.
    ///
    /// Default: what `ssh` would take. With it, no other key is tried. Example: `identity = "/etc/certdeploy/id_ed25519"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,

    /// The certificate of that key, where an authority of the site signs them.
    ///
    /// Default: the file beside the key with `-cert.pub` at its end, if there is one.
    /// Example: `certificate = "/etc/certdeploy/id_ed25519-cert.pub"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,

    /// The socket of the agent that holds the keys. The environment is not asked for it.
    ///
    /// Default: the one that the configuration of `ssh` names. Example: `agent = "/run/certdeploy/agent.sock"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<PathBuf>,

    /// The file with the host's key, or with an authority for it (`@cert-authority`). No other file counts then.
    ///
    /// The key of the host must be known: one that is not is refused, and nobody is asked.
    /// Default: what `ssh` takes: `~/.ssh/known_hosts` and `/etc/ssh/ssh_known_hosts`.
    /// Example: `known_hosts = "/etc/certdeploy/known_hosts"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,

    /// The fingerprint of the host's key, as `ssh-keygen -l` prints it, in place of a file of known hosts.
    ///
    /// It has to be that of the key that `ssh` negotiates, as a rule the Ed25519 one.
    /// Default: absent. Example: `host_key = "SHA256:jg3Nc1BFVV9HPeYE0SZ3VTuGWzE2hSG5j9Zy0K0hLqw"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_key: Option<String>,

    /// The machines to go through, each as `[USER@]HOST[:PORT]`. Their keys and users come from the configuration of `ssh`.
    ///
    /// Default: none but those of the configuration of `ssh`. Example: `jump = ["bastion.example.com"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jump: Vec<String>,

    /// The configuration file of `ssh` that counts, in place of `~/.ssh/config` and `/etc/ssh/ssh_config`.
    ///
    /// What is set here wins over it, and it cannot turn off the check of host keys.
    /// Default: those two. Example: `config = "/etc/certdeploy/ssh_config"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,

    /// How long it may take to connect, in whole seconds. A connection that is silent for three of these is given up.
    ///
    /// Default: `"10s"`. Example: `connect_timeout = "30s"`.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Period,

    /// Whether everything is done as root, with `sudo -n`. Needs a rule with `NOPASSWD`.
    ///
    /// Default: `false`. Example: `sudo = true`.
    #[serde(default)]
    pub sudo: bool,

    /// The directory on that machine for journals, locks and what is kept of each target. Made if needed, with mode 0700.
    ///
    /// Not the state directory of a certdeploy that runs on that machine itself.
    /// Default: `/var/lib/certdeploy-remote`. Example: `state_dir = "/srv/deploy/certdeploy-state"`.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
}

impl SshSettings {
    /// A machine, with everything else at its default.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            user: None,
            port: None,
            identity: None,
            certificate: None,
            agent: None,
            known_hosts: None,
            host_key: None,
            jump: Vec::new(),
            config: None,
            connect_timeout: default_connect_timeout(),
            sudo: false,
            state_dir: default_state_dir(),
        }
    }

    /// What is wrong with them, as far as can be told without a connection.
    ///
    /// # Errors
    /// The first setting that cannot be right.
    pub fn check(&self) -> Result<(), SettingError> {
        check_word("host", &self.host)?;
        self.user.as_deref().map_or(Ok(()), |user| check_word("user", user))?;
        if self.port == Some(0) {
            return Err(SettingError::new("port", "is 0; ports start at 1"));
        }
        for (index, jump) in self.jump.iter().enumerate() {
            check_word(&format!("jump[{index}]"), jump)?;
        }
        let files = [
            ("identity", &self.identity),
            ("certificate", &self.certificate),
            ("agent", &self.agent),
            ("known_hosts", &self.known_hosts),
            ("config", &self.config),
        ];
        for (setting, path) in files.into_iter().filter_map(|(setting, path)| Some((setting, path.as_deref()?))) {
            check_path(setting, path)?;
            check_plain(setting, path)?;
        }
        check_path("state_dir", &self.state_dir)?;
        if let Some(fingerprint) = &self.host_key {
            check_fingerprint(fingerprint)?;
            if self.known_hosts.is_some() {
                return Err(SettingError::new("host_key", "a fingerprint and a file of known hosts exclude each other"));
            }
        }
        Ok(())
    }

    /// What the machine is called in reports.
    #[must_use]
    pub fn name(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{user}{}{port}", self.host)
    }
}

/// A word of a command line: nothing that `ssh` could take for an option or for more than one word.
fn check_word(setting: &str, word: &str) -> Result<(), SettingError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.:@[]%/".contains(character);
    if word.is_empty() {
        return Err(SettingError::new(setting, "is empty"));
    }
    if word.starts_with('-') || !word.chars().all(plain) {
        return Err(SettingError::new(setting, format!("`{word}` cannot be one: write letters, digits, and what names have")));
    }
    Ok(())
}

/// The configuration language of `ssh` has quotes, and no way to write one in them; it expands variables.
fn check_plain(setting: &str, path: &Path) -> Result<(), SettingError> {
    let odd = |character: char| character.is_control() || "\"'\\$".contains(character);
    match path.to_str() {
        Some(text) if !text.contains(odd) => Ok(()),
        _ => Err(SettingError::new(setting, "has characters that `ssh` cannot take: quotes, `\\`, `$`, or no text at all")),
    }
}

fn check_fingerprint(fingerprint: &str) -> Result<(), SettingError> {
    let digest = fingerprint.strip_prefix("SHA256:").unwrap_or_default();
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    if digest.len() == 43 && digest.bytes().all(base64) {
        return Ok(());
    }
    let message = format!("`{fingerprint}` is no fingerprint: write SHA256: and 43 characters, as `ssh-keygen -l` prints them");
    Err(SettingError::new("host_key", message))
}

fn default_connect_timeout() -> Period {
    Period::new(Duration::from_secs(10))
}

fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/certdeploy-remote")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), String> {
        let settings: SshSettings = serde_json::from_str(json).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| format!("{}: {error}", error.path))
    }

    #[test]
    fn what_ssh_could_take_for_something_else_is_refused() {
        assert_eq!(check(r#"{"host": "web1", "user": "deploy", "port": 22, "jump": ["root@[2001:db8::1]:22"]}"#), Ok(()));
        for (json, path) in [
            (r#"{"host": "-oProxyCommand=id"}"#, "host: "),
            (r#"{"host": "web1 id"}"#, "host: "),
            (r#"{"host": ""}"#, "host: "),
            (r#"{"host": "web1", "user": "-l"}"#, "user: "),
            (r#"{"host": "web1", "port": 0}"#, "port: "),
            (r#"{"host": "web1", "jump": ["a,b"]}"#, "jump[0]: "),
            (r#"{"host": "web1", "identity": "id"}"#, "identity: "),
            (r#"{"host": "web1", "identity": "/a\"b"}"#, "identity: "),
            (r#"{"host": "web1", "known_hosts": "/$HOME"}"#, "known_hosts: "),
            (r#"{"host": "web1", "host_key": "MD5:00"}"#, "host_key: "),
            (r#"{"host": "web1", "state_dir": "state"}"#, "state_dir: "),
        ] {
            let error = check(json).unwrap_err();
            assert!(error.starts_with(path), "{json}: {error}");
        }
    }

    #[test]
    fn a_fingerprint_and_known_hosts_exclude_each_other() {
        let fingerprint = format!("SHA256:{}", "A".repeat(43));
        assert_eq!(check(&format!(r#"{{"host": "web1", "host_key": "{fingerprint}"}}"#)), Ok(()));
        let both = check(&format!(r#"{{"host": "web1", "host_key": "{fingerprint}", "known_hosts": "/k"}}"#)).unwrap_err();
        assert!(both.contains("exclude each other"), "{both}");
    }
}
