use super::EventKind::{Chmod, Create, Remove, Rename, Write};
use super::*;
use std::fs;

struct World {
    dir: tempfile::TempDir,
    tree: Tree,
}

impl World {
    fn new(recursive: bool) -> Self {
        Self::after(recursive, |_| {})
    }

    fn after(recursive: bool, prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let tree = Tree::start(WatchOptions {
            path: dir.path().to_path_buf(),
            recursive,
            include_entry: false,
            allow_network_mounts: false,
        })
        .unwrap();
        Self { dir, tree }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn events(&mut self) -> Vec<(String, EventKind)> {
        let mut all = Vec::new();
        loop {
            let drained = self.tree.drain().unwrap();
            all.extend(drained.events.into_iter().map(|event| (event.name, event.kind)));
            if drained.emptied {
                return all;
            }
        }
    }

    fn expect(&mut self, want: &[(&str, EventKind)]) {
        let want: Vec<_> = want.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect();
        assert_eq!(self.events(), want);
    }
}

#[test]
fn changes_in_one_directory() {
    let mut world = World::new(false);
    fs::write(world.at("a"), b"1").unwrap();
    world.expect(&[("a", Create), ("a", Write)]);
    fs::rename(world.at("a"), world.at("b")).unwrap();
    world.expect(&[("a", Rename), ("b", Create)]);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(world.at("b"), mode).unwrap();
    world.expect(&[("b", Chmod)]);
    fs::remove_file(world.at("b")).unwrap();
    world.expect(&[("b", Remove)]);
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/unseen"), b"1").unwrap();
    world.expect(&[("d", Create)]);
}

#[test]
fn directories_that_were_there_and_that_come_later() {
    let mut world = World::after(true, |root| fs::create_dir_all(root.join("old/deep")).unwrap());
    world.expect(&[]);
    fs::write(world.at("old/deep/f"), b"").unwrap();
    world.expect(&[("old/deep/f", Create)]);
    fs::create_dir(world.at("new")).unwrap();
    world.expect(&[("new", Create)]);
    fs::write(world.at("new/f"), b"x").unwrap();
    world.expect(&[("new/f", Create), ("new/f", Write)]);
}

#[test]
fn what_came_before_the_watch_is_reported_once() {
    let mut world = World::new(true);
    fs::create_dir_all(world.at("a/b")).unwrap();
    fs::write(world.at("a/b/full"), b"x").unwrap();
    fs::write(world.at("a/empty"), b"").unwrap();
    world.expect(&[
        ("a", Create),
        ("a/b", Create),
        ("a/empty", Create),
        ("a/b/full", Create),
        ("a/b/full", Write),
    ]);
    fs::remove_file(world.at("a/empty")).unwrap();
    fs::write(world.at("a/empty"), b"").unwrap();
    world.expect(&[("a/empty", Remove), ("a/empty", Create)]);
}

#[test]
fn a_directory_moved_within_the_tree_keeps_its_watches() {
    let mut world = World::after(true, |root| fs::create_dir_all(root.join("a/sub")).unwrap());
    fs::create_dir(world.at("x")).unwrap();
    fs::rename(world.at("a"), world.at("x/b")).unwrap();
    world.expect(&[("x", Create), ("x/b", Create), ("a", Rename)]);
    fs::write(world.at("x/b/sub/f"), b"").unwrap();
    world.expect(&[("x/b/sub/f", Create)]);

    fs::rename(world.at("x/b"), world.at("c")).unwrap();
    world.expect(&[("x/b", Rename), ("c", Create)]);
    fs::write(world.at("c/sub/g"), b"").unwrap();
    world.expect(&[("c/sub/g", Create)]);
}

#[test]
fn a_directory_moved_out_is_forgotten_and_moved_in_is_found() {
    let outside = tempfile::tempdir().unwrap();
    let away = outside.path().join("away");
    let mut world = World::after(true, |root| fs::create_dir_all(root.join("a/sub")).unwrap());
    fs::rename(world.at("a"), &away).unwrap();
    world.expect(&[("a", Rename)]);
    fs::write(away.join("sub/f"), b"").unwrap();
    world.expect(&[]);
    assert_eq!(world.tree.dirs.len(), 1);
    fs::rename(&away, world.at("back")).unwrap();
    world.expect(&[("back", Create), ("back/sub", Create), ("back/sub/f", Create)]);
    fs::write(world.at("back/sub/g"), b"").unwrap();
    world.expect(&[("back/sub/g", Create)]);
}

#[test]
fn removing_directories_drops_their_watches() {
    let mut world = World::after(true, |root| fs::create_dir_all(root.join("a/b")).unwrap());
    assert_eq!(world.tree.dirs.len(), 3);
    fs::remove_dir_all(world.at("a")).unwrap();
    world.expect(&[("a/b", Remove), ("a", Remove)]);
    assert_eq!(world.tree.dirs.len(), 1);
}

#[test]
fn the_watched_directory_itself() {
    let mut world = World::new(true);
    fs::remove_dir(world.dir.path()).unwrap();
    assert!(world.events().contains(&(".".to_owned(), Remove)));
}

#[test]
fn links_below_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let mut world = World::new(true);
    std::os::unix::fs::symlink(outside.path(), world.at("link")).unwrap();
    fs::write(outside.path().join("f"), b"").unwrap();
    world.expect(&[("link", Create)]);
}

#[test]
fn entries_come_with_events_when_asked_for() {
    let mut world = World::new(true);
    world.tree.options.include_entry = true;
    fs::write(world.at("f"), b"abc").unwrap();
    fs::write(world.at("g"), b"").unwrap();
    fs::remove_file(world.at("g")).unwrap();
    let events = world.tree.drain().unwrap().events;
    let size = |event: &Event| event.entry.as_ref().map(|entry| entry.size);
    assert_eq!(
        events.iter().filter(|event| event.name == "f").map(size).next(),
        Some(Some(3))
    );
    let last = events.last().unwrap();
    assert_eq!((last.kind, size(last)), (Remove, None));
}

#[test]
fn an_overflow_is_an_error() {
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let mut world = World::new(false);
    for round in 0..=limit / 2 {
        fs::write(world.at(&format!("f{}", round % 2)), b"x").unwrap();
        fs::remove_file(world.at(&format!("f{}", round % 2))).unwrap();
    }
    let failed = (0..limit).find_map(|_| world.tree.drain().err());
    assert!(matches!(failed, Some(FsError::EventsLost(_))));
}

#[test]
fn trees_built_at_once_are_reported_whole() {
    let mut world = World::new(true);
    let root = world.dir.path().to_path_buf();
    let maker = std::thread::spawn(move || {
        for top in 0..20 {
            let dir = root.join(format!("d{top}/e/f"));
            fs::create_dir_all(&dir).unwrap();
            for file in 0..20 {
                fs::write(dir.join(format!("{file}")), b"x").unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    while !maker.is_finished() {
        seen.extend(world.events());
    }
    maker.join().unwrap();
    seen.extend(world.events());
    let mut created: Vec<_> = seen
        .into_iter()
        .filter_map(|(name, kind)| (kind == Create).then_some(name))
        .collect();
    let count = created.len();
    created.sort();
    created.dedup();
    assert_eq!(created.len(), 20 * (3 + 20), "every entry");
    assert_eq!(count, created.len(), "and each once");
}
