//! The certificates of one target in a certificate store: from import to removal.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::{Certificate, Context, Error, ErrorKind, SettingError};
use serde::{Deserialize, Serialize};

use crate::connection::Connection;
use crate::library::{FindCertificates, ImportCertificate, NameCertificates, NewName, RemoveCertificates, StoredCertificate};
use crate::mark::{Mark, Standing, Tag};
use crate::pfx::{Pfx, thumbprint};

/// One store of a host, as one target sees it.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "two connectors of this workspace make one, and shall not forget a field")]
pub struct Store<'a> {
    /// How the host is reached.
    pub connection: &'a Connection,
    /// The store, of the machine: `My`.
    pub name: &'a str,
    /// What the target knows its certificates by.
    pub mark: &'a Mark,
}

/// How a certificate is imported.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "two connectors of this workspace make one, and shall not forget a field")]
pub struct Import<'a> {
    /// What an administrator sees before the mark.
    pub friendly_name: &'a str,
    /// Whether the key can be exported again.
    pub exportable: bool,
    /// Accounts or SIDs that may read the key, besides those that may read the one before.
    pub read_access: &'a [String],
}

/// What a target has in a store.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// The build of Windows: 17763 is Server 2019.
    pub build: u32,
    /// With the target's mark.
    pub ours: Vec<(StoredCertificate, Tag)>,
    /// Without it, as asked for.
    pub others: Vec<StoredCertificate>,
}

/// A friendly name, for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct SavedName {
    /// Whose.
    pub thumbprint: String,
    /// As it was.
    pub friendly_name: String,
}

impl Found {
    /// The one that is in use; `None` if there is none, or more than one, or one without a key.
    #[must_use]
    pub fn live(&self) -> Option<&StoredCertificate> {
        let mut live = self.ours.iter().filter(|(_, tag)| tag.standing == Standing::Live).map(|(certificate, _)| certificate);
        live.next().filter(|one| one.has_key && live.next().is_none())
    }

    /// The certificate of this thumbprint, whosever.
    #[must_use]
    pub fn get(&self, thumbprint: &str) -> Option<&StoredCertificate> {
        self.ours.iter().map(|(certificate, _)| certificate).chain(&self.others).find(|one| one.thumbprint == thumbprint)
    }

    /// The friendly names of the target's certificates.
    #[must_use]
    pub fn names(&self) -> Vec<SavedName> {
        let name = |(one, _): &(StoredCertificate, Tag)| SavedName {
            thumbprint: one.thumbprint.clone(),
            friendly_name: one.friendly_name.clone(),
        };
        self.ours.iter().map(name).collect()
    }
}

impl Store<'_> {
    /// The name of a store, by its form alone.
    ///
    /// # Errors
    /// It cannot be the name of a store.
    pub fn check_name(setting: &str, name: &str) -> Result<(), SettingError> {
        let plain = |character: char| character.is_ascii_alphanumeric() || " -_".contains(character);
        if name.is_empty() || !name.chars().all(plain) {
            return Err(SettingError::new(setting, format!("`{name}` is not the name of a certificate store, such as `My`")));
        }
        Ok(())
    }

    /// What an administrator would read before the mark, by its form alone.
    ///
    /// # Errors
    /// It would be read as a mark.
    pub fn check_friendly_name(setting: &str, name: &str) -> Result<(), SettingError> {
        if name.contains("[certdeploy") || name.contains(char::is_control) || name.trim() != name || name.len() > 200 {
            return Err(SettingError::new(
                setting,
                "takes up to 200 characters, without `[certdeploy` and without spaces at the ends",
            ));
        }
        Ok(())
    }

    /// Reads the target's certificates, and those of some thumbprints.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub async fn find(&self, thumbprints: &[String], context: &Context) -> Result<Found, Error> {
        let call = FindCertificates { store: self.name, mark: self.mark.text(), thumbprints };
        let answer = self.connection.call(&call, context).await?;
        let mut found = Found { build: answer.build, ..Found::default() };
        for certificate in answer.result.certificates {
            match self.mark.read(&certificate.friendly_name) {
                Some(tag) => found.ours.push((certificate, tag)),
                None => found.others.push(certificate),
            }
        }
        Ok(found)
    }

    /// Puts a certificate with its key into the store, beside the one in use. One that is there already, imported by hand, is
    /// taken, and never removed.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub async fn import(
        &self,
        certificate: &Certificate,
        how: &Import<'_>,
        found: &Found,
        context: &Context,
    ) -> Result<(), Error> {
        let pfx = Pfx::new(certificate, found.build, context)?;
        let thumbprint = thumbprint(certificate);
        let call = ImportCertificate {
            store: self.name,
            thumbprint: &thumbprint,
            sha256: certificate.fingerprint(),
            pfx: pfx.base64(),
            password: pfx.password.clone(),
            exportable: how.exportable,
            friendly_name: &self.mark.write(how.friendly_name, Some(Tag { standing: Standing::Staged, adopted: false })),
            chain: certificate.chain_der().map(|issuer| STANDARD.encode(issuer)).collect(),
            read_access: how.read_access,
            readers_of: found.live().map(|live| live.thumbprint.as_str()).filter(|live| *live != thumbprint),
        };
        let imported = self.connection.call(&call, context).await?.result;
        if self.mark.read(&imported.friendly_name).is_some() {
            return Ok(());
        }
        // What another target imported is for the last of them to remove.
        let adopted = !self.mark.is_shared(&imported.friendly_name) || imported.friendly_name.contains(" adopted]");
        let to = self.mark.write(&imported.friendly_name, Some(Tag { standing: Standing::Staged, adopted }));
        self.name(vec![NewName { thumbprint, from: imported.friendly_name, to }], context).await
    }

    /// Has the certificate of this thumbprint be the one in use, and the others not.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`]: somebody else has changed a friendly name since it was found. Or see [`Connection::call`].
    pub async fn switch(&self, thumbprint: &str, found: &Found, context: &Context) -> Result<(), Error> {
        let now = context.host().now();
        let mut changes: Vec<NewName> = Vec::new();
        for (certificate, tag) in &found.ours {
            let standing = match tag.standing {
                _ if certificate.thumbprint == thumbprint => continue,
                Standing::Live => Standing::Replaced(now),
                Standing::Staged | Standing::Replaced(_) => continue,
            };
            changes.push(self.change(certificate, Some(Tag { standing, ..*tag })));
        }
        let new = found.ours.iter().find(|(certificate, _)| certificate.thumbprint == thumbprint).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, format!("{thumbprint} is no longer in the store {}, or has lost its mark", self.name))
        })?;
        // Last, so that there are never two.
        changes.push(self.change(&new.0, Some(Tag { standing: Standing::Live, ..new.1 })));
        self.name(changes, context).await
    }

    /// Gives the target's certificates the friendly names back that they had; one that there was not is no longer in use.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub async fn put_back(&self, names: &[SavedName], found: &Found, context: &Context) -> Result<(), Error> {
        let change = |(certificate, tag): &(StoredCertificate, Tag)| match names
            .iter()
            .find(|saved| saved.thumbprint == certificate.thumbprint)
        {
            Some(saved) => NewName {
                thumbprint: certificate.thumbprint.clone(),
                from: certificate.friendly_name.clone(),
                to: saved.friendly_name.clone(),
            },
            None => self.change(certificate, Some(Tag { standing: Standing::Staged, ..*tag })),
        };
        let mut changes: Vec<NewName> = found.ours.iter().map(change).collect();
        changes.retain(|change| change.from != change.to);
        self.name(changes, context).await
    }

    /// Removes what was never used, and what was replaced so long ago, where nothing that can be asked uses it. What was there
    /// before, or is another target's as well, only loses the mark.
    ///
    /// # Errors
    /// See [`Connection::call`].
    pub async fn retire(&self, after: Duration, context: &Context) -> Result<(), Error> {
        let found = self.find(&[], context).await?;
        let now = context.host().now();
        let due = found.ours.iter().filter(|(_, tag)| match tag.standing {
            Standing::Live => false,
            Standing::Staged => true,
            Standing::Replaced(at) => now.duration_since(at).is_ok_and(|age| age >= after),
        });
        let (kept, removed): (Vec<_>, Vec<_>) =
            due.partition(|(certificate, tag)| tag.adopted || self.mark.is_shared(&certificate.friendly_name));
        self.name(kept.into_iter().map(|(certificate, _)| self.change(certificate, None)).collect(), context).await?;
        if removed.is_empty() {
            return Ok(());
        }
        let thumbprints = removed.into_iter().map(|(certificate, _)| certificate.thumbprint.clone()).collect();
        let call = RemoveCertificates { store: self.name, mark: self.mark.text(), thumbprints };
        self.connection.call(&call, context).await.map(drop)
    }

    fn change(&self, certificate: &StoredCertificate, tag: Option<Tag>) -> NewName {
        NewName {
            thumbprint: certificate.thumbprint.clone(),
            from: certificate.friendly_name.clone(),
            to: self.mark.write(&certificate.friendly_name, tag),
        }
    }

    async fn name(&self, changes: Vec<NewName>, context: &Context) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.connection.call(&NameCertificates { store: self.name, changes }, context).await.map(drop)
    }
}
