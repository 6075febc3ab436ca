//! Does what the state machine says, with tasks for what takes time.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use ait_engine::transaction::Transaction;
use ait_engine::types::{BlockId, Height, TxHash};
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::client::RemoteClient;
use super::core::CrossSite;
use super::port::{
    CrossSiteOptions, Effect, Failure, ImportFault, Input, LocalPage, Remote, RemoteBlock,
    RemoteReason, RemoteStatus,
};

/// How often the height here is looked at, at least.
const LOOK: Duration = Duration::from_millis(200);
/// Transactions that are sent to a remote at a time.
const SENDS_MAX: usize = 8;

/// What became of blocks that were imported in order.
#[derive(Debug)]
pub struct Imports {
    /// How many are here now.
    pub count: usize,
    /// Why the next one is not.
    pub fault: Option<(ImportFault, String)>,
}

/// The node as cross-site sync needs it.
pub trait Local: Clone + Send + Sync + 'static {
    /// Height of the newest block. Never waits.
    fn height(&self) -> Height;
    /// Imports blocks, in this order; nothing of them was verified.
    fn import(&self, blocks: Vec<RemoteBlock>) -> impl Future<Output = Imports> + Send;
    /// Submits unverified transactions; gives those that may be submitted again later.
    fn submit(&self, transactions: Vec<Transaction>) -> impl Future<Output = Vec<TxHash>> + Send;
    /// A page of what is pending after this arrival.
    fn pending(&self, after: Option<u64>) -> impl Future<Output = LocalPage> + Send;
}

/// A remote with its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteLine {
    /// Its URL, without a password.
    pub url: String,
    /// How it stands.
    pub status: RemoteStatus,
}

/// Syncs until it is dropped; `shown` is told how the remotes stand.
pub async fn run<L: Local>(
    options: CrossSiteOptions,
    clients: Vec<RemoteClient>,
    local: L,
    shown: watch::Sender<Vec<RemoteLine>>,
) {
    let urls = clients.iter().map(|client| client.url().to_string()).collect();
    let began = Instant::now();
    let genesis = options.genesis;
    let core = CrossSite::new(0, options);
    let mut driver = Driver {
        core,
        genesis,
        clients,
        urls,
        local,
        shown,
        tasks: JoinSet::new(),
        lost: HashMap::new(),
    };
    let now = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    driver.step(now(), Input::Tick);
    loop {
        let input = tokio::select! {
            Some(ended) = driver.tasks.join_next_with_id() => driver.ended(ended),
            () = tokio::time::sleep(LOOK) => Input::Tick,
        };
        driver.note(&input);
        let height = Input::LocalHead(driver.local.height());
        driver.step(now(), height);
        driver.step(now(), input);
    }
}

struct Driver<L> {
    core: CrossSite,
    genesis: BlockId,
    clients: Vec<RemoteClient>,
    urls: Vec<String>,
    local: L,
    shown: watch::Sender<Vec<RemoteLine>>,
    tasks: JoinSet<Input>,
    /// What a task that panicked would have left open.
    lost: HashMap<Id, Input>,
}

impl<L: Local> Driver<L> {
    fn ended(&mut self, ended: Result<(Id, Input), tokio::task::JoinError>) -> Input {
        match ended {
            Ok((id, input)) => {
                self.lost.remove(&id);
                input
            }
            Err(error) => {
                tracing::error!(%error, "a task of cross-site sync ended badly");
                self.lost.remove(&error.id()).unwrap_or(Input::Tick)
            }
        }
    }

    fn step(&mut self, now: u64, input: Input) {
        for effect in self.core.handle(now, input) {
            let Some(client) = self.clients.get(remote_of(&effect)).cloned() else { continue };
            let lost = lost(&effect);
            let task = self.tasks.spawn(perform(effect, client, self.local.clone()));
            self.lost.insert(task.id(), lost);
        }
        self.show(now);
    }

    fn show(&self, now: u64) {
        let lines: Vec<RemoteLine> = self
            .urls
            .iter()
            .zip(self.core.status(now))
            .map(|(url, status)| RemoteLine { url: url.clone(), status })
            .collect();
        let old = self.shown.borrow().iter().map(|line| line.status.reason).collect::<Vec<_>>();
        for (at, line) in lines.iter().enumerate() {
            let (url, reason) = (&line.url, line.status.reason);
            if old.get(at) == Some(&reason) {
                continue;
            }
            match &line.status.last_error {
                Some(error) => {
                    tracing::warn!(%url, reason = reason.name(), error, "a remote is set aside");
                }
                None => tracing::debug!(%url, reason = reason.name(), "a remote"),
            }
        }
        self.shown.send_replace(lines);
    }

    /// Counts.
    fn note(&self, input: &Input) {
        let url = |remote: &Remote| self.urls.get(*remote).cloned().unwrap_or_default();
        match input {
            Input::Head(remote, result) => {
                let result = match result {
                    Ok(head) if head.genesis != self.genesis => RemoteReason::OtherChain.name(),
                    Ok(head) => {
                        #[expect(clippy::cast_precision_loss, reason = "a figure on a dashboard")]
                        let height = head.height.get() as f64;
                        gauge!("cross_site_height", "remote" => url(remote)).set(height);
                        "ok"
                    }
                    Err(Failure::Unreachable(_)) => RemoteReason::Unreachable.name(),
                    Err(Failure::Answer(_)) => RemoteReason::BadAnswer.name(),
                };
                let labels = [("remote", url(remote)), ("result", result.to_owned())];
                counter!("cross_site_polls_total", &labels).increment(1);
            }
            Input::Imported(_, count, _) => {
                counter!("cross_site_blocks_imported_total").increment(*count as u64);
            }
            _ => {}
        }
    }
}

const fn remote_of(effect: &Effect) -> Remote {
    match effect {
        Effect::AskHead(remote)
        | Effect::FetchBlocks(remote, ..)
        | Effect::Import(remote, _)
        | Effect::FetchMempool(remote, _)
        | Effect::Submit(remote, _)
        | Effect::ListPending(remote, _)
        | Effect::Push(remote, _) => *remote,
    }
}

/// The answer to an effect whose task was lost.
fn lost(effect: &Effect) -> Input {
    let failure = || Failure::Answer("a task of this node ended badly".to_owned());
    match effect {
        Effect::AskHead(remote) => Input::Head(*remote, Err(failure())),
        Effect::FetchBlocks(remote, first, _) => Input::Blocks(*remote, *first, Err(failure())),
        Effect::Import(remote, _) => {
            let error = "a task of this node ended badly".to_owned();
            Input::Imported(*remote, 0, Some((ImportFault::Local, error)))
        }
        Effect::FetchMempool(remote, _) => Input::Mempool(*remote, Err(failure())),
        Effect::Submit(remote, _) => Input::NotTaken(*remote, Vec::new()),
        Effect::ListPending(remote, _) => Input::Pending(*remote, LocalPage::default()),
        Effect::Push(remote, _) => Input::NotPushed(*remote, Vec::new()),
    }
}

async fn perform<L: Local>(effect: Effect, client: RemoteClient, local: L) -> Input {
    match effect {
        Effect::AskHead(remote) => Input::Head(remote, client.head().await),
        Effect::FetchBlocks(remote, first, last) => {
            Input::Blocks(remote, first, client.blocks(first, last).await)
        }
        Effect::Import(remote, blocks) => {
            let Imports { count, fault } = local.import(blocks).await;
            Input::Imported(remote, count, fault)
        }
        Effect::FetchMempool(remote, cursor) => {
            Input::Mempool(remote, client.mempool(cursor).await)
        }
        Effect::Submit(remote, all) => Input::NotTaken(remote, local.submit(all).await),
        Effect::ListPending(remote, after) => Input::Pending(remote, local.pending(after).await),
        Effect::Push(remote, all) => {
            let mut sending = JoinSet::new();
            let mut not_sent = Vec::new();
            for transaction in all {
                if sending.len() >= SENDS_MAX
                    && let Some(Ok(Some(hash))) = sending.join_next().await
                {
                    not_sent.push(hash);
                }
                let client = client.clone();
                sending.spawn(async move {
                    let is_sent = client.send(transaction.transaction()).await;
                    (!is_sent).then(|| transaction.hash())
                });
            }
            not_sent.extend(sending.join_all().await.into_iter().flatten());
            Input::NotPushed(remote, not_sent)
        }
    }
}
