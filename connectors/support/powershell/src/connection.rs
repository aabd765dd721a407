//! The ways to a Windows host.

use deploy_core::{Context, Error, SettingError};
use deploy_ssh::SshSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::answer::{self, Answer};
use crate::library::Call;
use crate::winrm::WinrmSettings;
use crate::{random, script, ssh};

/// How a Windows host is reached: `{ winrm = { ... } }` or `{ ssh = { ... } }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Connection {
    /// Over WinRM, with HTTPS.
    Winrm(WinrmSettings),
    /// Over SSH, with the system's own `ssh` and Windows' OpenSSH server. `sudo` and `state_dir` mean nothing there.
    Ssh(SshSettings),
}

impl Connection {
    /// What is wrong with it, as far as can be told without a call.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), SettingError> {
        match self {
            Self::Winrm(settings) => settings.check("connection.winrm"),
            Self::Ssh(settings) => ssh::check(settings, "connection.ssh"),
        }
    }

    /// Runs a script of the library once, in Windows PowerShell 5.1.
    ///
    /// # Errors
    /// The host is not reached, or refuses, or its answer is none. What the script did is not known then, unless the error
    /// is its own; every script can be run again.
    pub async fn call<C: Call>(&self, call: &C, context: &Context) -> Result<Answer<C::Answer>, Error> {
        let nonce = random::uuid(context)?;
        let input = script::line(C::SCRIPT, call, &nonce)?;
        let output = match self {
            Self::Winrm(settings) => settings.run(&script::command(), &input, context).await?,
            Self::Ssh(settings) => ssh::run(settings, &script::command(), input, context)?,
        };
        answer::read(&output, &nonce)
    }
}
