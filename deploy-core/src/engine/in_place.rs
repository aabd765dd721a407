//! Files that no other file can take the place of: their bytes are written over the old ones.
//!
//! The old file has a copy in the hidden directory, and the staged file stays there until the new bytes are on the medium. So
//! whatever a crash leaves can be told: a part of each is what this program left, and the copy is written back.

use std::ffi::OsStr;
use std::io;

use crate::engine::group::{File, Group};
use crate::engine::undo::Recorded;
use crate::host::{Directory, Host, Metadata, Status, SyncPoint};
use crate::secret::SecretBytes;

const SIZE_LIMIT: u64 = 64 << 20;

/// Owner and mode first: a new key is never readable by whom the old file was open to.
pub(super) fn write(host: &dyn Host, file: &File) -> io::Result<()> {
    let (Some(wanted), Some(before)) = (&file.wanted, &file.before) else { return Err(io::ErrorKind::NotFound.into()) };
    let (directory, name) = file.live();
    if before.metadata() != wanted.metadata {
        host.set_metadata(directory, name, &wanted.metadata)?;
    }
    host.overwrite(directory, name, wanted.bytes.expose())
}

/// Removes the staged files, once the new bytes are on the medium.
pub(super) fn sweep(group: &mut Group<'_>) {
    let (id, host) = (group.id, group.context.host());
    for member in &mut group.members {
        let mut notes = Vec::new();
        for (index, file) in member.files.iter().enumerate().filter(|(_, file)| file.in_place && file.switches()) {
            notes.push(format!("{} was written in place: a reader could see a part of it", file.path.display()));
            if let Some(hidden) = &file.hidden {
                let _swept_by_the_next_run = host.unlink(hidden, &file.staged_name(id, index));
            }
        }
        notes.into_iter().for_each(|note| member.report.degrade("atomic", note));
    }
}

/// Whether these bytes are what a write that was interrupted leaves: each of them the old one or the new one, or never written.
pub(super) fn is_half_done(host: &dyn Host, file: &Recorded<'_>, bytes: &[u8]) -> io::Result<bool> {
    let (Some(hidden), Some(staged), Some(backup)) = (&file.hidden, &file.record.staged, &file.record.backup) else {
        return Ok(false);
    };
    let read = |name: &str| Ok::<_, io::Error>(host.read(hidden, OsStr::new(name), SIZE_LIMIT)?.map(|(bytes, _)| bytes));
    let (Some(new), Some(old)) = (read(staged)?, read(backup)?) else { return Ok(false) };
    let (old, new) = (old.expose(), new.expose());
    let fits = |(index, byte): (usize, &u8)| *byte == 0 || old.get(index) == Some(byte) || new.get(index) == Some(byte);
    Ok(bytes.len() <= old.len().max(new.len()) && bytes.iter().enumerate().all(fits))
}

/// Writes the copy of the old file back. Its bytes come first: its mode may let others read.
pub(super) fn restore(
    host: &dyn Host,
    file: &Recorded<'_>,
    hidden: &Directory,
    backup: &OsStr,
    (bytes, status): &(SecretBytes, Status),
) -> io::Result<()> {
    let (directory, name) = (&file.directory, &file.record.name.0);
    host.overwrite(directory, name, bytes.expose())?;
    let attributes = if host.facilities().attributes { host.attributes(hidden, backup)? } else { Default::default() };
    let metadata = Metadata::new(status.uid, status.gid, status.mode).with_attributes(attributes);
    host.set_metadata(directory, name, &metadata)?;
    host.sync(&[SyncPoint::File(directory.clone(), name.clone())])
}
