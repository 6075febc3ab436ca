//! The engine depends on the crates of `fixtures/engine-dependencies.txt` and no others.

const MANIFEST: &str = include_str!("../Cargo.toml");
const ALLOWED: &str = include_str!("../../fixtures/engine-dependencies.txt");

/// Names of the normal and build dependencies of a manifest, sorted; those of one target
/// and of their own table (`[dependencies.name]`) too, those of tests not.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_matches(['[', ']']);
            let (before, after) = header.split_once("dependencies").unwrap_or((header, "none"));
            let ours = !before.ends_with("dev-");
            inside = ours && after.is_empty();
            names.extend(after.strip_prefix('.').filter(|_| ours));
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next());
        }
    }
    names.sort_unstable();
    names
}

#[test]
fn engine_depends_on_the_allowed_crates_only() {
    let allowed: Vec<&str> =
        ALLOWED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(allowed.is_sorted(), "sort the list");
    assert_eq!(dependencies(MANIFEST), allowed, "fixtures/engine-dependencies.txt says otherwise");
}

#[test]
fn sees_every_way_to_write_a_dependency() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\n# a comment\nb.workspace = true\n\
        a = \"1\"\n[dependencies.c]\nversion = \"1\"\n[build-dependencies]\nd = { path = \"d\" }\n\
        [target.'cfg(unix)'.dependencies]\ne = \"1\"\n[dev-dependencies]\nf = \"1\"\n\
        [dev-dependencies.g]\nversion = \"1\"\n[lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["a", "b", "c", "d", "e"]);
}
