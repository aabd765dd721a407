//! What is kept of a push on this host, so that it can be finished or undone by another process.

use std::ffi::{OsStr, OsString};

use serde::{Deserialize, Serialize};

use crate::certificate::Certificate;
use crate::context::Context;
use crate::error::Error;
use crate::host::{Directory, Metadata, SyncPoint};
use crate::push::{Observed, Snapshot};
use crate::secret::SecretBytes;
use crate::state::{State, invalid, open_or_create_child};

/// Where all of it lies, in the state directory.
const VAULT: &str = "vault";
/// The largest file of it, in bytes.
const LIMIT: u64 = 16 << 20;

/// The record of one push, the snapshot it can be undone with, and the pair that was deployed last, where it is kept:
/// `vault/<target>.push`, `.snapshot` and `.pair`.
pub(super) struct PushJournal<'a> {
    context: &'a Context,
    directory: Directory,
    begun: OsString,
    snapshot: OsString,
    pair: OsString,
}

impl<'a> PushJournal<'a> {
    pub(super) fn open(context: &'a Context, state: &State, target: &str) -> Result<Self, Error> {
        let directory = open_or_create_child(context.host(), &state.root, OsStr::new(VAULT), &mut false)
            .map_err(|error| invalid(&state.root.path().join(VAULT), "cannot be opened or created", error))?;
        let [snapshot, pair] = ["snapshot", "pair"].map(|kind| format!("{target}.{kind}").into());
        Ok(Self { context, directory, begun: record_name(target), snapshot, pair })
    }

    /// On the medium before anything is called that changes the remote.
    pub(super) fn begin(&self, observed: &Observed, certificate: &Certificate, snapshot: &Snapshot) -> Result<(), Error> {
        let host = self.context.host();
        let begun = Begun {
            target: self.begun.to_string_lossy().trim_end_matches(".push").to_owned(),
            old: observed.fingerprint.clone(),
            new: certificate.fingerprint().to_owned(),
        };
        let mut bytes = Vec::with_capacity(4 + snapshot.bytes.len());
        bytes.extend(snapshot.version.to_be_bytes());
        bytes.extend(snapshot.bytes.expose());
        let bytes = SecretBytes::from(bytes);
        let write = || {
            let us = host.identity()?;
            let metadata = Metadata::new(us.uid, us.gid, 0o600);
            self.remove()?;
            let snapshot = host.create(&self.directory, &self.snapshot, bytes.expose(), &metadata)?;
            let begun = host.create(&self.directory, &self.begun, &serde_json::to_vec(&begun)?, &metadata)?;
            host.sync(&[
                snapshot.sync_point(&self.directory, &self.snapshot),
                begun.sync_point(&self.directory, &self.begun),
                SyncPoint::Directory(self.directory.clone()),
            ])
        };
        write().map_err(|error| invalid(self.directory.path(), "cannot be written", error))
    }

    pub(super) fn read(&self) -> Result<Option<(Begun, Option<Snapshot>)>, Error> {
        let host = self.context.host();
        let failed = |error| invalid(&self.directory.path().join(&self.begun), "cannot be read", error);
        let Some((bytes, _)) = host.read(&self.directory, &self.begun, LIMIT).map_err(failed)? else { return Ok(None) };
        // Torn: the remote is called only after it is on the medium.
        let Ok(begun) = serde_json::from_slice(bytes.expose()) else { return self.end().map(|()| None) };
        let snapshot = host.read(&self.directory, &self.snapshot, LIMIT).map_err(failed)?;
        let snapshot = snapshot.and_then(|(bytes, _)| {
            let (version, rest) = bytes.expose().split_first_chunk()?;
            Some(Snapshot::new(u32::from_be_bytes(*version), rest))
        });
        Ok(Some((begun, snapshot)))
    }

    /// The pair with this leaf, if it is the one that was deployed last. One that cannot be read counts as lost.
    pub(super) fn kept(&self, fingerprint: &str) -> Result<Option<Certificate>, Error> {
        let failed = |error| invalid(&self.directory.path().join(&self.pair), "cannot be read", error);
        let read = self.context.host().read(&self.directory, &self.pair, LIMIT).map_err(failed)?;
        let pair = read.and_then(|(bytes, _)| Certificate::from_combined_pem(&bytes).ok());
        Ok(pair.filter(|pair| pair.fingerprint() == fingerprint))
    }

    /// Instead of the pair before, in one step.
    pub(super) fn keep(&self, certificate: &Certificate) -> Result<(), Error> {
        let host = self.context.host();
        let mut new = self.pair.clone();
        new.push(".new");
        let write = || {
            let us = host.identity()?;
            host.unlink(&self.directory, &new)?;
            let pair = certificate.combined_pem();
            let written = host.create(&self.directory, &new, pair.expose(), &Metadata::new(us.uid, us.gid, 0o600))?;
            host.sync(&[written.sync_point(&self.directory, &new)])?;
            host.rename((&self.directory, &new), (&self.directory, &self.pair))?;
            host.sync(&[SyncPoint::Directory(self.directory.clone())])
        };
        write().map_err(|error| invalid(&self.directory.path().join(&self.pair), "cannot be written", error))
    }

    pub(super) fn end(&self) -> Result<(), Error> {
        self.remove().map_err(|error| invalid(self.directory.path(), "cannot be cleaned up", error))
    }

    fn remove(&self) -> std::io::Result<()> {
        let host = self.context.host();
        host.unlink(&self.directory, &self.begun)?;
        host.unlink(&self.directory, &self.snapshot)
    }
}

/// What was begun; the snapshot lies beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Begun {
    pub(super) target: String,
    pub(super) old: Option<String>,
    pub(super) new: String,
}

/// What a run would settle first, as a sentence. Only looks.
pub(super) fn pending(target: &str, context: &Context) -> Result<Option<String>, Error> {
    let path = context.state_directory().join(VAULT).join(record_name(target));
    let status = context.host().path_status(&path).map_err(|error| invalid(&path, "cannot be looked at", error))?;
    Ok(status.map(|_| "an interrupted deployment is settled first".to_owned()))
}

fn record_name(target: &str) -> OsString {
    format!("{target}.push").into()
}
