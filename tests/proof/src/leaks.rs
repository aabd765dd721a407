//! What a run of the program showed or left where no secret should be.

use deploy_e2e::Run;
use deploy_testkit::Canary;

use crate::Site;

/// Everything that a run of a site's program showed or left where it should not be: output, errors, the names and contents
/// of all files of the site, its state directory included. The source, the live key and the hidden directories beside the
/// destinations may hold secrets; then it is the modes that are looked at.
#[must_use]
pub fn leaks(canary: &Canary, site: &Site, run: &Run) -> Vec<String> {
    let [_, _, key] = site.files();
    let mut found = printed(canary, run);
    found.extend(canary.clone().kept_in(site.path("source")).kept_in(key).in_tree(site.root()));
    found
}

/// What a run printed.
#[must_use]
pub fn printed(canary: &Canary, run: &Run) -> Vec<String> {
    let streams = [("standard output", &run.stdout), ("standard error", &run.stderr)];
    let found = |(name, text): (&str, &String)| {
        canary.found_in(text.as_bytes()).map(|what| format!("{what} is on {name} of a run that ended with {}", run.code))
    };
    streams.into_iter().filter_map(found).collect()
}
