//! Where and how to look.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use rustls_pki_types::{DnsName, ServerName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::StartTls;

/// Where a certificate is served, and how to ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Endpoint {
    /// Where to connect: `host:port` or `[IPv6 address]:port`, for example `127.0.0.1:443`.
    pub connect: String,
    /// The name to ask for (SNI). Default: the host of `connect`. An IP address sends no name and gets the server's default
    /// certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The protocol that turns to TLS on request, for servers that start in plain text. Default: TLS from the first byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starttls: Option<StartTls>,
    /// The kind of key to ask for, where a server has certificates of several kinds. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<KeyTypeWanted>,
    /// Whether every address of the name in `connect` must serve the certificate. Default: `false`, the first that answers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_addresses: bool,
}

impl Endpoint {
    /// TLS from the first byte at `connect`, with everything else at its default.
    pub fn new(connect: impl Into<String>) -> Self {
        Self { connect: connect.into(), server_name: None, starttls: None, key_type: None, all_addresses: false }
    }

    /// Asking for this name.
    #[must_use]
    pub fn with_server_name(mut self, server_name: impl Into<String>) -> Self {
        self.server_name = Some(server_name.into());
        self
    }

    /// Starting in plain text.
    #[must_use]
    pub fn with_starttls(mut self, starttls: StartTls) -> Self {
        self.starttls = Some(starttls);
        self
    }

    /// Asking for this kind of key.
    #[must_use]
    pub fn with_key_type(mut self, key_type: KeyTypeWanted) -> Self {
        self.key_type = Some(key_type);
        self
    }

    /// Asking every address.
    #[must_use]
    pub fn with_all_addresses(mut self) -> Self {
        self.all_addresses = true;
        self
    }

    /// Checks the values, and returns host and port to connect to. Looks nothing up.
    ///
    /// # Errors
    ///
    /// The first value that cannot be used.
    pub fn check(&self) -> Result<(String, u16), EndpointError> {
        let (host, port) = self.host_and_port()?;
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            return Err(EndpointError::ServerName { server_name: name.clone() });
        }
        Ok((host.to_owned(), port))
    }

    /// What to put into the handshake.
    pub(super) fn tls_name(&self) -> Result<ServerName<'static>, EndpointError> {
        let name = match &self.server_name {
            Some(name) => name,
            None => self.host_and_port()?.0,
        };
        ServerName::try_from(name.to_owned()).map_err(|_| EndpointError::ServerName { server_name: name.to_owned() })
    }

    fn host_and_port(&self) -> Result<(&str, u16), EndpointError> {
        let form = || EndpointError::Connect { connect: self.connect.clone() };
        let (host, port) = self.connect.rsplit_once(':').ok_or_else(form)?;
        let port = match port.parse() {
            Ok(port @ 1..) if port_is_plain(&self.connect) => port,
            _ => return Err(EndpointError::Port { connect: self.connect.clone() }),
        };
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(form)?;
                inner.parse::<Ipv6Addr>().map_err(|_| form())?;
                inner
            }
            None if host.contains(':') => return Err(form()),
            None => host,
        };
        if host.is_empty() || (host.parse::<IpAddr>().is_err() && DnsName::try_from(host).is_err()) {
            return Err(EndpointError::Host { connect: self.connect.clone() });
        }
        Ok((host, port))
    }
}

impl fmt::Display for Endpoint {
    /// As in `127.0.0.1:443 (SNI www.example.com)`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (", self.connect)?;
        match self.tls_name() {
            Ok(ServerName::DnsName(name)) => write!(formatter, "SNI {}", name.as_ref())?,
            _ => formatter.write_str("no SNI")?,
        }
        if let Some(protocol) = self.starttls {
            write!(formatter, ", STARTTLS {protocol}")?;
        }
        if let Some(key_type) = self.key_type {
            write!(formatter, ", {key_type}")?;
        }
        formatter.write_str(")")
    }
}

/// A kind of key that a client can insist on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyTypeWanted {
    /// ECDSA, on any curve.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA, of any size.
    Rsa,
}

impl fmt::Display for KeyTypeWanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Ed25519 => "Ed25519",
            Self::Rsa => "RSA",
        })
    }
}

/// What is wrong with an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Not of the form.
    #[error("`connect` is {connect:?}; it must be host:port or [IPv6 address]:port")]
    Connect {
        /// The value.
        connect: String,
    },
    /// No host, or one that is neither a name nor an address.
    #[error("the host in `connect` ({connect:?}) is neither a DNS name nor an IP address")]
    Host {
        /// The value.
        connect: String,
    },
    /// No port, or an impossible one.
    #[error("the port in `connect` ({connect:?}) must be a number from 1 to 65535")]
    Port {
        /// The value.
        connect: String,
    },
    /// Not a name that can be asked for.
    #[error("`server_name` is {server_name:?}, which is neither a DNS name nor an IP address")]
    ServerName {
        /// The value.
        server_name: String,
    },
}

/// `u16::from_str` takes a leading plus sign.
fn port_is_plain(connect: &str) -> bool {
    connect.rsplit(':').next().is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_are_taken_apart() {
        for (connect, host, port) in [
            ("127.0.0.1:443", "127.0.0.1", 443),
            ("www.example.com:1", "www.example.com", 1),
            ("localhost:65535", "localhost", 65535),
            ("[::1]:8443", "::1", 8443),
        ] {
            assert_eq!(Endpoint::new(connect).check(), Ok((host.to_owned(), port)), "{connect}");
        }
    }

    #[test]
    fn bad_addresses_are_told_apart() {
        type Check = fn(&EndpointError) -> bool;
        let cases: [(&str, Check); 11] = [
            ("localhost", |e| matches!(e, EndpointError::Connect { .. })),
            ("::1:443", |e| matches!(e, EndpointError::Connect { .. })),
            ("[::1:443", |e| matches!(e, EndpointError::Connect { .. })),
            ("[localhost]:443", |e| matches!(e, EndpointError::Connect { .. })),
            ("localhost:", |e| matches!(e, EndpointError::Port { .. })),
            ("localhost:0", |e| matches!(e, EndpointError::Port { .. })),
            ("localhost:+443", |e| matches!(e, EndpointError::Port { .. })),
            ("localhost:65536", |e| matches!(e, EndpointError::Port { .. })),
            ("localhost:https", |e| matches!(e, EndpointError::Port { .. })),
            (":443", |e| matches!(e, EndpointError::Host { .. })),
            ("a b:443", |e| matches!(e, EndpointError::Host { .. })),
        ];
        for (connect, check) in cases {
            let error = Endpoint::new(connect).check().unwrap_err();
            assert!(check(&error), "{connect}: {error}");
        }
        let error = Endpoint::new("127.0.0.1:443").with_server_name("https://www.example.com").check().unwrap_err();
        assert!(matches!(error, EndpointError::ServerName { .. }), "{error}");
    }

    #[test]
    fn display_names_what_is_asked_for() {
        let endpoint = Endpoint::new("127.0.0.1:443");
        assert_eq!(endpoint.to_string(), "127.0.0.1:443 (no SNI)");
        assert_eq!(endpoint.with_server_name("www.example.com").to_string(), "127.0.0.1:443 (SNI www.example.com)");
        let mail = Endpoint::new("mail.example.com:25").with_starttls(StartTls::Smtp).with_key_type(KeyTypeWanted::Rsa);
        assert_eq!(mail.to_string(), "mail.example.com:25 (SNI mail.example.com, STARTTLS smtp, RSA)");
    }

    #[test]
    fn configuration_is_strict_and_survives_a_round_trip() {
        let text = r#"{"connect":"[::1]:25","server_name":"mx.example.com","starttls":"smtp","key_type":"ed25519","all_addresses":true}"#;
        let endpoint: Endpoint = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&endpoint).unwrap(), text);
        let plain: Endpoint = serde_json::from_str(r#"{"connect":"localhost:443"}"#).unwrap();
        assert_eq!(plain, Endpoint::new("localhost:443"));
        serde_json::from_str::<Endpoint>(r#"{"connect":"localhost:443","sni":"a"}"#).unwrap_err();
    }
}
