//! Certificates and keys of every kind and form.

use std::path::PathBuf;
use std::sync::Arc;

use deploy_core::{Live, Outcome};

use super::deployment::shows_the_chain;
use crate::conformance::harness::Harness;
use crate::conformance::world::{World, told};
use crate::fixtures::{FIXTURES, Fixture};

/// A case for each fixture, of the same name.
macro_rules! fixtures {
    ($($name:ident $sentence:literal)*) => {
        super::cases! { "material": $($name[] $sentence)* }

        $(fn $name<H: Harness>() {
            tried::<H>(stringify!($name));
        })*
    };
}

fixtures! {
    rsa_2048 "An RSA key of 2048 bits is served, or refused where the target cannot serve it."
    rsa_3072 "The same with 3072 bits."
    rsa_4096 "The same with 4096 bits."
    rsa_pkcs1 "An RSA key in its traditional form (PKCS#1) is served."
    ecdsa_p256 "An ECDSA key on P-256 is served, or refused where the target cannot serve it."
    ecdsa_p384 "The same on P-384."
    ecdsa_p521 "The same on P-521."
    ecdsa_sec1 "An ECDSA key in its traditional form (SEC 1) is served."
    ed25519_pkcs8_version_1 "An Ed25519 key is served, or refused where the target cannot serve it."
    ed25519_pkcs8_version_2 "The same in PKCS#8 version 2, which many servers cannot read (M5)."
    long_chain "Four intermediates are served in order."
    no_chain "A certificate without intermediates is served, or refused with the reason."
    duplicate_intermediate "An intermediate that is there twice is served once (M6)."
    root_included "A root at the end of the chain is not served (M6)."
    crlf "Line breaks of Windows are taken (M3)."
    no_final_newline "A missing line break at the end is taken (M3)."
    remarks_between_blocks "Remarks between the blocks are taken (M3)."
    wildcard "A wildcard is served."
    internationalised_name "An internationalised name is served."
    ip_names "A certificate with IP addresses is served."
    no_common_name "A certificate without a common name is served."
    wrong_order "A chain in the wrong order is refused, and nothing is changed (M2)."
    foreign_chain "A chain that does not link up is refused, and nothing is changed (M2)."
    expired "An expired certificate is refused, and nothing is changed (M2)."
    not_yet_valid "A certificate that is not valid yet is refused, and nothing is changed (M2)."
    mismatch "A key that does not belong to the certificate is refused, and nothing is changed (M1)."
    mismatch_of_kinds "A key of another kind than the certificate's is refused, and nothing is changed (M1)."
    encrypted_key "An encrypted key is refused, and nothing is changed (M2)."
    encrypted_traditional_key "An encrypted key in its traditional form is refused, and nothing is changed (M2)."
    empty_certificate "An empty file of certificates is refused, and nothing is changed (M2)."
    empty_key "An empty file of the key is refused, and nothing is changed (M2)."
    truncated_certificate "A truncated certificate is refused, and nothing is changed (M2)."
    truncated_key "A truncated key is refused, and nothing is changed (M2)."
    garbage "What is no certificate at all is refused, and nothing is changed (M2)."
}

fn tried<H: Harness>(name: &str) {
    let (_, make) = FIXTURES.iter().find(|(known, _)| *known == name).expect("a fixture of this name");
    let (world, old) = World::<H>::serving();
    let before = world.harness.state();
    let fixture = make(&world.authority);
    let job = world.job_for(Arc::from(world.target()), &fixture.issued);
    write(&world, &fixture);
    let report = world.run(&job, &world.context);
    let served = fixture.refused.is_none() && H::serves(fixture.issued.key_kind);
    // A target may have no use for a certificate without intermediates, and then says so.
    let chainless = name == "no_chain" && report.outcome == Outcome::Rejected;
    if served && !chainless {
        assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
        world.sees(&fixture.issued);
        shows_the_chain(&world, &fixture.issued);
        let again = world.run(&job, &world.context);
        assert_eq!(again.outcome, Outcome::Unchanged, "{}", told(&again));
        return;
    }
    let taken_back = fixture.refused.is_none() && (report.outcome, report.live) == (Outcome::RolledBack, Live::RolledBack);
    assert!(taken_back || (report.outcome, report.live) == (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
    if fixture.refused.is_some() {
        assert_eq!(report.error.as_ref().map(deploy_core::Error::kind), fixture.refused, "{}", told(&report));
    }
    world.is_as(&before);
    world.sees(&old);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

/// Over the pair that the job was made for.
fn write<H: Harness>(world: &World<H>, fixture: &Fixture) {
    let directory = world.source().join(&fixture.issued.fingerprint);
    for (name, text) in [("fullchain.pem", &fixture.fullchain), ("privkey.pem", &fixture.key)] {
        std::fs::write(directory.join(name), text).expect("a file of the source");
    }
}
