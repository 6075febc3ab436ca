//! The pool against a reference that scans a plain list for everything.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const COUNT_MAX: usize = 8;
const SENDER_COUNT_MAX: usize = 4;
const AHEAD: u64 = 6;
const TTL: u64 = 40;

#[derive(Debug, Clone)]
enum Step {
    Insert {
        sender: u8,
        nonce: u64,
        fee: u64,
        amount: u64,
        expires: Option<u64>,
    },
    /// The first `count` of a selection are included, others' nonces may be used
    /// elsewhere, and a sender's balance becomes another.
    Block {
        count: usize,
        elsewhere: Option<u8>,
        funds: (u8, u64),
    },
    Refuse {
        pick: usize,
    },
    Wait {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let insert = (1..=4u8, 0..9u64, 0..30u64, 1..60u64, proptest::option::weighted(0.2, 1..6u64))
        .prop_map(|(sender, nonce, fee, amount, expires)| Step::Insert {
            sender,
            nonce,
            fee,
            amount,
            expires,
        });
    let block = (0..4usize, proptest::option::weighted(0.3, 1..=4u8), (1..=4u8, 0..400u64))
        .prop_map(|(count, elsewhere, funds)| Step::Block { count, elsewhere, funds });
    let refuse = (0..COUNT_MAX).prop_map(|pick| Step::Refuse { pick });
    let wait = (1..30u64).prop_map(|ms| Step::Wait { ms });
    vec(prop_oneof![12 => insert, 2 => block, 1 => refuse, 1 => wait], 1..120)
}

#[derive(Debug, Clone)]
struct Item {
    tx: Tx,
    sender: u8,
    nonce: u64,
    fee: u64,
    spends: u64,
    expires: Option<u64>,
    seq: u64,
    added: u64,
}

/// Everything is a scan of `items`.
#[derive(Debug)]
struct Model {
    items: Vec<Item>,
    /// Balance and nonce of senders 1 to 4.
    accounts: [(u64, u64); 5],
    head: u64,
    now: u64,
    next_seq: u64,
}

type Gone = Vec<(TxHash, &'static str)>;

impl Model {
    fn new() -> Self {
        Self { items: vec![], accounts: [(200, 0); 5], head: 0, now: 0, next_seq: 0 }
    }

    fn account(&self, sender: u8) -> (u64, u64) {
        self.accounts[usize::from(sender)]
    }

    fn of(&self, sender: u8) -> Vec<Item> {
        let mut own: Vec<Item> =
            self.items.iter().filter(|item| item.sender == sender).cloned().collect();
        own.sort_by_key(|item| item.nonce);
        own
    }

    fn remove(&mut self, hash: TxHash) {
        self.items.retain(|item| item.tx.hash() != hash);
    }

    fn insert(&mut self, mut new: Item) -> Result<Gone, &'static str> {
        let (balance, next) = self.account(new.sender);
        if self.items.iter().any(|item| item.tx.hash() == new.tx.hash()) {
            return Err("duplicate");
        }
        if new.expires.is_some_and(|at| at <= self.head) {
            return Err("expired");
        }
        if new.nonce < next {
            return Err("nonce_used");
        }
        if new.nonce >= next + AHEAD {
            return Err("nonce_too_far");
        }
        let own = self.of(new.sender);
        let earlier: u64 = own.iter().filter(|i| i.nonce < new.nonce).map(|i| i.spends).sum();
        if earlier + new.spends > balance {
            return Err("insufficient_funds");
        }
        let mut gone = Gone::new();
        let mut left = self.items.clone();
        if let Some(old) = own.iter().find(|item| item.nonce == new.nonce) {
            // A tenth of up to 30, rounded up, is at least 1 but for nothing.
            if new.fee < old.fee + old.fee.div_ceil(10).max(1) {
                return Err("replacement_underpriced");
            }
            gone.push((old.tx.hash(), "replaced"));
            left.retain(|item| item.seq != old.seq);
        }
        let tail = |left: &[Item], sender: u8| {
            left.iter().filter(|i| i.sender == sender).max_by_key(|i| i.nonce).cloned()
        };
        while left.iter().filter(|i| i.sender == new.sender).count() >= SENDER_COUNT_MAX {
            let last = tail(&left, new.sender).filter(|last| last.nonce > new.nonce);
            let last = last.ok_or("sender_full")?;
            gone.push((last.tx.hash(), "sender_full"));
            left.retain(|item| item.seq != last.seq);
        }
        while left.len() >= COUNT_MAX {
            let tails = (1..=4).filter_map(|sender| tail(&left, sender));
            let worst = tails
                .filter(|i| i.sender != new.sender || i.nonce > new.nonce)
                .min_by_key(|i| (i.fee, std::cmp::Reverse(i.seq)))
                .ok_or("mempool_full")?;
            let is_own = worst.sender == new.sender;
            if !is_own && worst.fee >= new.fee {
                return Err("mempool_full");
            }
            gone.push((worst.tx.hash(), if is_own { "sender_full" } else { "evicted" }));
            left.retain(|item| item.seq != worst.seq);
        }
        new.seq = self.next_seq;
        self.next_seq += 1;
        let sender = new.sender;
        left.push(new);
        self.items = left;
        gone.extend(self.drop_unaffordable(sender));
        Ok(gone)
    }

    fn drop_unaffordable(&mut self, sender: u8) -> Gone {
        let mut sum = 0;
        let mut gone = Gone::new();
        for item in self.of(sender) {
            sum += item.spends;
            if sum > self.account(sender).0 {
                gone.push((item.tx.hash(), "insufficient_funds"));
                self.remove(item.tx.hash());
            }
        }
        gone
    }

    fn select(&self) -> Vec<Item> {
        let mut next = self.accounts.map(|(_, nonce)| nonce);
        let mut chosen = vec![];
        loop {
            let ready = self.items.iter().filter(|i| i.nonce == next[usize::from(i.sender)]);
            let best = ready.min_by_key(|i| (std::cmp::Reverse(i.fee), i.seq));
            let Some(best) = best else { return chosen };
            next[usize::from(best.sender)] += 1;
            chosen.push(best.clone());
        }
    }

    fn drop_where(&mut self, code: &'static str, is_gone: impl Fn(&Item) -> bool) -> Gone {
        let gone: Vec<TxHash> =
            self.items.iter().filter(|i| is_gone(i)).map(|i| i.tx.hash()).collect();
        gone.iter().for_each(|hash| self.remove(*hash));
        gone.into_iter().map(|hash| (hash, code)).collect()
    }

    fn block(
        &mut self,
        count: usize,
        elsewhere: Option<u8>,
        funds: (u8, u64),
    ) -> (Vec<TxHash>, Gone) {
        self.head += 1;
        let included: Vec<Item> = self.select().into_iter().take(count).collect();
        for item in &included {
            let account = &mut self.accounts[usize::from(item.sender)];
            account.0 -= item.spends;
            account.1 += 1;
            self.remove(item.tx.hash());
        }
        if let Some(sender) = elsewhere {
            self.accounts[usize::from(sender)].1 += 1;
        }
        self.accounts[usize::from(funds.0)].0 = funds.1;
        let accounts = self.accounts;
        let used = |item: &Item| item.nonce < accounts[usize::from(item.sender)].1;
        let mut gone = self.drop_where("nonce_used", used);
        for sender in 1..=4 {
            gone.extend(self.drop_unaffordable(sender));
        }
        let (head, now) = (self.head, self.now);
        gone.extend(self.drop_where("expired", |i| i.expires.is_some_and(|at| at <= head)));
        gone.extend(self.drop_where("too_old", |i| now - i.added > TTL));
        (included.iter().map(|item| item.tx.hash()).collect(), gone)
    }
}

fn sorted(mut gone: Gone) -> Gone {
    gone.sort();
    gone
}

struct Pair {
    model: Model,
    pool: Pool,
}

impl Pair {
    fn account_of(&self, sender: u8) -> Account {
        let (balance, next) = self.model.account(sender);
        account(balance, next)
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Insert { sender, nonce, fee, amount, expires } => {
                let mut tx = Tx::of(sender).nonce(nonce).fee(fee).pays(amount);
                tx.0.expires_at = expires.map(height);
                self.insert(tx, sender, fee + amount, expires);
            }
            Step::Block { count, elsewhere, funds } => self.block(count, elsewhere, funds),
            Step::Refuse { pick } => {
                let Some(item) = self.model.items.get(pick).cloned() else { return };
                let refusal = ait_engine::execute::Refusal::RewardZero;
                assert!(self.pool.refuse(&item.tx.hash(), refusal).is_some());
                self.model.remove(item.tx.hash());
            }
            Step::Wait { ms } => {
                self.model.now += ms;
                let now = self.model.now;
                let expected = self.model.drop_where("too_old", |i| now - i.added > TTL);
                let mut removed = Vec::new();
                self.pool.drop_old(time(now), &mut removed);
                assert_eq!(sorted(codes(&removed)), sorted(expected));
            }
        }
    }

    fn insert(&mut self, tx: Tx, sender: u8, spends: u64, expires: Option<u64>) {
        let (nonce, fee, added) = (tx.0.nonce.get(), tx.0.fee.get(), self.model.now);
        let item = Item { tx: tx.clone(), sender, nonce, fee, spends, expires, seq: 0, added };
        let (held, at) = (self.account_of(sender), time(added));
        let expected = self.model.insert(item);
        let found = self.pool.insert(Arc::new(tx.build()), held, &rules(self.model.head), at);
        let found = match found {
            Ok(Taken::Accepted { removed }) => Ok(sorted(codes(&removed))),
            Ok(Taken::Duplicate) => Err("duplicate"),
            Err(error) => Err(error.code()),
        };
        assert_eq!(found, expected.map(sorted));
    }

    fn block(&mut self, count: usize, elsewhere: Option<u8>, funds: (u8, u64)) {
        let (included, expected) = self.model.block(count, elsewhere, funds);
        let accounts = (1..=4).map(|sender| (address(sender), self.account_of(sender)));
        let (accounts, head) = (accounts.collect::<Vec<_>>(), height(self.model.head));
        let removed = self.pool.end_block(head, &included, &accounts, time(self.model.now));
        assert_eq!(sorted(codes(&removed)), sorted(expected));
    }

    fn compare(&self) {
        let selected = self.pool.select(usize::MAX, u64::MAX);
        let expected = self.model.select();
        let hashes = |items: &[Item]| items.iter().map(|i| i.tx.hash()).collect::<Vec<_>>();
        assert_eq!(selected.iter().map(|one| one.hash()).collect::<Vec<_>>(), hashes(&expected));
        assert_eq!(self.pool.has_executable(), !expected.is_empty());
        let listed = self.pool.list(usize::MAX, None);
        let listed: Vec<_> = listed.iter().map(|one| one.transaction.hash()).collect();
        assert_eq!(listed, hashes(&self.model.items));
        assert_eq!(self.pool.len(), self.model.items.len());
        assert_eq!(self.pool.bytes(), self.model.items.len() as u64 * transfer_bytes());
        for sender in 1..=4 {
            let next = self.model.account(sender).1;
            let run = expected.iter().filter(|item| item.sender == sender).count() as u64;
            assert_eq!(self.pool.next_nonce(&address(sender), nonce(next)), nonce(next + run));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn pool_and_reference_agree_on_every_step(steps in steps()) {
        let limits = MempoolLimits {
            count_max: COUNT_MAX,
            bytes_max: u64::MAX,
            per_sender_max: AHEAD,
            per_sender_bytes_max: SENDER_COUNT_MAX as u64 * transfer_bytes(),
            ttl_ms: TTL,
        };
        let mut pair = Pair { model: Model::new(), pool: Pool::new(limits) };
        for step in &steps {
            pair.step(step);
            pair.compare();
        }
    }
}
