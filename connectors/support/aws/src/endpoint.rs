//! Where a service is: regions, partitions, and the names of their endpoints.
//!
//! From the partitions and endpoint rules that AWS publishes with its SDKs (botocore 1.44.8: `partitions.json`, and
//! `endpoint-rule-set-1.json` of ACM and STS).

/// How regions of a partition begin, its DNS suffix, and that of its dual-stack endpoints.
const PARTITIONS: &[(&str, &str, &str)] = &[
    ("cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    ("eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
];

/// `aws` and `aws-us-gov`.
const REST: (&str, &str) = ("amazonaws.com", "api.aws");

/// Where a service is reached, and what its signatures are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) service: &'static str,
    pub(crate) region: String,
    pub(crate) url: String,
}

/// Which endpoints of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Variant {
    /// With cryptography that FIPS 140 validated.
    pub fips: bool,
    /// Over IPv6, too.
    pub dualstack: bool,
}

impl Variant {
    /// The ordinary endpoints, or others.
    #[must_use]
    pub fn new(fips: bool, dualstack: bool) -> Self {
        Self { fips, dualstack }
    }
}

impl Endpoint {
    /// The ordinary one of a service in a region: `https://acm.eu-central-1.amazonaws.com`.
    #[must_use]
    pub fn of(service: &'static str, region: &str) -> Self {
        Self::variant(service, region, Variant::default())
    }

    /// Another one. GovCloud's ordinary endpoints are its FIPS endpoints.
    #[must_use]
    pub fn variant(service: &'static str, region: &str, variant: Variant) -> Self {
        let host = if variant.fips && (variant.dualstack || !region.starts_with("us-gov-")) {
            format!("{service}-fips")
        } else {
            service.to_owned()
        };
        let (plain, dualstack) = suffixes(region);
        let suffix = if variant.dualstack { dualstack } else { plain };
        Self::at(service, region, format!("https://{host}.{region}.{suffix}"))
    }

    /// At an address of one's own.
    #[must_use]
    pub fn at(service: &'static str, region: &str, url: impl Into<String>) -> Self {
        Self { service, region: region.to_owned(), url: url.into() }
    }

    /// `https://acm.eu-central-1.amazonaws.com`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The DNS suffix of a region, and that of its dual-stack endpoints.
fn suffixes(region: &str) -> (&'static str, &'static str) {
    let partition = PARTITIONS.iter().find(|(beginning, ..)| region.starts_with(beginning));
    partition.map_or(REST, |(_, plain, dualstack)| (plain, dualstack))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_those_of_the_published_rules() {
        let url = |region, fips, dualstack| Endpoint::variant("acm", region, Variant::new(fips, dualstack)).url;
        for (region, fips, dualstack, expected) in [
            ("eu-central-1", false, false, "https://acm.eu-central-1.amazonaws.com"),
            ("us-east-1", true, false, "https://acm-fips.us-east-1.amazonaws.com"),
            ("us-east-1", false, true, "https://acm.us-east-1.api.aws"),
            ("us-east-1", true, true, "https://acm-fips.us-east-1.api.aws"),
            ("us-gov-west-1", false, false, "https://acm.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", true, false, "https://acm.us-gov-west-1.amazonaws.com"),
            ("us-gov-west-1", true, true, "https://acm-fips.us-gov-west-1.api.aws"),
            ("cn-north-1", false, false, "https://acm.cn-north-1.amazonaws.com.cn"),
            ("cn-north-1", false, true, "https://acm.cn-north-1.api.amazonwebservices.com.cn"),
            ("eusc-de-east-1", false, false, "https://acm.eusc-de-east-1.amazonaws.eu"),
            ("us-isob-east-1", false, false, "https://acm.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(url(region, fips, dualstack), expected);
        }
        assert_eq!(Endpoint::of("sts", "cn-north-1").url(), "https://sts.cn-north-1.amazonaws.com.cn");
    }
}
