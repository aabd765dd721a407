//! Amazon Resource Names: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.

use std::fmt;
use std::str::FromStr;

use deploy_core::{Error, ErrorKind};

/// An ARN, taken apart. It is never put together from parts: the partition of a region is nothing to guess.
///
/// ```
/// let arn: deploy_aws::Arn = "arn:aws-cn:acm:cn-north-1:123456789012:certificate/12345678-90ab".parse()?;
/// assert_eq!((arn.service(), arn.region()), ("acm", "cn-north-1"));
/// # Ok::<(), deploy_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arn {
    text: String,
}

impl Arn {
    /// `acm`.
    #[must_use]
    pub fn service(&self) -> &str {
        self.part(2)
    }

    /// `eu-central-1`; empty for what is global.
    #[must_use]
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// `certificate/12345678-90ab`.
    #[must_use]
    pub fn resource(&self) -> &str {
        self.part(5)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn part(&self, index: usize) -> &str {
        self.text.splitn(6, ':').nth(index).unwrap_or_default()
    }
}

impl FromStr for Arn {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let arn = Self { text: text.to_owned() };
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        let partition = arn.part(1);
        if !plain
            || arn.part(0) != "arn"
            || !partition.starts_with("aws")
            || arn.service().is_empty()
            || arn.resource().is_empty()
        {
            let message = format!("`{text}` is no ARN: it would be arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE");
            return Err(Error::new(ErrorKind::ConfigurationInvalid, message));
        }
        Ok(arn)
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Arn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_of_every_partition_are_taken_apart() {
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-eusc"] {
            let arn: Arn = format!("arn:{partition}:iam::123456789012:role/deploy:er").parse().unwrap();
            assert_eq!((arn.service(), arn.region(), arn.resource()), ("iam", "", "role/deploy:er"));
        }
        for bad in
            ["", "arn", "arn:aws:acm:eu-west-1:1", "arn:gcp:acm:r:1:x", "arn:aws::r:1:x", "arn:aws:acm:r:1:", "arn:aws:a:r:1:x y"]
        {
            assert_eq!(bad.parse::<Arn>().unwrap_err().kind(), ErrorKind::ConfigurationInvalid, "{bad}");
        }
    }
}
