//! Inputs that nobody has tried, some seconds for each target:
//! `cargo test --workspace --test fuzz -- [--seconds N] [--seed N] [TARGET..]`, or
//! `-- --input FILE TARGET` for one input, `-- --write-seeds` to make the corpus anew.
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for people")]

use std::time::{Duration, SystemTime};

use ait_fuzz::{TARGETS, Target, drive};

fn main() {
    drive::silence_contained_panics();
    let mut words = std::env::args().skip(1);
    let mut seed = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let (mut time, mut input, mut writes) = (Duration::from_secs(3), None, false);
    let mut chosen: Vec<&Target> = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("a value follows");
        match word.as_str() {
            "--seconds" => time = Duration::from_secs(value().parse().expect("seconds")),
            "--seed" => seed = value().parse().expect("a seed"),
            "--input" => input = Some(std::fs::read(value()).expect("an input")),
            "--write-seeds" => writes = true,
            name => chosen.push(Target::find(name).expect("a target of this name")),
        }
    }
    if chosen.is_empty() {
        chosen = TARGETS.iter().collect();
    }
    let mut found = 0;
    for target in chosen {
        let name = target.name;
        if writes {
            println!("{name}: {} inputs", drive::write_seeds(target));
        } else if let Some(input) = &input {
            (target.run)(input);
            println!("{name}: holds");
        } else {
            match drive::random(target, seed, time) {
                Ok(runs) => println!("{name}: {runs} inputs of seed {seed}"),
                Err(finding) => {
                    found += 1;
                    println!("{finding}");
                }
            }
        }
    }
    assert_eq!(found, 0, "properties that do not hold");
}
