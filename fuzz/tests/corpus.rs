//! Every property holds for every committed input, those that once broke it among them.

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
