//! Certificates for the tests of this module, made by `rcgen`.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::Certificate;
use crate::secret::SecretBytes;

/// The day around which the samples are valid: 2030-01-01.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000)
}

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// A private CA: root and one intermediate.
pub(super) struct Authority {
    pub(super) root: String,
    pub(super) intermediate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf and its key, as PEM.
pub(super) struct Leaf {
    pub(super) pem: String,
    pub(super) key: SecretBytes,
}

pub(super) struct Wanted<'a> {
    pub(super) names: &'a [&'a str],
    pub(super) days: (i64, i64),
    pub(super) algorithm: &'static rcgen::SignatureAlgorithm,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { names: &["www.example.com", "example.com"], days: (-10, 80), algorithm: &rcgen::PKCS_ECDSA_P256_SHA256 }
    }
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        Self::with_days(name, (-1000, 3000))
    }

    /// With the intermediate valid from and to so many days from [`now`].
    pub(super) fn with_days(name: &str, days: (i64, i64)) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let root_params = authority_params(&format!("{name} root"), (-1000, 3000));
        let root = root_params.self_signed(&root_key).unwrap().pem();
        let root_issuer = Issuer::new(root_params, root_key);
        let key = KeyPair::generate().unwrap();
        let params = authority_params(&format!("{name} intermediate"), days);
        let intermediate = params.signed_by(&key, &root_issuer).unwrap().pem();
        Self { root, intermediate, issuer: Issuer::new(params, key) }
    }

    pub(super) fn issue(&self, wanted: &Wanted<'_>) -> Leaf {
        let key = KeyPair::generate_for(wanted.algorithm).unwrap();
        let pem = params(wanted).signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { pem, key: SecretBytes::from(key.serialize_pem().into_bytes()) }
    }

    /// Leaf and intermediate, as an ACME client leaves them.
    pub(super) fn fullchain(&self, leaf: &Leaf) -> String {
        format!("{}{}", leaf.pem, self.intermediate)
    }

    pub(super) fn certificate(&self, wanted: &Wanted<'_>) -> Certificate {
        let leaf = self.issue(wanted);
        Certificate::from_pem(self.fullchain(&leaf).as_bytes(), &leaf.key).unwrap()
    }
}

pub(super) fn self_signed(wanted: &Wanted<'_>) -> Leaf {
    let key = KeyPair::generate_for(wanted.algorithm).unwrap();
    let pem = params(wanted).self_signed(&key).unwrap().pem();
    Leaf { pem, key: SecretBytes::from(key.serialize_pem().into_bytes()) }
}

fn params(wanted: &Wanted<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = wanted
        .names
        .iter()
        .map(|name| name.parse().map_or_else(|_| SanType::DnsName((*name).try_into().unwrap()), SanType::IpAddress))
        .collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = wanted.names.first() {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    set_days(&mut params, wanted.days);
    params
}

fn authority_params(name: &str, days: (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    set_days(&mut params, days);
    params
}

fn set_days(params: &mut CertificateParams, (from, to): (i64, i64)) {
    let date = |days: i64| {
        let seconds = now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((seconds + days * 86_400) as u64)
    };
    params.not_before = date(from);
    params.not_after = date(to);
}
