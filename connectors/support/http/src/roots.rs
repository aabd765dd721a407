//! Whom a client trusts.

use std::path::Path;

use deploy_core::secret::read_source_file;
use deploy_core::{Context, Error, ErrorKind};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The longest CA file, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// TLS with the context's crypto provider and trust in the authorities of a file, or else in those of this machine. Where there
/// is no TLS, nobody needs to be trusted.
pub(crate) fn client_config(scheme: &str, ca_file: Option<&Path>, context: &Context) -> Result<ClientConfig, Error> {
    let roots = match ca_file {
        Some(path) => of_file(path, context)?,
        None if scheme == "http" => RootCertStore::empty(),
        None => of_machine()?,
    };
    let builder = ClientConfig::builder_with_provider(context.provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, "the crypto provider has no TLS").with_source(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn of_file(path: &Path, context: &Context) -> Result<RootCertStore, Error> {
    let invalid = |message: String| Error::new(ErrorKind::ConfigurationInvalid, message);
    let (bytes, _) = read_source_file(context.host(), path, SIZE_LIMIT)
        .map_err(|error| invalid("the CA file cannot be used".to_owned()).with_source(error))?;
    let unusable = |error: rustls_pki_types::pem::Error| invalid(format!("{} is not PEM", path.display())).with_source(error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bytes.expose()) {
        let added = roots.add(certificate.map_err(unusable)?);
        added.map_err(|error| invalid(format!("a certificate in {} cannot be used", path.display())).with_source(error))?;
    }
    if roots.is_empty() {
        return Err(invalid(format!("{} has no certificate in it", path.display())));
    }
    Ok(roots)
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
