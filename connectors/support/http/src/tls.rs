//! TLS: the context's crypto provider, whom a client trusts, and who it is.

use deploy_core::secret::SecretBytes;
use deploy_core::{Context, Error, ErrorKind};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// `identity` is a chain and its key, in PEM.
pub(crate) fn client_config(
    roots: RootCertStore,
    identity: Option<&(Vec<u8>, SecretBytes)>,
    context: &Context,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(context.provider().clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Internal, "the crypto provider has no TLS").with_source(error))?
        .with_root_certificates(roots);
    let Some((fullchain, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let invalid = |message: &str| Error::new(ErrorKind::ConfigurationInvalid, message);
    let chain = CertificateDer::pem_slice_iter(fullchain).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| invalid("the client certificate is not PEM").with_source(error))?;
    // What is wrong with a key is not told: it would quote it.
    let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(|_| invalid("the key of the client certificate is not PEM"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| invalid("the client certificate and its key cannot be used").with_source(error))
}
