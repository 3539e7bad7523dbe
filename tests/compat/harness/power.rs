//! Loss of power: what a data directory is left with when only that is there which was synced. `tests/power/layer.c`,
//! preloaded under a node, keeps an image of it; here the image takes the directory's place after a `kill -9`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rand::RngExt;
use rand::rngs::StdRng;

/// What a disk writes or loses as a whole.
const BLOCK: usize = 4096;

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// All of it is gone.
    Gone,
    /// Some blocks of what was written are there, the others are not.
    Torn,
    /// The same, and every change of names is there, as if the journal of the file system had just been written.
    TornNamesKept,
}

/// The library to be preloaded, built at the first call.
pub fn layer() -> &'static Path {
    static LAYER: OnceLock<PathBuf> = OnceLock::new();
    LAYER.get_or_init(|| {
        let source = Path::new("tests/power/layer.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-layer-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"]).arg(&library).arg(source);
        let built = compiler.args(["-ldl", "-lpthread"]).output().expect("cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    })
}

/// The image beside a data directory.
pub fn image_of(data: &Path) -> PathBuf {
    data.with_extension("image")
}

/// From now on, until power is lost, no sync under the layer does anything.
pub fn ignore_syncs(data: &Path) {
    fs::write(image_of(data).join("ignore"), "").expect("a mark");
}

/// Power is lost: the process that wrote to the directory is dead already.
pub fn lose(data: &Path, unsynced: Unsynced, chance: &mut StdRng) {
    let image = image_of(data);
    let restored = data.with_extension("restored");
    let mut live = HashMap::new();
    find_files(data, &mut live);
    find_files(&image.join("dead"), &mut live);
    let mut loss = Loss { image: image.clone(), live, unsynced, chance };
    loss.restore_dir(&Dir { inode: inode(data), live: Some(data.to_owned()) }, &restored);
    fs::remove_dir_all(data).expect("remove");
    fs::rename(&restored, data).expect("rename");
    fs::remove_dir_all(&image).expect("remove");
}

struct Loss<'a> {
    image: PathBuf,
    /// Every file that has its contents still, by inode.
    live: HashMap<u64, PathBuf>,
    unsynced: Unsynced,
    chance: &'a mut StdRng,
}

struct Dir {
    inode: u64,
    /// Where it was when the process died, if names are kept.
    live: Option<PathBuf>,
}

impl Loss<'_> {
    fn restore_dir(&mut self, dir: &Dir, to: &Path) {
        fs::create_dir(to).expect("a directory");
        for (inode, is_dir, name) in self.entries(dir) {
            let to = to.join(&name);
            if is_dir {
                let live = dir.live.as_ref().map(|live| live.join(&name));
                self.restore_dir(&Dir { inode, live }, &to);
            } else {
                fs::write(to, self.contents(inode)).expect("write");
            }
        }
    }

    fn entries(&self, dir: &Dir) -> Vec<(u64, bool, String)> {
        if let (Unsynced::TornNamesKept, Some(live)) = (self.unsynced, &dir.live) {
            let entries = fs::read_dir(live).expect("a directory").map(|entry| entry.expect("an entry"));
            return entries.map(|e| (inode(&e.path()), e.path().is_dir(), name(&e.path()))).collect();
        }
        let synced = fs::read_to_string(self.image.join("dirs").join(dir.inode.to_string())).unwrap_or_default();
        let entry = |line: &str| {
            let (inode, rest) = line.split_once(' ')?;
            let (kind, name) = rest.split_once(' ')?;
            Some((inode.parse().ok()?, kind == "d", name.to_owned()))
        };
        synced.lines().map(|line| entry(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
    }

    fn contents(&mut self, inode: u64) -> Vec<u8> {
        let synced = fs::read(self.image.join("files").join(inode.to_string())).unwrap_or_default();
        if self.unsynced == Unsynced::Gone {
            return synced;
        }
        let Some(live) = self.live.get(&inode) else { return synced };
        torn(synced, &fs::read(live).expect("a file"), self.chance)
    }
}

/// Some blocks as they were written, the others as they were synced.
fn torn(synced: Vec<u8>, written: &[u8], chance: &mut StdRng) -> Vec<u8> {
    let likely = [0.0, 0.3, 0.7, 1.0][chance.random_range(0..4_usize)];
    let mut out = synced;
    if written.len() < out.len() && chance.random_bool(likely) {
        out.truncate(written.len());
    }
    for (number, block) in written.chunks(BLOCK).enumerate() {
        let at = number * BLOCK;
        if out.get(at..at + block.len()) == Some(block) || !chance.random_bool(likely) {
            continue;
        }
        out.resize(out.len().max(at + block.len()), 0);
        out[at..at + block.len()].copy_from_slice(block);
    }
    out
}

fn find_files(dir: &Path, found: &mut HashMap<u64, PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_files(&path, found);
        } else {
            found.insert(inode(&path), path);
        }
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("metadata").ino()
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned()
}
