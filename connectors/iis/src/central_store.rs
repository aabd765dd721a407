//! What is asked of a host whose IIS takes certificates from the central store: files with the names of hosts.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::digest::{hex, sha256};
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Error, ErrorKind, Observed, Push, Snapshot, Validation, Verify};
use deploy_powershell::{FileWrite, Pfx, ReadFiles, WriteFiles};
use serde::{Deserialize, Serialize};

use crate::config::{CentralStore, IisSettings};

/// The format of a snapshot: the files, as JSON.
const SNAPSHOT: u32 = 1;

/// The calls of one deployment.
#[derive(Debug)]
pub(crate) struct CentralStorePush {
    settings: IisSettings,
    store: CentralStore,
    seen: Vec<String>,
}

/// The files as they are.
struct Look {
    build: u32,
    contents: Vec<Option<SecretBytes>>,
    /// SHA-256 of the leaf that all of them hold; `None` if one does not exist, or they differ.
    live: Option<String>,
}

impl Look {
    /// SHA-256 of each file, empty for one that does not exist.
    fn digests(&self) -> Vec<String> {
        let digest =
            |content: &Option<SecretBytes>| content.as_ref().map(|content| hex(&sha256(content.expose()))).unwrap_or_default();
        self.contents.iter().map(digest).collect()
    }
}

/// A file in a snapshot.
#[derive(Deserialize, Serialize)]
struct Saved {
    path: String,
    /// Base64; the bytes are encrypted with the password of the central store.
    content: Option<String>,
}

#[async_trait]
impl Push for CentralStorePush {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        let look = self.look(context).await?;
        self.seen = look.digests();
        Ok(Observed::new(look.live, None))
    }

    async fn validate(&mut self, _: &Certificate, _: &Context) -> Result<Validation, Error> {
        Ok(Validation::Unavailable("the central store has no dry run".to_owned()))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let contents = self.look(context).await?.contents;
        let saved = |(path, content): (String, Option<SecretBytes>)| Saved {
            path,
            content: content.map(|content| STANDARD.encode(content.expose())),
        };
        let saved: Vec<Saved> = self.store.paths().into_iter().zip(contents).map(saved).collect();
        let saved = SecretBytes::from_json(&saved)
            .map_err(|error| Error::new(ErrorKind::Internal, "files that are no JSON").with_source(error))?;
        Ok(Snapshot::new(SNAPSHOT, saved))
    }

    /// Nothing: IIS takes every file that it finds. The switch brings them along.
    async fn upload(&mut self, _: &Certificate, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let look = self.look(context).await?;
        // The answer to an earlier try may have been lost.
        if look.live.as_deref() == Some(certificate.fingerprint()) {
            return Ok(());
        }
        if look.digests() != self.seen {
            return Err(Error::new(ErrorKind::Conflict, "somebody else has changed the files of the central store meanwhile"));
        }
        let pfx = Pfx::with_password(certificate, self.password(context)?, look.build, context)?;
        let file = |(path, from)| FileWrite { path, from: Some(from), content: Some(pfx.base64()) };
        let files = self.store.paths().into_iter().zip(look.digests()).map(file).collect();
        self.settings.connection.call(&WriteFiles { files }, context).await.map(drop)
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let unreadable = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy");
        if snapshot.version != SNAPSHOT {
            return Err(unreadable());
        }
        let saved: Vec<Saved> =
            serde_json::from_slice(snapshot.bytes.expose()).map_err(|error| unreadable().with_source(error))?;
        let file = |saved: Saved| FileWrite { path: saved.path, from: None, content: saved.content.map(SecretString::from) };
        let files = saved.into_iter().map(file).collect();
        self.settings.connection.call(&WriteFiles { files }, context).await.map(drop)
    }

    /// There is one file for each name, and it is in use.
    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

impl CentralStorePush {
    pub(crate) fn new(settings: &IisSettings, store: &CentralStore) -> Self {
        Self { settings: settings.clone(), store: store.clone(), seen: Vec::new() }
    }

    fn password(&self, context: &Context) -> Result<SecretString, Error> {
        Ok(self.store.password.resolve(context)?)
    }

    async fn look(&self, context: &Context) -> Result<Look, Error> {
        let password = self.password(context)?;
        let paths = self.store.paths();
        let answer = self.settings.connection.call(&ReadFiles { paths: &paths }, context).await?;
        let mut contents = Vec::with_capacity(paths.len());
        let mut leaves: Vec<Option<String>> = Vec::with_capacity(paths.len());
        for (path, file) in paths.iter().zip(answer.result.files) {
            let Some(content) = &file.content else {
                contents.push(None);
                leaves.push(None);
                continue;
            };
            let bytes = STANDARD.decode(content.expose()).map(SecretBytes::from).map_err(|error| {
                Error::new(ErrorKind::Unavailable, format!("what the host says of {path} is not base64")).with_source(error)
            })?;
            leaves.push(Pfx { bytes: bytes.clone(), password: password.clone() }.leaf(path)?.map(|leaf| hex(&sha256(&leaf))));
            contents.push(Some(bytes));
        }
        leaves.dedup();
        let live = if leaves.len() == 1 { leaves.remove(0) } else { None };
        Ok(Look { build: answer.build, contents, live })
    }
}
