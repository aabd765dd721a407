//! Files that say which deployment they are of, in their first and in their last line: a reader knows a torn file and a mixed
//! pair without knowing any certificate.

use std::path::Path;
use std::time::{Duration, SystemTime};

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Role};
use deploy_testkit::{Authority, Issued, Request};

use crate::NAME;

const BEGIN: &str = "# deployment ";
const END: &str = "# end of deployment ";

/// A certificate and its key, marked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Marked {
    /// Which deployment it is of, and what is served then.
    pub mark: Mark,
    /// The certificate itself.
    pub certificate: Certificate,
    fullchain: String,
    key: String,
}

/// What the lines say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mark {
    /// The number of the deployment.
    pub number: u64,
    /// The fingerprint of its leaf.
    pub fingerprint: String,
}

impl Marked {
    /// A new certificate. All of them have the same dates, so that none counts as a step back.
    #[must_use]
    pub fn issue(authority: &Authority, number: u64) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        let first = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let issued = authority.issue(&Request::new(&[NAME]).validity(first, first + 10_000 * DAY));
        Self::new(&issued, number)
    }

    fn new(issued: &Issued, number: u64) -> Self {
        let mark = Mark { number, fingerprint: issued.fingerprint.clone() };
        let key = SecretBytes::from(issued.key_pem.as_bytes().to_vec());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).expect("a good pair");
        Self { fullchain: mark.around(&issued.fullchain_pem), key: mark.around(&issued.key_pem), mark, certificate }
    }

    /// Files with the key of another certificate, which no server would take.
    #[must_use]
    pub fn with_key_of(mut self, other: &Self) -> Self {
        self.key.clone_from(&other.key);
        self
    }

    /// What the file of a role holds; that of an opaque one is the lines alone.
    #[must_use]
    pub fn bytes(&self, role: Role) -> Vec<u8> {
        let text = match role {
            Role::Fullchain => self.fullchain.clone(),
            Role::Key => self.key.clone(),
            _ => self.mark.around(""),
        };
        text.into_bytes()
    }
}

impl Mark {
    /// The mark of a whole file; `None` if it is anything else.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let first = text.lines().next()?.strip_prefix(BEGIN)?;
        let last = text.strip_suffix('\n')?.lines().next_back()?.strip_prefix(END)?;
        let (number, fingerprint) = first.split_once(' ')?;
        let mark = || Some(Self { number: number.parse().ok()?, fingerprint: fingerprint.to_owned() });
        if first == last { mark() } else { None }
    }

    /// The mark of the file at a path; `None` if there is none, or no whole one.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::read(path).ok().and_then(|bytes| Self::of(&bytes))
    }

    fn around(&self, text: &str) -> String {
        let Self { number, fingerprint } = self;
        format!("{BEGIN}{number} {fingerprint}\n{text}{END}{number} {fingerprint}\n")
    }
}
