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

/// Lines outside `#[cfg(test)] mod … { }`.
fn production_lines(source: &str) -> usize {
    let mut lines = source.lines().peekable();
    let mut count = 0;
    while let Some(line) = lines.next() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let opens = lines.peek().is_some_and(|next| is_inline_module(next));
        if line.trim() == "#[cfg(test)]" && opens {
            let end = format!("{indent}}}");
            lines.by_ref().find(|line| *line == end);
        } else {
            count += 1;
        }
    }
    count
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
