//! Honest peers, strangers to the node as any other: one that is connected before an attack begins,
//! and one that comes while it lasts. Blocks must reach both.

use std::time::Duration;

use ait_engine::types::Height;
use ait_net::message::Control;
use ait_net::quic::Event;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::stranger::Stranger;
use crate::target::{Plan, honest};

/// How long after an attack who came in vain may still try: as long as one call takes.
const GRACE: Duration = Duration::from_secs(5);

pub struct Witness {
    runtime: Runtime,
    stays: Stranger,
}

impl Witness {
    pub fn start(plan: &Plan) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let stays = runtime.block_on(async {
            let mut stays = Stranger::new(plan, honest(0));
            assert!(stays.connect(plan, Instant::now() + GRACE).await, "no peer is let in");
            stays
        });
        Self { runtime, stays }
    }

    /// How the metrics name them.
    pub fn name(&self) -> String {
        self.stays.transport.id().short()
    }

    /// What goes wrong for them while an attack lasts.
    pub fn watch(&mut self, plan: &Plan, lasting: Duration) -> Vec<String> {
        self.runtime.block_on(async {
            let until = Instant::now() + lasting;
            let comes = async {
                let mut comes = Stranger::new(plan, honest(1));
                if !comes.connect(plan, until + GRACE).await {
                    return Err("an honest peer is not let in".to_owned());
                }
                let heard = hear(&mut comes, until + GRACE, 1).await;
                comes.transport.close().await;
                heard
            };
            let (comes, stays) = tokio::join!(comes, hear(&mut self.stays, until, 2));
            [comes, stays].into_iter().filter_map(Result::err).collect()
        })
    }
}

/// Waits until the peer was told of so many new blocks, and is not cut off before the end.
async fn hear(peer: &mut Stranger, until: Instant, count: u64) -> Result<(), String> {
    let (mut first, mut last) = (None, Height::ZERO);
    loop {
        let event = tokio::select! {
            event = peer.events.urgent.recv() => event,
            Some(_) = peer.events.bulk.recv() => continue,
            () = tokio::time::sleep_until(until) => break,
        };
        match event {
            Some(Event::Control { control: Control::Final(certificate), .. }) => {
                first.get_or_insert(certificate.height);
                last = last.max(certificate.height);
            }
            Some(Event::Disconnected { reason, .. }) => {
                return Err(format!("an honest peer was cut off: {reason}"));
            }
            _ => {}
        }
        let heard = first.map_or(0, |first| last.get() - first.get() + 1);
        if count == 1 && heard >= count {
            return Ok(());
        }
    }
    match first {
        Some(first) if last.get() - first.get() + 1 >= count => Ok(()),
        _ => Err("no new block reaches an honest peer".to_owned()),
    }
}
