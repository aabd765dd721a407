//! What the shell on the other side answers: statuses of files, names, and what its system says.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;

use deploy_core::host::{FileKind, Identity, Status};
use zeroize::Zeroizing;

/// What the C libraries of Linux say (`strerror` of glibc and musl), and some shells in their stead.
const SAYINGS: &[(&str, io::ErrorKind)] = &[
    ("No such file or directory", io::ErrorKind::NotFound),
    ("No such file", io::ErrorKind::NotFound),
    ("Directory nonexistent", io::ErrorKind::NotFound),
    ("No such process", io::ErrorKind::NotFound),
    ("Permission denied", io::ErrorKind::PermissionDenied),
    ("Operation not permitted", io::ErrorKind::PermissionDenied),
    ("File exists", io::ErrorKind::AlreadyExists),
    ("cannot overwrite existing file", io::ErrorKind::AlreadyExists),
    ("No space left on device", io::ErrorKind::StorageFull),
    ("Disk quota exceeded", io::ErrorKind::QuotaExceeded),
    ("Quota exceeded", io::ErrorKind::QuotaExceeded),
    ("Read-only file system", io::ErrorKind::ReadOnlyFilesystem),
    ("Directory not empty", io::ErrorKind::DirectoryNotEmpty),
    ("Not a directory", io::ErrorKind::NotADirectory),
    ("Is a directory", io::ErrorKind::IsADirectory),
    ("is not a regular file", io::ErrorKind::InvalidInput),
    ("Invalid argument", io::ErrorKind::InvalidInput),
    ("File name too long", io::ErrorKind::InvalidFilename),
    ("Filename too long", io::ErrorKind::InvalidFilename),
    ("Device or resource busy", io::ErrorKind::ResourceBusy),
    ("Resource busy", io::ErrorKind::ResourceBusy),
    ("Invalid cross-device link", io::ErrorKind::CrossesDevices),
    ("Cross-device link", io::ErrorKind::CrossesDevices),
    ("Too many links", io::ErrorKind::TooManyLinks),
    ("Operation not supported", io::ErrorKind::Unsupported),
    ("Not supported", io::ErrorKind::Unsupported),
    ("Stale file handle", io::ErrorKind::StaleNetworkFileHandle),
];

/// The error that a program on the other side met. What the system says stands at the end; a name may hold anything.
pub(crate) fn system_error(said: &[u8]) -> io::Error {
    let said = String::from_utf8_lossy(said);
    let said = said.trim();
    let saying = SAYINGS.iter().find(|(saying, _)| said.ends_with(saying));
    let said = if said.is_empty() { "it failed without a word" } else { said };
    io::Error::new(saying.map_or(io::ErrorKind::Other, |(_, kind)| *kind), said.to_owned())
}

/// An answer that makes no sense.
pub(crate) fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the other side answered with something that is no {what}"))
}

/// Bytes in hexadecimal digits.
pub(crate) fn bytes(digits: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let digit = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks(2) {
        let byte = match *pair {
            [high, low] => digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(byte.ok_or_else(|| nonsense("file"))?);
    }
    Ok(bytes)
}

/// The names of a directory: each is followed by a slash.
pub(crate) fn names(digits: &[u8]) -> io::Result<Vec<OsString>> {
    let bytes = bytes(digits)?;
    let names = bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
}

/// A status as `stat -c '%f %d %i %h %s %u %g %Y %Z|%y|%z'` prints it: the last two for what is less than a second.
pub(crate) fn status(text: &[u8]) -> io::Result<Status> {
    std::str::from_utf8(text).ok().and_then(parse).ok_or_else(|| nonsense("status"))
}

fn parse(text: &str) -> Option<Status> {
    let mut parts = text.trim().split('|');
    let mut words = parts.next()?.split(' ');
    let mode = u32::from_str_radix(words.next()?, 16).ok()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let (device, inode, links, size) = (number()?, number()?, number()?, number()?);
    let (uid, gid) = (u32::try_from(number()?).ok()?, u32::try_from(number()?).ok()?);
    let mut second = || words.next()?.parse::<i128>().ok();
    let (modified, changed) = (second()?, second()?);
    let kind = match mode & 0o170_000 {
        0o040_000 => FileKind::Directory,
        0o010_000 => FileKind::Fifo,
        0o140_000 => FileKind::Socket,
        0o120_000 => FileKind::Symlink,
        0o060_000 | 0o020_000 => FileKind::Device,
        _ => FileKind::Regular,
    };
    let mut status = Status::new(kind, device, inode);
    (status.links, status.size, status.uid, status.gid, status.mode) = (links, size, uid, gid, mode & 0o7777);
    status.modified = modified * 1_000_000_000 + fraction(parts.next()?);
    status.changed = changed * 1_000_000_000 + fraction(parts.next()?);
    Some(status)
}

/// The nanoseconds of `2026-11-30 03:53:21.641526242 +0000`; none where the file system or the program has none.
fn fraction(time: &str) -> i128 {
    let digits = time.split('.').nth(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.map(|digits| format!("{digits:0<9}")).and_then(|digits| digits.get(..9)?.parse().ok()).unwrap_or_default()
}

/// What the other side says of itself when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) system: String,
    pub(crate) login_shell: String,
    /// Programs that are needed and are not there.
    pub(crate) missing: String,
    pub(crate) identity: Identity,
    pub(crate) boot_id: String,
    /// Its clock, in seconds since 1970.
    pub(crate) time: u64,
}

impl Introduction {
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        /// May give files to any owner (capabilities(7)).
        const CAP_CHOWN: u64 = 1;
        let line = std::str::from_utf8(line).ok()?;
        let fields: Vec<&str> = line.split('|').collect();
        let &[system, login_shell, missing, uid, gid, groups, capabilities, boot_id, time] = fields.as_slice() else {
            return None;
        };
        let groups = groups.split_whitespace().map(|group| group.parse().ok()).collect::<Option<Vec<u32>>>()?;
        let can_change_owner = u64::from_str_radix(capabilities, 16).ok()? & CAP_CHOWN != 0;
        Some(Self {
            system: system.to_owned(),
            login_shell: login_shell.to_owned(),
            missing: missing.trim().to_owned(),
            identity: Identity::new(uid.parse().ok()?, gid.parse().ok()?, groups, can_change_owner),
            boot_id: boot_id.to_owned(),
            time: time.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_told_from_names_that_say_the_same() {
        let kind = |said: &[u8]| system_error(said).kind();
        assert_eq!(kind(b"stat: cannot statx './b': No such file or directory\n"), io::ErrorKind::NotFound);
        assert_eq!(kind(b"cat: './No such file or directory': Permission denied"), io::ErrorKind::PermissionDenied);
        assert_eq!(kind(b"cat: write error: No space left on device"), io::ErrorKind::StorageFull);
        assert_eq!(kind(b"Failure"), io::ErrorKind::Other);
        assert_eq!(system_error(b"").to_string(), "it failed without a word");
    }

    #[test]
    fn times_are_read_with_what_is_less_than_a_second() {
        let text = b"81a4 65024 611 1 3 5 6 1795997103 -1|2026-11-30 00:05:03.625259090 +0000|1969-12-31 23:59:59.5 +0000";
        let status = status(text).unwrap();
        assert_eq!((status.kind, status.mode, status.inode, status.uid, status.gid), (FileKind::Regular, 0o644, 611, 5, 6));
        assert_eq!((status.modified, status.changed), (1_795_997_103_625_259_090, -500_000_000));
        for bad in [&b""[..], b"81a4", b"x 1 1 1 1 1 1 1 1|a|b", b"81a4 1 1 1 1 1 1 1 1"] {
            assert!(super::status(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn bytes_and_names_come_as_digits() {
        assert_eq!(*bytes(b"00ff0a").unwrap(), [0, 255, 10]);
        assert!(bytes(b"0").is_err() && bytes(b"zz").is_err());
        assert_eq!(names(b"612f620a2f").unwrap(), ["a", "b\n"]);
        assert!(names(b"").unwrap().is_empty());
    }

    #[test]
    fn an_introduction_has_all_its_fields() {
        let introduction = Introduction::parse(b"Linux|/bin/sh| flock|0|0|0 4|000001fffeffffff|id|1796010801").unwrap();
        assert_eq!((introduction.missing.as_str(), introduction.identity.can_change_owner), ("flock", true));
        assert!(Introduction::parse(b"Linux|/bin/sh").is_none());
    }
}
