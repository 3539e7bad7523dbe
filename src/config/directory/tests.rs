use millstream_core::forming::Founder;
use millstream_core::types::PeerId;
use tempfile::TempDir;

use super::*;

const ID: Uuid = Uuid::from_u128(77);

fn open(path: &Path, node: i32) -> Result<DataDirectory, DirectoryError> {
    DataDirectory::open(path, NodeId(node), ID)
}

/// Makes the node a member of a cluster of nodes 1 to `founders`.
fn join(directory: &DataDirectory, founders: u64) {
    let founder = |peer: u64| Founder {
        peer: PeerId(peer),
        node: NodeId(i32::try_from(peer).unwrap()),
        directory: directory.directory_id(),
        address: String::new(),
    };
    let founders = (1..=founders).map(founder).collect();
    let standing = Standing::Member { cluster_id: "c".to_owned(), peer: PeerId(1), founders };
    assert!(directory.change(|meta| Some(Meta { standing, ..meta.clone() })).unwrap());
}

#[test]
fn a_directory_keeps_its_ids() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a/b");
    let born = open(&path, 1).unwrap();
    assert!(born.is_new());
    assert_eq!((born.standing(), born.cluster_id()), (Standing::Empty, None));
    join(&born, 3);
    let meta = born.meta();
    assert!(!born.change(|meta| Some(meta.clone())).unwrap(), "nothing to write");
    fs::create_dir(path.join("kv")).unwrap();
    drop(born);
    let again = DataDirectory::open(&path, NodeId(1), Uuid::nil()).unwrap();
    assert!(!again.is_new());
    assert_eq!((again.meta(), again.cluster_id()), (meta, Some("c".to_owned())));
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
fn half_a_directory_is_refused_where_nobody_else_has_the_data() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("kv")).unwrap();
    let refused = open(dir.path(), 1).unwrap_err().to_string();
    assert!(refused.contains("kv/ is there, but meta.properties is missing"), "{refused}");

    let dir = TempDir::new().unwrap();
    join(&open(dir.path(), 1).unwrap(), 1);
    fs::create_dir(dir.path().join("log")).unwrap();
    let refused = open(dir.path(), 1).unwrap_err().to_string();
    assert!(refused.contains("log/ is there, but kv/ is missing"), "{refused}");
}

#[test]
fn half_a_directory_of_a_cluster_is_another_disk() {
    let dir = TempDir::new().unwrap();
    join(&open(dir.path(), 1).unwrap(), 3);
    fs::create_dir(dir.path().join("log")).unwrap();
    let wiped = DataDirectory::open(dir.path(), NodeId(1), Uuid::from_u128(99)).unwrap();
    assert_eq!(wiped.directory_id(), DirectoryId(Uuid::from_u128(99)));
    assert!(matches!(wiped.standing(), Standing::Outside { founders, .. } if founders.len() == 3));
    assert!(!dir.path().join("log").exists());
}

#[test]
fn a_wiped_directory_is_another_disk_of_the_same_cluster() {
    let other = Uuid::from_u128(99);
    for (others, contacts) in [(0, vec![]), (2, vec![]), (0, vec!["a:1".to_owned()])] {
        let dir = TempDir::new().unwrap();
        let directory = open(dir.path(), 1).unwrap();
        join(&directory, 1 + others);
        let is_alone = others == 0 && contacts.is_empty();
        directory.change(|meta| Some(Meta { contacts, ..meta.clone() })).unwrap();
        drop(directory);
        let wiped = DataDirectory::open(dir.path(), NodeId(1), other).unwrap();
        assert!(wiped.is_new());
        assert_eq!(wiped.directory_id(), DirectoryId(other));
        match wiped.standing() {
            Standing::Accepted { cluster_id, former } => {
                assert_eq!((cluster_id.as_str(), former, is_alone), ("c", NodeId(1), true));
            }
            Standing::Outside { cluster_id, .. } => assert_eq!((cluster_id.as_str(), is_alone), ("c", false)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_directory_that_lost_its_logs_is_another_disk_where_others_have_them() {
    let other = Uuid::from_u128(99);
    for founders in [1, 3] {
        let dir = TempDir::new().unwrap();
        let directory = open(dir.path(), 1).unwrap();
        join(&directory, founders);
        fs::create_dir(dir.path().join("kv")).unwrap();
        let is_alone = founders == 1;
        assert_eq!(directory.renew(other).unwrap(), !is_alone);
        assert_eq!(dir.path().join("kv").exists(), is_alone);
        assert_eq!(directory.standing().is_member(), is_alone);
        assert_eq!(directory.directory_id() == DirectoryId(other), !is_alone);
    }
}
