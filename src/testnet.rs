//! A set of data directories for a network of several nodes on one or more machines.
//!
//! Every key follows from one seed or is made here; whoever has the directory owns the
//! chain. For trials and tests.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ait_engine::crypto::SecretKey;
use ait_engine::genesis::{Allocation, Authority, GenesisDocument, GenesisError};
use ait_engine::types::{Address, Amount, ChainId, VotingPower};
use ait_net::peer::{PeerAddress, PeerId};
use zeroize::Zeroizing;

use crate::devnet::{DevAccounts, FUNDED_BALANCE, FUNDED_NAMES};
use crate::keystore::{self, KeyFile, KeystoreError};

/// What a testnet is to be like.
#[derive(Debug, Clone)]
pub struct TestnetOptions {
    /// Where the nodes' directories are made.
    pub directory: PathBuf,
    /// Name of the chain.
    pub chain_id: ChainId,
    /// Voting power of each validator.
    pub weights: Vec<u64>,
    /// Nodes that follow.
    pub followers: usize,
    /// Accounts `account-0`, `account-1`, .. with funds, besides alice, bob and the others.
    pub accounts: usize,
    /// Shortest time between two blocks.
    pub block_interval: Duration,
    /// Where each node listens: REST and other nodes.
    pub places: Vec<(SocketAddr, SocketAddr)>,
}

/// One node of a testnet.
#[derive(Debug, Clone)]
pub struct TestnetNode {
    /// `node-0`, `node-1`, ..
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its REST interface.
    pub rpc: SocketAddr,
    /// How other nodes reach it.
    pub peer: PeerAddress,
    /// Its validator; none if it follows.
    pub validator: Option<Address>,
}

/// Why no testnet was made.
#[derive(Debug, thiserror::Error)]
pub enum TestnetError {
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key cannot be made or written.
    #[error(transparent)]
    Key(#[from] KeystoreError),
    /// The genesis is not valid.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A weight is 0 or too large.
    #[error("{0} is no voting power")]
    Weight(u64),
}

/// Name of the file with the seed from which accounts follow.
pub const SEED_FILE: &str = "testnet.seed";

/// Accounts after which it is told how many there are.
const FUNDED_TOLD: usize = 10_000;
/// What all accounts own together at most: half of what there may ever be.
const BALANCES_SUM_MAX: u64 = 1 << 62;

/// Makes the directories. `funded` is told now and then how many accounts have their keys, which
/// takes most of the time if they are millions.
///
/// # Errors
/// [`TestnetError`]; what was written until then stays.
pub fn prepare(
    options: &TestnetOptions,
    funded: &mut dyn FnMut(usize),
) -> Result<Vec<TestnetNode>, TestnetError> {
    let seed = Zeroizing::new(keystore::random::<32>()?);
    let accounts = DevAccounts::from_seed(*seed);
    let digits = Zeroizing::new(format!("0x{}\n", Zeroizing::new(hex::encode(*seed)).as_str()));
    write(&options.directory.join(SEED_FILE), &digits, true)?;
    let keys = options.directory.join("accounts");
    create(&keys)?;
    for name in FUNDED_NAMES {
        KeyFile::plain(&accounts.secret_key(name))
            .write(&keys.join(format!("{name}.key")), true)?;
    }
    let validators: Vec<SecretKey> =
        options.weights.iter().map(|_| keystore::generate()).collect::<Result<_, _>>()?;
    let document = genesis(options, &validators, &accounts, funded)?;
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    let mut nodes = Vec::new();
    for (at, (rpc, p2p)) in options.places.iter().enumerate() {
        let name = format!("node-{at}");
        let data_dir = options.directory.join(&name);
        create(&data_dir)?;
        write(&data_dir.join("genesis.json"), &text, false)?;
        let network = keystore::generate()?;
        KeyFile::plain(&network).write(&data_dir.join("network.key"), true)?;
        let validator = validators.get(at);
        if let Some(key) = validator {
            KeyFile::plain(key).write(&data_dir.join("validator.key"), true)?;
        }
        let id = PeerId::from(network.public_key());
        let peer = PeerAddress { id, host: p2p.ip().to_string(), port: p2p.port() };
        let validator = validator.map(|key| key.public_key().address());
        nodes.push(TestnetNode { name, data_dir, rpc: *rpc, peer, validator });
    }
    for node in &nodes {
        let config = config(options, node, &nodes);
        write(&node.data_dir.join("config.toml"), &config, false)?;
    }
    Ok(nodes)
}

/// What each of so many accounts owns: what is usual, or less so that the sum is an amount.
fn balance_of_each(count: usize) -> Amount {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    FUNDED_BALANCE.min(Amount::saturating(BALANCES_SUM_MAX / count))
}

fn genesis(
    options: &TestnetOptions,
    validators: &[SecretKey],
    accounts: &DevAccounts,
    funded: &mut dyn FnMut(usize),
) -> Result<GenesisDocument, TestnetError> {
    let names = FUNDED_NAMES.iter().map(|name| (*name).to_owned());
    let names = names.chain((0..options.accounts).map(|n| format!("account-{n}")));
    let balance = balance_of_each(options.accounts.saturating_add(FUNDED_NAMES.len()));
    let allocate = |(at, name): (usize, String)| {
        if at.is_multiple_of(FUNDED_TOLD) {
            funded(at);
        }
        let address = accounts.secret_key(&name).public_key().address();
        Allocation { address, balance, nonce: 0 }
    };
    let authorities = validators.iter().zip(&options.weights).map(|(key, weight)| {
        let power = VotingPower::new(*weight).filter(|power| power.get() > 0);
        let weight = power.ok_or(TestnetError::Weight(*weight))?;
        Ok(Authority { public_key: key.public_key(), weight, payout: None })
    });
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    let document = GenesisDocument {
        chain_id: options.chain_id,
        timestamp: now.map(|since| since.as_secs()).unwrap_or_default(),
        params: Default::default(),
        accounts: names.enumerate().map(allocate).collect(),
        authorities: authorities.collect::<Result<_, TestnetError>>()?,
        coordinators: Vec::new(),
        governor: Some(accounts.secret_key(FUNDED_NAMES[0]).public_key().address()),
        minter: None,
    };
    document.build()?;
    Ok(document)
}

fn config(options: &TestnetOptions, node: &TestnetNode, all: &[TestnetNode]) -> String {
    let listen = |ip: &str, port: u16| match ip.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{ip}:{port}"),
    };
    // One that is alone has none.
    let peers: String = all
        .iter()
        .filter(|other| other.peer.id != node.peer.id)
        .map(|other| format!("\n  \"{}\",", other.peer))
        .collect();
    format!(
        "# Written by ait-node testnet.\nchain_id = \"{}\"\ndata_dir = {:?}\n\n\
         [rpc]\nbind = \"{}\"\nrate_limit_per_minute = 0\n\n\
         [sequencer]\nenabled = {}\nblock_interval = \"{}\"\n\n\
         [p2p]\nbind = \"{}\"\nexchange = false\npeers = [{peers}\n]\n\n\
         [storage]\ncache_bytes = 67108864\n",
        options.chain_id,
        node.data_dir,
        node.rpc,
        node.validator.is_some(),
        humantime::format_duration(options.block_interval),
        listen(&node.peer.host, node.peer.port),
    )
}

fn create(path: &Path) -> Result<(), TestnetError> {
    std::fs::create_dir_all(path)
        .map_err(|source| TestnetError::Io { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str, is_secret: bool) -> Result<(), TestnetError> {
    let written = if is_secret {
        keystore::write_private(path, text)
    } else {
        keystore::write_public(path, text)
    };
    written.map_err(|source| TestnetError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_accounts_own_no_more_than_there_may_be() {
        assert_eq!(balance_of_each(1_000), FUNDED_BALANCE);
        for count in [10_000_000, 1 << 40] {
            let each = balance_of_each(count).get();
            assert!(each > 0 && u128::from(each) * count as u128 <= 1 << 62, "{count}: {each}");
        }
    }
}
