//! The agent: reads a configuration, has the engine deploy, and says what came of it.
//!
//! The program `certdeploy` is this crate with the standard connectors. An agent with others is as short:
//!
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     certdeploy::run(certdeploy::registry() /* .with::<MyConnector>() */)
//! }
//! ```
//!
//! The exit codes are those of [`deploy_core::Outcome::exit_code`], and 2 for a wrong configuration or command line. Of
//! several, the most severe counts: 5, 1, 4, 8, 6, 7, 3, 2, 10, 0.

mod cli;
mod commands;
mod config;
mod environment;
mod exit;
mod failure;
#[cfg(test)]
mod fixtures;
mod nearest;
mod output;
mod reference;
mod service;
mod session;
mod signals;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use deploy_core::Registry;
use deploy_core::host::Local;

pub use output::json::schemas;
pub use reference::configuration_reference;

/// The standard connectors, each behind the cargo feature of its name.
macro_rules! connectors {
    ($($kind:literal => $connector:path,)*) => {
        /// The connectors that this build has.
        #[must_use]
        pub fn registry() -> Registry {
            let registry = Registry::new();
            $(
                #[cfg(feature = $kind)]
                let registry = registry.with::<$connector>();
            )*
            #[cfg(feature = "ssh")]
            let registry = registry.with_route::<deploy_ssh::Ssh>();
            registry
        }

        /// The kinds of all standard connectors, built in or not. Each is the name of its cargo feature.
        const STANDARD: &[&str] = &[$($kind),*];
    };
}

connectors! {
    "apache" => deploy_apache::Apache,
    "aws-acm" => deploy_aws_acm::AwsAcm,
    "azure-keyvault" => deploy_azure_keyvault::AzureKeyvault,
    "caddy" => deploy_caddy::Caddy,
    "caddy-api" => deploy_caddy_api::CaddyApi,
    "dovecot" => deploy_dovecot::Dovecot,
    "envoy" => deploy_envoy::Envoy,
    "exec" => deploy_exec::Exec,
    "f5" => deploy_f5::F5,
    "files" => deploy_files::Files,
    "haproxy" => deploy_haproxy::Haproxy,
    "iis" => deploy_iis::Iis,
    "java-keystore" => deploy_java_keystore::JavaKeystore,
    "k8s" => deploy_k8s::K8s,
    "lighttpd" => deploy_lighttpd::Lighttpd,
    "nginx" => deploy_nginx::Nginx,
    "pkcs12" => deploy_pkcs12::Pkcs12,
    "postfix" => deploy_postfix::Postfix,
    "ssh" => deploy_files::RemoteFiles,
    "traefik" => deploy_traefik::Traefik,
    "webhook" => deploy_webhook::Webhook,
    "windows-store" => deploy_windows_store::WindowsStore,
}

/// Runs the program: reads the command line, does what it asks, prints, and returns the exit code.
///
/// Takes its arguments from [`std::env::args_os`] and starts a Tokio runtime where a command needs one, so call it from a
/// plain `main`.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "nobody has a use for it afterwards, and `run(registry())` reads well")]
pub fn run(registry: Registry) -> ExitCode {
    environment::forbid_core_files();
    ExitCode::from(commands::run(std::env::args_os(), &registry))
}

/// Reads a configuration with the files of `certdeploy.d` beside it and builds its targets, as `check-config` does. Looks at
/// nothing that it names, but for whether two targets write one file. Returns what the operator should know.
///
/// # Errors
/// Everything that is wrong with it, one problem a line, each with its file, line and column.
pub fn check_configuration(path: &Path, registry: &Registry) -> Result<Vec<String>, impl Error + use<>> {
    config::load(path, registry, &Local::new())
        .map(|configuration| configuration.warnings.iter().map(ToString::to_string).collect())
}
