//! The connector for Kubernetes: one Secret in one namespace or many, by the API.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`K8s`] and gets targets of the kind `k8s`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_k8s::K8s>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     kubeconfig = "/etc/certdeploy/kubeconfig"
//!     namespaces = ["web", "shop"]
//!     secret     = "www-tls"
//!     verify     = [{ connect = "203.0.113.7:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("k8s").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of Kubernetes (its documentation, "Server-Side Apply" and "API Concepts"):
//! - A Secret is one object: a certificate cannot lie beside the live one. One request replaces certificate and key together.
//! - Server-side apply knows an owner for every entry. What others own stays, and what would change it is refused (409).
//! - `metadata.resourceVersion` in the request makes it refused (409) if the object has changed since.
//! - `dryRun=All` does everything but the writing: defaults, validation, admission webhooks.
//! - The type of a Secret never changes, and the entries of an immutable one never do. Then it has to be made anew.
//! - It takes everything for a certificate: whether the pair fits, who serves it and whether they noticed, it does not know.
//!
//! `kube` reads the kubeconfig and `k8s-openapi` has the types. Requests go through `deploy-http` and not through kube's own client
//! (5.0), which logs the bodies of answers that it cannot read, has no bounds, takes the process's crypto provider, and runs
//! credential plugins without a time limit and with everything that the process has in its environment.

mod access;
mod client;
mod config;
mod object;
mod refusal;
mod target;

pub use config::{K8sSettings, SecretType, Workload, WorkloadKind};

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `k8s`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct K8s;

impl Connector for K8s {
    const KIND: &'static str = "k8s";
    const SUMMARY: &'static str = "Kubernetes: a Secret in one namespace or many, by the API";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_staged_validation().with_verification();
    type Settings = K8sSettings;

    fn build(name: &str, settings: K8sSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check(name)?;
        Ok(Box::new(target::K8sTarget::new(name, settings)))
    }
}
