//! The data directory: one process at a time, one node for life. `meta.properties` says whose it is, and where the node
//! stands in its cluster.
//!
//! The directory id also stands in RocksDB; that the two agree is checked by whoever opens RocksDB.

mod id;
mod meta;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use millstream_core::forming::Standing;
use millstream_core::types::{DirectoryId, NodeId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

pub use self::id::{base64, from_base64};
pub use self::meta::Meta;

use self::meta::MetaError;

/// Held by `flock` while a process runs on the directory. The name is Kafka's.
const LOCK_FILE: &str = ".lock";
const META_FILE: &str = "meta.properties";
const META_FILE_NEW: &str = "meta.properties.tmp";
/// What a node of ours keeps below its directory. One of these without `meta.properties`: half of it is gone.
const OWN_ENTRIES: [&str; 5] = ["kv", "log", "trash", "incoming", "damaged"];
/// What a fresh file system may hold.
const HARMLESS_ENTRIES: [&str; 3] = ["lost+found", LOCK_FILE, META_FILE_NEW];

/// An open data directory. Locked until dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    meta: Mutex<Meta>,
    is_new: bool,
    _lock: Flock<File>,
}

/// Why a directory cannot be this node's.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("data directory {path}: {action}: {error}", path = path.display())]
    Io { path: PathBuf, action: &'static str, error: io::Error },
    #[error("data directory {path} is in use by another process", path = path.display())]
    InUse { path: PathBuf },
    #[error("data directory {path} belongs to node {found}, not to node {wanted}", path = path.display())]
    OtherNode { path: PathBuf, found: String, wanted: NodeId },
    #[error("data directory {path} is not Millstream's: {text}", path = path.display())]
    Foreign { path: PathBuf, text: String },
    #[error("data directory {path} is damaged: {text}", path = path.display())]
    Damaged { path: PathBuf, text: String },
}

impl DataDirectory {
    /// Locks the directory and reads whose it is; makes it when it is missing or empty, for `node_id`, with `new_id`.
    /// One that was emptied but for `meta.properties` is another disk: it gets `new_id`, too.
    pub fn open(path: &Path, node_id: NodeId, new_id: Uuid) -> Result<Self, DirectoryError> {
        let io_error = |action| move |error| DirectoryError::Io { path: path.to_owned(), action, error };
        fs::create_dir_all(path).map_err(io_error("cannot be made"))?;
        if !path.join(META_FILE).exists() {
            // Before the lock is made: what is not ours is not touched.
            refuse_unless_empty(path, &list(path).map_err(io_error("cannot be read"))?)?;
        }
        let lock = lock(path)?;
        let (meta, is_new) = match fs::read_to_string(path.join(META_FILE)) {
            Ok(text) => {
                let found = Meta::of_node(&text, node_id).map_err(|e| unreadable(path, node_id, e))?;
                match ["kv", "log"].map(|half| path.join(half).exists()) {
                    [true, _] => (found, false),
                    [false, has_log] => (reborn(path, found, has_log, DirectoryId(new_id))?, true),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let directory = DirectoryId(new_id);
                (Meta { node: node_id, directory, standing: Standing::Empty, contacts: Vec::new() }, true)
            }
            Err(e) => return Err(io_error("meta.properties cannot be read")(e)),
        };
        if is_new {
            write_meta(path, &meta).map_err(io_error("cannot be written"))?;
        }
        Ok(Self { path: path.to_owned(), meta: Mutex::new(meta), is_new, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn node_id(&self) -> NodeId {
        self.lock().node
    }

    pub fn directory_id(&self) -> DirectoryId {
        self.lock().directory
    }

    /// All that `meta.properties` says.
    pub fn meta(&self) -> Meta {
        self.lock().clone()
    }

    pub fn standing(&self) -> Standing {
        self.lock().standing.clone()
    }

    /// Kafka's form: 22 characters of URL-safe base64. `None`: the node is in no cluster yet.
    pub fn cluster_id(&self) -> Option<String> {
        self.lock().standing.formed().map(|(id, _)| id.to_owned())
    }

    /// Changes what is stored, unless `change` says that there is nothing to change; what it says is on disk when this
    /// returns. Blocks for the disk.
    pub fn change(&self, change: impl FnOnce(&Meta) -> Option<Meta>) -> io::Result<bool> {
        let mut meta = self.lock();
        let Some(changed) = change(&meta).filter(|changed| *changed != *meta) else { return Ok(false) };
        write_meta(&self.path, &changed)?;
        *meta = changed;
        Ok(true)
    }

    /// `log/` is gone, and `kv/` tells that there was one. Where other nodes have the data this is another disk from now
    /// on, with nothing on it: true. `kv/` must not be open.
    pub fn renew(&self, new_id: Uuid) -> Result<bool, DirectoryError> {
        let found = self.meta();
        if is_alone(&found) {
            return Ok(false);
        }
        let directory = DirectoryId(new_id);
        // First: a crash from here on leaves a directory that is new at its next start.
        throw_away(&self.path, "kv", directory)?;
        let meta = reborn(&self.path, found, false, directory)?;
        self.change(|_| Some(meta)).map_err(|error| DirectoryError::Io {
            path: self.path.clone(),
            action: "cannot be written",
            error,
        })?;
        Ok(true)
    }

    /// Nothing is in it: neither `kv/` nor `log/`.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    fn lock(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(path: &Path) -> Result<Flock<File>, DirectoryError> {
    let io_error = |action| move |error| DirectoryError::Io { path: path.to_owned(), action, error };
    let file = File::options().create(true).write(true).truncate(false).open(path.join(LOCK_FILE));
    let file = file.map_err(io_error("cannot be written"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => DirectoryError::InUse { path: path.to_owned() },
        errno => io_error("cannot be locked")(errno.into()),
    })
}

/// What a directory is whose `kv/` is missing: its birth was cut short, or it was wiped. In either case it is another
/// disk than before, and must not act as the old one. Where the cluster has other nodes it waits to be taken in again,
/// and what is left in `log/` is of no use to anyone.
fn reborn(path: &Path, found: Meta, has_log: bool, directory: DirectoryId) -> Result<Meta, DirectoryError> {
    let is_alone = is_alone(&found);
    if has_log && is_alone {
        let text = "log/ is there, but kv/ is missing".to_owned();
        return Err(DirectoryError::Damaged { path: path.to_owned(), text });
    }
    if has_log {
        throw_away(path, "log", directory)?;
    }
    let standing = match found.standing {
        // Forms the same cluster again: nobody else was ever in it.
        Standing::Member { cluster_id, .. } if is_alone => Standing::Accepted { cluster_id, former: found.node },
        Standing::Member { cluster_id, founders, .. } => Standing::Outside { cluster_id, founders },
        other => other,
    };
    Ok(Meta { directory, standing, ..found })
}

/// Whether nobody else can have what is in the directory.
fn is_alone(meta: &Meta) -> bool {
    match &meta.standing {
        Standing::Empty | Standing::Accepted { .. } => true,
        Standing::Outside { .. } => false,
        Standing::Member { founders, .. } => {
            meta.contacts.is_empty() && founders.iter().all(|founder| founder.node == meta.node)
        }
    }
}

fn throw_away(path: &Path, half: &str, unique: DirectoryId) -> Result<(), DirectoryError> {
    let trash = path.join("trash");
    let target = trash.join(format!("{half}-{}", base64(unique.0)));
    let moved = fs::create_dir_all(&trash).and_then(|()| fs::rename(path.join(half), target));
    moved.map_err(|error| DirectoryError::Io { path: path.to_owned(), action: "cannot be changed", error })
}

fn unreadable(path: &Path, wanted: NodeId, error: MetaError) -> DirectoryError {
    let path = path.to_owned();
    match error {
        MetaError::Foreign(text) => DirectoryError::Foreign { path, text: format!("{META_FILE} {text}") },
        MetaError::Damaged(text) => DirectoryError::Damaged { path, text: format!("{META_FILE} {text}") },
        MetaError::OtherNode(found) => DirectoryError::OtherNode { path, found, wanted },
    }
}

fn list(path: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// No `meta.properties`: only an empty directory may become ours.
fn refuse_unless_empty(path: &Path, entries: &[String]) -> Result<(), DirectoryError> {
    let path = path.to_owned();
    if let Some(own) = entries.iter().find(|entry| OWN_ENTRIES.contains(&entry.as_str())) {
        return Err(DirectoryError::Damaged { path, text: format!("{own}/ is there, but {META_FILE} is missing") });
    }
    match entries.iter().find(|entry| !HARMLESS_ENTRIES.contains(&entry.as_str())) {
        Some(entry) => Err(DirectoryError::Foreign { path, text: format!("it holds {entry} and no {META_FILE}") }),
        None => Ok(()),
    }
}

/// Aside, synced, renamed, and the directory synced: a crash leaves the whole file or none.
fn write_meta(path: &Path, meta: &Meta) -> io::Result<()> {
    let aside = path.join(META_FILE_NEW);
    let mut file = File::create(&aside)?;
    file.write_all(meta.to_text().as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path.join(META_FILE))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests;
