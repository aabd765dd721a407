//! Two targets that write one file: a mistake that no single deployment can see.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::destination::Resolver;
use crate::engine::job::Job;
use crate::host::Host;
use crate::plan::LinkPolicy;

/// A file that two targets write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedDestination {
    /// The targets and the paths by which they name it.
    pub writers: [(String, PathBuf); 2],
}

/// The first file that two of these targets write: by one path, through symbolic links, or as two hard links. Looks at
/// the destinations and changes nothing; what cannot be looked at is left to the deployment.
#[must_use]
pub fn shared_destination(jobs: &[Job], host: &dyn Host) -> Option<SharedDestination> {
    let us = host.identity().ok()?;
    let mut resolver = Resolver::default();
    let mut places: HashMap<(u64, u64, std::ffi::OsString), (String, PathBuf)> = HashMap::new();
    let mut inodes: HashMap<(u64, u64), (String, PathBuf)> = HashMap::new();
    for (job, path) in jobs.iter().flat_map(|job| job.target.destinations().into_iter().map(move |path| (job, path))) {
        let Ok(place) = resolver.resolve(host, &us, &path, LinkPolicy::Follow) else { continue };
        let writer = (job.name.clone(), path);
        let directory = place.directory.status();
        let by_place = places.insert((directory.device, directory.inode, place.name.clone()), writer.clone());
        let by_inode = place.status.and_then(|status| inodes.insert((status.device, status.inode), writer.clone()));
        if let Some(other) = by_place.or(by_inode).filter(|other| other.0 != job.name) {
            return Some(SharedDestination { writers: [other, writer] });
        }
    }
    None
}
