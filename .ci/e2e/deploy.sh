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
trap 'rm -rf "$work"' EXIT

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
printf 'pid nginx.pid; events {} http { access_log off; include site.conf; }' >"$work/nginx.conf"
nginx -t -q -p "$work" -e errors.log -c nginx.conf
echo "ok   nginx site"

PROGRAM=$program deploy/three-sites/run.sh --check
