//! Joins cross-site sync and the node: what `ait_net::cross_site` asks of the node, and its
//! start.
//!
//! What comes from a remote goes the way of everything from outside: blocks through the
//! importer, transactions through the ingress.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::transaction::Transaction;
use ait_engine::types::{Height, TxHash};
use ait_net::cross_site::{
    self, ClientError, CrossSiteOptions, ImportFault, Imports, Local, LocalPage, RemoteBlock,
    RemoteClient, RemoteLine,
};
use tokio::sync::watch;

use crate::chain::Chain;
use crate::config::CrossSiteConfig;
use crate::import::{ImportBlock, ImportError, Importer};
use crate::ingress::{Ingress, SubmitError};
use crate::mempool::Mempool;
use crate::node::Node;

/// Pending transactions of one page.
const PAGE_COUNT: usize = 1_000;

/// Why cross-site sync does not start.
#[derive(Debug, thiserror::Error)]
pub enum CrossSiteError {
    /// The file of authorities cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Remotes cannot be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// How remotes stand; clones see the same. The default has none.
#[derive(Debug, Clone, Default)]
pub struct CrossSiteView(Option<watch::Receiver<Vec<RemoteLine>>>);

impl CrossSiteView {
    /// Each remote, in the order of the configuration; at most some 200 ms old.
    #[must_use]
    pub fn remotes(&self) -> Vec<RemoteLine> {
        self.0.as_ref().map(|view| view.borrow().clone()).unwrap_or_default()
    }
}

/// Syncs with the remotes, if there are any, until `until` is done. To be called inside a
/// runtime.
///
/// # Errors
/// [`CrossSiteError`] when the authorities or TLS cannot be used.
pub fn start(
    config: &CrossSiteConfig,
    node: &Node,
    until: impl Future<Output = ()> + Send + 'static,
) -> Result<CrossSiteView, CrossSiteError> {
    if config.remotes.is_empty() {
        return Ok(CrossSiteView::default());
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| CrossSiteError::Read { path: path.clone(), source })
    };
    let authorities = config.ca_file.as_ref().map(read).transpose()?;
    let clients = config.remotes.iter().map(|url| {
        RemoteClient::new(url.clone(), authorities.as_deref()).map_err(CrossSiteError::from)
    });
    let clients = clients.collect::<Result<Vec<_>, _>>()?;
    let chain = node.chain().clone();
    let mut seed = [0; 8];
    if getrandom::fill(&mut seed).is_err() {
        // Jitter is no secret: the same at each start is better than no sync.
        tracing::warn!("the system gives no random numbers");
    }
    let options = CrossSiteOptions {
        genesis: chain.genesis_id(),
        height: chain.head().height,
        remotes: clients.len(),
        poll_interval_ms: milliseconds(config.poll_interval),
        mempool: config.mempool,
        seed: u64::from_le_bytes(seed),
    };
    let site = Site {
        chain,
        mempool: Arc::clone(node.mempool()),
        ingress: node.ingress().clone(),
        importer: node.importer().clone(),
    };
    let (shown, view) = watch::channel(Vec::new());
    tokio::spawn(async move {
        tokio::select! {
            () = cross_site::run(options, clients, site, shown) => {}
            () = until => {}
        }
    });
    Ok(CrossSiteView(Some(view)))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The node as cross-site sync sees it.
#[derive(Debug, Clone)]
struct Site {
    chain: Chain,
    mempool: Arc<Mempool>,
    ingress: Ingress,
    importer: Importer,
}

/// Whose fault it is that a block is not here.
const fn fault(error: &ImportError) -> ImportFault {
    match error {
        error if error.is_senders_fault() => ImportFault::Remote,
        ImportError::BadRoot { .. } => ImportFault::Local,
        _ => ImportFault::Later,
    }
}

impl Local for Site {
    fn height(&self) -> Height {
        self.chain.head().height
    }

    async fn import(&self, blocks: Vec<RemoteBlock>) -> Imports {
        // All stand in the line before the first is waited for, so that they are verified
        // together.
        let waiting: Vec<_> = blocks
            .into_iter()
            .map(|(block, certificate)| self.importer.hand_in(ImportBlock { block, certificate }))
            .collect();
        let mut imports = Imports { count: 0, fault: None };
        for handed in waiting {
            let result = match handed {
                Ok(answer) => answer.await.unwrap_or(Err(ImportError::Stopping)),
                Err(error) => Err(error),
            };
            match result {
                Ok(_) if imports.fault.is_none() => imports.count += 1,
                Err(error) if imports.fault.is_none() => {
                    imports.fault = Some((fault(&error), error.to_string()));
                }
                // What stands behind the first refused one has no parent.
                _ => {}
            }
        }
        imports
    }

    async fn submit(&self, transactions: Vec<Transaction>) -> Vec<TxHash> {
        let is_new = |one: &Transaction| self.mempool.get(&one.hash()).is_none();
        let transactions: Vec<_> = transactions.into_iter().filter(is_new).collect();
        let hashes: Vec<_> = transactions.iter().map(Transaction::hash).collect();
        let results = self.ingress.submit_many(transactions).await;
        let is_later =
            |result: &Result<_, SubmitError>| result.as_ref().is_err_and(SubmitError::is_temporary);
        let all = hashes.into_iter().zip(results);
        all.filter(|(_, result)| is_later(result)).map(|(hash, _)| hash).collect()
    }

    async fn pending(&self, after: Option<u64>) -> LocalPage {
        let listed = self.mempool.list(PAGE_COUNT, after);
        let next = listed.last().map(|last| last.seq);
        LocalPage { transactions: listed.into_iter().map(|one| one.transaction).collect(), next }
    }
}
