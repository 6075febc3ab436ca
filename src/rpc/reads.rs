//! Reads of storage: how many at once, on which threads, and what they cost a client.
//!
//! What reads hold in memory is bounded for all together. An answer is written where it is read,
//! and keeps its part of the bound until the listener has counted its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ait_engine::limits::TRANSACTION_BYTES_MAX;
use ait_engine::types::Height;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::http::StatusCode;
use warp::reply::Response;

use super::call::{Answer, Call, json};
use super::{Api, ApiError, ranges_at_once};
use crate::behind;
use crate::chain::{ChainError, CommittedBlock, Location};
use crate::http::{Offence, Offenders, Share, Shares, UntilCounted, is_exempt};
use crate::telemetry::metrics;

/// Reads at once that stand behind nobody: each holds little.
const PROMPT_COUNT_MAX: usize = 32;
/// Bytes of blocks that such a read may be about: some two milliseconds of a processor.
pub(super) const PROMPT_BYTES_MAX: u64 = 256 << 10;
/// Bytes of blocks that count as one more request for the client's rate.
const BYTES_OF_A_REQUEST: u64 = PROMPT_BYTES_MAX;
/// Blocks of a range that count as one more request.
const RANGE_OF_A_REQUEST: u64 = 50;
/// Bytes of blocks that all other reads are about at once; a larger block is read alone.
pub const BLOCKS_BYTES_MAX: u64 = (BLOCKS_KIB as u64) << 10;
const BLOCKS_KIB: u32 = 16 << 10;
/// Bytes of the blocks that one page is made of; a larger block is a page.
const PAGE_BYTES_MAX: u64 = 32 << 20;
/// Reads that stand behind, or wait to, of one client: with a full block each, others wait for a
/// second and not for as many as it asks for.
const BEHIND_SHARE: usize = 8;
/// How long a request waits for its turn to read.
const READ_WAIT: Duration = Duration::from_secs(5);
/// How long a reader waits for an index that is behind.
const INDEX_WAIT: Duration = Duration::from_secs(2);

/// What all requests read with.
#[derive(Debug)]
pub(super) struct Reads {
    prompt: Arc<Semaphore>,
    /// Reads that stand behind, so that others find a processor.
    behind: Arc<Semaphore>,
    /// KiB of blocks that those are about.
    blocks: Arc<Semaphore>,
    /// Each client's part of them.
    shares: Shares,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            prompt: Arc::new(Semaphore::new(PROMPT_COUNT_MAX)),
            behind: Arc::new(Semaphore::new(ranges_at_once())),
            blocks: Arc::new(Semaphore::new(BLOCKS_KIB as usize)),
            shares: Shares::default(),
        }
    }
}

impl Reads {
    /// A client's part of what stands behind; whoever asks for more is named.
    fn share(
        &self,
        client: IpAddr,
        is_exempt: bool,
        offenders: &Offenders,
    ) -> Result<Share, ApiError> {
        let max = if is_exempt { usize::MAX } else { BEHIND_SHARE };
        self.shares.enter(client, 1, max).ok_or_else(|| {
            offenders.note(client, Offence::WaitingReads);
            busy()
        })
    }
}

/// The blocks that an answer is made of.
pub(super) enum Sought {
    /// All of one.
    Whole(Height),
    /// What stands at these places.
    Parts(Vec<Location>),
}

/// What a read costs, in bytes of blocks.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// To be decoded, or written out as a whole.
    worked_on: u64,
    /// In memory at once.
    held: u64,
}

impl Cost {
    fn of(api: &Api, sought: &Sought) -> Result<Self, ApiError> {
        let places = match sought {
            Sought::Whole(height) => {
                let bytes = body_bytes(api, *height)?;
                return Ok(Self { worked_on: bytes, held: bytes });
            }
            Sought::Parts(places) => places,
        };
        let heights: BTreeSet<Height> = places.iter().map(|at| at.height).collect();
        let (mut all, mut worked_on, mut largest) = (0_u64, 0_u64, 0);
        for height in heights {
            let bytes = body_bytes(api, height)?;
            all = all.saturating_add(bytes);
            if !api.chain.is_in_memory(height) {
                worked_on = worked_on.saturating_add(bytes);
                largest = bytes.max(largest);
            }
        }
        let shown = places.len().saturating_mul(TRANSACTION_BYTES_MAX) as u64;
        Ok(Self { worked_on, held: largest.saturating_add(shown.min(all)) })
    }

    const fn is_small(self) -> bool {
        self.worked_on <= PROMPT_BYTES_MAX && self.held <= PROMPT_BYTES_MAX
    }
}

/// Length of a block's body; nothing for one that is not here.
fn body_bytes(api: &Api, height: Height) -> Result<u64, ApiError> {
    Ok(api.chain.header(height)?.map_or(0, |(_, header)| u64::from(header.body_bytes)))
}

/// Leaves as many of a page's places as one answer is made of: all, unless their blocks are large.
pub(super) fn cut_page(api: &Api, places: &mut Vec<Location>) -> Result<(), ApiError> {
    let count = fitting(places, |height| body_bytes(api, height))?;
    places.truncate(count);
    Ok(())
}

/// How many of the places stand in blocks that one page may be made of.
fn fitting(
    places: &[Location],
    mut bytes_of: impl FnMut(Height) -> Result<u64, ApiError>,
) -> Result<usize, ApiError> {
    let (mut last, mut sum) = (None, 0_u64);
    for (nth, at) in places.iter().enumerate() {
        if last != Some(at.height) {
            sum = sum.saturating_add(bytes_of(at.height)?);
            if last.is_some() && sum > PAGE_BYTES_MAX {
                return Ok(nth);
            }
            last = Some(at.height);
        }
    }
    Ok(places.len())
}

/// What `show` makes of each place, which it is told by its number and its index in the block, in
/// their order. Blocks are read one at a time, each once.
pub(super) fn at_each<T>(
    api: &Api,
    places: &[Location],
    show: impl Fn(&CommittedBlock, usize, u32) -> Option<T>,
) -> Result<Vec<T>, ApiError> {
    let mut by_height: BTreeMap<Height, Vec<(usize, u32)>> = BTreeMap::new();
    for (nth, at) in places.iter().enumerate() {
        by_height.entry(at.height).or_default().push((nth, at.index));
    }
    let mut shown = BTreeMap::new();
    for (height, places) in by_height.into_iter().rev() {
        behind::give_way();
        let block = indexed_block(api, height)?;
        for (nth, index) in places {
            let one = show(&block, nth, index).ok_or_else(|| misled(height))?;
            shown.insert(nth, one);
        }
    }
    Ok(shown.into_values().collect())
}

/// The block that an index leads to.
pub(super) fn indexed_block(api: &Api, height: Height) -> Result<Arc<CommittedBlock>, ApiError> {
    api.chain.block(height)?.ok_or_else(|| misled(height))
}

/// What the index says is not so.
pub(super) fn misled(height: Height) -> ApiError {
    let what = format!("the index leads to what block {height} does not have");
    ChainError::Corrupt { what }.into()
}

async fn permit(of: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, ApiError> {
    let permit = tokio::time::timeout(READ_WAIT, Arc::clone(of).acquire_many_owned(count)).await;
    permit.ok().and_then(Result::ok).ok_or_else(busy)
}

fn busy() -> ApiError {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let detail = "as many requests are being read as this node reads at once";
    let error = ApiError::new(status, "busy", detail, "try again in a moment");
    ApiError { retry_after: Some(Duration::from_secs(1)), ..error }
}

fn stopped() -> ApiError {
    ChainError::Stopped { what: "a reading task" }.into()
}

/// The answer, which keeps its permit until its bytes are counted.
fn until_counted(mut answer: Response, permit: OwnedSemaphorePermit) -> Response {
    answer.extensions_mut().insert(UntilCounted::new(permit));
    answer
}

impl Call {
    /// Reads what is no answer yet, and little.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        Ok(self.permitted(read).await?.0)
    }

    /// As [`Call::read`], once the index has what is committed now; what it has, if that
    /// takes too long.
    pub(super) async fn read_index<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.api.chain.indexed(INDEX_WAIT).await;
        self.read(read).await
    }

    /// Reads a small answer.
    pub(super) async fn answer<T: Serialize>(
        &self,
        read: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Answer {
        self.answered(move |api| json(&read(api)?)).await
    }

    /// As [`Call::answer`], for what has a head of its own.
    pub(super) async fn answered(
        &self,
        read: impl FnOnce(&Api) -> Answer + Send + 'static,
    ) -> Answer {
        let (answer, permit) = self.permitted(read).await?;
        Ok(until_counted(answer, permit))
    }

    /// As [`Call::answer`], once the index has what is committed now.
    pub(super) async fn answer_by_index<T: Serialize>(
        &self,
        read: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Answer {
        self.api.chain.indexed(INDEX_WAIT).await;
        self.answer(read).await
    }

    /// Reads on a blocking thread, and gives the permit for it, too.
    async fn permitted<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), ApiError> {
        let permit = permit(&self.api.reads.prompt, 1).await?;
        let api = self.api.clone();
        // Held until the reading is over, also if its client has gone.
        let reading = tokio::task::spawn_blocking(move || Ok((read(&api)?, permit)));
        reading.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Reads an answer that is made of blocks: `find` says of which, and `show` makes it of what
    /// `find` found. Large ones are read and written out by threads that stand behind, and count
    /// as many requests for the client's rate.
    pub(super) async fn read_blocks<P: Send + 'static>(
        &self,
        find: impl FnOnce(&Api) -> Result<(Sought, P), ApiError> + Send + 'static,
        show: impl FnOnce(&Api, P) -> Answer + Send + 'static,
    ) -> Answer {
        self.api.chain.indexed(INDEX_WAIT).await;
        let read = move |api: &Api| {
            let (sought, found) = find(api)?;
            let cost = Cost::of(api, &sought)?;
            Ok(match cost.is_small() {
                true => ControlFlow::Break(show(api, found)?),
                false => ControlFlow::Continue((cost, found, show)),
            })
        };
        let (looked, permit) = self.permitted(read).await?;
        let (cost, found, show) = match looked {
            ControlFlow::Break(answer) => return Ok(until_counted(answer, permit)),
            ControlFlow::Continue(costly) => costly,
        };
        drop(permit);
        self.charge(cost.worked_on / BYTES_OF_A_REQUEST)?;
        let (answer, room) = self.read_behind(cost.held, move |api| show(api, found)).await?;
        Ok(until_counted(answer, room))
    }

    /// Reads a range of `count` blocks, of which some `bytes` are held at once.
    pub(super) async fn read_range(
        &self,
        count: u64,
        bytes: u64,
        read: impl FnOnce(&Api) -> Answer + Send + 'static,
    ) -> Answer {
        self.charge(count / RANGE_OF_A_REQUEST)?;
        let (answer, room) = self.read_behind(bytes, read).await?;
        Ok(until_counted(answer, room))
    }

    /// Counts as so many more requests of the client.
    fn charge(&self, more: u64) -> Result<(), ApiError> {
        // One alone never takes more than a client may ask at once.
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let more = more.min(self.api.options.rate_limit_burst / 2);
        self.api.rate.check_many(self.client.ip, more).map_err(|wait| {
            metrics::rate_limited();
            ApiError::rate_limited(wait)
        })
    }

    /// Reads on a thread that stands behind, once there is room for as many bytes of blocks, and
    /// gives the room, too. Few do at once, so that other requests find a processor.
    pub(super) async fn read_behind<T: Send + 'static>(
        &self,
        bytes: u64,
        read: impl FnOnce(&Api) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), ApiError> {
        let kib = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(BLOCKS_KIB).min(BLOCKS_KIB);
        let is_exempt = is_exempt(self.client.ip, &self.api.options.trusted_proxies);
        let share = self.api.reads.share(self.client.ip, is_exempt, &self.api.offenders)?;
        let room = permit(&self.api.reads.blocks, kib).await?;
        let turn = permit(&self.api.reads.behind, 1).await?;
        let api = self.api.clone();
        let reading = behind::work(move || {
            // Held until the reading is over, also if its client has gone.
            let _turn = (turn, share);
            Ok((read(&api)?, room))
        });
        reading.await.unwrap_or_else(|_| Err(stopped()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_client_has_few_reads_that_stand_behind_and_is_named_for_more() {
        let (reads, offenders) = (Reads::default(), Offenders::default());
        let share =
            |client: u8, is_exempt| reads.share([192, 0, 2, client].into(), is_exempt, &offenders);
        let held: Vec<_> = (0..BEHIND_SHARE).map(|_| share(1, false)).collect();
        assert!(held.iter().all(Result::is_ok) && offenders.metrics().is_empty());
        assert_eq!(share(1, false).unwrap_err().code, "busy");
        let named = "{client=\"192.0.2.1\",offence=\"waiting_reads\"} 1\n";
        assert!(offenders.metrics().contains(named), "{}", offenders.metrics());
        assert!(share(2, false).is_ok());
        assert!((0..99).map(|_| share(3, true)).collect::<Vec<_>>().iter().all(Result::is_ok));
        drop(held);
        assert!(share(1, false).is_ok());
    }

    #[test]
    fn a_page_ends_before_its_blocks_are_too_much_and_not_before_its_first() {
        let at = |height, index| Location { height: Height::saturating(height), index };
        let fitting = |places: &[Location], bytes: u64| {
            let mut asked = Vec::new();
            let bytes_of = |height: Height| {
                asked.push(height.get());
                Ok(bytes)
            };
            (fitting(places, bytes_of).unwrap(), asked)
        };
        let places = [at(9, 4), at(9, 2), at(7, 0), at(7, 1), at(5, 0)];
        assert_eq!(fitting(&places, 99), (5, vec![9, 7, 5]), "each block is counted once");
        assert_eq!(fitting(&places, PAGE_BYTES_MAX / 2), (4, vec![9, 7, 5]));
        assert_eq!(fitting(&places, PAGE_BYTES_MAX + 1), (2, vec![9, 7]));
        assert_eq!(fitting(&[], 99), (0, vec![]));
    }
}
