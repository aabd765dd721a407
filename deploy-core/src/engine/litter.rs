//! What a run staged that was killed before its journal was written: keys among it, and nothing tells of them.
//!
//! A run that reaches staging sweeps its target's directories anyway. This is for `recover`, after which nobody may run.

use crate::context::Context;
use crate::destination::Resolver;
use crate::engine::job::Job;
use crate::engine::stage;
use crate::error::Error;
use crate::journal;
use crate::lock::{self, LockKeys};
use crate::plan::LinkPolicy;
use crate::state::{State, read_marker};
use crate::vault;

/// Removes it from the hidden directories of a target, unless a journal of that target is still to be settled: that may need
/// what lies there.
pub(super) fn sweep(job: &Job, context: &Context, state: &State) -> Result<(), Error> {
    let host = context.host();
    let destinations = job.target.destinations();
    if destinations.is_empty() {
        return Ok(());
    }
    let us = host.identity().map_err(|error| stage::failed("cannot be swept", context.state_directory(), error))?;
    let _locks = lock::acquire(context, state, &LockKeys::of_targets([job.name.clone()]))?;
    let names = journal::names(host, &state.journal)?;
    if names.iter().any(|name| journal::target_of(name).is_none_or(|target| target == job.name)) {
        return Ok(());
    }
    let kept = stage::kept(read_marker(context, &job.name)?.as_ref());
    let own = vault::target_directory(context, &job.name);
    let mut resolver = Resolver::default();
    for path in destinations {
        // What cannot be found now, or is somebody else's, was not staged in by this target.
        let Ok(place) = resolver.resolve(host, &us, &path, LinkPolicy::Follow) else { continue };
        if let Ok(Some(hidden)) = vault::open(host, &us, &place.directory, &own) {
            stage::sweep(host, &hidden, state, &job.name, &kept)?;
        }
    }
    Ok(())
}
