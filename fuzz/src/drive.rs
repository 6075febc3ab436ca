//! Runs targets: over the corpus, and over inputs that a seed makes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use fastrand::Rng;

use crate::Target;
use crate::mutate::mutant;
use crate::watch::Watch;

/// An input for which a property does not hold.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Whose property.
    pub target: &'static str,
    /// Which input: its number and seed, or a committed one.
    pub which: String,
    /// Where the input is.
    pub path: PathBuf,
    /// What the property said.
    pub said: String,
}

impl Finding {
    /// Writes the input where the finding says that it is.
    pub(crate) fn keep(&self, input: &[u8]) {
        fs::write(&self.path, input).unwrap();
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, which, path, said } = self;
        writeln!(f, "{target}: FOUND by {which}: {said}")?;
        let path = path.display();
        write!(f, "  cargo test --workspace --test fuzz -- --input {path} {target}")
    }
}

/// The folder of committed inputs of a target.
#[must_use]
pub fn corpus_folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Committed inputs of a target with their paths, in order.
#[must_use]
pub fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(corpus_folder(target)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// Lets panics be silent that the storage turns into an error; the hook there is hears of all
/// others. Once, before any target runs.
pub fn silence_contained_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if ait_storage::note_panic() != ait_storage::PanicIn::Engine {
            tell(panic);
        }
    }));
}

/// Runs a property on an input; what it said if it does not hold.
pub fn check(target: &Target, input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        text.unwrap_or_else(|| "a panic without words".to_owned())
    })
}

/// Runs a target on its corpus and on inputs made of it, until `time` has passed or one is
/// found; gives how many were made. The same seed makes the same inputs. An input from which
/// the property does not come back ends the process.
pub fn random(target: &Target, seed: u64, time: Duration) -> Result<u64, Finding> {
    let (watch, name) = (Watch::new(), target.name);
    let run = |which: String, path: PathBuf, input: &[u8]| {
        let finding = Finding { target: name, which, path, said: "it does not end".to_owned() };
        watch.begin(finding.clone(), input);
        check(target, input).map_err(|said| {
            finding.keep(input);
            Finding { said, ..finding }
        })
    };
    let mut pool = Vec::new();
    for (path, input) in corpus(target) {
        run("a committed input".to_owned(), path, &input)?;
        pool.push(input);
    }
    pool.extend((target.seeds)());
    let (mut rng, began, mut runs) = (Rng::with_seed(seed), Instant::now(), 0);
    while began.elapsed() < time {
        let input = mutant(&mut rng, &pool);
        runs += 1;
        let path = std::env::temp_dir().join(format!("ait-fuzz-{name}-{seed}-{runs}"));
        run(format!("input {runs} of seed {seed}"), path, &input)?;
    }
    Ok(runs)
}

/// Writes the inputs to begin with into the corpus; gives how many there are.
pub fn write_seeds(target: &Target) -> usize {
    let folder = corpus_folder(target);
    fs::create_dir_all(&folder).unwrap();
    let seeds = (target.seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), seed).unwrap();
    }
    seeds.len()
}
