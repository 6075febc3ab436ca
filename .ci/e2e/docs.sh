#!/usr/bin/env bash
# The page under /docs in a real browser that reaches no other site: every operation of
# the OpenAPI document is on it.
set -euo pipefail
if ! command -v chromium >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
program=$(bash .ci/optimised)
data=$(mktemp -d)
"$program" dev --json --data-dir "$data" --rpc 127.0.0.1:0 --coordinator 127.0.0.1:0 >"$data/said" &
node=$!
trap 'kill $node; wait $node || true; rm -rf "$data"' EXIT
for _ in $(seq 100); do [ -s "$data/said" ] && break; sleep 0.1; done
python3 - "$data" <<'PY'
import json, re, subprocess, sys, urllib.request
data = sys.argv[1]
rpc = json.load(open(f"{data}/said"))["rpc"]
document = json.load(urllib.request.urlopen(f"{rpc}/openapi.json"))
wanted = {op["operationId"] for verbs in document["paths"].values() for op in verbs.values()}
browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000",
           f"--user-data-dir={data}/browser", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
page = subprocess.run(browser + ["--dump-dom", f"{rpc}/docs"], capture_output=True, text=True, timeout=120).stdout
found = set(re.findall(r'<details id="([a-z_]+)"', page))
schemas = set(re.findall(r'<details id="schema-(\w+)"', page))
assert wanted <= found, f"not on the page: {sorted(wanted - found)}"
assert set(document["components"]["schemas"]) == schemas, "schemas differ"
print(f"{len(wanted)} operations and {len(schemas)} schemas are on the page")
PY
