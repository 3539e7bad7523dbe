//! The data directory: one process at a time, one node for life. `meta.properties` says whose it is.
//!
//! The directory id also stands in RocksDB; that the two agree is checked by whoever opens RocksDB.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use millstream_core::types::NodeId;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

use super::properties;

/// Held by `flock` while a process runs on the directory. The name is Kafka's.
const LOCK_FILE: &str = ".lock";
const META_FILE: &str = "meta.properties";
const META_FILE_NEW: &str = "meta.properties.tmp";
/// What marks a `meta.properties` as ours: Kafka's own has the same keys otherwise.
const FORMAT_KEY: &str = "millstream.format";
/// The one layout of the directory so far.
const FORMAT: &str = "1";
/// What a node of ours keeps below its directory. One of these without `meta.properties`: half of it is gone.
const OWN_ENTRIES: [&str; 3] = ["kv", "log", "trash"];
/// What a fresh file system may hold.
const HARMLESS_ENTRIES: [&str; 3] = ["lost+found", LOCK_FILE, META_FILE_NEW];

/// An open data directory. Locked until dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    node_id: NodeId,
    /// Kafka's form: 22 characters of URL-safe base64.
    cluster_id: String,
    directory_id: Uuid,
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
    /// Locks the directory and reads whose it is; makes it when it is missing or empty, for `node_id`, with
    /// `new_ids` (cluster id, directory id).
    pub fn open(path: &Path, node_id: NodeId, new_ids: (Uuid, Uuid)) -> Result<Self, DirectoryError> {
        let io_error = |action| move |error| DirectoryError::Io { path: path.to_owned(), action, error };
        fs::create_dir_all(path).map_err(io_error("cannot be made"))?;
        if !path.join(META_FILE).exists() {
            // Before the lock is made: what is not ours is not touched.
            refuse_unless_empty(path, &list(path).map_err(io_error("cannot be read"))?)?;
        }
        let lock_error = io_error("cannot be written");
        let file =
            File::options().create(true).write(true).truncate(false).open(path.join(LOCK_FILE)).map_err(lock_error)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => DirectoryError::InUse { path: path.to_owned() },
            errno => io_error("cannot be locked")(errno.into()),
        })?;
        let open = |cluster_id, directory_id, is_new| Self {
            path: path.to_owned(),
            node_id,
            cluster_id,
            directory_id,
            is_new,
            _lock: lock,
        };
        match fs::read_to_string(path.join(META_FILE)) {
            Ok(text) => {
                let (cluster_id, directory_id) = read_meta(path, &text, node_id)?;
                let [has_kv, has_log] = ["kv", "log"].map(|half| path.join(half).exists());
                match (has_kv, has_log) {
                    (true, _) => Ok(open(cluster_id, directory_id, false)),
                    // Its birth was cut short, or all was wiped: in either case it is another disk than before.
                    (false, false) => {
                        write_meta(path, node_id, &cluster_id, new_ids.1).map_err(io_error("cannot be written"))?;
                        Ok(open(cluster_id, new_ids.1, true))
                    }
                    (false, true) => {
                        let text = "log/ is there, but kv/ is missing".to_owned();
                        Err(DirectoryError::Damaged { path: path.to_owned(), text })
                    }
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (cluster_id, directory_id) = (base64(new_ids.0), new_ids.1);
                write_meta(path, node_id, &cluster_id, directory_id).map_err(io_error("cannot be written"))?;
                Ok(open(cluster_id, directory_id, true))
            }
            Err(e) => Err(io_error("meta.properties cannot be read")(e)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Kafka's form: 22 characters of URL-safe base64.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn directory_id(&self) -> Uuid {
        self.directory_id
    }

    /// Nothing is in it: neither `kv/` nor `log/`.
    pub fn is_new(&self) -> bool {
        self.is_new
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

fn read_meta(path: &Path, text: &str, node_id: NodeId) -> Result<(String, Uuid), DirectoryError> {
    let damaged = |text: String| DirectoryError::Damaged { path: path.to_owned(), text };
    let properties = properties::parse(text).map_err(|e| damaged(format!("{META_FILE}: {e}")))?;
    let value = |key: &str| properties.iter().rev().find(|p| p.key == key).map(|p| p.value.as_str());
    match value(FORMAT_KEY) {
        Some(FORMAT) => {}
        Some(other) => {
            let text = format!("{META_FILE} has {FORMAT_KEY}={other}; this version reads {FORMAT}");
            return Err(DirectoryError::Foreign { path: path.to_owned(), text });
        }
        None => {
            let text = format!("{META_FILE} has no {FORMAT_KEY}");
            return Err(DirectoryError::Foreign { path: path.to_owned(), text });
        }
    }
    let required = |key: &str| value(key).ok_or_else(|| damaged(format!("{META_FILE} has no {key}")));
    let found = required("node.id")?;
    if found.parse() != Ok(node_id.0) {
        return Err(DirectoryError::OtherNode { path: path.to_owned(), found: found.to_owned(), wanted: node_id });
    }
    let directory_id = required("directory.id")?;
    let directory_id = from_base64(directory_id)
        .ok_or_else(|| damaged(format!("{META_FILE}: directory.id={directory_id} is no id")))?;
    Ok((required("cluster.id")?.to_owned(), directory_id))
}

/// Aside, synced, renamed, and the directory synced: a crash leaves the whole file or none.
fn write_meta(path: &Path, node_id: NodeId, cluster_id: &str, directory_id: Uuid) -> io::Result<()> {
    let directory_id = base64(directory_id);
    let text = format!(
        "version=1\n{FORMAT_KEY}={FORMAT}\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n"
    );
    let aside = path.join(META_FILE_NEW);
    let mut file = File::create(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path.join(META_FILE))?;
    File::open(path)?.sync_all()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// URL-safe base64 without padding, as Kafka's `Uuid` prints itself.
fn base64(id: Uuid) -> String {
    let bits = id.as_u128();
    // 21 groups of six bits from the top, and the last two bits filled up with zeros.
    let groups = (0..22).map(|group| if group < 21 { bits >> (122 - 6 * group) } else { bits << 4 });
    groups.map(|bits| char::from(ALPHABET[usize::try_from(bits & 63).expect("six bits")])).collect()
}

fn from_base64(text: &str) -> Option<Uuid> {
    let digits: Option<Vec<u128>> =
        text.bytes().map(|b| ALPHABET.iter().position(|a| *a == b).and_then(|d| u128::try_from(d).ok())).collect();
    let digits = digits.filter(|digits| digits.len() == 22)?;
    let (last, others) = digits.split_last()?;
    let bits = others.iter().fold(0_u128, |bits, digit| bits << 6 | digit);
    Some(Uuid::from_u128(bits << 2 | last >> 4))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const IDS: (Uuid, Uuid) = (Uuid::from_u128(0x1234_5678 << 90), Uuid::from_u128(77));

    fn open(path: &Path, node: i32) -> Result<DataDirectory, DirectoryError> {
        DataDirectory::open(path, NodeId(node), IDS)
    }

    #[test]
    fn a_directory_keeps_its_ids() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a/b");
        let born = open(&path, 3).unwrap();
        assert!(born.is_new());
        let ids = (born.cluster_id().to_owned(), born.directory_id());
        fs::create_dir(path.join("kv")).unwrap();
        drop(born);
        let again = DataDirectory::open(&path, NodeId(3), (Uuid::nil(), Uuid::nil())).unwrap();
        assert!(!again.is_new());
        assert_eq!((again.cluster_id().to_owned(), again.directory_id()), ids);
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = TempDir::new().unwrap();
        let first = open(dir.path(), 1).unwrap();
        assert!(matches!(open(dir.path(), 1), Err(DirectoryError::InUse { .. })));
        drop(first);
        open(dir.path(), 1).unwrap();
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let dir = TempDir::new().unwrap();
        drop(open(dir.path(), 1).unwrap());
        let refused = open(dir.path(), 2).unwrap_err().to_string();
        assert!(refused.contains("belongs to node 1, not to node 2"), "{refused}");
    }

    #[test]
    fn a_directory_of_something_else_is_refused() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(open(dir.path(), 1), Err(DirectoryError::Foreign { .. })));
        assert!(!dir.path().join(META_FILE).exists());

        let kafka = TempDir::new().unwrap();
        let meta = "version=1\ncluster.id=a\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAA\n";
        fs::write(kafka.path().join(META_FILE), meta).unwrap();
        assert!(matches!(open(kafka.path(), 1), Err(DirectoryError::Foreign { .. })));
    }

    #[test]
    fn half_a_directory_is_refused() {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("kv")).unwrap();
        let refused = open(dir.path(), 1).unwrap_err().to_string();
        assert!(refused.contains("kv/ is there, but meta.properties is missing"), "{refused}");

        let dir = TempDir::new().unwrap();
        drop(open(dir.path(), 1).unwrap());
        fs::create_dir(dir.path().join("log")).unwrap();
        let refused = open(dir.path(), 1).unwrap_err().to_string();
        assert!(refused.contains("log/ is there, but kv/ is missing"), "{refused}");
    }

    #[test]
    fn a_wiped_directory_is_another_disk_of_the_same_cluster() {
        let dir = TempDir::new().unwrap();
        let cluster_id = open(dir.path(), 1).unwrap().cluster_id().to_owned();
        let other = Uuid::from_u128(99);
        let wiped = DataDirectory::open(dir.path(), NodeId(1), (Uuid::nil(), other)).unwrap();
        assert!(wiped.is_new());
        assert_eq!((wiped.cluster_id(), wiped.directory_id()), (cluster_id.as_str(), other));
    }

    #[test]
    fn ids_look_as_kafkas() {
        // Kafka's Uuid.toString of the same bits.
        assert_eq!(base64(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(base64(Uuid::max()), "_____________________w");
        for bits in [0, 1, 3, 1 << 127, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            assert_eq!(from_base64(&base64(Uuid::from_u128(bits))), Some(Uuid::from_u128(bits)));
        }
        assert_eq!(from_base64("AAAA"), None);
        assert_eq!(from_base64("AAAAAAAAAAAAAAAAAAAAA!"), None);
    }
}
