//! What can be wrong with settings that many connectors share, as far as can be told without looking at the disk.
//!
//! Each check takes the path of the setting, as in `files[0].owner`, for the error to name.

use std::path::Path;

use super::{CommandSetting, Mode, ReloadSetting};
use crate::connector::SettingError;
use crate::probe::Endpoint;

/// A path of a file, by its form alone: absolute, without zero bytes, and not of a directory.
///
/// ```
/// use deploy_core::settings::check_path;
/// assert!(check_path("key", "/etc/tls/www.key".as_ref()).is_ok());
/// assert_eq!(check_path("key", "/etc/tls/".as_ref()).unwrap_err().path, "key");
/// ```
///
/// # Errors
/// It cannot be the path of a file.
pub fn check_path(setting: &str, path: &Path) -> Result<(), SettingError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let refuse = |message: String| Err(SettingError::new(setting, message));
    if bytes.is_empty() {
        refuse("is empty".to_owned())
    } else if !path.is_absolute() {
        refuse(format!("`{}` is not an absolute path; it must start with /", path.display()))
    } else if bytes.contains(&0) {
        refuse("contains a zero byte".to_owned())
    } else if [&b"/"[..], b"/.", b"/.."].iter().any(|end| bytes.ends_with(end)) {
        refuse(format!("`{}` names a directory; a file is needed", path.display()))
    } else {
        Ok(())
    }
}

/// A command. An empty array means "run nothing"; an empty program is a slip.
///
/// # Errors
/// The name of the program is empty.
pub fn check_command(setting: &str, command: &CommandSetting) -> Result<(), SettingError> {
    match command.command() {
        Some(command) if command.arguments.first().is_some_and(|program| program.is_empty()) => {
            Err(SettingError::new(setting, "the name of the program is empty; write [] to run nothing"))
        }
        _ => Ok(()),
    }
}

/// How a target is told: its command, its unit, or its pid file.
///
/// # Errors
/// The command is not one, the unit has no name, or the pid file no path.
pub fn check_reload(setting: &str, reload: &ReloadSetting) -> Result<(), SettingError> {
    match reload {
        ReloadSetting::Command(command) => check_command(setting, command),
        ReloadSetting::Systemd(unit) if unit.systemd.trim().is_empty() => {
            Err(SettingError::new(format!("{setting}.systemd"), "the name of the unit is empty"))
        }
        ReloadSetting::Systemd(_) => Ok(()),
        ReloadSetting::Signal(signal) => check_path(&format!("{setting}.pid_file"), &signal.pid_file),
    }
}

/// A user or a group, by name or number.
///
/// # Errors
/// It is empty, or both in one.
pub fn check_principal(setting: &str, name: Option<&str>) -> Result<(), SettingError> {
    match name {
        Some(name) if name.trim().is_empty() => Err(SettingError::new(setting, "is empty; leave it out to keep what is there")),
        Some(name) if name.contains(':') => Err(SettingError::new(
            setting,
            format!("`{name}` contains a colon; user and group are two settings, `owner` and `group`"),
        )),
        _ => Ok(()),
    }
}

/// The mode of a file that holds a private key.
///
/// # Errors
/// It opens the key to every user.
pub fn check_key_mode(setting: &str, mode: Option<Mode>) -> Result<(), SettingError> {
    match mode {
        Some(mode) if mode.bits() & 0o007 != 0 => {
            Err(SettingError::new(setting, format!("{mode} opens the private key to every user; end it with 0, as in 0640")))
        }
        _ => Ok(()),
    }
}

/// The endpoints of `verify`.
///
/// # Errors
/// The first that cannot be right, by its place in the list.
pub fn check_endpoints(setting: &str, endpoints: Option<&[Endpoint]>) -> Result<(), SettingError> {
    for (index, endpoint) in endpoints.unwrap_or_default().iter().enumerate() {
        endpoint.check().map_err(|error| SettingError::new(format!("{setting}[{index}]"), error.to_string()))?;
    }
    Ok(())
}
