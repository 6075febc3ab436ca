//! What is sent: distinct transactions, signed before the measurement on all cores.

use std::num::NonZero;

use ait_engine::codec::Canonical;
use ait_engine::crypto::SecretKey;
use ait_engine::receipt::{Attestation, ReceiptClaim};
use ait_engine::transaction::{Payload, Transaction};
use ait_engine::types::{Address, Amount, ChainId, MicroUnits, Nonce, TxHash};

use super::BenchError;
use crate::receipts::{self, ReceiptFields};

/// One in this many of `mixed` is a receipt claim.
const MIXED_CLAIM_EVERY: u64 = 10;
/// Exponent of the Zipf distribution: the k-th account is 1/k as busy as the first.
const ZIPF_EXPONENT: f64 = 0.99;

/// What kind of transactions are sent, and between whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Transfers; senders and recipients uniformly random
    Uniform,
    /// Transfers; few accounts send and receive most of them
    Zipf,
    /// Transfers, all of them to one account
    Hot,
    /// Receipt claims, signed by a provider and attested by a coordinator
    Claims,
    /// Nine transfers, uniformly random, to one receipt claim
    Mixed,
}

impl Workload {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::Hot => "hot",
            Self::Claims => "claims",
            Self::Mixed => "mixed",
        }
    }

    /// Whether a coordinator must attest.
    #[must_use]
    pub const fn has_claims(self) -> bool {
        matches!(self, Self::Claims | Self::Mixed)
    }
}

/// A signed transaction and its hash, made once. There are millions, so that it is kept as its
/// canonical bytes: these take some half of what the transaction does.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    /// Its hash.
    pub(super) hash: TxHash,
    bytes: Box<[u8]>,
}

impl Signed {
    fn new(transaction: &Transaction) -> Self {
        Self { hash: transaction.hash(), bytes: transaction.encode().into() }
    }

    /// The transaction.
    ///
    /// # Errors
    /// Never: these are the bytes of one.
    pub(super) fn transaction(&self) -> Result<Transaction, BenchError> {
        Ok(Transaction::decode(&self.bytes)?)
    }
}

/// Accounts that send, and the nonce that each of them uses next.
#[derive(Debug)]
pub(super) struct Senders {
    keys: Vec<SecretKey>,
    addresses: Vec<Address>,
    nonces: Vec<u64>,
}

/// A key that is nobody's: the `n`-th of this seed.
#[must_use]
pub(super) fn key(seed: &[u8; 32], n: u64) -> SecretKey {
    SecretKey::from_seed(*blake3::keyed_hash(seed, &n.to_le_bytes()).as_bytes())
}

/// Runs `work` over the parts of `0..count` on all cores; the results stand in order.
fn on_all_cores<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let part = count.div_ceil(cores).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let starts = (0..count).step_by(part);
        let threads: Vec<_> = starts
            .map(|from| {
                let to = from.saturating_add(part).min(count);
                scope.spawn(move || (from..to).map(work).collect::<Vec<T>>())
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for thread in threads {
            match thread.join() {
                Ok(results) => all.extend(results),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

impl Senders {
    /// The first `count` keys of a seed, none of which has sent anything.
    #[must_use]
    pub(super) fn new(seed: &[u8; 32], count: usize) -> Self {
        let keys = on_all_cores(count, |n| key(seed, n as u64));
        let addresses = keys.iter().map(|key| key.public_key().address()).collect();
        Self { keys, addresses, nonces: vec![0; count] }
    }

    /// Their addresses.
    #[must_use]
    pub(super) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Says which nonce a sender uses next.
    pub(super) fn set_nonce(&mut self, sender: usize, nonce: u64) {
        if let Some(place) = self.nonces.get_mut(sender) {
            *place = nonce;
        }
    }
}

/// What is drawn for a transaction before it is signed.
struct Draw {
    sender: usize,
    nonce: u64,
    to: Address,
    claims: bool,
    number: u64,
}

/// Makes transactions of a workload, always the same ones for a seed.
pub(super) struct Generator {
    /// Which chain they are for.
    pub(super) chain_id: ChainId,
    /// Fee of a transfer and of a claim.
    pub(super) fees: (Amount, Amount),
    /// Who attests; needed for claims.
    pub(super) coordinator: Option<SecretKey>,
    /// Accounts beside the senders that may receive; the `n`-th of a seed.
    pub(super) idle_accounts: u64,
    /// When receipts were completed, in seconds since 1970; old ones are refused.
    pub(super) now: u64,
    workload: Workload,
    senders: Senders,
    dice: fastrand::Rng,
    /// Shares of the first accounts, added up; empty unless Zipf.
    shares: Vec<f64>,
    made: u64,
    /// Tells the receipts of one run from those of another.
    run: u64,
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator").field("made", &self.made).finish_non_exhaustive()
    }
}

/// The address of an account that nobody has the key of.
#[must_use]
pub(super) fn idle_address(n: u64) -> Address {
    Address(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

impl Generator {
    /// Transactions of these senders.
    #[must_use]
    pub(super) fn new(workload: Workload, senders: Senders, chain_id: ChainId, seed: u64) -> Self {
        let mut shares = Vec::new();
        if workload == Workload::Zipf {
            let mut sum = 0.0;
            for rank in 1..=senders.keys.len() {
                #[expect(clippy::cast_precision_loss, reason = "a rank is small")]
                let rank = rank as f64;
                sum += rank.powf(-ZIPF_EXPONENT);
                shares.push(sum);
            }
        }
        let one = Amount::saturating(1);
        Self {
            chain_id,
            fees: (one, one),
            coordinator: None,
            idle_accounts: 0,
            now: 0,
            workload,
            senders,
            dice: fastrand::Rng::with_seed(seed),
            shares,
            made: 0,
            run: seed,
        }
    }

    /// The accounts that send.
    pub(super) const fn senders(&mut self) -> &mut Senders {
        &mut self.senders
    }

    fn sender(&mut self) -> usize {
        let count = self.senders.keys.len();
        match self.shares.last() {
            Some(all) => {
                let point = self.dice.f64() * all;
                self.shares.partition_point(|share| *share < point).min(count - 1)
            }
            None => self.dice.usize(..count),
        }
    }

    fn recipient(&mut self) -> Address {
        let known = self.senders.addresses.len() as u64;
        match self.workload {
            Workload::Hot => idle_address(u64::MAX),
            Workload::Zipf => {
                let at = self.sender();
                self.senders.addresses.get(at).copied().unwrap_or(idle_address(0))
            }
            _ => {
                let at = self.dice.u64(..known + self.idle_accounts);
                let sender = usize::try_from(at).ok().and_then(|at| self.senders.addresses.get(at));
                sender.copied().unwrap_or_else(|| idle_address(at))
            }
        }
    }

    fn draw(&mut self) -> Draw {
        let sender = self.sender();
        let mut to = self.recipient();
        if self.senders.addresses.get(sender) == Some(&to) {
            // To oneself is allowed, but is less work than what is measured.
            to = idle_address(u64::MAX);
        }
        let nonce = self.senders.nonces.get_mut(sender).map_or(0, |next| {
            *next += 1;
            *next - 1
        });
        let number = self.made;
        self.made += 1;
        let claims = match self.workload {
            Workload::Claims => true,
            Workload::Mixed => number.is_multiple_of(MIXED_CLAIM_EVERY),
            _ => false,
        };
        Draw { sender, nonce, to, claims, number }
    }

    /// The next transactions, signed on all cores.
    ///
    /// # Errors
    /// [`BenchError`] if a claim cannot be made.
    pub(super) fn make(&mut self, count: usize) -> Result<Vec<Signed>, BenchError> {
        let draws: Vec<Draw> = (0..count).map(|_| self.draw()).collect();
        let made = on_all_cores(count, |at| draws.get(at).map(|draw| self.sign(draw)));
        made.into_iter().flatten().collect()
    }

    fn sign(&self, draw: &Draw) -> Result<Signed, BenchError> {
        let key = self.senders.keys.get(draw.sender).ok_or(BenchError::NoSenders)?;
        let (payload, fee) = if draw.claims {
            (Payload::ReceiptClaim(self.claim(key, draw.number)?), self.fees.1)
        } else {
            (Payload::Transfer { to: draw.to, amount: Amount::saturating(1) }, self.fees.0)
        };
        let nonce = Nonce::saturating(draw.nonce);
        Ok(Signed::new(&Transaction::sign(key, self.chain_id, nonce, fee, None, payload)))
    }

    /// A claim like those that are sent, to ask what it costs.
    ///
    /// # Errors
    /// As [`Generator::make`].
    pub(super) fn example_claim(&self, key: &SecretKey) -> Result<Payload, BenchError> {
        Ok(Payload::ReceiptClaim(self.claim(key, 0)?))
    }

    /// A claim of this key's account with the attestation of the coordinator.
    ///
    /// # Errors
    /// [`BenchError`] without a coordinator, or if the fields make no receipt.
    fn claim(&self, key: &SecretKey, number: u64) -> Result<ReceiptClaim, BenchError> {
        let coordinator = self.coordinator.as_ref().ok_or(BenchError::NoCoordinator)?;
        let fields = ReceiptFields {
            receipt_id: format!("bench-{:x}-{number}", self.run),
            job_id: format!("bench-job-{number}"),
            provider: key.public_key().address().to_string(),
            client: "bench-client".to_owned(),
            units: MicroUnits::saturating(1_500_000),
            unit_type: "gpu_seconds".to_owned(),
            price: None,
            started_at: self.now,
            completed_at: self.now,
            chain_id: Some(self.chain_id),
            artifact_hash: None,
        };
        let mut claim = receipts::sign(fields.canonical()?, key)?;
        let signature = coordinator.sign(&claim.receipt);
        let coordinator = coordinator.public_key();
        receipts::attach(&mut claim, Attestation { coordinator, signature });
        Ok(claim)
    }
}
