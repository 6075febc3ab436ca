//! A network namespace for each node, and the router between them that shapes every link.
//!
//! Each namespace has two interfaces. `p2p` is a TUN device whose file descriptor is held
//! here: what a node sends to another comes out of it as IP packets, and each directed link
//! delays, loses or cuts them before they are written into the other node's device. `mgmt`
//! is a veth to this process's own namespace: the REST interface, never shaped.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tun::Tun;

/// Larger than any packet of a device with the usual MTU.
const PACKET_BYTES_MAX: usize = 2_048;
/// Packets that a link delays at once; more are lost, as in a router.
const DELAYED_MAX: usize = 16_384;

/// Where other nodes reach a node.
pub fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, u8::try_from(node + 1).unwrap())
}

/// Where this process reaches a node's REST interface.
pub fn management(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, u8::try_from(node).unwrap(), 2)
}

/// Where a node reaches services that this process starts beside the nodes.
pub fn outside(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, u8::try_from(node).unwrap(), 1)
}

/// The namespace of a node.
pub fn namespace(node: usize) -> String {
    format!("node-{node}")
}

/// What a directed link does to packets.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shape {
    pub delay: Duration,
    pub loss_percent: f64,
    pub is_cut: bool,
}

/// What became of packets.
#[derive(Debug, Default)]
pub struct Counters {
    pub forwarded: AtomicU64,
    pub lost: AtomicU64,
    pub cut: AtomicU64,
}

struct Shared {
    devices: Vec<Tun>,
    /// By sender, then receiver.
    shapes: Mutex<Vec<Vec<Shape>>>,
    dice: Mutex<u64>,
    counters: Counters,
}

/// All namespaces and the links between them.
pub struct Fabric(Arc<Shared>);

/// Runs `ip` with these words.
fn ip(words: &str) {
    let out = Command::new("ip").args(words.split_whitespace()).stdin(Stdio::null()).output();
    let out = out.expect("install the Debian package iproute2");
    assert!(out.status.success(), "ip {words}: {}", String::from_utf8_lossy(&out.stderr));
}

fn make_namespace(node: usize) -> Tun {
    let name = namespace(node);
    ip(&format!("netns add {name}"));
    let device = format!("tun{node}");
    let made = Tun::builder().name(&device).close_on_exec().build();
    let made = made.unwrap_or_else(|error| panic!("no TUN device ({error}); see specs/testing.md"));
    ip(&format!("link set {device} netns {name}"));
    ip(&format!("-n {name} link set {device} name p2p txqueuelen 4000"));
    ip(&format!("-n {name} addr add {}/24 dev p2p", address(node)));
    ip(&format!("-n {name} link set p2p up"));
    ip(&format!("-n {name} link set lo up"));
    ip(&format!("link add m{node} type veth peer name mgmt netns {name}"));
    ip(&format!("addr add {}/30 dev m{node}", outside(node)));
    ip(&format!("link set m{node} up"));
    ip(&format!("-n {name} addr add {}/30 dev mgmt", management(node)));
    ip(&format!("-n {name} link set mgmt up"));
    made.into_iter().next().unwrap()
}

impl Fabric {
    /// Namespaces for this many nodes, all links clean. Ends with this process's namespace.
    pub fn new(count: usize, seed: u64) -> Self {
        let devices = (0..count).map(make_namespace).collect();
        let shared = Arc::new(Shared {
            devices,
            shapes: Mutex::new(vec![vec![Shape::default(); count]; count]),
            dice: Mutex::new(seed | 1),
            counters: Counters::default(),
        });
        for node in 0..count {
            tokio::spawn(route(Arc::clone(&shared), node));
        }
        Self(shared)
    }

    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Gives every link this shape.
    pub fn shape_all(&self, shape: Shape) {
        for row in self.0.shapes.lock().unwrap().iter_mut() {
            row.fill(shape);
        }
    }

    /// Cuts every link between one of these nodes and one of the others, both ways.
    pub fn cut_off(&self, nodes: &[usize]) {
        let inside: BTreeSet<usize> = nodes.iter().copied().collect();
        for (from, row) in self.0.shapes.lock().unwrap().iter_mut().enumerate() {
            for (to, shape) in row.iter_mut().enumerate() {
                shape.is_cut |= inside.contains(&from) != inside.contains(&to);
            }
        }
    }

    /// Makes every link clean again.
    pub fn heal(&self) {
        self.shape_all(Shape::default());
    }
}

impl Shared {
    /// Whether a packet is lost on a link that loses this many of a hundred.
    fn is_lost(&self, percent: f64) -> bool {
        if percent <= 0.0 {
            return false;
        }
        let mut dice = self.dice.lock().unwrap();
        // Xorshift: the same seed and the same packets lose the same ones.
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        ((*dice >> 11) as f64 / (1_u64 << 53) as f64) * 100.0 < percent
    }

    async fn write(&self, to: usize, packet: &[u8]) {
        // A node that is down, or a full queue: lost, as on a wire.
        if self.devices[to].send(packet).await.is_ok() {
            self.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The receiver of an IPv4 packet between nodes.
fn receiver(packet: &[u8], count: usize) -> Option<usize> {
    let is_ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
    let [a, b, c, last] = *packet.get(16..20)?.first_chunk::<4>()?;
    let to = usize::from(last).checked_sub(1)?;
    (is_ipv4 && [a, b, c] == [10, 77, 0] && to < count).then_some(to)
}

/// Takes what one node sends and passes it on over its links.
async fn route(shared: Arc<Shared>, from: usize) {
    let count = shared.devices.len();
    let delayed: Vec<_> = (0..count).map(|to| delay(Arc::clone(&shared), to)).collect();
    let mut buffer = [0; PACKET_BYTES_MAX];
    loop {
        let Ok(length) = shared.devices[from].recv(&mut buffer).await else { return };
        let packet = &buffer[..length];
        let Some(to) = receiver(packet, count) else { continue };
        let shape = shared.shapes.lock().unwrap()[from][to];
        if shape.is_cut {
            shared.counters.cut.fetch_add(1, Ordering::Relaxed);
        } else if shared.is_lost(shape.loss_percent) {
            shared.counters.lost.fetch_add(1, Ordering::Relaxed);
        } else if shape.delay.is_zero() {
            shared.write(to, packet).await;
        } else if delayed[to].try_send((Instant::now() + shape.delay, packet.to_vec())).is_err() {
            shared.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A queue that holds each packet until its time. Packets of one link leave in order.
fn delay(shared: Arc<Shared>, to: usize) -> mpsc::Sender<(Instant, Vec<u8>)> {
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(DELAYED_MAX);
    tokio::spawn(async move {
        while let Some((at, packet)) = queue.recv().await {
            tokio::time::sleep_until(at).await;
            shared.write(to, &packet).await;
        }
    });
    sender
}
