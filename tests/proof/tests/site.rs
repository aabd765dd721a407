//! The site that most proofs stand on works.
#![allow(clippy::unwrap_used, reason = "tests end where they cannot go on")]

use deploy_proof::Site;

#[test]
fn a_site_serves_what_is_deployed_to_it() {
    let (site, old) = Site::serving();
    assert_eq!(site.live().map(|file| file.unwrap().bytes), Site::contents(&old));
    let new = site.renew();
    site.deploy().expect(0, "changed");
    assert_eq!(site.served(), Some(new.fingerprint.clone()));
    assert_eq!(site.live().map(|file| file.unwrap().bytes), Site::contents(&new));
}
