//! Where certificates come from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Certificate, MaterialError, SIZE_LIMIT};
use crate::context::Cancellation;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Status};
use crate::secret::{SecretBytes, SourceFileError, read_source_file};

/// How often and how long a pair that does not match is read again: every 100 ms, at most 2 s in all.
const PAUSE: Duration = Duration::from_millis(100);
const READINGS: usize = 20;

/// Where a certificate comes from. Reads, and changes nothing.
pub trait CertificateSource: fmt::Debug + Send + Sync {
    /// The certificate as it is now.
    ///
    /// # Errors
    /// [`ErrorKind::MaterialRejected`], naming the path and what is wrong with it; [`ErrorKind::Interrupted`].
    fn load(&self, host: &dyn Host) -> Result<Loaded, Error>;
}

/// What came from a source.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The certificate.
    pub certificate: Certificate,
    /// What the operator should know: sentences.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// A certificate with nothing to warn of.
    #[must_use]
    pub fn new(certificate: Certificate) -> Self {
        Self { certificate, warnings: Vec::new() }
    }
}

/// A certificate is its own source.
impl CertificateSource for Certificate {
    fn load(&self, _: &dyn Host) -> Result<Loaded, Error> {
        Ok(Loaded::new(self.clone()))
    }
}

/// Two PEM files, as ACME clients leave them. Symbolic links are followed.
///
/// The client may be writing them just now: a certificate and a key that do not match are read again until they do, for
/// at most two seconds.
#[derive(Clone, Debug)]
pub struct PemFiles {
    fullchain: PathBuf,
    key: PathBuf,
    cancellation: Cancellation,
}

impl PemFiles {
    /// Leaf with chain, and key: absolute paths.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { fullchain: fullchain.into(), key: key.into(), cancellation: Cancellation::default() }
    }

    /// With a handle by which the caller can end the waiting.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// The file with leaf and chain.
    #[must_use]
    pub fn fullchain(&self) -> &Path {
        &self.fullchain
    }

    /// The file with the key.
    #[must_use]
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// Reads until certificate and key match, or time is up.
    fn settle(&self, mut read: impl FnMut() -> Result<Reading, Error>) -> Result<Loaded, Error> {
        let mut readings = 1;
        loop {
            let Reading { fullchain, key, key_mode } = read()?;
            match Certificate::from_pem(fullchain.expose(), &key) {
                Ok(certificate) => {
                    let exposed = (key_mode & 0o004 != 0).then(|| {
                        format!("the private key {} can be read by every user (mode {key_mode:04o})", self.key.display())
                    });
                    return Ok(Loaded { certificate, warnings: exposed.into_iter().collect() });
                }
                Err(error) if error.is_mismatch() && readings < READINGS => {
                    readings += 1;
                    if self.cancellation.wait(PAUSE) {
                        return Err(Error::new(ErrorKind::Interrupted, "interrupted while certificate and key were read")
                            .with_source(error));
                    }
                }
                Err(error) => return Err(self.rejected(error)),
            }
        }
    }

    fn rejected(&self, error: MaterialError) -> Error {
        let message = format!("the certificate {} with the key {} cannot be used", self.fullchain.display(), self.key.display());
        let next_step = error.next_step();
        let rejected = Error::new(ErrorKind::MaterialRejected, message).with_source(error);
        match next_step {
            Some(step) => rejected.with_next_step(step),
            None => rejected,
        }
    }
}

impl CertificateSource for PemFiles {
    fn load(&self, host: &dyn Host) -> Result<Loaded, Error> {
        self.settle(|| {
            let (fullchain, _) = read(host, &self.fullchain)?;
            let (key, status) = read(host, &self.key)?;
            Ok(Reading { fullchain, key, key_mode: status.mode })
        })
    }
}

/// Both files, read one after the other.
struct Reading {
    fullchain: SecretBytes,
    key: SecretBytes,
    key_mode: u32,
}

fn read(host: &dyn Host, path: &Path) -> Result<(SecretBytes, Status), Error> {
    read_source_file(host, path, SIZE_LIMIT as u64).map_err(|error: SourceFileError| {
        Error::new(ErrorKind::MaterialRejected, format!("the certificate source {} cannot be read", path.display()))
            .with_source(error)
            .with_next_step("correct the path of the certificate in the configuration, or let this user read the file")
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write what a client of a certificate authority would")]
mod tests {
    use std::error::Error as _;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::certificate::samples::{Authority, Leaf, Wanted};
    use crate::host::Local;

    fn material() -> (String, Leaf) {
        let authority = Authority::new("CA");
        let leaf = authority.issue(&Wanted::default());
        (authority.fullchain(&leaf), leaf)
    }

    /// A directory with `fullchain.pem` and `privkey.pem`, and the source that reads them.
    fn files() -> (tempfile::TempDir, PemFiles) {
        let directory = tempfile::tempdir().unwrap();
        let source = PemFiles::new(directory.path().join("fullchain.pem"), directory.path().join("privkey.pem"));
        let (fullchain, leaf) = material();
        put(source.fullchain(), fullchain.as_bytes(), 0o644);
        put(source.key(), leaf.key.expose(), 0o640);
        (directory, source)
    }

    fn put(path: &Path, bytes: &[u8], mode: u32) {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn rejected(source: &PemFiles) -> Error {
        let error = source.load(&Local::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaterialRejected);
        error
    }

    #[test]
    fn files_are_read_also_through_relative_and_absolute_links() {
        let (directory, source) = files();
        assert_eq!(source.load(&Local::new()).unwrap().warnings, [""; 0]);
        // As certbot: live/www/fullchain.pem -> ../../archive/www/fullchain1.pem.
        let (live, archive) = (directory.path().join("live/www"), directory.path().join("archive/www"));
        fs::create_dir_all(&live).unwrap();
        fs::create_dir_all(&archive).unwrap();
        fs::copy(source.fullchain(), archive.join("fullchain1.pem")).unwrap();
        symlink("../../archive/www/fullchain1.pem", live.join("fullchain.pem")).unwrap();
        symlink(source.key(), live.join("privkey.pem")).unwrap();
        let linked = PemFiles::new(live.join("fullchain.pem"), live.join("privkey.pem")).load(&Local::new()).unwrap();
        assert_eq!(linked.certificate.names(), Wanted::default().names);
        assert_eq!(linked.load_again().fingerprint(), linked.certificate.fingerprint());
    }

    impl Loaded {
        fn load_again(&self) -> Certificate {
            self.certificate.load(&Local::new()).unwrap().certificate
        }
    }

    #[test]
    fn m2_what_is_no_readable_file_is_refused_by_name() {
        let (directory, source) = files();
        let place = |name: &str| directory.path().join(name);
        fs::create_dir(place("directory")).unwrap();
        symlink("loop", place("loop")).unwrap();
        symlink("nothing", place("dangling")).unwrap();
        put(&place("empty"), b"", 0o644);
        put(&place("large"), &vec![b'\n'; SIZE_LIMIT + 1], 0o644);
        nix::unistd::mkfifo(&place("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        for (name, why) in [
            ("missing", "does not exist"),
            ("missing/privkey.pem", "does not exist"),
            ("dangling", "does not exist"),
            ("directory", "is a directory, not a regular file"),
            ("fifo", "is a FIFO, not a regular file"),
            ("loop", "leads through more than 40 symbolic links"),
            ("empty", "is empty"),
            ("large", "is longer than 1048576 bytes"),
        ] {
            let error = rejected(&PemFiles::new(source.fullchain(), place(name)));
            assert_eq!(error.source().unwrap().to_string(), format!("{} {why}", place(name).display()));
            assert!(error.to_string().contains(name));
        }
        let error = rejected(&PemFiles::new("fullchain.pem", source.key()));
        assert_eq!(error.source().unwrap().to_string(), "fullchain.pem is not an absolute path of a file");
        // Not a directory on the way: the system's own error is kept.
        let error = rejected(&PemFiles::new(source.fullchain().join("x"), source.key()));
        assert!(error.source().unwrap().source().is_some());
    }

    #[test]
    fn s5_a_key_that_everybody_can_read_is_warned_of() {
        let (_directory, source) = files();
        fs::set_permissions(source.key(), fs::Permissions::from_mode(0o644)).unwrap();
        let warnings = source.load(&Local::new()).unwrap().warnings;
        assert_eq!(warnings, [format!("the private key {} can be read by every user (mode 0644)", source.key().display())]);
    }

    #[test]
    fn bad_material_names_both_files_and_keeps_the_cause() {
        let (_directory, source) = files();
        put(source.key(), include_bytes!("fixtures/rsa.encrypted.pem"), 0o600);
        let error = rejected(&source);
        assert!(error.to_string().contains("fullchain.pem") && error.to_string().contains("privkey.pem"));
        assert!(matches!(error.source().unwrap().downcast_ref(), Some(MaterialError::KeyEncrypted)));
        assert!(error.own_next_step().is_some());
    }

    #[test]
    fn a_pair_that_is_being_written_is_read_again_until_it_matches() {
        let (fullchain, leaf) = material();
        let old_key = material().1.key;
        let source = PemFiles::new("/fullchain.pem", "/privkey.pem");
        let mut readings = 0;
        let loaded = source.settle(|| {
            readings += 1;
            let key = if readings < 3 { &old_key } else { &leaf.key };
            Ok(Reading { fullchain: fullchain.as_bytes().into(), key: key.clone(), key_mode: 0o600 })
        });
        assert_eq!(loaded.unwrap().certificate.leaf_pem(), leaf.pem.replace('\r', "").into_bytes());
        assert_eq!(readings, 3);
    }

    #[test]
    fn what_no_later_reading_can_mend_is_refused_at_once() {
        let (fullchain, leaf) = material();
        let source = PemFiles::new("/fullchain.pem", "/privkey.pem");
        let mut readings = 0;
        let backwards = fullchain.replace(&leaf.pem, "") + &leaf.pem;
        let error = source.settle(|| {
            readings += 1;
            Ok(Reading { fullchain: backwards.as_bytes().into(), key: leaf.key.clone(), key_mode: 0o600 })
        });
        assert!(matches!(error.unwrap_err().source().unwrap().downcast_ref(), Some(MaterialError::LeafNotFirst { .. })));
        assert_eq!(readings, 1);
    }

    #[test]
    fn a_pair_that_never_matches_is_given_up_after_two_seconds() {
        let (fullchain, _) = material();
        let key = material().1.key;
        let source = PemFiles::new("/fullchain.pem", "/privkey.pem");
        let mut readings = 0;
        let error = source.settle(|| {
            readings += 1;
            Ok(Reading { fullchain: fullchain.as_bytes().into(), key: key.clone(), key_mode: 0o600 })
        });
        assert!(matches!(error.unwrap_err().source().unwrap().downcast_ref(), Some(MaterialError::KeyMismatch { .. })));
        assert_eq!(readings, READINGS);
        assert!(PAUSE * READINGS as u32 <= Duration::from_secs(2));
    }

    #[test]
    fn waiting_for_a_pair_to_match_ends_when_cancelled() {
        let (_directory, source) = files();
        put(source.key(), material().1.key.expose(), 0o600);
        let cancellation = Cancellation::default();
        cancellation.cancel();
        let error = source.with_cancellation(cancellation).load(&Local::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
