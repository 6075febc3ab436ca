//! The old software's variables, understood under their old meaning.

use std::path::Path;

use toml::Value;

/// Reads the old names out of these variables: key, value and the variable's name.
pub(super) fn read(
    variables: &[(String, String)],
    problems: &mut Vec<String>,
) -> Vec<(&'static str, Value, String)> {
    let get = |name: &str| {
        let found = variables.iter().rev().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    };
    let text = |value: &str| Value::String(value.to_owned());
    let mut read = Vec::new();
    let mut add = |path, value, name: &str| read.push((path, value, name.to_owned()));
    if let Some(value) = get("CHAIN_ID") {
        add("chain_id", text(value), "CHAIN_ID");
    }
    if let Some(value) = get("DB_PATH") {
        // The old database was a file; ours are several in its directory.
        let path = Path::new(value);
        let directory = if path.extension().is_some() { path.parent() } else { Some(path) };
        let directory = directory.filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
        add("data_dir", text(&directory.to_string_lossy()), "DB_PATH");
    }
    for (path, host, port, default_host, default_port) in [
        ("rpc.bind", "RPC_BIND_HOST", "RPC_BIND_PORT", "127.0.0.1", "8080"),
        ("p2p.bind", "P2P_BIND_HOST", "P2P_BIND_PORT", "0.0.0.0", "7070"),
    ] {
        if get(host).is_some() || get(port).is_some() {
            let name = if get(host).is_some() { host } else { port };
            let (host, port) =
                (get(host).unwrap_or(default_host), get(port).unwrap_or(default_port));
            let bind = if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            add(path, Value::String(bind), name);
        }
    }
    if let Some(value) = get("PROPOSER_KEY").filter(|value| !value.is_empty()) {
        add("sequencer.key_file", text(value), "PROPOSER_KEY");
    }
    if let Some(value) = get("MINT_PER_UNIT") {
        let value = value.parse().map_or_else(|_| text(value), Value::Integer);
        add("genesis.mint_per_unit", value, "MINT_PER_UNIT");
    }
    if let Some(value) = get("BLOCK_TIME_SECONDS") {
        add("sequencer.block_interval", Value::String(format!("{value}s")), "BLOCK_TIME_SECONDS");
    }
    if let Some(value) = get("COORDINATOR_RATIO") {
        match basis_points(value) {
            Some(points) => add("genesis.coordinator_ratio_bps", Value::Integer(points), "COORDINATOR_RATIO"),
            None => problems.push(format!(
                "variable COORDINATOR_RATIO: found {value:?}, expected a ratio from 0 to 1 with at most four decimal places"
            )),
        }
    }
    // The other backends of the old software do not leave the process.
    let is_redis = get("GOSSIP_BACKEND").is_some_and(|name| name.eq_ignore_ascii_case("redis"));
    if is_redis {
        let url = get("GOSSIP_BROADCAST_URL").filter(|url| !url.is_empty());
        let url = text(url.unwrap_or("redis://127.0.0.1:6379"));
        read.push(("gossip.redis_url", url, "GOSSIP_BROADCAST_URL".to_owned()));
    }
    read.extend(cross_site(get));
    read
}

/// Sync with other sites.
fn cross_site<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Vec<(&'static str, Value, String)> {
    let mut read = Vec::new();
    let is_off = get("CROSS_SITE_SYNC_ENABLED")
        .is_some_and(|value| ["false", "0", "no", "off"].contains(&&*value.to_lowercase()));
    let name = "CROSS_SITE_REMOTE_ENDPOINTS";
    if let Some(value) = get(name).filter(|_| !is_off) {
        // A JSON list, or names between commas.
        let listed = serde_json::from_str::<Vec<String>>(value).unwrap_or_else(|_| {
            let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        });
        let urls = listed.into_iter().map(Value::String).collect();
        read.push(("cross_site.remotes", Value::Array(urls), name.to_owned()));
    }
    let name = "CROSS_SITE_POLL_INTERVAL";
    if let Some(value) = get(name) {
        let value = Value::String(format!("{value}s"));
        read.push(("cross_site.poll_interval", value, name.to_owned()));
    }
    read
}

/// A decimal ratio from 0 to 1 in basis points, without a float.
fn basis_points(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 4 || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i64 = format!("{fraction:0<4}").parse().ok()?;
    let points = whole.checked_mul(10_000)?.checked_add(fraction)?;
    (0..=10_000).contains(&points).then_some(points)
}
