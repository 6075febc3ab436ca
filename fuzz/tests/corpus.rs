//! Every property holds for every committed input, those that once broke it among them; and
//! the faults that show that properties can fail are still faults of this source.

use std::fs;
use std::path::Path;

use ait_fuzz::{TARGETS, Target, drive};

fn replay(name: &str) {
    let target = Target::find(name).expect("the target exists");
    let corpus = drive::corpus(target);
    assert!(!corpus.is_empty(), "the corpus of {name} is empty: write its seeds");
    for (path, input) in corpus {
        if let Err(said) = drive::check(target, &input) {
            panic!("{}: {said}", path.display());
        }
    }
}

macro_rules! replays {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

replays!(
    archive,
    bundle,
    canonical,
    certificate,
    config,
    data_dir,
    database,
    frames,
    genesis,
    import,
    json,
    logs,
    proof,
    receipt,
    rpc,
    storage,
    texts,
    wire,
);

/// The files that a patch changes, each with the text that a hunk finds there.
fn hunks(patch: &str) -> Vec<(&str, String)> {
    let (mut file, mut hunks) = ("", Vec::new());
    for line in patch.lines() {
        if let Some(name) = line.strip_prefix("--- a/") {
            file = name;
        } else if line.starts_with("@@ ") {
            hunks.push((file, String::new()));
        } else if let (Some((_, text)), Some(kept)) =
            (hunks.last_mut(), line.strip_prefix([' ', '-']))
        {
            text.push_str(kept);
            text.push('\n');
        }
    }
    hunks
}

#[test]
fn every_planted_fault_still_applies() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(fuzz.join("planted")).expect("there are planted faults");
    for entry in entries {
        let path = entry.expect("an entry").path();
        let patch = fs::read_to_string(&path).expect("a patch");
        let field = |name| patch.lines().find_map(|line| line.strip_prefix(name));
        let target = field("Target: ").and_then(Target::find);
        assert!(target.is_some() && field("Says: ").is_some(), "{path:?} says not what finds it");
        let hunks = hunks(&patch);
        assert!(!hunks.is_empty(), "{path:?} changes nothing");
        for (file, text) in hunks {
            let source = fs::read_to_string(fuzz.join("..").join(file)).unwrap_or_default();
            assert!(source.contains(&text), "{path:?} finds this no more in {file}:\n{text}");
        }
    }
}
