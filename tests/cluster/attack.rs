//! The scenario of the byzantine validator: gives it orders, and checks that the others go
//! on, see what it does, and turn it away.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ait_net::wire::PeerList;

use crate::byzantine::{Deeds, Order, Orders};
use crate::cluster::{Cluster, NODES, VALIDATORS};
use crate::scenarios::{Measured, World};

/// The validator that is replaced, and those that are left.
pub const LIAR: usize = VALIDATORS - 1;
const HONEST: [usize; VALIDATORS - 1] = [0, 1, 2];
const FOLLOWERS: [usize; NODES - VALIDATORS] = [4, 5];
const PATIENCE: Duration = Duration::from_secs(60);

/// The running liar.
struct Liar {
    child: Child,
    orders: ChildStdin,
    deeds: Arc<Mutex<Deeds>>,
}

impl Liar {
    fn start(cluster: &Cluster) -> Self {
        let plan = &cluster.nodes[LIAR].plan;
        let peers = cluster.nodes.iter().filter(|node| node.plan.peer.id != plan.peer.id);
        let mut child = Cluster::command_at(LIAR, &std::env::current_exe().unwrap())
            .arg(crate::BYZANTINE)
            .arg(&plan.data_dir)
            .arg(format!("{}:{}", plan.peer.host, plan.peer.port))
            .args(peers.map(|node| node.plan.peer.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(crate::cluster::append(&cluster.log_path(LIAR)))
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let deeds = Arc::<Mutex<Deeds>>::default();
        let latest = Arc::clone(&deeds);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *latest.lock().unwrap() = serde_json::from_str(&line).unwrap();
            }
        });
        Self { orders: child.stdin.take().unwrap(), child, deeds }
    }

    /// Tells it what to do, to which nodes.
    fn order(&mut self, order: Order, nodes: &[usize]) {
        // Its peers are the nodes without itself.
        let at = nodes.iter().map(|node| node - usize::from(*node > LIAR)).collect();
        let line = serde_json::to_string(&Orders { order, at }).unwrap();
        writeln!(self.orders, "{line}").unwrap();
    }

    fn deeds(&self) -> Deeds {
        self.deeds.lock().unwrap().clone()
    }

    fn check_alive(&mut self, cluster: &Cluster) {
        if let Some(status) = self.child.try_wait().unwrap() {
            let log = std::fs::read_to_string(cluster.log_path(LIAR)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            panic!(
                "the liar ended ({status}): {}",
                lines[lines.len().saturating_sub(9)..].join("\n")
            );
        }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The scenario.
pub async fn byzantine(world: &mut World) -> Measured {
    world.cluster.kill(LIAR);
    let since = Instant::now();
    let mut liar = Liar::start(&world.cluster);
    let level = |deeds: &Deeds, top: u64| deeds.connected == NODES - 1 && deeds.height + 2 >= top;
    wait(world, &mut liar, "the liar following the chain", level).await;
    equivocate(world, &mut liar).await;
    misbehave(world, &mut liar).await;
    strangers(world, &mut liar).await;
    let deeds = liar.deeds();
    let pause = world.cluster.longest_pause(HONEST[0], since);
    let faults = faults(&world.cluster).await;
    let note = format!(
        "{} double votes, {} double proposals ({} seen at node 0), {} bodies \
         withheld, {} storms of proposals, {} wrong roots, {} wrong \
         bodies, {} control frames, {} forged transactions, {} strangers; faults counted: {faults}",
        deeds.double_votes,
        deeds.double_proposals,
        world.cluster.metric(HONEST[0], "consensus_equivocations_total", "").await,
        deeds.withheld,
        deeds.storms,
        deeds.wrong_roots,
        deeds.wrong_bodies,
        deeds.control_frames,
        deeds.transactions,
        deeds.strangers,
    );
    Measured { first_block: Some(pause), caught_up: None, note }
}

async fn equivocate(world: &mut World, liar: &mut Liar) {
    let since = world.cluster.top(&HONEST);
    liar.order(Order::Equivocate, &[]);
    let wanted = 4 * u64::from(world.times);
    let enough =
        |deeds: &Deeds, _| deeds.double_proposals >= wanted && deeds.double_votes >= 4 * wanted;
    wait(world, liar, "double votes and proposals", enough).await;
    for at in HONEST {
        let seen = world.cluster.metric(at, "consensus_equivocations_total", "").await;
        assert!(seen > 0.0, "node {at} saw no equivocation");
        let log = std::fs::read_to_string(world.cluster.log_path(at)).unwrap();
        for kind in ["kind=\"prevote\"", "kind=\"precommit\"", "kind=\"proposal\""] {
            assert!(log.contains(kind), "no {kind} in the log of node {at}");
        }
    }
    goes_on(world, liar, "with double votes", since).await;
}

/// Each kind of misbehaviour to nodes of its own, so that each is seen to lead to a ban.
async fn misbehave(world: &mut World, liar: &mut Liar) {
    type Count = fn(&Deeds) -> u64;
    let count: [(Order, Count); 3] = [
        (Order::Withhold, |deeds| deeds.withheld),
        (Order::Storm, |deeds| deeds.storms),
        (Order::WrongRoot, |deeds| deeds.wrong_roots),
    ];
    for (order, count) in count {
        let (since, times) = (world.cluster.top(&HONEST), u64::from(world.times));
        liar.order(order, &[]);
        wait(world, liar, &format!("{order:?}"), |deeds, _| count(deeds) >= times).await;
        goes_on(world, liar, &format!("after {order:?}"), since).await;
    }
    let [one, other] = FOLLOWERS;
    let orders: [(Order, &[usize], &str); 4] = [
        (Order::FloodControl, &[0], "flood"),
        (Order::FloodTransactions, &[one], "bad_transaction"),
        (Order::Garbage, &[other], "malformed"),
        (Order::WrongBody, &[1, 2], "bad_block"),
    ];
    for (order, nodes, fault) in orders {
        let since = world.cluster.top(&HONEST);
        liar.order(order, nodes);
        for at in nodes {
            wait_for_ban(world, liar, *at, fault).await;
        }
        liar.order(Order::Silence, &[]);
        goes_on(world, liar, fault, since).await;
    }
}

async fn strangers(world: &mut World, liar: &mut Liar) {
    let since = world.cluster.top(&HONEST);
    liar.order(Order::Strangers, &[]);
    let wanted = 40 * u64::from(world.times);
    let enough = |deeds: &Deeds, _| deeds.strangers >= wanted;
    wait(world, liar, "connections under new names", enough).await;
    goes_on(world, liar, "with strangers", since).await;
    liar.order(Order::Silence, &[]);
}

async fn wait(
    world: &mut World,
    liar: &mut Liar,
    what: &str,
    mut holds: impl FnMut(&Deeds, u64) -> bool,
) {
    let (began, patience) = (Instant::now(), PATIENCE * world.times);
    while !holds(&liar.deeds(), world.cluster.top(&HONEST)) {
        world.cluster.check_alive();
        liar.check_alive(&world.cluster);
        assert!(began.elapsed() < patience, "{what}: not in {patience:?}; {:?}", liar.deeds());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The honest ones make so many blocks that the liar's turn was among them.
async fn goes_on(world: &mut World, liar: &mut Liar, what: &str, since: u64) {
    let until = since + VALIDATORS as u64;
    let what = format!("blocks {what}");
    wait(world, liar, &what, |_, top| top > until).await;
}

/// Waits until a node counts the fault and has banned the liar.
async fn wait_for_ban(world: &mut World, liar: &mut Liar, at: usize, fault: &str) {
    let id = world.cluster.nodes[LIAR].plan.peer.id.to_string();
    let client = world.cluster.nodes[at].client.clone();
    let began = Instant::now();
    loop {
        let list: PeerList = client.get("/rpc/peers").await.unwrap();
        let line = list.peers.iter().find(|peer| peer.id == id);
        if line.is_some_and(|peer| peer.banned_seconds.is_some()) {
            break;
        }
        liar.check_alive(&world.cluster);
        let deeds = liar.deeds();
        assert!(
            began.elapsed() < PATIENCE,
            "node {at} does not ban for {fault}: {line:?} {deeds:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let label = format!("\"{fault}\"");
    let count = world.cluster.metric(at, "peer_faults_total", &label).await;
    assert!(count > 0.0, "node {at} counted no {fault}");
}

/// Faults that all nodes counted, by kind.
async fn faults(cluster: &Cluster) -> String {
    let mut parts = Vec::new();
    for fault in ["flood", "bad_transaction", "malformed", "bad_block", "bad_message"] {
        let mut sum = 0.0;
        for at in cluster.running() {
            let label = format!("\"{fault}\"");
            sum += cluster.metric(at, "peer_faults_total", &label).await;
        }
        parts.push(format!("{fault} {sum}"));
    }
    parts.join(", ")
}
