//! Stage 4: what is there, compared with what is wanted.

use std::io;

use crate::certificate::{guard_against_regress, read_leaf};
use crate::context::Context;
use crate::destination::{Place, Resolver};
use crate::digest::{hex, sha256};
use crate::engine::check;
use crate::engine::generation::{has_drifted, is_open};
use crate::engine::group::{Before, File, Member, Wanted};
use crate::engine::overview::{FileAction, TargetState};
use crate::error::{Error, ErrorKind};
use crate::generation;
use crate::host::{Attributes, Host, Identity, Metadata};
use crate::lock::LockKeys;
use crate::plan::{Content, PlanFile, Role};
use crate::report::Rung;
use crate::state::Verified;

/// No certificate, key or store is larger.
const SIZE_LIMIT: u64 = 64 << 20;

/// Nothing to do, seen without a lock: the marker says so, and every file is as wanted.
///
/// Sixteen file system calls for three files. A lock would add nothing: a deployment of this target that runs right now
/// has removed the marker before it touches a file.
pub(super) fn is_settled(member: &Member, context: &Context) -> bool {
    let Some(marker) = &member.marker else { return false };
    let (endpoints, _) = member.plan.hooks.verify.list();
    if !marker.settles(&member.digest) || context.force() {
        return false;
    }
    if !endpoints.is_empty() && marker.verified != Verified::Seen {
        return false;
    }
    member.plan.files.iter().all(|file| is_as_wanted(context.host(), file)) && is_open(context.host(), member)
}

fn is_as_wanted(host: &dyn Host, file: &PlanFile) -> bool {
    let read = host.read_path(&file.path, SIZE_LIMIT);
    match (&file.content, read) {
        (Content::Absent, Ok(None)) => true,
        (Content::Bytes(wanted), Ok(Some((bytes, status)))) => {
            let mode = file.mode.map_or(status.mode & 0o777 & !kept_mode(file.role) == 0, |mode| mode.bits() == status.mode);
            mode && same_owner(host, file, status.uid, status.gid) && *wanted == bytes
        }
        _ => false,
    }
}

fn same_owner(host: &dyn Host, file: &PlanFile, uid: u32, gid: u32) -> bool {
    let owner = file.owner.as_deref().is_none_or(|name| matches!(host.user_id(name), Ok(Some(id)) if id == uid));
    owner && file.group.as_deref().is_none_or(|name| matches!(host.group_id(name), Ok(Some(id)) if id == gid))
}

/// Finds the places of all files; the keys to lock are added.
pub(super) fn locate(
    member: &Member,
    context: &Context,
    us: &Identity,
    resolver: &mut Resolver,
    keys: &mut LockKeys,
) -> Result<Vec<Place>, Error> {
    let mut places: Vec<Place> = Vec::with_capacity(member.plan.files.len());
    let generations = match member.plan.layout.directory() {
        Some(directory) => Some(generation::locate(context, us, resolver, directory, member.name())?),
        None => None,
    };
    for file in &member.plan.files {
        let place = match &generations {
            Some(generations) => generations.place(context.host(), &file.path)?,
            None => resolver.resolve(context.host(), us, &file.path, member.plan.links)?,
        };
        if let Some(index) = places.iter().position(|other| other.same(&place)) {
            let other = &member.plan.files[index].path;
            return Err(Error::new(
                ErrorKind::PlanInvalid,
                format!("{} and {} are two names of one file", other.display(), file.path.display()),
            )
            .with_next_step("give every file of the plan a file of its own"));
        }
        let (directory, name) = place.lock();
        keys.add_destination(directory, name);
        places.push(place);
    }
    Ok(places)
}

/// Reads every destination and decides what has to be done.
pub(super) fn inspect(member: &mut Member, context: &Context, us: &Identity, places: Vec<Place>) -> Result<(), Error> {
    let in_place = member.plan.allow_in_place && member.plan.layout.directory().is_none();
    places.iter().try_for_each(|place| crate::destination::check(place, in_place))?;
    unsafe_parents(member, context, &places)?;
    let defaults = Ids::of(context.host(), member.plan.defaults.owner.as_deref(), member.plan.defaults.group.as_deref())?;
    let mut files = Vec::with_capacity(places.len());
    for (file, place) in member.plan.files.iter().zip(places) {
        files.push(inspect_file(member, context.host(), us, file, place, defaults)?);
    }
    // Owner and mode are repaired in place, which is nothing new for who reads the files.
    if files.iter().any(|file| !matches!(file.action, FileAction::Keep | FileAction::Repair)) {
        for (file, planned) in files.iter_mut().zip(&member.plan.files) {
            if planned.touched && matches!(file.action, FileAction::Keep | FileAction::Repair) {
                file.action = FileAction::Replace;
            }
        }
    }
    if member.plan.layout.directory().is_some() && files.iter().any(File::switches) {
        // A new generation has all of them.
        files.iter_mut().for_each(|file| file.moves = true);
    }
    member.files = files;
    exposed_keys(member, context);
    member.old_leaf = live_leaf(member);
    guard(member, context)?;
    member.state = state(member, context);
    if !context.host().facilities().attributes && member.files.iter().any(File::switches) {
        let why = "ACLs, labels and other attributes of files can be neither read nor set on this host: new files have none";
        member.report.degrade("attributes", why);
    }
    Ok(())
}

/// Owner and group as numbers.
#[derive(Clone, Copy)]
struct Ids {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Ids {
    fn of(host: &dyn Host, owner: Option<&str>, group: Option<&str>) -> Result<Self, Error> {
        let unknown = |what: &str, name: &str| {
            Error::new(ErrorKind::PlanInvalid, format!("there is no {what} `{name}` on this host"))
                .with_next_step(format!("create the {what}, or correct its name"))
        };
        let failed =
            |error: io::Error| Error::new(ErrorKind::PlanInvalid, "users and groups cannot be looked up").with_source(error);
        let uid = match owner {
            Some(name) => Some(host.user_id(name).map_err(failed)?.ok_or_else(|| unknown("user", name))?),
            None => None,
        };
        let gid = match group {
            Some(name) => Some(host.group_id(name).map_err(failed)?.ok_or_else(|| unknown("group", name))?),
            None => None,
        };
        Ok(Self { uid, gid })
    }
}

fn inspect_file(
    member: &Member,
    host: &dyn Host,
    us: &Identity,
    file: &PlanFile,
    place: Place,
    defaults: Ids,
) -> Result<File, Error> {
    let before = read_before(host, &place)?;
    let own = Ids::of(host, file.owner.as_deref(), file.group.as_deref())?;
    let wanted = match &file.content {
        Content::Absent => None,
        Content::Bytes(bytes) => {
            let metadata = metadata(member, file, before.as_ref(), us, own, defaults);
            Some(Wanted { bytes: bytes.clone(), sha256: hex(&sha256(bytes.expose())), metadata })
        }
    };
    let action = match action(before.as_ref(), wanted.as_ref()) {
        // Between a look and the change another file could take its place, and be given away.
        FileAction::Repair if place.unsafe_parent.is_some() => FileAction::Replace,
        action => action,
    };
    if let Some(wanted) = wanted.as_ref().filter(|_| action != FileAction::Keep) {
        may_own(&file.path, us, &wanted.metadata)?;
    }
    let path = file.path.clone();
    let in_place = crate::destination::only_in_place(&place);
    Ok(File {
        path,
        role: file.role,
        place,
        wanted,
        before,
        action,
        moves: false,
        in_place,
        hidden: None,
        staged: None,
        backup: None,
    })
}

fn read_before(host: &dyn Host, place: &Place) -> Result<Option<Before>, Error> {
    if place.status.is_none() || place.status.as_ref().is_some_and(|status| status.kind == crate::host::FileKind::Symlink) {
        return Ok(None);
    }
    let path = place.path();
    let failed = |error: io::Error| {
        let step = match error.kind() {
            io::ErrorKind::PermissionDenied => "run as a user that may read it: without that it could not be brought back",
            _ => "see the cause",
        };
        Error::new(ErrorKind::PlanInvalid, format!("{} exists and cannot be read", path.display()))
            .with_source(error)
            .with_next_step(step)
    };
    let read = host.read(&place.directory, &place.name, SIZE_LIMIT).map_err(failed)?;
    let Some((bytes, status)) = read.filter(|(_, status)| place.status.as_ref().is_some_and(|seen| seen.same_file(status)))
    else {
        return Err(Error::new(ErrorKind::Conflict, format!("somebody else changed {} while it was looked at", path.display()))
            .with_next_step("find out who writes that file; then run again"));
    };
    let attributes = match host.facilities().attributes {
        true => host.attributes(&place.directory, &place.name).map_err(failed)?,
        false => Attributes::new(),
    };
    Ok(Some(Before { sha256: hex(&sha256(bytes.expose())), bytes, status, attributes }))
}

/// Overrides win, each by itself; then what is there; then the plan's defaults; then ours.
fn metadata(member: &Member, file: &PlanFile, before: Option<&Before>, us: &Identity, own: Ids, defaults: Ids) -> Metadata {
    let default_mode = member.plan.defaults.mode.map_or(if file.role.holds_key() { 0o600 } else { 0o644 }, |mode| mode.bits());
    let mode = |existing: u32| file.mode.map_or(existing, |mode| mode.bits());
    let metadata = match before {
        Some(before) => {
            let status = &before.status;
            Metadata::new(own.uid.unwrap_or(status.uid), own.gid.unwrap_or(status.gid), mode(status.mode & kept_mode(file.role)))
                .with_attributes(before.attributes.clone())
        }
        None => Metadata::new(
            own.uid.or(defaults.uid).unwrap_or(us.uid),
            own.gid.or(defaults.gid).unwrap_or(us.gid),
            mode(default_mode & kept_mode(file.role)),
        ),
    };
    match &file.attributes {
        Some(attributes) => metadata.with_attributes(attributes.clone()),
        None => metadata,
    }
}

/// The bits of a mode that a new file inherits from the old one. A key is never open to every user.
fn kept_mode(role: Role) -> u32 {
    if is_key(role) { 0o770 } else { 0o777 }
}

fn is_key(role: Role) -> bool {
    matches!(role, Role::Combined | Role::Key)
}

fn action(before: Option<&Before>, wanted: Option<&Wanted>) -> FileAction {
    match (before, wanted) {
        (None, None) => FileAction::Keep,
        (None, Some(_)) => FileAction::Create,
        (Some(_), None) => FileAction::Remove,
        (Some(before), Some(wanted)) if before.bytes != wanted.bytes => FileAction::Replace,
        (Some(before), Some(wanted)) => {
            let (status, metadata) = (&before.status, &wanted.metadata);
            let same = (status.uid, status.gid, status.mode) == (metadata.uid, metadata.gid, metadata.mode);
            if same { FileAction::Keep } else { FileAction::Repair }
        }
    }
}

/// Without the right to give files away, an owner that cannot be kept is refused before anything is written.
fn may_own(path: &std::path::Path, us: &Identity, metadata: &Metadata) -> Result<(), Error> {
    if us.can_change_owner || (metadata.uid == us.uid && us.groups.contains(&metadata.gid)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "{} has to belong to user {} and group {}, and user {} may not give files away",
            path.display(),
            metadata.uid,
            metadata.gid,
            us.uid
        ),
    )
    .with_next_step(
        "run with CAP_CHOWN, or make the user a member of that group and the file its own (see: running without root)",
    ))
}

fn unsafe_parents(member: &mut Member, context: &Context, places: &[Place]) -> Result<(), Error> {
    let found = member.plan.files.iter().zip(places).find_map(|(file, place)| {
        let who = place.unsafe_parent.clone()?;
        Some((file.path.clone(), who, member.plan.files.iter().any(|file| file.role.holds_key())))
    });
    let Some((path, who, keys)) = found else { return Ok(()) };
    if keys && !member.plan.allow_unsafe_parent {
        return Err(Error::new(ErrorKind::PlanInvalid, format!("{} is no safe place for a key: {who}", path.display())).with_next_step(
            "make the directory and its parents writable by root (or by the user that runs this) alone, or set allow_unsafe_parent = true",
        ));
    }
    member.warn(context, format!("{}: {who}", path.display()));
    Ok(())
}

fn exposed_keys(member: &mut Member, context: &Context) {
    let closed = |file: &&File| {
        let mode = |before: &Before| before.status.mode & 0o007;
        let wanted = file.wanted.as_ref().is_some_and(|wanted| wanted.metadata.mode & 0o007 == 0);
        is_key(file.role) && wanted && file.before.as_ref().is_some_and(|before| mode(before) != 0)
    };
    let paths: Vec<String> = member.files.iter().filter(closed).map(|file| file.path.display().to_string()).collect();
    for path in paths {
        member.warn(context, format!("{path} was open to every user, as no key may be; it is closed to them"));
    }
}

fn live_leaf(member: &Member) -> Option<String> {
    let file = member.files.iter().find(|file| file.role.holds_leaf())?;
    read_leaf(file.before.as_ref()?.bytes.expose()).map(|(fingerprint, _)| fingerprint)
}

/// The regress guard.
fn guard(member: &mut Member, context: &Context) -> Result<(), Error> {
    let Some(certificate) = member.certificate.clone() else { return Ok(()) };
    if context.force() || member.plan.going_back || member.old_leaf.as_deref() == Some(certificate.fingerprint()) {
        return Ok(());
    }
    let before = |role: fn(Role) -> bool| {
        member.files.iter().find(|file| role(file.role)).and_then(|file| file.before.as_ref()).map(|before| before.bytes.clone())
    };
    let Some(live) = before(Role::holds_leaf) else { return Ok(()) };
    let key = before(|role| role == Role::Key);
    let warnings =
        guard_against_regress(&certificate, live.expose(), key.as_ref().map(|key| key.expose()), context.host().now())?;
    for warning in warnings {
        member.warn(context, warning);
    }
    Ok(())
}

fn state(member: &Member, context: &Context) -> TargetState {
    let actions = || member.files.iter().map(|file| file.action);
    if actions().any(|action| matches!(action, FileAction::Create | FileAction::Remove | FileAction::Replace)) {
        return TargetState::Change;
    }
    let settled = member.marker.as_ref().is_some_and(|marker| marker.settles(&member.digest));
    let to_be_seen = !member.plan.hooks.verify.list().0.is_empty();
    let seen = member.marker.as_ref().is_some_and(|marker| marker.verified == Verified::Seen);
    if !settled || (to_be_seen && !seen) || context.force() {
        return TargetState::Owed;
    }
    if actions().any(|action| action == FileAction::Repair) || has_drifted(member) {
        TargetState::Drift
    } else {
        TargetState::Unchanged
    }
}

/// Whether the plan rests on files that are still what they were.
pub(super) fn reads_hold(member: &Member, context: &Context) -> Result<bool, Error> {
    for (path, digest) in &member.plan.reads {
        let read = context.host().read_path(path, SIZE_LIMIT).map_err(|error| {
            Error::new(ErrorKind::Conflict, format!("{} was read for this plan and cannot be read again", path.display()))
                .with_source(error)
        })?;
        if read.map(|(bytes, _)| sha256(bytes.expose())) != *digest {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether leaf and key on disk are a pair; used where somebody else changed a file.
pub(super) fn is_pair(files: &[(Role, Option<crate::secret::SecretBytes>)]) -> bool {
    let bytes = |role: Role| files.iter().find(|(other, _)| *other == role).and_then(|(_, bytes)| bytes.as_ref());
    let read =
        check::from_roles(bytes(Role::Combined), bytes(Role::Fullchain), bytes(Role::Leaf), bytes(Role::Chain), bytes(Role::Key));
    matches!(read, Ok(Some(_)))
}

/// Raises the rung that a report names.
pub(super) fn reached(member: &mut Member, rung: Rung) {
    member.report.validated = member.report.validated.max(rung);
}
