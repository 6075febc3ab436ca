//! Honest clients: each reads and sends at a steady pace over one kept connection.

use std::thread;
use std::time::{Duration, Instant};

use ait_engine::crypto::SecretKey;
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, Nonce};
use ait_net::wire::TransactionJson;

use crate::client::Kept;
use crate::target::{HONEST, Plan, honest};

/// Between two requests: below what the rate of one client allows.
const PACE: Duration = Duration::from_millis(12);

/// What an honest client saw.
#[derive(Default)]
pub struct Seen {
    times: Vec<Duration>,
    pub failures: Vec<String>,
}

impl Seen {
    /// What was seen in all.
    pub fn join(&mut self, other: Self) {
        self.times.extend(other.times);
        self.times.sort_unstable();
        self.failures.extend(other.failures);
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }

    pub fn quantile(&self, part: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
    }
}

/// All honest clients.
pub fn all(plan: &Plan) -> Vec<Honest<'_>> {
    (0..HONEST).map(|at| Honest::new(plan, at)).collect()
}

/// All work for as long, in turn; what they saw.
pub fn work(all: &mut [Honest<'_>], lasting: Duration) -> Seen {
    let count = u32::try_from(all.len()).unwrap();
    let mut seen = Seen::default();
    thread::scope(|scope| {
        let working = (0..).zip(all).map(|(at, one)| {
            scope.spawn(move || {
                thread::sleep(PACE * at / count);
                one.work(lasting)
            })
        });
        for one in working.collect::<Vec<_>>() {
            seen.join(one.join().unwrap());
        }
    });
    seen
}

pub struct Honest<'a> {
    plan: &'a Plan,
    at: usize,
    key: SecretKey,
    nonce: u64,
    kept: Option<Kept>,
}

impl<'a> Honest<'a> {
    fn new(plan: &'a Plan, at: usize) -> Self {
        Self { plan, at, key: plan.honest_account(at), nonce: 0, kept: None }
    }

    /// A transfer of this client, as JSON.
    fn transfer(&self) -> Vec<u8> {
        let payload = Payload::Transfer { to: Address([77; 32]), amount: Amount::saturating(3) };
        let (nonce, fee) = (Nonce::saturating(self.nonce), Amount::saturating(1_000));
        let one = Transaction::sign(&self.key, self.plan.chain_id, nonce, fee, None, payload);
        serde_json::to_vec(&TransactionJson::from(&one)).unwrap()
    }

    /// Asks; a connection that the node ended, as it may any idle one, is made anew once.
    fn ask(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), String> {
        let is_kept = self.kept.is_some();
        for attempt in 0..2 {
            let kept = match self.kept.take() {
                Some(kept) => kept,
                None => Kept::new(honest(self.at), self.plan.rpc)
                    .map_err(|e| format!("connect: {e}"))?,
            };
            let mut kept = kept;
            match kept.ask(method, path, "application/json", body) {
                Ok(answer) => {
                    self.kept = Some(kept);
                    return Ok(answer);
                }
                Err(_) if is_kept && attempt == 0 => {}
                Err(error) => return Err(format!("{method} {path}: {error}")),
            }
        }
        Err(format!("{method} {path}: ended twice"))
    }

    /// Reads and sends in turn for as long.
    fn work(&mut self, lasting: Duration) -> Seen {
        let (began, mut seen, mut turn) = (Instant::now(), Seen::default(), 0_u32);
        while began.elapsed() < lasting {
            let next = began + PACE * turn;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            turn += 1;
            let is_read = turn % 2 == 0;
            let body = if is_read { Vec::new() } else { self.transfer() };
            let asked = Instant::now();
            let answer = if is_read {
                self.ask("GET", "/rpc/head", &body)
            } else {
                self.ask("POST", "/rpc/sendTx", &body)
            };
            seen.times.push(asked.elapsed());
            match answer {
                Ok((200, _)) => self.nonce += u64::from(!is_read),
                Ok((status, body)) => {
                    // It was taken, and only the answer was lost.
                    let text = String::from_utf8_lossy(&body).into_owned();
                    seen.failures.push(format!("{status}: {text}"));
                }
                Err(error) => seen.failures.push(error),
            }
        }
        seen.times.sort_unstable();
        seen
    }
}
