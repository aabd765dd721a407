//! Targets for tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploy_core::certificate::PemFiles;
use deploy_core::host::Local;
use deploy_core::{Capabilities, Certificate, Context, Deployment, Error, ErrorKind, Hooks, Recovery, Reload, Remote, Target};

use crate::config::{ConfiguredTarget, Machine};

/// A target that has a reload, and cannot be deployed to.
#[derive(Debug)]
struct Fake(Option<Reload>);

#[async_trait]
impl Target for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(Hooks::new().with_reload(self.0.clone()))
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Err(Error::new(ErrorKind::Internal, "this target is for tests"))
    }
}

/// A target of the certificate `www` and of kind `a`.
pub(crate) fn target(name: &str, reload: Option<Reload>) -> ConfiguredTarget {
    ConfiguredTarget {
        name: name.to_owned(),
        kind: "a".to_owned(),
        certificate: "www".to_owned(),
        service: None,
        machine: None,
        timeout: None,
        target: Arc::new(Fake(reload)),
        source: Arc::new(PemFiles::new("/c", "/k")),
    }
}

impl ConfiguredTarget {
    /// Of another kind.
    pub(crate) fn of_kind(self, kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..self }
    }

    /// As a part of a service.
    pub(crate) fn in_service(self, service: &str) -> Self {
        Self { service: Some(service.to_owned()), ..self }
    }

    /// On another machine, which is this one by another name.
    pub(crate) fn on(self, name: &str) -> Self {
        let machine = Machine::new(name.into(), Remote::new(Arc::new(Local::new()), Path::new("/nowhere").join(name)));
        Self { machine: Some(machine), ..self }
    }

    /// With a time limit in seconds.
    pub(crate) fn within(self, seconds: u64) -> Self {
        Self { timeout: Some(Duration::from_secs(seconds)), ..self }
    }
}
