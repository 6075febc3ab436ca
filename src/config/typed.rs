//! The configuration in types, and the checks that make it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ait_engine::types::ChainId;
use ait_net::gossip::RedisUrl;
use ait_net::peer::PeerAddress;
use toml::Value;

use super::cross_site::CrossSiteConfig;
use super::keys::{KEYS, SECRETS};
use super::layers::{ConfigError, Layers, Source, read_env_file};
use crate::chain::StorageEngine;
use crate::telemetry::LogFormat;

/// `[rpc]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcConfig {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Web origins that may call it.
    pub cors_origins: Vec<String>,
    /// Requests a minute and client; 0 is no limit.
    pub rate_limit_per_minute: u32,
    /// Requests at once and client.
    pub rate_limit_burst: u32,
    /// Largest request body.
    pub body_bytes_max: usize,
    /// Time for the headers.
    pub header_timeout: Duration,
    /// Time after which an idle connection is closed.
    pub idle_timeout: Duration,
    /// Most connections.
    pub connections_max: usize,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// File of the admin token.
    pub admin_token_file: PathBuf,
    /// Most subscribers.
    pub websocket_subscribers_max: usize,
}

/// `[sequencer]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SequencerConfig {
    /// Whether this node orders transactions.
    pub enabled: bool,
    /// Shortest time between two blocks.
    pub block_interval: Duration,
    /// Key file, or a seed in hex: never shown.
    pub key: String,
}

impl fmt::Debug for SequencerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SequencerConfig");
        shown.field("enabled", &self.enabled).field("block_interval", &self.block_interval);
        shown.finish_non_exhaustive()
    }
}

/// `[mempool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Most transactions.
    pub transactions_max: usize,
    /// Most bytes.
    pub bytes_max: u64,
    /// Most transactions of one sender.
    pub per_sender_max: u64,
    /// Most bytes of one sender.
    pub per_sender_bytes_max: u64,
    /// How long one may be pending.
    pub ttl: Duration,
}

/// `[storage]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Storage engine.
    pub engine: StorageEngine,
    /// Page caches together.
    pub cache_bytes: usize,
    /// Blocks between checkpoints.
    pub checkpoint_blocks: u64,
    /// State entries written between checkpoints.
    pub checkpoint_entries: usize,
    /// State kept in memory.
    pub state_bytes: usize,
    /// Whether the indexes are kept.
    pub index: bool,
    /// Free bytes on the disk below which the node only reads.
    pub free_bytes_min: u64,
    /// Size of the file kept in reserve.
    pub reserve_bytes: u64,
}

/// `[coordinator]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorConfig {
    /// Where the mock coordinator listens.
    pub bind: SocketAddr,
}

/// `[genesis]`: values for a genesis that is made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenesisConfig {
    /// Reward for one unit.
    pub mint_per_unit: u64,
    /// Coordinators' share in basis points.
    pub coordinator_ratio_bps: u64,
}

/// The whole configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Directory of everything that the node keeps.
    pub data_dir: PathBuf,
    /// Name of the chain, for a genesis that is made anew.
    pub chain_id: ChainId,
    /// The genesis document.
    pub genesis_file: PathBuf,
    /// REST interface.
    pub rpc: RpcConfig,
    /// Ordering.
    pub sequencer: SequencerConfig,
    /// Pending transactions.
    pub mempool: MempoolConfig,
    /// Databases.
    pub storage: StorageConfig,
    /// Mock coordinator.
    pub coordinator: CoordinatorConfig,
    /// Other nodes.
    pub p2p: P2pConfig,
    /// Other processes of the site.
    pub gossip: GossipConfig,
    /// Other sites over HTTP.
    pub cross_site: CrossSiteConfig,
    /// Values of a new genesis.
    pub genesis: GenesisConfig,
    /// Whether the old metric names are emitted.
    pub legacy_metric_names: bool,
    /// Level or filter of the log.
    pub log_level: String,
    /// Form of the log.
    pub log_format: LogFormat,
}

/// `p2p`: connections with other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2pConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// Where the node listens (UDP).
    pub bind: SocketAddr,
    /// Peers that are always called.
    pub peers: Vec<PeerAddress>,
    /// File of the network key.
    pub key_file: PathBuf,
    /// Most connections.
    pub peers_max: usize,
    /// Connections that are sought among learned addresses.
    pub peers_wanted: usize,
    /// Whether addresses are exchanged.
    pub exchange: bool,
}

/// `[gossip]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GossipConfig {
    /// The Redis server over which processes of one site share transactions, if any.
    pub redis: Option<RedisUrl>,
}

/// A web origin, `scheme://host[:port]` and nothing after it, or `*`.
struct Origin(String);

impl FromStr for Origin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_host = |authority: &str| {
            let port = |port: &str| port.parse::<u16>().is_ok();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]".contains(c);
            match authority.rsplit_once(':').filter(|(_, rest)| !rest.ends_with(']')) {
                Some((host, after)) => {
                    !host.is_empty() && host.chars().all(|c| plain(c) || c == ':') && port(after)
                }
                None => !authority.is_empty() && authority.chars().all(|c| plain(c) || c == ':'),
            }
        };
        let scheme = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let is_uri = text.parse::<warp::http::Uri>().is_ok();
        if text == "*" || (is_uri && scheme.is_some_and(is_host)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(())
        }
    }
}

pub(super) struct Fields<'a> {
    layers: &'a Layers,
    problems: Vec<String>,
}

impl Fields<'_> {
    /// The strongest value of a key, read; a problem and the default if it cannot be.
    pub(super) fn read<T>(
        &mut self,
        path: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        if let Some((value, source)) = self.layers.get(path) {
            let found = read(value);
            if found.is_none() {
                let from =
                    if *source == Source::Default { String::new() } else { format!(" ({source})") };
                let found = match value {
                    Value::String(_) if SECRETS.contains(&path) => "a text".to_owned(),
                    _ if SECRETS.contains(&path) => "what may hold a password".to_owned(),
                    value => value.to_string(),
                };
                self.problems.push(format!("{path}{from}: found {found}, expected {expected}"));
            }
            return found;
        }
        let spec = KEYS.iter().find(|spec| spec.path == path)?;
        let table = format!("v = {}", spec.default).parse::<toml::Table>().ok()?;
        table.get("v").and_then(read)
    }

    fn integer<T: TryFrom<i64> + Default>(&mut self, path: &str, min: i64, max: i64) -> T {
        let expected = format!("a whole number from {min} to {max}");
        self.read(path, &expected, |value| {
            let value = value.as_integer().filter(|value| (min..=max).contains(value))?;
            T::try_from(value).ok()
        })
        .unwrap_or_default()
    }

    fn parsed<T: FromStr>(&mut self, path: &str, expected: &str) -> Option<T> {
        self.read(path, expected, |value| value.as_str()?.parse().ok())
    }

    pub(super) fn text(&mut self, path: &str) -> String {
        self.parsed(path, "a text").unwrap_or_default()
    }

    pub(super) fn flag(&mut self, path: &str) -> bool {
        self.read(path, "true or false", Value::as_bool).unwrap_or_default()
    }

    fn address(&mut self, path: &str) -> SocketAddr {
        let expected = "an address and port like 127.0.0.1:8080";
        self.parsed(path, expected).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(super) fn duration(&mut self, path: &str, max: Duration) -> Duration {
        let expected =
            format!("a time like 500ms, 2s or 1h, at most {}", humantime::format_duration(max));
        self.read(path, &expected, |value| {
            let value = humantime::parse_duration(value.as_str()?).ok()?;
            (value > Duration::ZERO && value <= max).then_some(value)
        })
        .unwrap_or_default()
    }

    fn milliseconds(&mut self, path: &str) -> Duration {
        Duration::from_millis(self.integer(path, 1, 3_600_000))
    }

    fn list<T: FromStr>(&mut self, path: &str, expected: &str) -> Vec<T> {
        self.read(path, expected, |value| {
            value.as_array()?.iter().map(|item| item.as_str()?.parse().ok()).collect()
        })
        .unwrap_or_default()
    }

    fn path_in(&mut self, path: &str, directory: &Path, name: &str) -> PathBuf {
        let text = self.text(path);
        if text.is_empty() { directory.join(name) } else { PathBuf::from(text) }
    }

    fn rpc(&mut self, data_dir: &Path) -> RpcConfig {
        RpcConfig {
            bind: self.address("rpc.bind"),
            cors_origins: self
                .list::<Origin>(
                    "rpc.cors_origins",
                    "a list of origins like \"https://example.org\", or \"*\"",
                )
                .into_iter()
                .map(|origin| origin.0)
                .collect(),
            rate_limit_per_minute: self.integer("rpc.rate_limit_per_minute", 0, 100_000_000),
            rate_limit_burst: self.integer("rpc.rate_limit_burst", 1, 1_000_000),
            body_bytes_max: self.integer("rpc.body_bytes_max", 1_024, 64 * 1024 * 1024),
            header_timeout: self.milliseconds("rpc.header_timeout_ms"),
            idle_timeout: self.milliseconds("rpc.idle_timeout_ms"),
            connections_max: self.integer("rpc.connections_max", 1, 1_000_000),
            trusted_proxies: self.list("rpc.trusted_proxies", "a list of IP addresses"),
            admin_token_file: self.path_in("rpc.admin_token_file", data_dir, "admin_token"),
            websocket_subscribers_max: self.integer("rpc.websocket_subscribers_max", 0, 1_000_000),
        }
    }

    fn gossip(&mut self) -> GossipConfig {
        let expected = "a URL like redis://HOST:PORT, rediss://USER:PASSWORD@HOST or unix:///PATH";
        let redis = self.read("gossip.redis_url", expected, |value| match value.as_str()?.trim() {
            "" => Some(None),
            url => url.parse().ok().map(Some),
        });
        GossipConfig { redis: redis.flatten() }
    }

    fn p2p(&mut self, data_dir: &Path) -> P2pConfig {
        P2pConfig {
            enabled: self.flag("p2p.enabled"),
            bind: self.address("p2p.bind"),
            peers: self
                .list("p2p.peers", "a list of peers like \"ID@HOST:PORT\", ID being 64 hex digits"),
            key_file: self.path_in("p2p.key_file", data_dir, "network.key"),
            peers_max: self.integer("p2p.peers_max", 1, 10_000),
            peers_wanted: self.integer("p2p.peers_wanted", 0, 10_000),
            exchange: self.flag("p2p.exchange"),
        }
    }

    fn mempool(&mut self) -> MempoolConfig {
        MempoolConfig {
            transactions_max: self.integer("mempool.transactions_max", 1, 10_000_000),
            bytes_max: self.integer("mempool.bytes_max", 65_536, 1 << 36),
            per_sender_max: self.integer("mempool.per_sender_max", 1, 1_000_000),
            per_sender_bytes_max: self.integer("mempool.per_sender_bytes_max", 65_536, 1 << 36),
            ttl: self.duration("mempool.ttl", Duration::from_secs(30 * 86_400)),
        }
    }

    fn storage(&mut self) -> StorageConfig {
        StorageConfig {
            engine: self.parsed("storage.engine", "redb or memory").unwrap_or_default(),
            cache_bytes: self.integer("storage.cache_bytes", 1 << 20, 1 << 44),
            checkpoint_blocks: self.integer("storage.checkpoint_blocks", 1, 1_000_000),
            checkpoint_entries: self.integer("storage.checkpoint_entries", 1, 1 << 40),
            state_bytes: self.integer("storage.state_bytes", 1 << 20, 1 << 44),
            index: self.flag("storage.index"),
            free_bytes_min: self.integer("storage.free_bytes_min", 0, 1 << 50),
            reserve_bytes: self.integer("storage.reserve_bytes", 0, 1 << 40),
        }
    }
}

impl NodeConfig {
    /// Reads the file (that given, or `config.toml` in the data directory if there is one), the
    /// environment, and what `flags` sets. `defaults` stand in for those of [`KEYS`].
    ///
    /// # Errors
    /// [`ConfigError`] with every problem.
    pub fn load(
        file: Option<&Path>,
        defaults: &[(&'static str, Value)],
        flags: impl Fn(&mut Layers),
    ) -> Result<Self, ConfigError> {
        let mut first = Layers::with_defaults(defaults);
        first.read_variables(variables());
        flags(&mut first);
        let mut layers = Layers::with_defaults(defaults);
        match file {
            Some(path) => layers.read_file(path),
            None => {
                let data_dir = Fields { layers: &first, problems: Vec::new() }.text("data_dir");
                let path = Path::new(&data_dir).join("config.toml");
                if path.exists() {
                    layers.read_file(&path);
                }
            }
        }
        layers.read_variables(variables());
        layers.check_env_file(Path::new(ENV_FILE));
        flags(&mut layers);
        Self::from_layers(&layers)
    }

    /// The configuration that these layers give.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of every layer.
    pub fn from_layers(layers: &Layers) -> Result<Self, ConfigError> {
        let mut fields = Fields { layers, problems: layers.problems().to_vec() };
        let data_dir = PathBuf::from(fields.text("data_dir"));
        let chain_id = fields.parsed("chain_id", "1 to 32 of a-z, 0-9, '-', '_' and '.'");
        let key = fields.path_in("sequencer.key_file", &data_dir, "validator.key");
        let config = Self {
            chain_id: chain_id.unwrap_or_else(default_chain_id),
            genesis_file: fields.path_in("genesis_file", &data_dir, "genesis.json"),
            rpc: fields.rpc(&data_dir),
            sequencer: SequencerConfig {
                enabled: fields.flag("sequencer.enabled"),
                block_interval: fields
                    .duration("sequencer.block_interval", Duration::from_secs(3_600)),
                key: key.to_string_lossy().into_owned(),
            },
            mempool: fields.mempool(),
            storage: fields.storage(),
            coordinator: CoordinatorConfig { bind: fields.address("coordinator.bind") },
            p2p: fields.p2p(&data_dir),
            gossip: fields.gossip(),
            cross_site: CrossSiteConfig::read(&mut fields),
            genesis: GenesisConfig {
                mint_per_unit: fields.integer("genesis.mint_per_unit", 0, 1_000_000_000_000),
                coordinator_ratio_bps: fields.integer("genesis.coordinator_ratio_bps", 0, 10_000),
            },
            legacy_metric_names: fields.flag("metrics.legacy_names"),
            log_level: fields.text("log.level"),
            log_format: fields
                .read("log.format", "text or json", |value| match value.as_str()? {
                    "text" => Some(LogFormat::Text),
                    "json" => Some(LogFormat::Json),
                    _ => None,
                })
                .unwrap_or_default(),
            data_dir,
        };
        if fields.problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError { problems: fields.problems })
        }
    }
}

fn default_chain_id() -> ChainId {
    // Only reached beside a reported problem; any valid id serves.
    ChainId::from_bytes(b"ait-devnet").unwrap_or_else(|_| unreachable!("the default is valid"))
}

/// Variables of the working directory.
const ENV_FILE: &str = ".env";

/// [`ENV_FILE`] of the working directory, then the environment, which wins.
fn variables() -> Vec<(String, String)> {
    let mut all =
        std::fs::read_to_string(ENV_FILE).map(|text| read_env_file(&text)).unwrap_or_default();
    all.extend(
        std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }),
    );
    all
}
