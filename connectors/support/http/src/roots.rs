//! Whom a client trusts.

use std::path::Path;

use deploy_core::secret::read_source_file;
use deploy_core::{Context, Error, ErrorKind};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The longest CA file, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// The authorities of a file, or of a text, or else those of this machine. Where there is no TLS, nobody needs to be trusted.
pub(crate) fn trusted(scheme: &str, file: Option<&Path>, pem: Option<&[u8]>, context: &Context) -> Result<RootCertStore, Error> {
    match (file, pem) {
        (Some(path), _) => {
            let (bytes, _) = read_source_file(context.host(), path, SIZE_LIMIT)
                .map_err(|error| invalid("the CA file cannot be used".to_owned()).with_source(error))?;
            of_pem(bytes.expose(), &path.display().to_string())
        }
        (None, Some(pem)) => of_pem(pem, "the CA data"),
        (None, None) if scheme == "http" => Ok(RootCertStore::empty()),
        (None, None) => of_machine(),
    }
}

fn of_pem(pem: &[u8], whose: &str) -> Result<RootCertStore, Error> {
    let unusable = |error: rustls_pki_types::pem::Error| invalid(format!("{whose} is not PEM")).with_source(error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = roots.add(certificate.map_err(unusable)?);
        added.map_err(|error| invalid(format!("a certificate in {whose} cannot be used")).with_source(error))?;
    }
    if roots.is_empty() {
        return Err(invalid(format!("{whose} has no certificate in it")));
    }
    Ok(roots)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::ConfigurationInvalid, message)
}

/// Some in a machine's store may be unusable, and are left out.
fn of_machine() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let error = Error::new(ErrorKind::ConfigurationInvalid, "this machine trusts no certificate authority")
            .with_next_step("install the package ca-certificates, or name a CA file");
        return Err(match found.errors.into_iter().next() {
            Some(cause) => error.with_source(cause),
            None => error,
        });
    }
    Ok(roots)
}
