//! Rules of the repository that a program can check: sizes, headers, words, arrows, links.
//!
//! Each rule is a function from text to complaints, tried on bad input below. What the
//! code does is checked elsewhere.
#![allow(clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Production lines that no source file passes.
const FILE_LINES_MAX: usize = 500;

/// Files that already pass it, with the count they may not grow beyond. An entry that is
/// no longer needed fails, so that the list only shrinks.
const LARGER_FILES: [(&str, usize); 0] = [];

/// Words that mark work as unfinished, split so that this file does not hold them.
const UNFINISHED: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
];

/// Places that exist on one machine, and package hosts, that no file names.
const PLACES: [&str; 7] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/tmp/", "bash"),
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("npmjs", ".com"),
];

/// What each crate may depend on inside the workspace.
const ARROWS: [(&str, &[&str]); 3] = [("engine", &[]), ("storage", &[]), ("net", &["ait-engine"])];

/// The word that unsafe code begins with, split so that this file does not hold it.
const UNSAFE: &str = concat!("uns", "afe");

/// Files with unsafe code, each with why; whoever adds one has its reviewer add it here, and
/// an entry that is no longer needed fails.
const UNSAFE_FILES: [&str; 3] = [
    // Instructions that the machine was asked for, and vectors as arrays.
    "engine/src/crypto/lanes/mod.rs",
    "engine/src/crypto/lanes/tests.rs",
    "engine/src/hash/lanes.rs",
];

/// What bytes from the network reach, by the file that denies and where it holds; and what is denied
/// there outside of tests.
const STRICT: [(&str, &str); 6] = [
    ("engine/src/lib.rs", "engine/src/"),
    ("net/src/lib.rs", "net/src/"),
    ("src/http.rs", "src/http"),
    ("src/ingress.rs", "src/ingress"),
    ("src/network/mod.rs", "src/network/"),
    ("src/rpc/mod.rs", "src/rpc/"),
];
const DENIED: [&str; 11] = [
    "clippy::arithmetic_side_effects",
    "clippy::cast_possible_truncation",
    "clippy::cast_possible_wrap",
    "clippy::cast_sign_loss",
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::string_slice",
    "clippy::unreachable",
    "clippy::unwrap_in_result",
    "clippy::unwrap_used",
];

/// Reviewed exceptions from those in production code: file, lint, how often.
const EXCEPTIONS: [(&str, &str, usize); 16] = [
    // Tables that are made while compiling.
    ("engine/src/bech32m.rs", "clippy::cast_possible_truncation", 1),
    ("engine/src/bech32m.rs", "clippy::indexing_slicing", 1),
    // Limbs and lanes of arrays of fixed size, by number.
    ("engine/src/crypto/lanes/mod.rs", "clippy::arithmetic_side_effects", 1),
    ("engine/src/crypto/lanes/mod.rs", "clippy::cast_possible_truncation", 1),
    ("engine/src/crypto/lanes/mod.rs", "clippy::cast_possible_wrap", 1),
    ("engine/src/crypto/lanes/mod.rs", "clippy::indexing_slicing", 1),
    ("engine/src/hash/lanes.rs", "clippy::arithmetic_side_effects", 1),
    ("engine/src/hash/lanes.rs", "clippy::indexing_slicing", 1),
    ("engine/src/hash/mod.rs", "clippy::indexing_slicing", 1),
    ("engine/src/state/tree.rs", "clippy::unreachable", 1),
    ("engine/src/types.rs", "clippy::cast_possible_truncation", 1),
    ("engine/src/validator.rs", "clippy::arithmetic_side_effects", 2),
    ("engine/src/validator.rs", "clippy::indexing_slicing", 1),
    ("net/src/wire/integer.rs", "clippy::cast_possible_truncation", 1),
    ("net/src/wire/integer.rs", "clippy::cast_sign_loss", 1),
    ("net/src/wire/time.rs", "clippy::arithmetic_side_effects", 1),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Text files of the repository with their paths from its root, in order.
fn files() -> Vec<(String, String)> {
    let mut folders = vec![root().to_path_buf()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("folder") {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            let is_build = path.join("CACHEDIR.TAG").exists();
            match path.is_dir() {
                true if name != ".git" && !is_build => folders.push(path),
                false if is_text(&path) => found.push((relative(&path), read(&path))),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn is_text(path: &Path) -> bool {
    let kinds = ["rs", "md", "toml", "sh", "py", "yml", "html", "js"];
    let kind = path.extension().and_then(|kind| kind.to_str());
    kind.is_some_and(|kind| kinds.contains(&kind)) || path.ends_with(".ci/run")
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("text")
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("tests.rs") || path.split('/').any(|part| part == "tests")
}

/// Number of lines outside `#[cfg(test)] mod … { }`.
fn production_lines(source: &str) -> usize {
    production(source).len()
}

/// Lines outside `#[cfg(test)] mod … { }`.
fn production(source: &str) -> Vec<&str> {
    let mut lines = source.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let opens = lines.peek().is_some_and(|next| is_inline_module(next));
        if line.trim() == "#[cfg(test)]" && opens {
            let end = format!("{indent}}}");
            lines.by_ref().find(|line| *line == end);
        } else {
            found.push(line);
        }
    }
    found
}

fn is_inline_module(line: &str) -> bool {
    line.trim_start().starts_with("mod ") && line.ends_with('{')
}

/// Files beyond the limit or their own ceiling, and ceilings that are no longer needed.
fn size_complaints(counts: &[(String, usize)], larger: &[(&str, usize)]) -> Vec<String> {
    let ceiling = |path: &str| larger.iter().find(|(name, _)| *name == path).map(|entry| entry.1);
    let mut complaints: Vec<_> = counts
        .iter()
        .map(|(path, lines)| (path, lines, ceiling(path).unwrap_or(FILE_LINES_MAX)))
        .filter(|(_, lines, most)| *lines > most)
        .map(|(path, lines, most)| format!("{path}: {lines} production lines, at most {most}"))
        .collect();
    for (path, _) in larger {
        let is_larger = counts.iter().any(|(name, lines)| name == path && *lines > FILE_LINES_MAX);
        if !is_larger {
            complaints.push(format!("{path}: needs no ceiling of its own any more"));
        }
    }
    complaints
}

/// Lines, from 1, where unsafe code begins; names and sentences with the word are others.
fn unsafe_lines(source: &str) -> Vec<usize> {
    let begins = |rest: &str| {
        let next = rest.trim_start();
        ["{", "(", "fn ", "impl", "trait ", "extern "].iter().any(|word| next.starts_with(word))
            || next.is_empty()
    };
    let has_it = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        code.split(UNSAFE).skip(1).any(begins)
    };
    let lines = source.lines().enumerate();
    lines.filter(|(_, line)| has_it(line)).map(|(number, _)| number + 1).collect()
}

/// Lints of [`DENIED`] that a library does not deny.
fn not_denied(library: &str) -> Vec<&'static str> {
    let attribute = library.split("not(test),").nth(1).and_then(|rest| rest.split(")]").next());
    let list = attribute.unwrap_or_default();
    let words = |lint: &&str| list.split([',', '(', ')', ' ', '\n']).any(|word| word == *lint);
    DENIED.into_iter().filter(|lint| !words(lint)).collect()
}

/// How often production code of a file makes an exception from each of [`DENIED`].
fn exceptions(source: &str) -> Vec<(&'static str, usize)> {
    let code = production(source).join("\n");
    let attributes = code.split("#").skip(1).filter_map(|rest| rest.split(']').next());
    let excepted: Vec<_> = attributes
        .filter(|text| ["allow(", "expect(", "warn("].iter().any(|word| text.contains(word)))
        .collect();
    let count = |lint: &str| excepted.iter().filter(|text| names(text, lint)).count();
    DENIED.into_iter().map(|lint| (lint, count(lint))).filter(|(_, count)| *count > 0).collect()
}

/// Whether an attribute names a lint, or a group that it may be of.
fn names(attribute: &str, lint: &str) -> bool {
    let groups = ["clippy::all", "clippy::restriction", "clippy::pedantic"];
    let words: Vec<_> =
        attribute.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).collect();
    words.iter().any(|word| *word == lint || groups.contains(word))
}

/// Whether the first thing in a source file, attributes aside, is its documentation.
fn has_header(source: &str) -> bool {
    source
        .lines()
        .find(|line| !line.starts_with("#!") && !line.trim().is_empty())
        .is_some_and(|line| line.starts_with("//!"))
}

/// The first of `words` that `text` holds, and its line from 1.
fn find_word(text: &str, words: &[&'static str]) -> Option<(usize, &'static str)> {
    text.lines().enumerate().find_map(|(number, line)| {
        words.iter().find(|word| line.contains(**word)).map(|word| (number + 1, *word))
    })
}

/// Crates of this workspace that a manifest names beyond the allowed ones.
fn wrong_arrows(manifest: &str, allowed: &[&str]) -> Vec<String> {
    manifest
        .lines()
        .filter(|line| line.starts_with("ait-"))
        .map(|line| line.split(['.', ' ', '=']).next().unwrap_or(line).to_owned())
        .filter(|name| !allowed.contains(&name.as_str()))
        .collect()
}

/// Modules that a library declares and the map of the repository does not name.
fn unmapped_modules(library: &str, map: &str) -> Vec<String> {
    library
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|rest| rest.strip_suffix(';'))
        .filter(|module| !map.contains(&format!("`src/{module}`")))
        .map(str::to_owned)
        .collect()
}

/// Targets of relative links in a Markdown page, without fragments.
fn relative_links(page: &str) -> Vec<&str> {
    page.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Lines, from 1, where a code block opens without saying its language.
fn unnamed_fences(page: &str) -> Vec<usize> {
    let mut is_open = false;
    let mut unnamed = Vec::new();
    for (number, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_open = !is_open;
            if is_open && line.trim() == "```" {
                unnamed.push(number + 1);
            }
        }
    }
    if is_open {
        unnamed.push(page.lines().count());
    }
    unnamed
}

/// Fails naming every complaint.
fn expect_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn sources() -> Vec<(String, String)> {
    let sources: Vec<_> = files().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect();
    assert!(sources.len() > 50, "found only {} source files", sources.len());
    sources
}

fn pages() -> Vec<(String, String)> {
    let pages: Vec<_> = files().into_iter().filter(|(path, _)| path.ends_with(".md")).collect();
    assert!(pages.iter().any(|(path, _)| path == "README.md"), "README.md is missing");
    pages
}

#[test]
fn source_files_stay_small() {
    let counts: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !is_test_file(path))
        .map(|(path, source)| (path, production_lines(&source)))
        .collect();
    expect_none(&size_complaints(&counts, &LARGER_FILES));
}

#[test]
fn modules_say_what_they_are() {
    let complaints: Vec<_> = sources()
        .iter()
        .filter(|(path, source)| !is_test_file(path) && !has_header(source))
        .map(|(path, _)| format!("{path}: does not begin with `//!`"))
        .collect();
    expect_none(&complaints);
}

#[test]
fn nothing_is_marked_unfinished() {
    let complaints: Vec<_> = files()
        .iter()
        .filter_map(|(path, text)| find_word(text, &UNFINISHED).map(|found| (path, found)))
        .map(|(path, (line, word))| format!("{path}:{line}: {word}"))
        .collect();
    expect_none(&complaints);
}

#[test]
fn no_file_names_a_machine_or_a_package_host() {
    let complaints: Vec<_> = files()
        .iter()
        .filter_map(|(path, text)| find_word(text, &PLACES).map(|found| (path, found)))
        .map(|(path, (line, word))| format!("{path}:{line}: {word}"))
        .collect();
    expect_none(&complaints);
}

#[test]
fn crates_depend_only_where_the_design_says() {
    for (folder, allowed) in ARROWS {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        assert!(manifest.contains("[dependencies]"), "{folder}: no dependencies table");
        let wrong = wrong_arrows(&manifest, allowed);
        assert!(wrong.is_empty(), "{folder} must not depend on {wrong:?}");
    }
}

#[test]
fn unsafe_code_is_only_where_it_was_reviewed() {
    let root_manifest = read(&root().join("Cargo.toml"));
    assert!(root_manifest.contains("unsafe_code = \"deny\""), "the workspace does not deny it");
    for folder in [".", "engine", "net", "storage", "fuzz"] {
        let manifest = read(&root().join(folder).join("Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{folder}: has lints of its own");
    }
    let sources = sources();
    let has_it: Vec<_> = sources
        .iter()
        .filter_map(|(path, source)| Some((path.as_str(), *unsafe_lines(source).first()?)))
        .collect();
    let mut complaints: Vec<_> = has_it
        .iter()
        .filter(|(path, _)| !UNSAFE_FILES.contains(path))
        .map(|(path, line)| format!("{path}:{line}: unsafe code that nobody reviewed"))
        .collect();
    let gone = UNSAFE_FILES.iter().filter(|path| !has_it.iter().any(|found| found.0 == **path));
    complaints.extend(gone.map(|path| format!("{path}: has no unsafe code any more")));
    expect_none(&complaints);
}

#[test]
fn what_bytes_of_the_network_reach_denies_what_panics_or_overflows() {
    let mut found = Vec::new();
    for (top, begins) in STRICT {
        let missing = not_denied(&read(&root().join(top)));
        assert!(missing.is_empty(), "{top} does not deny {missing:?}");
        let production = |path: &str| path.starts_with(begins) && !is_test_file(path);
        for (path, source) in sources().into_iter().filter(|(path, _)| production(path)) {
            let of_file = exceptions(&source).into_iter();
            found.extend(of_file.map(|(lint, count)| (path.clone(), lint, count)));
        }
    }
    let found: Vec<_> =
        found.iter().map(|(path, lint, count)| (path.as_str(), *lint, *count)).collect();
    assert_eq!(found, EXCEPTIONS, "exceptions are not those that were reviewed");
}

#[test]
fn the_map_names_every_module_of_the_node() {
    let library = read(&root().join("src/lib.rs"));
    let map = read(&root().join("ARCHITECTURE.md"));
    let missing = unmapped_modules(&library, &map);
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut complaints = Vec::new();
    for (path, page) in pages() {
        let folder: PathBuf = root().join(&path).parent().expect("folder").into();
        for target in relative_links(&page) {
            if !folder.join(target).exists() {
                complaints.push(format!("{path}: {target} does not exist"));
            }
        }
    }
    expect_none(&complaints);
}

#[test]
fn code_blocks_name_their_language() {
    let complaints: Vec<_> = pages()
        .iter()
        .flat_map(|(path, page)| {
            unnamed_fences(page).into_iter().map(move |line| format!("{path}:{line}: bare fence"))
        })
        .collect();
    expect_none(&complaints);
}

#[test]
fn counts_production_lines_without_test_modules() {
    let source = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
    assert_eq!(production_lines(source), 2);
    assert_eq!(production_lines("#[cfg(test)]\nmod tests;\nfn a() {}\n"), 3);
    assert_eq!(production_lines(&"x\n".repeat(FILE_LINES_MAX + 1)), FILE_LINES_MAX + 1);
}

#[test]
fn holds_large_files_to_their_ceiling() {
    let counts = |lines| [("a.rs".to_owned(), lines)];
    assert!(size_complaints(&counts(500), &[]).is_empty());
    assert_eq!(size_complaints(&counts(501), &[]).len(), 1);
    assert!(size_complaints(&counts(501), &[("a.rs", 501)]).is_empty());
    assert_eq!(size_complaints(&counts(502), &[("a.rs", 501)]).len(), 1);
    assert_eq!(size_complaints(&counts(500), &[("a.rs", 501)]).len(), 1);
    assert_eq!(size_complaints(&[], &[("gone.rs", 501)]).len(), 1);
}

#[test]
fn sees_a_missing_header() {
    assert!(has_header("//! What it is.\n"));
    assert!(has_header("#![allow(dead_code)]\n\n//! What it is.\n"));
    assert!(!has_header("use std::fs;\n//! Too late.\n"));
    assert!(!has_header(""));
}

#[test]
fn sees_forbidden_words_with_their_lines() {
    let text = format!("fine\n// {}: later\n", UNFINISHED[0]);
    assert_eq!(find_word(&text, &UNFINISHED), Some((2, UNFINISHED[0])));
    assert_eq!(find_word("nothing to do", &UNFINISHED), None);
    let text = format!("see {}x", PLACES[0]);
    assert_eq!(find_word(&text, &PLACES), Some((1, PLACES[0])));
}

#[test]
fn sees_a_wrong_arrow() {
    let manifest = "[dependencies]\nait-engine.workspace = true\nait-net = { path = \"x\" }\n";
    assert_eq!(wrong_arrows(manifest, &["ait-engine"]), ["ait-net"]);
    assert_eq!(wrong_arrows(manifest, &[]), ["ait-engine", "ait-net"]);
    assert!(wrong_arrows("name = \"ait-engine\"\n", &[]).is_empty());
}

#[test]
fn sees_unsafe_code_and_nothing_else() {
    let source = "// X\nfn a() {}\n    X { b() } // fine\n#![deny(X_code)]\nX fn c() {}\n\
                  let text = \"X code\";\n#[X(no_mangle)]\nX\n{}\n";
    assert_eq!(unsafe_lines(&source.replace('X', UNSAFE)), [3, 5, 7, 8]);
}

#[test]
fn sees_lints_that_are_off() {
    let all = format!("#![cfg_attr(\n    not(test),\n    deny(\n{}\n)\n)]", DENIED.join(",\n"));
    assert!(not_denied(&all).is_empty());
    let less = all.replace("clippy::panic,", "").replace("clippy::unwrap_used", "clippy::unwrap");
    assert_eq!(not_denied(&less), ["clippy::panic", "clippy::unwrap_used"]);
    assert_eq!(not_denied(&all.replace("not(test)", "test")).len(), DENIED.len());
    let source = "#[expect(\n    clippy::panic,\n    reason = \"a\"\n)]\n#[allow(clippy::unwrap_used)]\n\
                  #[deny(clippy::unreachable)]\n#[cfg(test)]\nmod tests {\n#![allow(clippy::unwrap_used)]\n}\n";
    assert_eq!(exceptions(source), [("clippy::panic", 1), ("clippy::unwrap_used", 1)]);
    assert_eq!(exceptions("#![allow(clippy::all)]\n").len(), DENIED.len());
    assert!(exceptions("#[expect(clippy::panicking_unwrap)]\nfn clippy() {}\n").is_empty());
}

#[test]
fn sees_a_module_missing_from_the_map() {
    let library = "pub mod chain;\nmod clock;\nmod inline {\n}\n";
    assert_eq!(unmapped_modules(library, "| `src/chain` |"), ["clock"]);
    assert_eq!(unmapped_modules(library, "chain, clock"), ["chain", "clock"]);
}

#[test]
fn sees_links_and_bare_fences() {
    let page = "[a](b.md#part) [c](https://example.net) [d](#here) [e](f/)";
    assert_eq!(relative_links(page), ["b.md", "f/"]);
    assert_eq!(unnamed_fences("```sh\nls\n```\n\n```\nls\n```\n"), [5]);
    assert_eq!(unnamed_fences("```sh\nls\n"), [2]);
}
