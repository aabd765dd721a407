//! What it means where there is no answer.

use std::error::Error as StdError;
use std::io;

use deploy_core::{Error, ErrorKind, Retry};
use rustls::AlertDescription;

/// The error of a request that got no whole answer. Whether the remote did what it was asked is not known, unless the
/// connection was never made.
pub(crate) fn translate(what: &str, host: &str, error: reqwest::Error) -> Error {
    // Its text would repeat the whole address.
    let error = error.without_url();
    let translated = if let Some(tls) = find::<rustls::Error>(&error) {
        of_tls(tls, host)
    } else if error.is_timeout() {
        let message = format!("{host} did not answer {what} in time");
        Error::new(ErrorKind::Timeout, message).with_retry(Retry::Later)
    } else if error.is_connect() {
        let message = format!("{host} cannot be reached for {what}");
        Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Later)
    } else if error.is_builder() {
        Error::new(ErrorKind::Internal, format!("{what} cannot be sent"))
    } else {
        let message = format!("{host} ended the connection without an answer to {what}");
        Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Later)
    };
    translated.with_source(error)
}

/// Trying again helps nobody: certificates and settings have to change first.
fn of_tls(error: &rustls::Error, host: &str) -> Error {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown, UnknownCA,
    };
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            let message = format!("the certificate that {host} presents is not trusted");
            Error::new(ErrorKind::Unauthenticated, message).with_next_step(format!(
                "see who answers at {host}; if it is the right one, name its certificate authority in the CA file of the target"
            ))
        }
        rustls::Error::AlertReceived(
            AccessDenied | BadCertificate | CertificateExpired | CertificateRequired | CertificateRevoked | CertificateUnknown
            | UnknownCA,
        ) => Error::new(ErrorKind::Unauthenticated, format!("{host} wants a certificate of its clients"))
            .with_next_step("use an address of the API that takes the credentials of the target"),
        _ => Error::new(ErrorKind::Unavailable, format!("{host} and this machine do not agree on TLS"))
            .with_next_step(format!("see with `openssl s_client -connect` what {host} speaks, and whether the port is right")),
    }
}

/// An error of this type among the causes. `io::Error` hides the one that it was made of.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).map(|inner| inner as &(dyn StdError + 'static));
    find(inner.or_else(|| error.source())?)
}
