//! How much of a proof is run.

/// The short form samples where it says so; the full one leaves nothing out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// Everything.
    Full,
    /// What two cores do in a few minutes, all proofs together.
    Short,
}

impl Form {
    /// The form that `CERTDEPLOY_PROOF` asks for: `full`, or else the short one.
    #[must_use]
    pub fn asked() -> Self {
        match std::env::var("CERTDEPLOY_PROOF").as_deref() {
            Ok("full") => Self::Full,
            _ => Self::Short,
        }
    }

    /// One of two values.
    #[must_use]
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Full => full,
            Self::Short => short,
        }
    }
}
