//! What is done to the cluster, and what must hold while it is done. What must hold after
//! each is in `checks`.

use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

use crate::attack::{LIAR, byzantine};
use crate::checks::{Ledger, settle};
use crate::cluster::{Cluster, NODES, VALIDATORS};
use crate::load::Load;
use crate::net::Shape;

/// How long the chain may take to go on before a scenario fails.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything that a scenario works with.
pub struct World {
    pub cluster: Cluster,
    pub load: Load,
    pub ledger: Ledger,
    /// Times everything is held longer and done more often; 1 in CI.
    pub times: u32,
}

/// What a scenario measured itself.
#[derive(Default)]
pub struct Measured {
    /// From the end of the disturbance to the first new block, or the longest pause between
    /// two blocks if there was no end.
    pub first_block: Option<Duration>,
    /// From the end of the disturbance until the last node had caught up.
    pub caught_up: Option<Duration>,
    pub note: String,
}

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    pub measured: Measured,
    pub blocks: u64,
    pub transactions: usize,
    pub per_second: f64,
    pub settled: Duration,
}

type Running<'a> = Pin<Box<dyn Future<Output = Measured> + 'a>>;

pub struct Scenario {
    pub name: &'static str,
    /// Nodes that are sent nothing: what only they acknowledge would rightly be lost.
    pub spared: &'static [usize],
    pub run: for<'a> fn(&'a mut World) -> Running<'a>,
}

macro_rules! scenario {
    ($name:literal, $run:path) => {
        scenario!($name, $run, &[])
    };
    ($name:literal, $run:path, $spared:expr) => {
        Scenario { name: $name, spared: $spared, run: |world| Box::pin($run(world)) }
    };
}

/// Every scenario in the order in which they are run. A new one is a line here and a
/// function; services beside the nodes bind to `net::outside(node)`.
pub const SCENARIOS: &[Scenario] = &[
    scenario!("steady", steady),
    scenario!("kill9", kill_each),
    scenario!("cut-one", cut_one),
    scenario!("cut-two", cut_two),
    scenario!("lossy", lossy),
    scenario!("restart-all", restart_all),
    scenario!("genesis", from_genesis, &[NODES - 1]),
    // Last: the validator whose keys it uses does not come back.
    scenario!("byzantine", byzantine, &[LIAR]),
];

impl World {
    /// Runs a scenario under load, and checks what must hold after it.
    pub async fn run(&mut self, scenario: &Scenario) -> Row {
        let before = self.ledger.height();
        let running = self.cluster.running().into_iter();
        let asked: Vec<usize> = running.filter(|at| !scenario.spared.contains(at)).collect();
        self.load.start(&asked);
        let measured = (scenario.run)(self).await;
        let (transactions, ran) = self.load.stop().await;
        let settled = settle(&mut self.cluster, &mut self.ledger, &self.load.book).await;
        assert!(transactions > 0, "nothing was acknowledged, so nothing was tried");
        Row {
            name: scenario.name,
            measured,
            blocks: self.ledger.height() - before,
            transactions,
            per_second: transactions as f64 / ran.as_secs_f64(),
            settled,
        }
    }

    async fn hold(&self, seconds: u32) {
        tokio::time::sleep(Duration::from_secs(u64::from(seconds * self.times))).await;
    }

    /// All running nodes but these.
    fn others(&self, but: &[usize]) -> Vec<usize> {
        self.cluster.running().into_iter().filter(|at| !but.contains(at)).collect()
    }

    /// Waits until each of these is level with the rest; gives the time since `since`.
    async fn caught_up(&mut self, nodes: &[usize], since: Instant) -> Duration {
        for at in nodes {
            self.cluster.wait_for_caught_up(*at).await;
        }
        since.elapsed()
    }
}

/// Load and nothing else.
async fn steady(world: &mut World) -> Measured {
    let since = Instant::now();
    let nodes = world.others(&[]);
    let height = world.cluster.top(&nodes);
    world.cluster.wait_for_block("the first block", &nodes, height).await;
    let before = verified(world, &nodes).await;
    world.hold(8).await;
    let pause = world.cluster.longest_pause(0, since);
    // Every node hears of a transaction from several others, and again in a block.
    let mut most: f64 = 0.0;
    for (before, after) in before.into_iter().zip(verified(world, &nodes).await) {
        let (verifications, finals) = (after.0 - before.0, after.1 - before.1);
        most = most.max(verifications / finals);
        // What is pending at the end was verified, what was pending at first is final.
        assert!(verifications < finals * 1.1 + 100.0, "{verifications} for {finals}");
    }
    let note = format!("longest pause; {most:.2} verifications a transaction at most");
    Measured { first_block: Some(pause), note, ..Measured::default() }
}

/// Transactions whose signatures each node verified, and those in blocks.
async fn verified(world: &World, nodes: &[usize]) -> Vec<(f64, f64)> {
    let mut counts = Vec::new();
    for at in nodes {
        let verified = world.cluster.metric(*at, "transactions_verified_total", "").await;
        counts.push((verified, world.cluster.metric(*at, "chain_transactions_total", "").await));
    }
    counts
}

/// `kill -9` of each node in turn, validators first.
async fn kill_each(world: &mut World) -> Measured {
    let (mut pause, mut caught_up) = (Duration::ZERO, Duration::ZERO);
    for at in (0..NODES).cycle().take(NODES * world.times as usize) {
        let others = world.others(&[at]);
        let (since, height) = (Instant::now(), world.cluster.top(&others));
        world.cluster.kill(at);
        // So many blocks that each validator would have proposed one.
        let until = height + VALIDATORS as u64;
        world.cluster.wait_for_block("blocks without one node", &others, until).await;
        pause = pause.max(world.cluster.longest_pause(others[0], since));
        let started = Instant::now();
        world.cluster.start(at);
        caught_up = caught_up.max(world.caught_up(&[at], started).await);
    }
    let note = "worst of all; pause, then restart to level".to_owned();
    Measured { first_block: Some(pause), caught_up: Some(caught_up), note }
}

/// One validator is cut off for longer than a connection lives; the rest is a quorum.
async fn cut_one(world: &mut World) -> Measured {
    const CUT: usize = 3;
    let others = world.others(&[CUT]);
    let since = Instant::now();
    world.cluster.fabric.cut_off(&[CUT]);
    world.hold(1).await;
    let alone = world.cluster.height(CUT);
    world.hold(12).await;
    let pause = world.cluster.longest_pause(others[0], since);
    assert_eq!(world.cluster.height(CUT), alone, "the one that is cut off made a block");
    assert!(world.cluster.top(&others) > alone + 4, "three of four validators stand still");
    let healed = Instant::now();
    world.cluster.fabric.heal();
    let caught_up = world.caught_up(&[CUT], healed).await;
    let note = format!("longest pause of the rest, {:.1} s", pause.as_secs_f64());
    Measured { first_block: Some(Duration::ZERO), caught_up: Some(caught_up), note }
}

/// Two of four validators are cut off from the rest: no side is a quorum.
async fn cut_two(world: &mut World) -> Measured {
    let mut worst = Measured { note: String::new(), ..Measured::default() };
    // Once shorter and once longer than a connection lives without hearing anything.
    for seconds in [5, 14] {
        let (first, caught_up, rounds) = cut_two_for(world, seconds).await;
        worst.first_block = worst.first_block.max(Some(first));
        worst.caught_up = worst.caught_up.max(Some(caught_up));
        worst.note += &format!("cut {seconds} s: {:.1} s, {rounds} rounds; ", first.as_secs_f64());
    }
    worst
}

/// Gives the time from healing to the first block and until all are level, and the rounds
/// that consensus began between healing and that block.
async fn cut_two_for(world: &mut World, seconds: u32) -> (Duration, Duration, u64) {
    let all = world.others(&[]);
    world.cluster.fabric.cut_off(&[2, 3]);
    // A block whose votes were under way may still be final.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heights = |world: &World| all.iter().map(|at| world.cluster.height(*at)).collect();
    let stopped: Vec<u64> = heights(world);
    world.hold(seconds).await;
    let still: Vec<u64> = heights(world);
    assert_eq!(still, stopped, "half of the voting power made a block");
    let before = rounds(&world.cluster).await;
    let top = world.cluster.top(&all);
    let healed = Instant::now();
    world.cluster.fabric.heal();
    // A block that one side had may only have to be told; consensus resumes with the next.
    world.cluster.wait_for_block("a block after healing", &all, top).await;
    let first = healed.elapsed();
    let after = rounds(&world.cluster).await;
    let caught_up = world.caught_up(&all, healed).await;
    let begun = before.iter().zip(&after).map(|(before, after)| after - before).max().unwrap_or(0);
    assert!(begun <= ROUNDS_TO_RESUME_MAX, "{begun} rounds until consensus resumed");
    (first, caught_up, begun)
}

/// Rounds after which the chain must go on when the network is whole again.
const ROUNDS_TO_RESUME_MAX: u64 = 4;

/// Rounds above the first of a height that each validator began since it was started.
async fn rounds(cluster: &Cluster) -> Vec<u64> {
    let mut counts = Vec::new();
    for at in 0..VALIDATORS {
        counts.push(cluster.metric(at, "consensus_rounds_total", "").await as u64);
    }
    counts
}

/// Every link delays 100 ms each way and loses 5 %.
async fn lossy(world: &mut World) -> Measured {
    let all = world.others(&[]);
    let (since, height) = (Instant::now(), world.cluster.top(&all));
    let delay = Duration::from_millis(100);
    world.cluster.fabric.shape_all(Shape { delay, loss_percent: 5.0, is_cut: false });
    world.hold(20).await;
    let blocks = world.cluster.top(&all) - height;
    let lost = world.cluster.fabric.counters().lost.load(std::sync::atomic::Ordering::Relaxed);
    let pause = world.cluster.longest_pause(0, since);
    let seconds = since.elapsed().as_secs_f64();
    assert!(blocks >= 5 && lost > 0, "{blocks} blocks in {seconds:.0} s, {lost} packets lost");
    let (healed, height) = (Instant::now(), world.cluster.top(&all));
    world.cluster.fabric.heal();
    world.cluster.wait_for_block("a block on clean links", &all, height).await;
    let first = healed.elapsed();
    let caught_up = world.caught_up(&all, healed).await;
    let note = format!(
        "{:.1} blocks/s, longest pause {:.1} s, {lost} packets lost",
        blocks as f64 / seconds,
        pause.as_secs_f64()
    );
    Measured { first_block: Some(first), caught_up: Some(caught_up), note }
}

/// `kill -9` of all at once, then all are started again.
async fn restart_all(world: &mut World) -> Measured {
    let mut worst = Measured {
        note: "worst, from the start of the processes".to_owned(),
        ..Measured::default()
    };
    for _ in 0..2 * world.times {
        let all = world.others(&[]);
        for at in &all {
            world.cluster.kill(*at);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (started, now_ms) = (Instant::now(), now_ms());
        for at in &all {
            world.cluster.start(*at);
        }
        // By the time in the block: what was final already shows only now at some of them.
        let is_new = |cluster: &Cluster| all.iter().any(|at| cluster.has_block_since(*at, now_ms));
        world.cluster.wait("a block after all were killed", PATIENCE, is_new).await;
        worst.first_block = worst.first_block.max(Some(started.elapsed()));
        worst.caught_up = worst.caught_up.max(Some(world.caught_up(&all, started).await));
        world.hold(2).await;
    }
    worst
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// What a node keeps when its chain is wiped.
const KEPT: [&str; 3] = ["config.toml", "genesis.json", "network.key"];

/// A follower loses its chain and starts from genesis, while the chain goes on; it is killed
/// on the way.
async fn from_genesis(world: &mut World) -> Measured {
    const WIPED: usize = NODES - 1;
    world.cluster.kill(WIPED);
    wipe(&world.cluster.nodes[WIPED].plan.data_dir);
    let started = Instant::now();
    world.cluster.start(WIPED);
    let patience = Duration::from_secs(30);
    let is_new = |cluster: &Cluster| cluster.height(WIPED) <= 1;
    // Sync may pass the first blocks between two looks; then the node is seen below the top.
    let top = world.cluster.top(&world.others(&[WIPED]));
    let is_below = move |cluster: &Cluster| is_new(cluster) || cluster.height(WIPED) < top;
    world.cluster.wait("the wiped node below the others", patience, is_below).await;
    let on_the_way = |cluster: &Cluster| cluster.height(WIPED) > 4;
    world.cluster.wait("the wiped node on its way", patience, on_the_way).await;
    world.cluster.kill(WIPED);
    let reached = world.cluster.height(WIPED);
    world.cluster.start(WIPED);
    let caught_up = world.caught_up(&[WIPED], started).await;
    let height = world.cluster.height(WIPED);
    let client = world.cluster.nodes[WIPED].client.clone();
    let sync: ait_net::wire::SyncStatus = client.get("/rpc/syncStatus").await.unwrap();
    let seconds = caught_up.as_secs_f64();
    let note = format!(
        "{height} blocks, {} transactions: {:.0} blocks/s, {:.0} tx/s; killed at height {reached}",
        sync.total_transactions,
        height as f64 / seconds,
        sync.total_transactions as f64 / seconds
    );
    Measured { first_block: None, caught_up: Some(caught_up), note }
}

/// Removes all that a node made itself.
pub fn wipe(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if KEPT.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path()).unwrap();
        } else {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}
