//! Every configuration key: its path, its default as TOML, and what it means.

use crate::keystore;

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Path in the file, `section.name`.
    pub path: &'static str,
    /// Default value as TOML.
    pub default: &'static str,
    /// What it means.
    pub about: &'static str,
}

const fn key(path: &'static str, default: &'static str, about: &'static str) -> KeySpec {
    KeySpec { path, default, about }
}

/// Every key, in the order of the default file.
pub const KEYS: &[KeySpec] = &[
    key("data_dir", "\"./data\"", "Directory of the databases, keys and logs of consensus."),
    key("chain_id", "\"ait-devnet\"", "Name of the chain; used where a new genesis is made."),
    key("genesis_file", "\"\"", "The genesis document; empty: genesis.json in data_dir."),
    key("rpc.bind", "\"127.0.0.1:8080\"", "Where the REST interface listens."),
    key("rpc.cors_origins", "[]", "Web origins that may call it; \"*\" for any."),
    key(
        "rpc.rate_limit_per_minute",
        "6000",
        "Requests a minute that one client may make; 0: any number.",
    ),
    key("rpc.rate_limit_burst", "1000", "Requests that one client may make at once."),
    key("rpc.body_bytes_max", "1048576", "Largest request body, in bytes."),
    key("rpc.header_timeout_ms", "5000", "Milliseconds that a client has to send its headers."),
    key("rpc.idle_timeout_ms", "60000", "Milliseconds after which an idle connection is closed."),
    key("rpc.connections_max", "1024", "Most connections at once."),
    key("rpc.trusted_proxies", "[]", "Addresses of proxies whose X-Forwarded-For is believed."),
    key("rpc.admin_token_file", "\"\"", "File of the admin token; empty: admin_token in data_dir."),
    key("rpc.websocket_subscribers_max", "256", "Most WebSocket and event-stream subscribers."),
    key("sequencer.enabled", "true", "Whether this node orders transactions into blocks."),
    key("sequencer.block_interval", "\"2s\"", "Shortest time between two blocks."),
    key(
        "sequencer.key_file",
        "\"\"",
        "Key file (or 64 hex digits) of the validator; empty: validator.key in data_dir.",
    ),
    key("mempool.transactions_max", "100000", "Most pending transactions."),
    key("mempool.bytes_max", "67108864", "Most bytes of pending transactions."),
    key("mempool.per_sender_max", "1024", "Most pending transactions of one sender."),
    key(
        "mempool.per_sender_bytes_max",
        "4194304",
        "Most bytes of pending transactions of one sender.",
    ),
    key("mempool.ttl", "\"3h\"", "How long a transaction may be pending."),
    key("storage.engine", "\"redb\"", "Storage engine: redb, or memory (gone with the process)."),
    key("storage.cache_bytes", "268435456", "Page caches of the databases together, in bytes."),
    key("storage.checkpoint_blocks", "256", "Blocks after which the state is written to disk."),
    key(
        "storage.checkpoint_entries",
        "2000000",
        "Written state entries after which it is written to disk earlier.",
    ),
    key(
        "storage.state_bytes",
        "1073741824",
        "State kept in memory, in bytes; what is not on disk yet comes on top.",
    ),
    key(
        "storage.index",
        "true",
        "Whether transactions by hash, histories and lists are kept; off saves work and disk.",
    ),
    key(
        "storage.free_bytes_min",
        "1073741824",
        "Free bytes on the disk below which the node only reads; 0: whatever there is.",
    ),
    key(
        "storage.reserve_bytes",
        "16777216",
        "Size of a file that is given up when a write fails for want of room; 0: none.",
    ),
    key("coordinator.bind", "\"127.0.0.1:8090\"", "Where the mock coordinator listens."),
    key("p2p.enabled", "true", "Whether this node connects with others."),
    key("p2p.bind", "\"0.0.0.0:7070\"", "Where it listens for other nodes (UDP)."),
    key("p2p.peers", "[]", "Peers that are always called: ID@HOST:PORT, as their nodes print it."),
    key(
        "p2p.key_file",
        "\"\"",
        "File of the network key; empty: network.key in data_dir, made anew.",
    ),
    key("p2p.peers_max", "128", "Most connections with other nodes."),
    key("p2p.peers_wanted", "8", "Connections that are sought among addresses that peers tell of."),
    key("p2p.exchange", "true", "Whether addresses are exchanged with peers."),
    key(
        "gossip.redis_url",
        "\"\"",
        "Redis server over which processes of one site share transactions: redis://HOST:PORT.",
    ),
    key(
        "cross_site.remotes",
        "[]",
        "REST interfaces of other sites to sync with over HTTP: \"https://site/rpc\".",
    ),
    key("cross_site.poll_interval", "\"10s\"", "Time between two polls of a remote."),
    key(
        "cross_site.ca_file",
        "\"\"",
        "Certificates (PEM) of authorities to trust beside the machine's own.",
    ),
    key("cross_site.mempool", "true", "Whether pending transactions are shared with remotes."),
    key("genesis.mint_per_unit", "1000", "Reward for one compute unit in a newly made genesis."),
    key(
        "genesis.coordinator_ratio_bps",
        "500",
        "Coordinators' share in a newly made genesis, in basis points.",
    ),
    key("metrics.legacy_names", "false", "Emit the old node's metric names, too."),
    key("log.level", "\"info\"", "error, warn, info, debug, trace, or a filter of modules."),
    key("log.format", "\"text\"", "text, or json for one object a line."),
];

/// Keys whose values may hold a password: no message shows them.
pub(super) const SECRETS: &[&str] =
    &["gossip.redis_url", "cross_site.remotes", "sequencer.key_file"];

/// Whether a value is a secret itself: a URL with a password, or a key instead of its file.
pub(super) fn holds_secret(path: &str, text: &str) -> bool {
    match path {
        "gossip.redis_url" | "cross_site.remotes" => text.contains('@') || text.contains("pass="),
        "sequencer.key_file" => keystore::is_nearly_hex(text),
        _ => false,
    }
}

/// The commented file that `init` writes: every key with its default, commented out.
#[must_use]
pub fn default_file() -> String {
    let mut text = String::from(
        "# Configuration of ait-node. A line without # overrides the default shown in it.\n\
         # Stronger than this file: environment variables (AIT_RPC_BIND for bind in [rpc]),\n\
         # and stronger than those: command line flags.\n",
    );
    let mut section = "";
    for spec in KEYS {
        let (of, name) = spec.path.split_once('.').unwrap_or(("", spec.path));
        if of != section {
            section = of;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push_str(&format!("# {}\n# {name} = {}\n", spec.about, spec.default));
    }
    text
}
