#!/usr/bin/env bash
# Three sites on this machine, as the old deployment had them:
#
#   site A   node-0 and node-1, validators, behind one nginx with TLS: /rpc/ and /rpc2/
#   site B   node-3, remote, speaks HTTP alone: it follows site A through the proxy
#   site C   node-2, a validator in a network namespace of its own, like a container
#
#   deploy/three-sites/run.sh           start them, say where they are, run until Ctrl-C
#   deploy/three-sites/run.sh --check   start them, prove that they are one chain, stop
#
# Needs nginx, openssl and curl; as root with `ip`, site C gets its namespace, otherwise it
# has an address of the loopback like the others. PROGRAM is the node to start.
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
    "") check=false ;;
    --check) check=true ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "run.sh: unknown option $1; --check or --help" >&2; exit 2 ;;
esac

export PATH=$PATH:/usr/sbin:/sbin
for tool in nginx openssl curl; do
    command -v "$tool" >/dev/null || { echo "run.sh: install $tool first" >&2; exit 2; }
done
node=${PROGRAM:-target/release/ait-node}
[ -x "$node" ] || { echo "run.sh: no $node: cargo build --release, or set PROGRAM" >&2; exit 2; }

space=ait-site-c
in_c=()
work=$(mktemp -d)
pids=()
finish() {
    trap - EXIT INT TERM
    # The namespace goes last: the node of site C still has its connections to end.
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
    [ ${#in_c[@]} -eq 0 ] || ip netns delete "$space" || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 0' INT TERM

# Where each site is. The two ends of one cable are the way from A and B to C.
if [ "$(id -u)" -eq 0 ] && ip netns add "$space" 2>/dev/null; then
    in_c=(ip netns exec "$space")
    a1=10.77.0.1 a2=10.77.0.2 b=10.77.0.4 c=10.77.0.3
    ip link add ait-site-a type veth peer name eth0 netns "$space"
    for address in $a1 $a2 $b; do ip address add $address/24 dev ait-site-a; done
    ip link set ait-site-a up
    ip -n "$space" address add $c/24 dev eth0
    ip -n "$space" link set eth0 up
    ip -n "$space" link set lo up
else
    a1=127.0.0.11 a2=127.0.0.12 b=127.0.0.14 c=127.0.0.13
fi
site=https://$a1:8443

"$node" testnet --prepare-only --validators 3 --followers 1 --chain-id three-sites \
    --data-dir "$work/net" --hosts $a1,$a2,$c,$b >/dev/null

# The proxy of site A: the file that operators install, with this machine's names in it.
proxy=$work/nginx
mkdir "$proxy"
certificates() (
    cd "$proxy"
    key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    openssl req -x509 -days 2 -subj "/CN=three sites" "${key[@]}" -keyout ca.key -out ca.pem
    openssl req -subj "/CN=site A" "${key[@]}" -keyout server.key -out server.csr
    openssl x509 -req -days 2 -in server.csr -CA ca.pem -CAkey ca.key -out server.pem \
        -extfile <(printf 'subjectAltName=IP:%s\nextendedKeyUsage=serverAuth\n' $a1)
) 2>"$work/openssl.log"
certificates || { cat "$work/openssl.log" >&2; exit 1; }
sed -e "s#127.0.0.1:8080#$a1:8080#; s#127.0.0.1:8081#$a2:8080#" \
    -e "s#listen 443#listen $a1:8443#; s#server_name .*#server_name _;#" \
    -e "s#ssl_certificate .*#ssl_certificate server.pem;#" \
    -e "s#ssl_certificate_key .*#ssl_certificate_key server.key;#" \
    deploy/nginx/ait-node.conf >"$proxy/site.conf"
cat >"$proxy/nginx.conf" <<CONF
daemon off; master_process off; pid nginx.pid; error_log errors.log;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    include site.conf;
}
CONF
start_proxy() {
    nginx -p "$proxy" -e errors.log -c nginx.conf &
    proxy_pid=$!
    pids+=("$proxy_pid")
}

# start NUMBER [VARIABLE=VALUE..]: the node of this number, in this environment.
start() {
    local number=$1 place=()
    shift
    [ "$number" -ne 2 ] || place=("${in_c[@]}")
    env "$@" "${place[@]}" "$node" run --config "$work/net/node-$number/config.toml" --log warn >/dev/null &
    pids+=($!)
}
start_proxy
start 0 AIT_RPC_TRUSTED_PROXIES=$a1
start 1 AIT_RPC_TRUSTED_PROXIES=$a1
start 2
start 3 AIT_P2P_ENABLED=false AIT_CROSS_SITE_CA_FILE="$proxy/ca.pem" \
    AIT_CROSS_SITE_REMOTES="$site/rpc,$site/rpc2" AIT_CROSS_SITE_POLL_INTERVAL=2s

get() { curl --silent --fail --max-time 5 --cacert "$proxy/ca.pem" "$1"; }
# until_true SECONDS WHAT COMMAND..: waits for the command, or says what did not come.
until_true() {
    local left=$(($1 * 5)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ $left -gt 0 ] || { echo "run.sh: $what did not come" >&2; exit 1; }
        sleep 0.2
    done
}
for url in "http://$a1:8080" "http://$a2:8080" "http://$b:8080" "http://$c:8080" "$site"; do
    until_true 30 "$url" get "$url/health"
done
echo "site A   $site/rpc/ and $site/rpc2/   (certificate authority: $proxy/ca.pem)"
echo "site B   http://$b:8080/rpc/   follows site A through its proxy"
echo "site C   http://$c:8080/rpc/   validates, ${in_c[*]:+in the namespace $space, }and reaches A by QUIC"
echo "keys     $work/net/accounts"
if ! $check; then
    echo "Ctrl-C ends them all and deletes their data."
    wait
    exit 1
fi

# One transfer at a site; it returns when the transaction is in a block there.
bob=$("$node" key show "$work/net/accounts/bob.key" --json |
    sed -n 's/.*"address": *"\(ait1[^"]*\)".*/\1/p')
pay() {
    "$node" tx transfer --rpc "$1" --key "$work/net/accounts/$2.key" --to "$bob" --amount 5 --wait \
        >/dev/null
    echo "ok   $3"
}
# What a site says of the newest block that all four have: hash, state root and height.
block_at() { get "$1/blocks/$2" | grep -oE '"(hash|state_root)": ?"0x[0-9a-f]+"'; }
height_of() { get "$1/head" | sed -n 's/.*"height": \{0,1\}\([0-9]*\).*/\1/p'; }
sites=("$site/rpc" "$site/rpc2" "http://$b:8080/rpc" "http://$c:8080/rpc")
reaches() { [ "$(height_of "$1")" -ge "$2" ]; }
agree() {
    local height first
    height=$(height_of "$site/rpc")
    for place in "${sites[@]}"; do until_true 30 "block $height at $place" reaches "$place" "$height"; done
    first=$(block_at "${sites[0]}" "$height")
    [ -n "$first" ] || { echo "run.sh: no block $height at ${sites[0]}" >&2; exit 1; }
    for place in "${sites[@]}"; do
        [ "$(block_at "$place" "$height")" = "$first" ] ||
            { echo "run.sh: $place has another block $height than ${sites[0]}" >&2; exit 1; }
    done
    echo "ok   all four have the same block $height and the same state"
}

pay "http://$a2:8080" alice "a transfer at site A"
pay "http://$b:8080" carol "a transfer at site B, whose mempool the proxy shares with site A"
pay "http://$c:8080" dave "a transfer at site C"
agree
kill "$proxy_pid" && wait "$proxy_pid" || true
behind=$(height_of "http://$b:8080/rpc")
pay "http://$a1:8080" alice "a transfer at site A while its proxy is down"
reaches "http://$b:8080/rpc" $((behind + 1)) &&
    { echo "run.sh: site B got a block without the proxy" >&2; exit 1; }
start_proxy
back=$(date +%s%N)
until_true 10 "the proxy" get "$site/health"
agree
echo "     $((($(date +%s%N) - back) / 1000000)) ms after the proxy came back"
pay "http://$b:8080" carol "a transfer at site B after the proxy came back"
