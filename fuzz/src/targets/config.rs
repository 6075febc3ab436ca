//! Configuration: a TOML file, then lines `NAME=value` behind a line of `---` as the
//! environment. A configuration is read or the problems are named; never both, twice the same,
//! and no problem shows the password of a URL.

use std::path::Path;

use ait_node::config::{KEYS, Layers, NodeConfig, default_file};

/// A word that stands in passwords of the corpus, and nowhere else.
const PASSWORD: &str = "hunter2-hunter2";
/// Keys and variables that may hold one.
const NAMES: [&str; 5] = [
    "redis_url",
    "remotes",
    "AIT_GOSSIP_REDIS_URL",
    "GOSSIP_BROADCAST_URL",
    "AIT_CROSS_SITE_REMOTES",
];

fn layers(file: &str, variables: &str) -> Layers {
    let mut layers = Layers::default();
    layers.read_toml(file, Path::new("config.toml"));
    let pairs = variables.lines().filter_map(|line| line.split_once('='));
    layers.read_variables(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    layers
}

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    let layers = layers(file, variables);
    let result = NodeConfig::from_layers(&layers);
    assert_eq!(result, NodeConfig::from_layers(&layers), "read twice it is another");
    match result {
        Ok(config) => {
            assert!(layers.problems().is_empty(), "problems are passed over");
            assert!(config.rpc.body_bytes_max >= 1_024 && config.mempool.transactions_max >= 1);
            assert!(config.sequencer.block_interval.as_nanos() > 0);
            let shown = format!("{config:?}");
            assert!(!is_url(text) || !shown.contains(PASSWORD), "{shown}");
        }
        Err(error) => {
            assert!(!error.problems.is_empty(), "an error without a problem");
            let said = error.problems.join("\n");
            assert!(!is_url(text) || !said.contains(PASSWORD), "{said}");
        }
    }
}

/// Whether the password stands only where that of a URL does, in the value of a key that may
/// hold one.
fn is_url(text: &str) -> bool {
    let is_of_url = |line: &&str| {
        let name = line.split(['=', ' ']).next().unwrap_or("");
        let (scheme, behind) = line[name.len()..].split_once("://").unwrap_or_default();
        let scheme = scheme.trim_start_matches(['=', ' ', '[', '"']);
        let user = behind.split(':').next().unwrap_or("");
        NAMES.contains(&name)
            && line.matches(PASSWORD).count() == 1
            && ["redis", "rediss", "http", "https"].contains(&scheme)
            && user.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && behind[user.len()..].starts_with(&format!(":{PASSWORD}@"))
    };
    text.lines().filter(is_of_url).count() == text.matches(PASSWORD).count()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let every: String = KEYS
        .iter()
        .filter(|key| !key.path.contains('.'))
        .map(|key| format!("{} = {}\n", key.path, key.default))
        .collect();
    let mut sections = every.clone();
    let mut last = "";
    for key in KEYS {
        let Some((section, name)) = key.path.split_once('.') else { continue };
        if section != last {
            sections.push_str(&format!("[{section}]\n"));
            last = section;
        }
        sections.push_str(&format!("{name} = {}\n", key.default));
    }
    let id = "ab".repeat(32);
    let texts = [
        default_file(),
        sections,
        format!("[rpc]\nbind = \"[::1]:1\"\ncors_origins = [\"https://a.b\"]\n[p2p]\npeers = [\"{id}@h:1\"]\n"),
        format!("\n---\nAIT_GOSSIP_REDIS_URL=redis://user:{PASSWORD}@host:6379\nAIT_MEMPOOL_TTL=2h\n"),
        format!("\n---\nAIT_CROSS_SITE_REMOTES=https://user:{PASSWORD}@site/rpc?x\n"),
        format!("\n---\nGOSSIP_BACKEND=redis\nGOSSIP_BROADCAST_URL=redis://user:{PASSWORD}@host:port\nRPC_BIND_PORT=8080\nCHAIN_ID=ait-devnet\n"),
        format!("[gossip]\nredis_url = \"redis://u:{PASSWORD}@h\n"),
        format!("[gossip]\nredis_url = [\"redis://u:{PASSWORD}@h\"]\n"),
        format!("[cross_site]\nremotes = [\"https://u:{PASSWORD}@site/rpc\"]\nca_file = \"\"\n"),
        "[sequencer]\nblock_interval = \"2s\"\n\n---\nAIT_SEQUENCER_BLOCK_INTERVAL=5ms\nAIT_RPC_BINDD=x\n".to_owned(),
        "\n---\nPROPOSER_ID=a\nPOA_AUTHORITIES=a,b\nBLOCK_TIME_SECONDS=2\nMINT_PER_UNIT=1000\nCOORDINATOR_RATIO=0.05\n".to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
