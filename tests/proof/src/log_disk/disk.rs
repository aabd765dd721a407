//! The disk itself: one file in a FUSE file system of this process.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

use super::image::Image;
use super::recording::{Operation, Recording};

const NAME: &str = "disk";
const FILE: INodeNo = INodeNo(2);
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// A disk of which every write and flush can be recorded. What was mounted of it has to be dropped first.
#[derive(Debug)]
pub struct Disk {
    content: Arc<Mutex<Content>>,
    file: PathBuf,
    _session: BackgroundSession,
}

#[derive(Debug, Default)]
struct Content {
    image: Image,
    recording: Option<Recording>,
}

impl Disk {
    /// An empty disk of this many bytes: a file in a directory, which has to be there.
    ///
    /// # Panics
    ///
    /// When FUSE does not work.
    #[must_use]
    pub fn new(directory: &Path, size: u64) -> Self {
        let content = Arc::new(Mutex::new(Content::default()));
        let mut options = Config::default();
        options.mount_options = vec![MountOption::FSName("certdeploy-log-disk".to_owned())];
        let server = Server { content: content.clone(), size };
        let session = fuser::spawn_mount(server, directory, &options).expect("FUSE works");
        Self { content, file: directory.join(NAME), _session: session }
    }

    /// Where it is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is on it.
    #[must_use]
    pub fn image(&self) -> Image {
        content(&self.content).image.clone()
    }

    /// Puts something else on it. Nothing may be mounted.
    pub fn insert(&self, image: Image) {
        content(&self.content).image = image;
    }

    /// Records from here on.
    pub fn record(&self) {
        let mut content = content(&self.content);
        content.recording = Some(Recording::new(content.image.clone()));
    }

    /// Somebody was told that the work is done.
    pub fn acknowledge(&self) {
        if let Some(recording) = &mut content(&self.content).recording {
            recording.acknowledge();
        }
    }

    /// How many writes and flushes are recorded so far.
    #[must_use]
    pub fn recorded(&self) -> usize {
        content(&self.content).recording.as_ref().map_or(0, |recording| recording.operations().len())
    }

    /// What was recorded.
    ///
    /// # Panics
    ///
    /// When nothing was to be.
    #[must_use]
    pub fn stop(&self) -> Recording {
        content(&self.content).recording.take().expect("it was recording")
    }
}

struct Server {
    content: Arc<Mutex<Content>>,
    size: u64,
}

impl Server {
    fn attributes(&self, inode: INodeNo) -> FileAttr {
        let is_file = inode == FILE;
        FileAttr {
            ino: inode,
            size: if is_file { self.size } else { 0 },
            blocks: if is_file { self.size / 512 } else { 0 },
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if is_file { FileType::RegularFile } else { FileType::Directory },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    /// A flush of the loop device.
    fn flush(&self) {
        if let Some(recording) = &mut content(&self.content).recording {
            recording.push(Operation::Flush);
        }
    }
}

impl Filesystem for Server {
    fn lookup(&self, _request: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name == NAME {
            true => reply.entry(&FOREVER, &self.attributes(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn open(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Past the page cache, in which writes would wait for no flush of the disk's.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH);
    }

    fn read(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(self.size.saturating_sub(offset));
        let length = usize::try_from(length).expect("no more than was asked for");
        reply.data(&content(&self.content).image.read(offset, length));
    }

    fn write(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut content = content(&self.content);
        content.image.write(offset, data);
        if let Some(recording) = &mut content.recording {
            recording.push(Operation::Write { offset, bytes: data.into() });
        }
        reply.written(u32::try_from(data.len()).expect("a request is small"));
    }

    fn fsync(&self, _request: &Request, _inode: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.flush();
        reply.ok();
    }
}

fn content(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().expect("nobody panics with it")
}
