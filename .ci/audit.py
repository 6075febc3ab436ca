#!/usr/bin/env python3
"""Dependency audit by `deny.toml`: licences, doubled crates, sources, yanked versions.

Uses what cargo says of the locked graph. Whether a version was yanked is asked from
the registry's index through cargo: a yanked version cannot be added anew.
"""
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def satisfied(expression, allowed):
    """Whether an SPDX expression can be met with allowed licences only."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    joined = []
    for token in tokens:
        if joined and (token == "WITH" or joined[-1].endswith(" WITH")):
            joined[-1] += " " + token
        else:
            joined.append(token)

    def either(at):
        value, at = both(at)
        while at < len(joined) and joined[at] == "OR":
            right, at = both(at + 1)
            value = value or right
        return value, at

    def both(at):
        value, at = one(at)
        while at < len(joined) and joined[at] == "AND":
            right, at = one(at + 1)
            value = value and right
        return value, at

    def one(at):
        if joined[at] == "(":
            value, at = either(at + 1)
            return value, at + 1
        return joined[at] in allowed, at + 1

    return either(0)[0]


def yanked(packages):
    """Locked versions that a fresh resolution of exactly them refuses."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "src").mkdir()
        (folder / "src/lib.rs").write_text("")
        lines = ['[package]\nname = "audit"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]']
        for number, package in enumerate(packages):
            lines.append(
                f'd{number} = {{ package = "{package["name"]}", version = "={package["version"]}", '
                "default-features = false }"
            )
        (folder / "Cargo.toml").write_text("\n".join(lines) + "\n")
        result = subprocess.run(
            ["cargo", "generate-lockfile"], cwd=folder, capture_output=True, text=True
        )
        return None if result.returncode == 0 else result.stderr.strip()


def main():
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    metadata = json.loads(subprocess.check_output(command, cwd=ROOT))
    members = set(metadata["workspace_members"])
    problems = []
    allowed = set(deny["licenses"]["allow"])
    others = [p for p in metadata["packages"] if p["id"] not in members]
    for package in others:
        name = f'{package["name"]} {package["version"]}'
        if not package["license"] or not satisfied(package["license"], allowed):
            problems.append(f'{name}: licence {package["license"]!r} is not allowed')
        if not (package["source"] or "").startswith("registry+"):
            problems.append(f'{name}: comes from {package["source"]!r}')
    versions = collections.Counter(package["name"] for package in others)
    skipped = {entry["crate"] for entry in deny["bans"]["skip"]}
    doubled = {name for name, count in versions.items() if count > 1}
    problems += [f"{name}: in several versions" for name in sorted(doubled - skipped)]
    problems += [f"{name}: no longer doubled, remove its skip" for name in sorted(skipped - doubled)]
    if reason := yanked(others):
        problems.append(f"a locked version cannot be resolved anew (yanked?):\n{reason}")
    for problem in problems:
        print(f"audit: {problem}")
    print(f"audit: {len(others)} crates, {len(problems)} problems")
    return 1 if problems else 0


def self_test():
    assert satisfied("MIT OR GPL-3.0", {"MIT"})
    assert not satisfied("MIT AND GPL-3.0", {"MIT"})
    assert satisfied("(MIT OR GPL-3.0) AND ISC", {"MIT", "ISC"})
    assert satisfied("Apache-2.0 WITH LLVM-exception OR GPL-3.0", {"Apache-2.0 WITH LLVM-exception"})
    assert not satisfied("Apache-2.0 WITH LLVM-exception", {"Apache-2.0"})


if __name__ == "__main__":
    self_test()
    sys.exit(main())
