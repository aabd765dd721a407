//! The cases, by what they are about.

mod calls;
mod capabilities;
mod crash;
mod deployment;
mod failure;
mod material;
mod secrets;

use super::harness::Harness;
use super::need::Need;

/// One thing that every connector has to do, or every connector that declares something.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Behaviour {
    /// The case that tries it: `failure::f3_reload_that_fails_is_rolled_back`.
    pub case: &'static str,
    /// One sentence.
    pub sentence: &'static str,
    /// What it needs.
    pub needs: &'static [Need],
}

pub(super) struct Case {
    pub(super) behaviour: Behaviour,
    pub(super) run: fn(),
}

/// All behaviours, in the order of the cases.
#[must_use]
pub fn contract() -> Vec<Behaviour> {
    let groups = [
        deployment::BEHAVIOURS,
        failure::BEHAVIOURS,
        material::BEHAVIOURS,
        crash::BEHAVIOURS,
        secrets::BEHAVIOURS,
        calls::BEHAVIOURS,
        capabilities::BEHAVIOURS,
    ];
    groups.concat()
}

pub(super) fn all<H: Harness>() -> Vec<Case> {
    let groups = [
        deployment::cases::<H>(),
        failure::cases::<H>(),
        material::cases::<H>(),
        crash::cases::<H>(),
        secrets::cases::<H>(),
        calls::cases::<H>(),
        capabilities::cases::<H>(),
    ];
    groups.into_iter().flatten().collect()
}

/// A group of cases: the functions of the module, each with its sentence and its needs.
macro_rules! cases {
    ($group:literal: $($case:ident[$($need:expr),*] $sentence:literal)*) => {
        pub(super) const BEHAVIOURS: &[super::Behaviour] = &[$(super::Behaviour {
            case: concat!($group, "::", stringify!($case)),
            sentence: $sentence,
            needs: &[$($need),*],
        }),*];

        pub(super) fn cases<H: $crate::conformance::Harness>() -> Vec<super::Case> {
            let run: &[fn()] = &[$($case::<H>),*];
            BEHAVIOURS.iter().zip(run).map(|(&behaviour, &run)| super::Case { behaviour, run }).collect()
        }
    };
}
use cases;
