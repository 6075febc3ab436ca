#!/usr/bin/env python3
"""Dependency audit by `deny.toml`: licences, doubled crates, sources, yanked versions; and by
`advisories.json`: known vulnerabilities, as far as RustSec's database was when it was looked up.

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


def place(version):
    """A version in the order of versions; its build metadata counts for nothing."""
    core, _, pre = version.split("+")[0].partition("-")
    numbers = [int(part) for part in core.split(".")]
    return numbers + [0] * (3 - len(numbers)), not pre, pre


def meets(version, requirement):
    """Whether a version meets all of a requirement's parts, as cargo reads them."""
    at = place(version)
    for part in requirement.split(","):
        sign, given = re.fullmatch(r"\s*(>=|<=|>|<|=|\^|~|)\s*(\S+)\s*", part).groups()
        low = place(given)
        if sign in ("", "^", "~"):
            # Up to the first number that is not 0; of `~` up to the second.
            stated = given.split("-")[0].split(".")
            first = next((n for n, number in enumerate(stated) if int(number)), len(stated) - 1)
            fixed = min(1, len(stated) - 1) if sign == "~" else first
            top = low[0][:fixed] + [low[0][fixed] + 1] + [0] * (2 - fixed)
            good = low <= at and at[0] < top
        else:
            good = {
                ">=": at >= low, "<=": at <= low, ">": at > low, "<": at < low, "=": at == low
            }[sign]
        if not good:
            return False
    return True


def vulnerable(package, advisories):
    """Numbers of the advisories that a locked version has no correction for."""
    for advisory in advisories.get(package["name"], []):
        good = advisory["patched"] + advisory["unaffected"]
        if not any(meets(package["version"], requirement) for requirement in good):
            yield advisory["id"]


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
    known = json.loads((ROOT / ".ci/advisories.json").read_text())
    for package in others:
        for number in vulnerable(package, known["advisories"]):
            problems.append(f'{package["name"]} {package["version"]}: {number}')
    if unknown := sorted(set(versions) - set(known["looked_up"])):
        print(f'audit: never looked up in the advisories: {", ".join(unknown)}')
    if reason := yanked(others):
        problems.append(f"a locked version cannot be resolved anew (yanked?):\n{reason}")
    for problem in problems:
        print(f"audit: {problem}")
    print(f'audit: {len(others)} crates, advisories up to {known["newest"]}, {len(problems)} problems')
    return 1 if problems else 0


def self_test():
    assert satisfied("MIT OR GPL-3.0", {"MIT"})
    assert not satisfied("MIT AND GPL-3.0", {"MIT"})
    assert satisfied("(MIT OR GPL-3.0) AND ISC", {"MIT", "ISC"})
    assert satisfied("Apache-2.0 WITH LLVM-exception OR GPL-3.0", {"Apache-2.0 WITH LLVM-exception"})
    assert not satisfied("Apache-2.0 WITH LLVM-exception", {"Apache-2.0"})
    assert meets("0.23.46", ">=0.23.45") and not meets("0.23.44", ">= 0.23.45")
    assert meets("0.22.9", ">=0.22.4, <0.23") and not meets("0.23.0", ">=0.22.4, <0.23")
    assert meets("1.9.0", "^1.2.3") and not meets("2.0.0", "1.2.3") and not meets("1.2.2", "^1.2.3")
    assert meets("0.2.9", "^0.2.3") and not meets("0.3.0", "^0.2.3") and not meets("0.0.4", "^0.0.3")
    assert meets("1.2.9", "~1.2") and not meets("1.3.0", "~1.2")
    assert meets("1.0.0", "> 1.0.0-rc.1") and not meets("1.0.0-rc.1", ">= 1.0.0")
    advisories = {"a": [{"id": "X", "patched": [">=2"], "unaffected": ["<1.5"]}]}
    assert list(vulnerable({"name": "a", "version": "1.7.0"}, advisories)) == ["X"]
    assert not list(vulnerable({"name": "a", "version": "1.4.0"}, advisories))


if __name__ == "__main__":
    self_test()
    sys.exit(main())
