#!/usr/bin/env bash
# What is under deploy/: units that systemd accepts, a site that nginx accepts, and the
# three-site example proving itself.
set -euo pipefail
export PATH=$PATH:/usr/sbin
missing=""
for tool in nginx openssl curl; do command -v "$tool" >/dev/null || missing="$missing $tool"; done
command -v ip >/dev/null || missing="$missing iproute2"
command -v systemd-analyze >/dev/null || missing="$missing systemd"
if [ -n "$missing" ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
program=$(bash .ci/optimised)
work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT

# The units as they are, but for the program, which is not installed here; a template is
# checked as one of its nodes. It complains on standard error, and not always by its code.
for unit in deploy/systemd/*.service; do
    name=$(basename "$unit")
    sed "s#/usr/local/bin/ait-node#$program#" "$unit" >"$work/${name/@/@a}"
done
units=("$work"/*.service)
complaints=$(systemd-analyze verify "${units[@]}" 2>&1) || { echo "$complaints" >&2; exit 1; }
[ -z "$complaints" ] || { echo "$complaints" >&2; exit 1; }
# 10 is wide open, 0 shut: 2 lets nothing slip that the units close today.
for unit in "${units[@]}"; do
    systemd-analyze security --offline=true --threshold=20 "$unit" >"$work/security" ||
        { cat "$work/security" >&2; exit 1; }
done
echo "ok   systemd units: ${#units[@]}"

openssl req -x509 -days 2 -subj /CN=site -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout "$work/site.key" -out "$work/site.pem" 2>/dev/null
sed -e "s#/etc/ssl/certs/node.example.org.pem#$work/site.pem#" \
    -e "s#/etc/ssl/private/node.example.org.key#$work/site.key#" \
    deploy/nginx/ait-node.conf >"$work/site.conf"
printf 'pid nginx.pid; events { worker_connections 2048; } http { access_log off; include site.conf; }' \
    >"$work/nginx.conf"
nginx -t -q -p "$work" -e errors.log -c nginx.conf

# The site before a node: what is inside stays there, under every spelling; one client has a part of
# the connections; who is limited is named by its own address.
sed -i -e 's/127\.0\.0\.1:808[01]/127.0.0.1:18080/' -e 's/listen 443 ssl/listen 127.0.0.1:18443 ssl/' \
    "$work/site.conf"
"$program" init --data-dir "$work/node" --new-chain site --no-passphrase >/dev/null
AIT_RPC_TRUSTED_PROXIES=127.0.0.1 "$program" run --data-dir "$work/node" --rpc 127.0.0.1:18080 \
    --p2p 127.0.0.1:0 >"$work/node.log" 2>&1 &
started+=($!)
nginx -p "$work" -e errors.log -c nginx.conf -g 'daemon off;' &
started+=($!)
site=https://127.0.0.1:18443
status() { curl -sk --path-as-is -o /dev/null -w '%{http_code}' --interface 127.0.0.2 "$@" || true; }
for _ in $(seq 100); do [ "$(status "$site/readyz")" = 200 ] && break; sleep 0.1; done
for path in /readyz /health /rpc/head /rpc2/head; do
    [ "$(status "$site$path")" = 200 ] || { echo "$path is not to be had by nginx" >&2; exit 1; }
done
for path in /metrics /rpc/metrics /rpc/metrics/ /rpc//metrics /rpc/%6detrics /rpc/metrics%2f \
    /rpc/x/../metrics /rpc2/metrics "/rpc/metrics?x=/rpc/head"; do
    [ "$(status "$site$path")" = 404 ] || { echo "$path is to be had by nginx" >&2; exit 1; }
done
python3 - <<'END'
import socket, ssl
context = ssl._create_unverified_context()

def post(source, length):
    one = context.wrap_socket(socket.create_connection(("127.0.0.1", 18443), 10, (source, 0)))
    one.sendall(f"POST /rpc/sendTx HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode())
    return one

def expect(one, status):
    answer = one.recv(100)
    assert answer.startswith(b"HTTP/1.1 " + status), answer

expect(post("127.0.0.2", 2_000_000), b"413")
held = [post("127.0.0.3", 9) for _ in range(257)]
expect(held[-1], b"429")
held[0].sendall(b"123456789")
expect(held[0], b"422")
END
page=$(curl -s http://127.0.0.1:18080/metrics)
grep -q '^rpc_client_limited_total{client="127.0.0.2",offence="large_body"}' <<<"$page" ||
    { echo "who sent too much by nginx is not named" >&2; exit 1; }
echo "ok   nginx site before a node"

PROGRAM=$program deploy/three-sites/run.sh --check
