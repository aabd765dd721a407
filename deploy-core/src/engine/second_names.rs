//! Second names of live files that killed runs left in the hidden directories, so that they are not taken for somebody else's
//! hard links.
//!
//! A run that dies before its journal is written leaves them, and nothing says so. They may be another target's: two targets
//! can share a file. Whoever links a file holds its lock, so that under the lock such a name belongs to nobody who is alive.

use std::ffi::{OsStr, OsString};

use crate::context::Context;
use crate::destination::Place;
use crate::engine::stage::failed;
use crate::error::Error;
use crate::host::{Directory, FileKind, Identity};
use crate::journal;
use crate::state::State;
use crate::vault;

/// A second name, in the directory of a target.
struct SecondName {
    target: String,
    hidden: Directory,
    name: OsString,
}

/// Takes them away, under the locks of the places and after recovery.
pub(super) fn sweep(context: &Context, state: &State, us: &Identity, places: &mut [Place]) -> Result<(), Error> {
    let host = context.host();
    for place in places {
        let left = find(context, us, place)?;
        if left.is_empty() {
            continue;
        }
        let names = journal::names(host, &state.journal)?;
        let journals: Vec<_> =
            names.iter().filter(|name| may_need(context, state, name)).filter_map(|name| journal::target_of(name)).collect();
        for second in left {
            if !journals.contains(&second.target) && !second.is_of_a_set(context, state) {
                host.unlink(&second.hidden, &second.name)
                    .map_err(|error| failed("cannot be swept", second.hidden.path(), error))?;
            }
        }
        place.status =
            host.status(&place.directory, &place.name).map_err(|error| failed("cannot be looked at", &place.path(), error))?;
    }
    Ok(())
}

/// One that cannot be read was not settled, and may need its backups. One whose writer died before its first line was whole
/// does not: nothing was switched.
fn may_need(context: &Context, state: &State, name: &OsStr) -> bool {
    match journal::read(context.host(), &state.journal, name) {
        Ok(journal) => journal.is_some_and(|journal| journal.begin.is_some()),
        Err(_) => true,
    }
}

/// The same for a look that changes nothing: the next run will have taken them away before it looks.
pub(super) fn discount(context: &Context, us: &Identity, places: &mut [Place]) -> Result<(), Error> {
    for place in places {
        let left = u64::try_from(find(context, us, place)?.len()).unwrap_or_default();
        if let Some(status) = &mut place.status {
            status.links = status.links.saturating_sub(left);
        }
    }
    Ok(())
}

fn find(context: &Context, us: &Identity, place: &Place) -> Result<Vec<SecondName>, Error> {
    let host = context.host();
    let status = match &place.status {
        Some(status) if status.kind == FileKind::Regular && status.links > 1 => status,
        _ => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    for (target, hidden) in vault::all(context, us, &place.directory)? {
        let names = host.list(&hidden).map_err(|error| failed("cannot be listed", hidden.path(), error))?;
        let same = |name: &OsString| matches!(host.status(&hidden, name), Ok(Some(other)) if other.same_file(status));
        let names = names.into_iter().filter(same);
        found.extend(names.map(|name| SecondName { target: target.clone(), hidden: hidden.clone(), name }));
    }
    Ok(found)
}

impl SecondName {
    /// A backup. What was staged never stays, not even with the number of a set: a power cut left a rename half done.
    fn is_of_a_set(&self, context: &Context, state: &State) -> bool {
        let name = self.name.to_string_lossy();
        if !name.ends_with(".old") {
            return false;
        }
        let id = name.split_once('.').map_or(&*name, |(id, _)| id);
        let set = format!("{}-{id}.set", self.target);
        matches!(context.host().status(&state.targets, OsStr::new(&set)), Ok(Some(_)) | Err(_))
    }
}
