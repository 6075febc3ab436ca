//! The contract over a real Redis server, and what is Redis's own.

use std::sync::Arc;
use std::time::Duration;

use ait_engine::types::Hash;
use ait_net::gossip::{RedisGossip, RedisOptions, RedisUrl};
use tokio::sync::Notify;

use super::server::Redis;
use super::{Member, PATIENCE, contract, hashes, transactions};

/// A site whose processes share a server.
struct Site(Redis);

impl Site {
    fn start() -> Self {
        Self(Redis::start())
    }

    /// A process of the site that is connected.
    async fn member(&self, chain: u8) -> (Member, Arc<Notify>) {
        let connected = Arc::new(Notify::new());
        let genesis = Hash([chain; 32]);
        let url: RedisUrl = self.0.url().parse().unwrap();
        let options = RedisOptions { url, genesis, connected: Arc::clone(&connected) };
        let (gossip, incoming) = RedisGossip::start(options).unwrap();
        tokio::time::timeout(PATIENCE, connected.notified()).await.expect("it connects");
        (Member { gossip: Arc::new(gossip), incoming }, connected)
    }

    async fn members(&self, count: usize) -> Vec<Member> {
        let all = (0..count).map(|_| async { self.member(1).await.0 });
        futures_util::future::join_all(all).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_other_hears_once_in_order() {
    let site = Site::start();
    contract::each_other_hears_once_in_order(site.members(3).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_makes_no_second_round() {
    let site = Site::start();
    contract::what_was_heard_makes_no_second_round(site.members(4).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_taken_may_come_again() {
    let site = Site::start();
    let members = site.members(3).await;
    contract::what_was_not_taken_may_come_again(members, async { site.member(1).await.0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_nobody_reads_is_bounded() {
    let site = Site::start();
    contract::a_flood_that_nobody_reads_is_bounded(site.members(3).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comes_back_with_the_server_and_says_what_it_could_not() {
    let mut site = Site::start();
    let (mut a, a_connected) = site.member(1).await;
    let (mut b, b_connected) = site.member(1).await;
    let first = transactions(1, 10);
    a.publish(&first);
    assert_eq!(b.hear(10).await, hashes(&first));
    site.0.kill();
    let while_away = transactions(2, 10);
    a.publish(&while_away);
    b.hears_nothing().await;
    site.0.restart();
    for connected in [a_connected, b_connected] {
        tokio::time::timeout(PATIENCE, connected.notified()).await.expect("it connects again");
    }
    // A node publishes again what waits; what was said to the old server counts as said.
    a.publish(&while_away);
    let after = transactions(3, 10);
    a.publish(&after);
    let mut heard = b.hear(10).await;
    if heard != hashes(&after) {
        assert_eq!(heard, hashes(&while_away), "what the dead server did not take");
        heard = b.hear(10).await;
    }
    assert_eq!(heard, hashes(&after));
    a.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_later_is_told_what_still_waits_and_nobody_else_is() {
    let site = Site::start();
    let (a, a_rung) = site.member(1).await;
    let (mut b, _) = site.member(1).await;
    let waiting = transactions(1, 10);
    a.publish(&waiting);
    assert_eq!(b.hear(10).await, hashes(&waiting));
    let (mut late, _) = site.member(1).await;
    tokio::time::timeout(PATIENCE, a_rung.notified()).await.expect("a hears of somebody new");
    a.publish(&waiting);
    // That may have been b; then it rings once more.
    let _ = tokio::time::timeout(Duration::from_secs(3), a_rung.notified()).await;
    a.publish(&waiting);
    assert_eq!(late.hear(10).await, hashes(&waiting));
    b.hears_nothing().await;
    late.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chains_do_not_hear_each_other_and_garbage_is_dropped() {
    let site = Site::start();
    let (mut ours, _) = site.member(1).await;
    let (same, _) = site.member(1).await;
    let (other, _) = site.member(2).await;
    other.publish(&transactions(1, 5));
    ours.hears_nothing().await;
    let client = redis::Client::open(site.0.url()).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    let channel = format!("ait:{}:transactions", hex::encode([1; 32]));
    let mut huge = vec![1; 17];
    huge.resize(400_000, 7);
    for message in [&b""[..], b"x", &[0; 17], &[1; 17], &[1; 40], &[2; 200], &huge] {
        let sent: redis::RedisResult<u64> =
            redis::cmd("PUBLISH").arg(&channel).arg(message).query_async(&mut client).await;
        assert_eq!(sent.unwrap(), 2, "both processes of the chain listen");
    }
    ours.hears_nothing().await;
    let good = transactions(2, 5);
    same.publish(&good);
    assert_eq!(ours.hear(5).await, hashes(&good));
}

/// Bytes that the server keeps for those that subscribed.
async fn kept(client: &mut redis::aio::MultiplexedConnection) -> u64 {
    let listed: String = redis::cmd("CLIENT")
        .arg("LIST")
        .arg("TYPE")
        .arg("pubsub")
        .query_async(client)
        .await
        .unwrap();
    let words = listed.split_whitespace().filter_map(|word| word.strip_prefix("omem="));
    words.map(|bytes| bytes.parse::<u64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_handled_waits_at_the_server() {
    const FLOOD: usize = 96;
    let site = Site::start();
    let (mut deaf, _) = site.member(1).await;
    let (speaks, _) = site.member(1).await;
    let first = transactions(1, 20);
    // One a message: more than wait for the node.
    for one in first.chunks(1) {
        speaks.publish(one);
    }
    let client = redis::Client::open(site.0.url()).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    let channel = format!("ait:{}:transactions", hex::encode([1; 32]));
    // The other process reads all of it, and so would one that reads ahead.
    let junk = vec![7_u8; 250_000];
    for _ in 0..FLOOD {
        let _: u64 =
            redis::cmd("PUBLISH").arg(&channel).arg(&junk).query_async(&mut client).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let waits = kept(&mut client).await;
    assert!(waits > 4 << 20, "{waits} bytes wait at the server");
    assert_eq!(deaf.hear(20).await, hashes(&first));
    let after = transactions(2, 5);
    speaks.publish(&after);
    assert_eq!(deaf.hear(5).await, hashes(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_longer_than_any_ends_the_connection() {
    let site = Site::start();
    let (mut ours, connected) = site.member(1).await;
    let client = redis::Client::open(site.0.url()).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    let channel = format!("ait:{}:transactions", hex::encode([1; 32]));
    let long = vec![7_u8; 5 << 20];
    let _: u64 =
        redis::cmd("PUBLISH").arg(&channel).arg(&long).query_async(&mut client).await.unwrap();
    tokio::time::timeout(PATIENCE, connected.notified()).await.expect("it connects again");
    let (other, _) = site.member(1).await;
    let good = transactions(2, 5);
    other.publish(&good);
    assert_eq!(ours.hear(5).await, hashes(&good));
}

#[test]
fn a_password_is_never_shown() {
    let url: RedisUrl = "redis://user:secret@redis.example:7000/0".parse().unwrap();
    assert_eq!(url.to_string(), "redis.example:7000");
    assert!(!format!("{url:?}").contains("secret"));
    for bad in ["", "http://redis.example", "redis://secret@:x", "secret"] {
        let error = bad.parse::<RedisUrl>().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_end_with_the_handle() {
    let site = Site::start();
    let (member, _) = site.member(1).await;
    let Member { gossip, mut incoming } = member;
    let weak = Arc::downgrade(&gossip);
    drop(gossip);
    assert!(weak.upgrade().is_none());
    incoming.close();
    // The server sees both connections end.
    let client = redis::Client::open(site.0.url()).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    for _ in 0..100 {
        let listed: String =
            redis::cmd("CLIENT").arg("LIST").query_async(&mut client).await.unwrap();
        if listed.lines().count() == 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("connections stay open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secured_url_speaks_tls_and_verifies() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let url: RedisUrl = format!("rediss://user:hidden@{at}").parse().unwrap();
    let options = RedisOptions { url, genesis: Hash([1; 32]), connected: Arc::default() };
    let _gossip = RedisGossip::start(options).unwrap();
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("it calls");
    let mut first = [0; 3];
    tokio::io::AsyncReadExt::read_exact(&mut accepted.unwrap().0, &mut first).await.unwrap();
    // A handshake of TLS, and no command.
    assert_eq!(first, [0x16, 3, 1]);
    assert!(format!("rediss://{at}/#insecure").parse::<RedisUrl>().is_err());
}
