#!/usr/bin/env bash
# Requests that the OpenAPI document allows, and ones that it does not, made up by
# schemathesis: no answer is a fault of the server or outside of the document.
set -euo pipefail
tools=$(mktemp -d)
python3 -m venv "$tools/venv" 2>/dev/null || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    python3 -m venv "$tools/venv"
}
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==4.*"
program=$(bash .ci/optimised)
data=$tools/data
mkdir "$data"
"$program" dev --json --data-dir "$data" --rpc 127.0.0.1:0 --coordinator 127.0.0.1:0 \
    --block-interval 20ms >"$data/said" &
node=$!
trap 'kill $node; wait $node || true; rm -rf "$tools"' EXIT
for _ in $(seq 100); do [ -s "$data/said" ] && break; sleep 0.1; done
say() { python3 -c "import json, sys; print(json.load(open('$data/said'))['$1'])"; }
rpc=$(say rpc)
# So that there is something to ask for.
for amount in 1 2 3; do
    curl -sf "$rpc/rpc/sendTx" -o /dev/null -d "{\"type\": \"TRANSFER\", \"sender\": \"alice\",
        \"nonce\": 0, \"fee\": 10, \"payload\": {\"to\": \"bob\", \"amount\": $amount}}"
done
# Streams have no end to wait for: tests/rpc.rs reads those.
cd "$tools"
"$tools/venv/bin/schemathesis" run "$rpc/openapi.json" --max-time "${1:-60}" \
    --header "Authorization: Bearer $(say admin_token)" \
    --phases coverage,fuzzing,stateful --exclude-path-regex '/rpc/(ws|events)/' --warnings off \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance
kill -0 $node
