//! What can be wrong with a keystore, or with what is asked of it.

use std::path::Path;

use deploy_core::{Error, ErrorKind};
use thiserror::Error;

/// Why a keystore cannot be read, or cannot take a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// The file does not hang together.
    #[error("is damaged: {0}")]
    Damaged(String),
    /// The integrity check fails, and nothing in the file opens with the password either.
    #[error("does not open with the configured password")]
    WrongPassword,
    /// The store opens, and the key that is to be replaced does not.
    #[error("opens with the configured password, but the key under the alias {alias:?} has another one")]
    WrongKeyPassword {
        /// The alias.
        alias: String,
    },
    /// A format, or a variant of one, that is not written here.
    #[error("is {0}, which is not supported")]
    Unsupported(String),
    /// The file is of another type than the settings say.
    #[error("is {found}, and the settings say {wanted}")]
    OtherType {
        /// What it is.
        found: &'static str,
        /// What it is to be.
        wanted: &'static str,
    },
    /// The alias is a trusted certificate.
    #[error("has a trusted certificate under the alias {alias:?}, and no key")]
    TrustedAlias {
        /// The alias.
        alias: String,
    },
    /// There are trusted certificates and nothing else.
    #[error("is a truststore: it has trusted certificates, and no key")]
    Truststore,
    /// The alias is something else, such as a secret key.
    #[error("has an entry under the alias {alias:?} that is no private key")]
    OtherAlias {
        /// The alias.
        alias: String,
    },
    /// Several keys have the alias.
    #[error("has more than one key under the alias {alias:?}")]
    Ambiguous {
        /// The alias.
        alias: String,
    },
    /// There is more than one key with its chain in a file that is to have just that.
    #[error("holds more than one key with its certificates")]
    NotAlone,
    /// A chain would be read with the certificate of another one: PKCS#12 finds issuers by their name alone.
    #[error("has two different certificates of one name, so that the chain of {whose} would be read wrongly")]
    SameName {
        /// Whose chain.
        whose: String,
    },
    /// No keystore of the kind takes such a password.
    #[error("cannot have the configured {which}: {problem}")]
    Password {
        /// `password` or `key_password`.
        which: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no randomness.
    #[error("cannot be encrypted: the system gives no random numbers")]
    NoRandomness,
}

impl KeystoreError {
    /// What the operator should do.
    #[must_use]
    pub fn next_step(&self) -> &'static str {
        match self {
            Self::Damaged(_) => "bring the file back from a backup, or move it away: a new one is made then",
            Self::WrongPassword => {
                "set `password` to what the store was made with; `keytool -list -keystore FILE` or `openssl pkcs12 -in FILE` tries it"
            }
            Self::WrongKeyPassword { .. } => {
                "set `key_password` to what the key was made with; to change it, remove the entry first (`keytool -delete`)"
            }
            Self::Unsupported(_) => {
                "convert it, for example with `keytool -importkeystore -deststoretype pkcs12`, or give the target a new file"
            }
            Self::OtherType { .. } => "leave `type` out, or convert the file with `keytool -importkeystore`",
            Self::TrustedAlias { .. } | Self::OtherAlias { .. } => "choose another alias, or another file",
            Self::Truststore => "give the key a store of its own, and leave the truststore to the trusted certificates",
            Self::Ambiguous { .. } => "remove all but one of them",
            Self::NotAlone => "move the file away, or use the connector `java-keystore`, which keeps other entries",
            Self::SameName { .. } => "give this key a store of its own",
            Self::Password { .. } => "choose another password, for the store and for what reads it",
            Self::NoRandomness => "try again",
        }
    }

    /// The error of a deployment, for the file at this path.
    #[must_use]
    pub fn at(self, path: &Path) -> Error {
        let kind = match self {
            Self::Damaged(_) => ErrorKind::TargetAlreadyBroken,
            Self::NoRandomness => ErrorKind::Internal,
            _ => ErrorKind::ConfigurationInvalid,
        };
        let next_step = self.next_step();
        Error::new(kind, format!("{} {self}", path.display())).with_next_step(next_step).with_source(self)
    }
}

impl From<der::Error> for KeystoreError {
    fn from(error: der::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}
