//! The README's `console` blocks, run in order in one shell and compared with what they show.
//!
//! In a block `$ ` begins a command, `> ` continues it, and the lines after it are its
//! output: `[..]` stands for anything within a line, a line `...` for any number of lines.
//! `? 1` as the first of them is the exit code, 0 otherwise. A command that ends in ` &`
//! is a server: the run goes on when its output is there, and it is stopped at the end.
//!
//! Three things differ from what a reader does: `cargo run --release --` runs the binary
//! under test; the default ports become free ones; the home is an empty folder. Nothing
//! here knows what any command means.
#![allow(clippy::expect_used)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest that one command of the README may take.
const COMMAND_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug, PartialEq)]
struct Shown {
    line: usize,
    command: String,
    output: Vec<String>,
    exit_code: i32,
}

/// Commands of the `console` blocks of a page, in order.
fn commands(page: &str) -> Vec<Shown> {
    let mut found: Vec<Shown> = Vec::new();
    let mut is_inside = false;
    for (number, line) in page.lines().enumerate() {
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if !is_inside {
            continue;
        } else if let Some(command) = line.strip_prefix("$ ") {
            let command = command.to_owned();
            found.push(Shown { line: number + 1, command, output: Vec::new(), exit_code: 0 });
        } else if let Some(shown) = found.last_mut() {
            let code = line.strip_prefix("? ").and_then(|code| code.parse().ok());
            match (line.strip_prefix("> "), code) {
                (Some(more), _) if shown.output.is_empty() => {
                    shown.command = format!("{}\n{more}", shown.command);
                }
                (_, Some(code)) if shown.output.is_empty() => shown.exit_code = code,
                _ => shown.output.push(line.to_owned()),
            }
        }
    }
    found
}

/// Whether lines of output are those shown, wildcards considered.
fn matches(shown: &[&str], found: &[&str]) -> bool {
    match (shown.split_first(), found.split_first()) {
        (None, None) => true,
        (Some((&"...", rest)), _) => {
            (0..=found.len()).any(|skipped| matches(rest, &found[skipped..]))
        }
        (Some((first, shown)), Some((line, found))) => {
            line_matches(first, line) && matches(shown, found)
        }
        _ => false,
    }
}

fn line_matches(shown: &str, found: &str) -> bool {
    match shown.split_once("[..]") {
        None => shown == found,
        Some((start, rest)) => found.strip_prefix(start).is_some_and(|found| {
            found
                .char_indices()
                .map(|(at, _)| at)
                .chain([found.len()])
                .any(|at| line_matches(rest, &found[at..]))
        }),
    }
}

/// One shell with a home of its own; what it started ends with it.
struct Shell {
    bash: Child,
    home: tempfile::TempDir,
    /// What the page says and what is run instead.
    replacements: Vec<(String, String)>,
    /// Longest that one command may take.
    wait: Duration,
    count: usize,
}

impl Shell {
    fn start(binary: &Path, replacements: Vec<(String, String)>, wait: Duration) -> Self {
        let home = tempfile::tempdir().expect("home");
        let folder = binary.parent().expect("folder of the binary");
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").expect("PATH"));
        let bash = Command::new("bash")
            .current_dir(home.path())
            .env("HOME", home.path())
            .env("PATH", path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash");
        let mut shell = Self { bash, home, replacements, wait, count: 0 };
        shell.write("trap 'wait; exit' TERM EXIT\n");
        shell
    }

    fn write(&mut self, text: &str) {
        self.bash.stdin.as_mut().expect("stdin").write_all(text.as_bytes()).expect("bash reads");
    }

    /// Runs one command; the complaint if it does not do what is shown.
    fn run(&mut self, shown: &Shown) -> Result<(), String> {
        self.count += 1;
        let folder = self.home.path().join(".shown");
        fs::create_dir_all(&folder).expect("folder");
        let output = folder.join(format!("{}.out", self.count));
        let code = folder.join(format!("{}.code", self.count));
        let mut command = shown.command.replace("cargo run --release -- ", "ait-node ");
        for (from, to) in &self.replacements {
            command = command.replace(from, to);
        }
        self.write(&format!(
            "{{ {command}\n}} >'{out}' 2>&1 </dev/null; echo $? >'{code}.part'; mv '{code}.part' '{code}'\n",
            out = output.display(),
            code = code.display(),
        ));
        let is_server = shown.command.ends_with(" &");
        let began = Instant::now();
        loop {
            let finished = fs::read_to_string(&code).ok();
            let mut text = fs::read_to_string(&output).unwrap_or_default();
            for (from, to) in &self.replacements {
                text = text.replace(to, from);
            }
            let lines: Vec<_> = text.lines().collect();
            let expected: Vec<_> = shown.output.iter().map(String::as_str).collect();
            let is_as_shown = matches(&expected, &lines);
            let is_over = began.elapsed() > self.wait;
            match finished.map(|code| code.trim().parse::<i32>().expect("a code")) {
                Some(code) if code != shown.exit_code => {
                    return Err(complaint(shown, &format!("exit code {code}"), &text));
                }
                Some(_) if is_as_shown => return Ok(()),
                Some(_) if !is_server || is_over => {
                    return Err(complaint(shown, "other output", &text));
                }
                None if is_over => return Err(complaint(shown, "did not end", &text)),
                _ => sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The whole group: the shell, its servers, and a command that did not end.
        let group = format!("-{}", self.bash.id());
        let _ = Command::new("kill").args(["-s", "TERM", "--", &group]).status();
        drop(self.bash.stdin.take());
        let _ = self.bash.wait();
    }
}

fn complaint(shown: &Shown, what: &str, output: &str) -> String {
    let Shown { line, command, .. } = shown;
    let expected = shown.output.join("\n");
    format!("line {line}: `{command}`: {what}\n--- shown\n{expected}\n--- found\n{output}")
}

/// Runs every command of a page; the first complaint.
fn run_page(
    page: &str,
    replacements: Vec<(String, String)>,
    wait: Duration,
) -> Result<usize, String> {
    let shown = commands(page);
    let mut shell = Shell::start(Path::new(env!("CARGO_BIN_EXE_ait-node")), replacements, wait);
    for command in &shown {
        shell.run(command)?;
    }
    Ok(shown.len())
}

/// A free address for each that the README names on a command line.
fn free_addresses() -> Vec<(String, String)> {
    let listeners = [8080, 8081, 8090, 7071]
        .map(|port| (port, TcpListener::bind("127.0.0.1:0").expect("a free port")));
    listeners
        .iter()
        .map(|(port, listener)| {
            let free = listener.local_addr().expect("address");
            (format!("127.0.0.1:{port}"), free.to_string())
        })
        .collect()
}

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::read_to_string(path).expect("README.md")
}

#[test]
fn readme_shows_what_its_commands_do() {
    if let Err(complaint) = run_page(&readme(), free_addresses(), COMMAND_WAIT) {
        panic!("README.md, {complaint}");
    }
}

#[test]
fn readme_names_the_test_command_that_the_checks_run() {
    let page = readme();
    let command = page.lines().find(|line| line.starts_with("cargo test"));
    assert_eq!(command, Some("cargo test --workspace"));
}

#[test]
fn reads_commands_of_console_blocks_only() {
    let page = "```sh\n$ no\n```\n```console\n$ a \\\n> b\n? 2\nx\n? 3\n\n$ c &\n```\n$ no\n";
    let first = Shown {
        line: 5,
        command: "a \\\nb".to_owned(),
        output: ["x", "? 3", ""].map(str::to_owned).into(),
        exit_code: 2,
    };
    let second = Shown { line: 11, command: "c &".to_owned(), output: vec![], exit_code: 0 };
    assert_eq!(commands(page), [first, second]);
}

#[test]
fn wildcards_match_within_and_across_lines() {
    assert!(line_matches("a [..] c[..]", "a b c"));
    assert!(!line_matches("a [..] c", "a b cd"));
    assert!(!line_matches("a", "a b"));
    assert!(matches(&["a", "...", "d"], &["a", "b", "c", "d"]));
    assert!(matches(&["a", "..."], &["a"]));
    assert!(!matches(&["a", "..."], &["b"]));
    assert!(!matches(&["a"], &["a", "b"]));
    assert!(!matches(&["a", "b"], &["a"]));
}

#[test]
fn runs_a_page_in_one_shell() {
    let page = "```console\n$ x=5; cd /\n$ echo \"$x 1.2.3.4\" \\\n> more\n[..] 9.9.9.9 more\n\
                $ false\n? 1\n$ (echo up; sleep 600) &\nup\n$ command -v ait-node\n[..]/ait-node\n```\n";
    let replacements = vec![("9.9.9.9".to_owned(), "1.2.3.4".to_owned())];
    assert_eq!(run_page(page, replacements, COMMAND_WAIT), Ok(5));
}

#[test]
fn complains_of_other_output_and_exit_codes() {
    let run = |body: &str| run_page(&format!("```console\n{body}```\n"), Vec::new(), COMMAND_WAIT);
    let complaint = run("$ true\n$ echo a\nb\n").expect_err("other output");
    assert!(complaint.starts_with("line 3: `echo a`: other output"), "{complaint}");
    let complaint = run("$ false\n").expect_err("a failure");
    assert!(complaint.starts_with("line 2: `false`: exit code 1"), "{complaint}");
    run("$ true\n? 1\n").expect_err("success where a failure is shown");
    run("$ echo a\n").expect_err("output where none is shown");
}

#[test]
fn ends_a_command_that_does_not_end() {
    let page = "```console\n$ sleep 611 &\n$ sleep 612\n```\n";
    let complaint = run_page(page, Vec::new(), Duration::from_millis(50)).expect_err("no end");
    assert!(complaint.contains("`: did not end"), "{complaint}");
}
