//! What goes into the state machine of cross-site sync, what comes out, and how a remote
//! stands.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::transaction::{Transaction, VerifiedTransaction};
use ait_engine::types::{BlockId, Height, TxHash};

/// Number of a remote, in the order of the configuration.
pub type Remote = usize;

/// URL of another site's REST interface, with whatever path prefix its proxy gives it:
/// `https://site/rpc` or `https://site/rpc2`.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl(reqwest::Url);

impl RemoteUrl {
    /// The URL of one of its endpoints, query included.
    #[must_use]
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}/{path}", self.0.as_str().trim_end_matches('/'))
    }

    /// Whether it is of this machine, which no proxy leads to.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.0.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
    }
}

/// Without a password, if it has one.
impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // An http URL always has a host, so that neither fails.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        f.write_str(shown.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteUrl({self})")
    }
}

impl FromStr for RemoteUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("expected http:// or https://".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected nothing behind the path".to_owned());
        }
        Ok(Self(url))
    }
}

/// How cross-site sync goes.
#[derive(Debug, Clone)]
pub struct CrossSiteOptions {
    /// Genesis block of the chain here.
    pub genesis: BlockId,
    /// Height of the newest block here.
    pub height: Height,
    /// How many remotes there are.
    pub remotes: usize,
    /// Time between two polls of a remote, in milliseconds.
    pub poll_interval_ms: u64,
    /// Whether pending transactions are shared.
    pub mempool: bool,
    /// Where the jitter begins, different at each start.
    pub seed: u64,
}

/// What a remote says of its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteHead {
    /// Its genesis block.
    pub genesis: BlockId,
    /// Height of its newest block.
    pub height: Height,
}

/// Why a remote did not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It cannot be reached, is too slow, or cannot answer now.
    Unreachable(String),
    /// Its answer cannot be used.
    Answer(String),
}

/// A block of a remote, unverified.
pub type RemoteBlock = (Block, Certificate);

/// Pending transactions of a page, unverified; of some only the hash may be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MempoolPage {
    /// The transactions, hashes made here.
    pub transactions: Vec<(TxHash, Transaction)>,
    /// Where the next page begins; none if the page is empty or the list has no cursors.
    pub next: Option<u64>,
    /// Whether the page is as long as was asked for.
    pub is_full: bool,
}

/// Pending transactions here, oldest arrival first.
#[derive(Debug, Clone, Default)]
pub struct LocalPage {
    /// The transactions.
    pub transactions: Vec<Arc<VerifiedTransaction>>,
    /// Number of the last one's arrival; none if there is none.
    pub next: Option<u64>,
}

/// Why a block of a remote was not imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFault {
    /// The remote is at fault.
    Remote,
    /// The node has no room now, or another block came first.
    Later,
    /// This node cannot go on with it whoever sends it.
    Local,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time went on.
    Tick,
    /// The newest block here has this height.
    LocalHead(Height),
    /// Answer to [`Effect::AskHead`].
    Head(Remote, Result<RemoteHead, Failure>),
    /// Answer to [`Effect::FetchBlocks`] from this height on.
    Blocks(Remote, Height, Result<Vec<RemoteBlock>, Failure>),
    /// Answer to [`Effect::Import`]: how many of the blocks are here now, and why not the
    /// next one.
    Imported(Remote, usize, Option<(ImportFault, String)>),
    /// Answer to [`Effect::FetchMempool`].
    Mempool(Remote, Result<MempoolPage, Failure>),
    /// Answer to [`Effect::Submit`]: what was not taken for now.
    NotTaken(Remote, Vec<TxHash>),
    /// Answer to [`Effect::ListPending`].
    Pending(Remote, LocalPage),
    /// Answer to [`Effect::Push`]: what did not arrive.
    NotPushed(Remote, Vec<TxHash>),
}

/// What is to be done. Each is answered by one input.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask a remote for its chain and its newest block.
    AskHead(Remote),
    /// Ask a remote for certified blocks, first to last height.
    FetchBlocks(Remote, Height, Height),
    /// Import blocks of a remote in this order.
    Import(Remote, Vec<RemoteBlock>),
    /// Ask a remote for pending transactions after this cursor.
    FetchMempool(Remote, Option<u64>),
    /// Submit transactions of a remote like anybody's.
    Submit(Remote, Vec<Transaction>),
    /// List what is pending here after this arrival, for a remote.
    ListPending(Remote, Option<u64>),
    /// Send transactions to a remote in this order.
    Push(Remote, Vec<Arc<VerifiedTransaction>>),
}

/// Why a remote is where it is: a closed list, so that no stall is without a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteReason {
    /// It was not asked yet.
    NotAsked,
    /// It has the same blocks.
    InSync,
    /// It misses blocks that are here; it pulls them by itself.
    Behind,
    /// Its blocks are fetched and imported.
    Fetching,
    /// It has blocks that are missing here, but another remote is fetched from.
    Waiting,
    /// It cannot be reached.
    Unreachable,
    /// Its answers cannot be used.
    BadAnswer,
    /// It is of another chain.
    OtherChain,
    /// It sent blocks that were refused.
    BadBlocks,
    /// This node cannot import its blocks.
    LocalFault,
}

impl RemoteReason {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAsked => "not_asked",
            Self::InSync => "in_sync",
            Self::Behind => "behind",
            Self::Fetching => "fetching",
            Self::Waiting => "waiting",
            Self::Unreachable => "unreachable",
            Self::BadAnswer => "bad_answer",
            Self::OtherChain => "other_chain",
            Self::BadBlocks => "bad_blocks",
            Self::LocalFault => "local_fault",
        }
    }

    /// Whether the remote answers and is of this chain.
    #[must_use]
    pub const fn is_well(self) -> bool {
        matches!(self, Self::InSync | Self::Behind | Self::Fetching | Self::Waiting)
    }
}

/// How a remote stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteStatus {
    /// Which.
    pub remote: Remote,
    /// Why it is where it is.
    pub reason: RemoteReason,
    /// Height of its newest block, as it said last.
    pub height: Option<Height>,
    /// Milliseconds since it last answered as it should.
    pub success_ms_ago: Option<u64>,
    /// What went wrong last; none since it answers again.
    pub last_error: Option<String>,
    /// Milliseconds until it is asked again after something went wrong.
    pub retry_in_ms: Option<u64>,
}
