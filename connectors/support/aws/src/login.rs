//! Who asks: what the settings of a target say, and else the chain of the AWS SDKs.

use std::path::PathBuf;

use deploy_core::{Context, Error, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::credentials::{AccessKey, Credentials};
use crate::profiles::Profiles;
use crate::sources::{self, Surroundings};

/// What settings say of who asks; whatever they leave open is found as the AWS SDKs find it, see [the crate](crate).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Login {
    /// An access key, instead of every other source.
    pub access_key: Option<AccessKey>,
    /// A profile of `~/.aws/config` and `~/.aws/credentials`.
    pub profile: Option<String>,
    /// A role that is assumed with what was found.
    pub role: Option<Role>,
    /// Whom STS and SSO are trusted by, instead of the machine's own roots.
    pub ca_file: Option<PathBuf>,
}

/// A role that is assumed (STS `AssumeRole`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Role {
    /// Its ARN: `arn:aws:iam::123456789012:role/certificates`.
    pub arn: String,
    /// What the role's trust policy asks for as `sts:ExternalId`, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// What the session is called in AWS's logs; default `certdeploy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
}

impl Role {
    /// A role by its ARN.
    pub fn new(arn: impl Into<String>) -> Self {
        Self { arn: arn.into(), external_id: None, session_name: None }
    }
}

impl Login {
    /// The region: `AWS_REGION`, `AWS_DEFAULT_REGION`, or that of the profile.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigurationInvalid`]: nobody says, or a file of profiles cannot be used.
    pub fn region(&self, context: &Context) -> Result<String, Error> {
        let around = Surroundings::new(context, "", self.ca_file.as_deref());
        if let Some(region) = around.variable("AWS_REGION").or_else(|| around.variable("AWS_DEFAULT_REGION")) {
            return Ok(region);
        }
        let profiles = Profiles::load(self.profile.as_deref(), &around)?;
        profiles.chosen().and_then(|profile| profile.get("region")).map(str::to_owned).ok_or_else(|| {
            Error::new(ErrorKind::ConfigurationInvalid, "nobody says in which region of AWS the target is")
                .with_next_step("set `region`, or the ARN, in the target; then run again")
        })
    }

    /// Credentials for this region, from the first source that has any.
    ///
    /// # Errors
    /// There are none, or a source that is configured cannot be used. Those that are remote say whether trying again can help.
    pub async fn credentials(&self, region: &str, context: &Context) -> Result<Credentials, Error> {
        let around = Surroundings::new(context, region, self.ca_file.as_deref());
        let found = match &self.access_key {
            Some(key) => key.resolve(context)?,
            None => sources::find(self.profile.as_deref(), &around).await?,
        };
        match &self.role {
            Some(role) => sources::assume(role, found, &around).await,
            None => Ok(found),
        }
    }
}
