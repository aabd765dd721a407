//! A certificate with its key, as Windows takes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::certificate::KeyType;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Error, ErrorKind};
use deploy_keystore::{Encryption, KeyEntry, Keystore, StoreType};
use sha1::{Digest as _, Sha1};

use crate::random;

/// Windows Server 2019 and Windows 10 1809: the first that reads AES-256 with SHA-256 in a PFX.
const MODERN_SINCE: u32 = 17_763;
/// Keys of the older providers cannot sign as TLS 1.3 wants it (RSA-PSS).
const PROVIDER: &str = "Microsoft Software Key Storage Provider";

/// SHA-1 of the leaf in upper-case hexadecimal: what Windows names a certificate by.
#[must_use]
pub fn thumbprint(certificate: &Certificate) -> String {
    Sha1::digest(certificate.leaf_der()).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Whether the TLS of Windows can serve with a key of this type.
///
/// # Errors
/// [`ErrorKind::MaterialRejected`]: it knows RSA and the NIST curves.
pub fn check_key(certificate: &Certificate) -> Result<(), Error> {
    match certificate.key_type() {
        KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521 | KeyType::Rsa(_) => Ok(()),
        other => Err(Error::new(ErrorKind::MaterialRejected, format!("Windows cannot serve with a key of the type {other}"))
            .with_next_step("have a certificate issued for a key of RSA, or of the curve P-256 or P-384")),
    }
}

/// A PFX, and the password that it has.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "one that was read is made elsewhere")]
pub struct Pfx {
    /// The bytes.
    pub bytes: SecretBytes,
    /// Its password.
    pub password: SecretString,
}

impl Pfx {
    /// With a password that is used once, encrypted as a Windows of this build can read it.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(certificate: &Certificate, build: u32, context: &Context) -> Result<Self, Error> {
        Self::with_password(certificate, random::password(context)?, build, context)
    }

    /// The same with a password that is known elsewhere.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn with_password(
        certificate: &Certificate,
        password: SecretString,
        build: u32,
        context: &Context,
    ) -> Result<Self, Error> {
        let encryption = if build >= MODERN_SINCE { Encryption::Modern } else { Encryption::Legacy };
        let random = context.provider().secure_random;
        let mut store = Keystore::empty(StoreType::Pkcs12, encryption);
        let entry = KeyEntry::new("certdeploy", certificate, &password).with_provider(PROVIDER);
        let made = store.put(&entry, None, context.host().now(), random).and_then(|_| store.to_bytes(&password, random));
        let bytes = made.map_err(|error| Error::new(ErrorKind::Internal, "the PFX cannot be made").with_source(error))?;
        Ok(Self { bytes, password })
    }

    /// The certificate in one that was read, as DER; `None` if there is not just one with a key.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigurationInvalid`] or [`ErrorKind::TargetAlreadyBroken`]: it does not open, which names the file.
    pub fn leaf(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let store = Keystore::open(self.bytes.expose(), &self.password).map_err(|error| error.at(path.as_ref()))?;
        Ok(match store.leaves()[..] {
            [leaf] => Some(leaf.to_vec()),
            _ => None,
        })
    }

    /// The bytes in base64.
    #[must_use]
    pub fn base64(&self) -> SecretString {
        SecretString::from(STANDARD.encode(self.bytes.expose()))
    }
}
