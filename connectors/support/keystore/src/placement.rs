//! From the settings of a target and the file as it is to the file as it is to be.

use std::path::Path;

use deploy_core::secret::{SecretBytes, SecretRef, SecretString};
use deploy_core::{Certificate, Context, Destination, Error, LinkPolicy, SettingError};
use sha2::{Digest as _, Sha256};

use crate::error::KeystoreError;
use crate::{Encryption, KeyEntry, Keystore, StoreType};

/// What keytool takes at least.
const SHORTEST_FOR_JAVA: usize = 6;

/// Checks an alias or a friendly name.
///
/// # Errors
/// It is empty, longer than 128 characters, or has others than printable ASCII: Java folds case by rules of its own.
pub fn check_name(setting: &str, name: &str) -> Result<(), SettingError> {
    let printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if name.trim() != name || name.is_empty() || name.len() > 128 || !printable {
        return Err(SettingError::new(setting, "takes 1 to 128 printable ASCII characters, without spaces at the ends"));
    }
    Ok(())
}

/// Where a key is to be, and how.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "two connectors of this workspace make one, and shall not forget a field")]
pub struct Placement<'a> {
    /// The file.
    pub path: &'a Path,
    /// What to do where it is a symbolic link.
    pub links: LinkPolicy,
    /// The alias, in PKCS#12 the friendly name.
    pub alias: &'a str,
    /// The type; `None`: as the file is, PKCS#12 for a new one.
    pub store_type: Option<StoreType>,
    /// The encryption of a PKCS#12; `None`: as the file is, modern for a new one.
    pub encryption: Option<Encryption>,
    /// The password of the store.
    pub password: &'a SecretRef,
    /// The password of the key; `None`: that of the store.
    pub key_password: Option<&'a SecretRef>,
    /// Java reads it: other entries are kept, and passwords are held to what Java takes. Otherwise the key is alone in the file.
    pub for_java: bool,
}

/// What is to stand in the file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rendered {
    /// The bytes: those that are there, if they hold the key already.
    pub bytes: SecretBytes,
    /// The same for the same certificate and settings, whatever the bytes: for `PlanFile::with_identity`.
    pub identity: [u8; 32],
    /// The file as it was: for `Plan::with_read`.
    pub read: Destination,
}

impl Placement<'_> {
    /// Reads the file and the passwords, and puts the key in. Blocks while a program gives a password.
    ///
    /// # Errors
    /// A password cannot be had, or the file does not open or cannot take the key.
    pub fn render(&self, certificate: &Certificate, context: &Context) -> Result<Rendered, Error> {
        let password = self.password.resolve(context)?;
        let key_password = self.key_password.map(|reference| reference.resolve(context)).transpose()?;
        let key_password = key_password.as_ref().unwrap_or(&password);
        let read = Destination::read(self.path, self.links, context)?;

        let put = || -> Result<Option<SecretBytes>, KeystoreError> {
            self.check_password("password", &password)?;
            self.check_password("key_password", key_password)?;
            let mut store = self.open(read.bytes.as_ref(), &password)?;
            let random = context.provider().secure_random;
            let entry = KeyEntry::new(self.alias, certificate, key_password).alone(!self.for_java);
            let changed = store.put(&entry, self.encryption, context.host().now(), random)?;
            if changed { store.to_bytes(&password, random).map(Some) } else { Ok(None) }
        };
        let changed = put().map_err(|error| error.at(self.path))?;
        let bytes = changed.or_else(|| read.bytes.clone()).unwrap_or_else(|| SecretBytes::from(Vec::new()));
        Ok(Rendered { bytes, identity: self.identity(certificate, &password, key_password), read })
    }

    fn open(&self, read: Option<&SecretBytes>, password: &SecretString) -> Result<Keystore, KeystoreError> {
        let Some(read) = read else {
            let store_type = self.store_type.unwrap_or(StoreType::Pkcs12);
            return Ok(Keystore::empty(store_type, self.encryption.unwrap_or(Encryption::Modern)));
        };
        let store = match Keystore::open(read.expose(), password) {
            // Nothing of others is in there.
            Err(KeystoreError::Damaged(_)) if !self.for_java => return self.open(None, password),
            opened => opened?,
        };
        match self.store_type {
            Some(wanted) if wanted != store.store_type() => {
                Err(KeystoreError::OtherType { found: store.store_type().name(), wanted: wanted.name() })
            }
            _ => Ok(store),
        }
    }

    fn check_password(&self, which: &'static str, password: &SecretString) -> Result<(), KeystoreError> {
        let password = password.expose();
        let problem = if !self.for_java {
            return Ok(());
        } else if password.chars().count() < SHORTEST_FOR_JAVA {
            "keytool takes none under 6 characters"
        } else if !password.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            // `javax.crypto`'s PBE keys are of ASCII: "Password is not ASCII".
            "Java takes printable ASCII characters only"
        } else {
            return Ok(());
        };
        Err(KeystoreError::Password { which, problem })
    }

    /// Of all that decides what the file means. Not of what else is in it.
    fn identity(&self, certificate: &Certificate, password: &SecretString, key_password: &SecretString) -> [u8; 32] {
        let variant = format!("{:?} {:?} {}", self.store_type, self.encryption, self.for_java);
        let key = certificate.key_pkcs8_der();
        let texts = [self.alias, &variant, password.expose(), key_password.expose()].map(str::as_bytes);
        let chain = std::iter::once(certificate.leaf_der()).chain(certificate.chain_der());
        let mut hash = Sha256::new();
        for part in texts.into_iter().chain([key.expose()]).chain(chain) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}
