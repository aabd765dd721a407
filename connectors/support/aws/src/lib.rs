//! What connectors to AWS share: credentials, signatures, endpoints, and what AWS's common errors mean.
//!
//! ```no_run
//! use deploy_aws::{Endpoint, Login, Service};
//! use deploy_core::{Context, Error};
//!
//! # async fn example(context: Context) -> Result<(), Error> {
//! let login = Login::default();
//! let region = login.region(&context)?;
//! let credentials = login.credentials(&region, &context).await?;
//! let acm = Service::new(Endpoint::of("acm", &region), credentials, None, &context)?;
//! let answer = acm.call("CertificateManager.ListCertificates", &serde_json::json!({})).await?;
//! assert_eq!(answer.status(), 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Where credentials come from
//!
//! From the first of these that has any; one that is configured and fails is an error, and not passed over:
//!
//! | source | configured by |
//! |---|---|
//! | an access key | the settings of the target |
//! | environment | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; not if the settings name a profile |
//! | role of the profile | `role_arn` with `source_profile`, `credential_source` or `web_identity_token_file` |
//! | web identity | `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`; not if the settings name a profile |
//! | the profile | `sso_session` or `sso_start_url`, an access key, `credential_process`: in this order |
//! | container | `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` (ECS), `AWS_CONTAINER_CREDENTIALS_FULL_URI` (EKS) |
//! | instance | version 2 of the instance metadata service, unless `AWS_EC2_METADATA_DISABLED` |
//!
//! The profile is the one of the settings, or that of `AWS_PROFILE`, or `default`, in `AWS_CONFIG_FILE` (`~/.aws/config`) and
//! `AWS_SHARED_CREDENTIALS_FILE` (`~/.aws/credentials`). A role of the settings is assumed with whatever was found.
//!
//! Not supported: roles that ask for a second factor, Cognito, `aws login` sessions, version 1 of the instance metadata
//! service, and refreshing the token of `aws sso login`.

mod arn;
mod credentials;
mod endpoint;
mod login;
mod problem;
mod profiles;
mod service;
mod signature;
mod sources;

pub use arn::Arn;
pub use credentials::{AccessKey, Credentials};
pub use endpoint::{Endpoint, Variant};
pub use login::{Login, Role};
pub use problem::Problem;
pub use service::Service;
