//! Bodies that peers are sending: what came of them lies in memory until the last byte is there.
//!
//! A correct peer sends a body at once; one that begins many and ends none holds what came of
//! them. All together have room for so many bytes, and whoever has most of it gives way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::{ReadToEndError, RecvStream};
use tokio::sync::Notify;

use crate::limits::BODY_FRAME_BYTES_MAX;
use crate::peer::Host;

/// Bytes of a body that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A body that is coming.
#[derive(Debug)]
struct Coming {
    host: Host,
    bytes: usize,
    cut: Arc<Notify>,
}

#[derive(Debug, Default)]
struct All {
    last_id: u64,
    /// In the order in which they began.
    by_id: BTreeMap<u64, Coming>,
    bytes: usize,
}

/// Room for the bodies that come over all connections.
#[derive(Debug, Clone)]
pub(super) struct BodiesRoom {
    all: Arc<Mutex<All>>,
    bytes_max: usize,
}

/// A body that is coming, until it is dropped.
#[derive(Debug)]
pub(super) struct ComingBody {
    id: u64,
    room: BodiesRoom,
    cut: Arc<Notify>,
}

impl BodiesRoom {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { all: Arc::default(), bytes_max }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A body begins to come from this host.
    pub(super) fn begin(&self, host: Host) -> ComingBody {
        let cut = Arc::new(Notify::new());
        let mut all = self.all();
        all.last_id = all.last_id.wrapping_add(1);
        let id = all.last_id;
        all.by_id.insert(id, Coming { host, bytes: 0, cut: Arc::clone(&cut) });
        ComingBody { id, room: self.clone(), cut }
    }
}

impl All {
    /// Ends the oldest body of the host that has most; whether there was one.
    fn cut_one(&mut self) -> bool {
        let mut hosts = BTreeMap::<&Host, usize>::new();
        for coming in self.by_id.values() {
            let bytes = hosts.entry(&coming.host).or_default();
            *bytes = bytes.saturating_add(coming.bytes);
        }
        let most = hosts.into_iter().max_by_key(|(host, bytes)| (*bytes, *host));
        let Some(host) = most.map(|(host, _)| *host) else { return false };
        let mut theirs = self.by_id.iter().filter(|(_, coming)| coming.host == host);
        let Some(id) = theirs.find(|(_, coming)| coming.bytes > 0).map(|(id, _)| *id) else {
            return false;
        };
        self.end(id);
        true
    }

    fn end(&mut self, id: u64) {
        if let Some(coming) = self.by_id.remove(&id) {
            self.bytes = self.bytes.saturating_sub(coming.bytes);
            coming.cut.notify_one();
        }
    }
}

impl ComingBody {
    /// Reads all of it, and takes room as it comes.
    pub(super) async fn read(&self, stream: &mut RecvStream) -> Result<Vec<u8>, ReadToEndError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.read_chunk(CHUNK_BYTES, true).await? {
            if bytes.len().saturating_add(chunk.bytes.len()) > BODY_FRAME_BYTES_MAX {
                return Err(ReadToEndError::TooLong);
            }
            self.grow(chunk.bytes.len());
            bytes.extend_from_slice(&chunk.bytes);
        }
        Ok(bytes)
    }

    /// So many bytes more have come. Others end for it where there is no room, or this one.
    fn grow(&self, bytes: usize) {
        let mut all = self.room.all();
        if let Some(coming) = all.by_id.get_mut(&self.id) {
            coming.bytes = coming.bytes.saturating_add(bytes);
            all.bytes = all.bytes.saturating_add(bytes);
        }
        while all.bytes > self.room.bytes_max && all.cut_one() {}
    }

    /// Returns once this body has to end for others.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for ComingBody {
    fn drop(&mut self) {
        self.room.all().end(self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::Future;
    use std::task::{Context, Waker};

    use super::*;

    fn is_cut(body: &ComingBody) -> bool {
        std::pin::pin!(body.cut()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn whoever_has_most_gives_way_and_the_room_is_given_back() {
        let room = BodiesRoom::new(100);
        let begin = |host: &str, bytes| {
            let body = room.begin(Host::of(host));
            body.grow(bytes);
            body
        };
        let greedy: Vec<_> = (0..4).map(|_| begin("192.0.2.1", 15)).collect();
        let modest = begin("192.0.2.2", 30);
        assert!(![&greedy[0], &greedy[3], &modest].into_iter().any(is_cut));
        // Full: the oldest of the host that has most ends.
        let newcomer = begin("192.0.2.3", 20);
        assert!(is_cut(&greedy[0]) && !is_cut(&greedy[1]) && !is_cut(&modest));
        newcomer.grow(10);
        assert!(is_cut(&greedy[1]) && !is_cut(&greedy[2]));
        assert!(!is_cut(&modest) && !is_cut(&newcomer));
        assert_eq!(room.all().bytes, 90);
        // What came of a body that has ended counts no more.
        greedy[0].grow(1_000);
        assert_eq!(room.all().bytes, 90);
        // Alone it has all of the room, and not more.
        drop((greedy, modest, newcomer));
        assert_eq!(room.all().bytes, 0);
        assert!(room.all().by_id.is_empty());
        let alone = begin("192.0.2.1", 100);
        assert!(!is_cut(&alone));
        alone.grow(1);
        assert!(is_cut(&alone));
        assert_eq!(room.all().bytes, 0);
    }
}
