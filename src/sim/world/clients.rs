//! Clients: some send transfers and send again what a node lost, others do what nobody should.

use ait_engine::types::ChainId;

use super::*;
use crate::ingress::SubmitError;
use crate::mempool::MempoolError;

/// Final transactions that are kept.
const INCLUDED_MAX: usize = 64;
/// One in so many calls is a hostile one.
const HOSTILE_EVERY: u8 = 4;

impl World {
    pub(super) fn client(&mut self) -> Result<(), Violation> {
        let is_hostile = self.options.faults.has(FaultKind::Hostile);
        if is_hostile && self.rng.u8(0..HOSTILE_EVERY) == 0 {
            return self.hostile();
        }
        let (at, account) = (self.any_honest(), self.rng.usize(0..ACCOUNTS));
        let to = key("account", self.rng.usize(0..ACCOUNTS)).public_key().address();
        let secret = key("account", account);
        if secret.public_key().address() == to {
            return Ok(());
        }
        let (amount, fee) = (self.rng.u64(1..50), self.rng.u64(0..5));
        let payload = Payload::Transfer { to, amount: Amount::saturating(amount) };
        let nonce = Nonce::saturating(self.nonces[account]);
        let fee = Amount::saturating(fee);
        let transaction = Transaction::sign(&secret, chain_id(), nonce, fee, None, payload);
        if self.submit(at, &transaction)? {
            self.nonces[account] += 1;
        }
        Ok(())
    }

    fn any_honest(&mut self) -> usize {
        let honest: Vec<_> = self.honest().collect();
        honest[self.rng.usize(0..honest.len())]
    }

    /// Sends a good transaction; whether it is to become final from now on.
    fn submit(&mut self, at: usize, one: &Transaction) -> Result<bool, Violation> {
        let (now_ms, site) = (self.now_ms, &mut self.sites[at]);
        let Some(process) = &mut site.process else { return Ok(false) };
        let result = process.submit(vec![one.clone()], &mut site.work).pop();
        let is_taken = match result {
            Some(Ok(_)) => {
                self.checks.keep(at, one, now_ms, true);
                true
            }
            // It may be in a block all the same: who sent it must not use its nonce again.
            Some(Err(SubmitError::Mempool(MempoolError::Journal { .. }))) => true,
            _ => false,
        };
        if is_taken {
            self.checks.accepted(at, one.hash());
            self.sent.insert(one.hash(), one.clone());
        }
        self.work(at)?;
        Ok(is_taken)
    }

    /// Sends again what no node must hold any more and no block has.
    pub(super) fn resend(&mut self) -> Result<(), Violation> {
        let open = |hash: &TxHash| self.checks.is_open(hash) && !self.checks.is_kept(hash);
        let mut lost: Vec<_> =
            self.sent.iter().filter(|(hash, _)| open(hash)).map(|(_, one)| one.clone()).collect();
        lost.sort_by_key(|one| (one.sender(), one.nonce));
        for one in lost {
            let at = self.any_honest();
            self.submit(at, &one)?;
        }
        Ok(())
    }

    fn hostile(&mut self) -> Result<(), Violation> {
        self.faults.count(FaultKind::Hostile);
        let at = self.any_honest();
        let secret = key("hostile", self.rng.usize(0..HOSTILE));
        let to = key("account", self.rng.usize(0..ACCOUNTS)).public_key().address();
        let Some(process) = &self.sites[at].process else { return Ok(()) };
        let next = process.account(&secret.public_key().address()).map_or(0, |a| a.nonce.get());
        let sign = |secret, chain_id, nonce, amount, fee| {
            let payload = Payload::Transfer { to, amount: Amount::saturating(amount) };
            let (nonce, fee) = (Nonce::saturating(nonce), Amount::saturating(fee));
            Transaction::sign(secret, chain_id, nonce, fee, None, payload)
        };
        let amount = self.rng.u64(1..200);
        let another: ChainId = "another".parse().unwrap_or_else(|_| chain_id());
        let used = next.checked_sub(1 + self.rng.u64(0..4));
        let (one, what) = match self.rng.u8(0..8) {
            // Too early, in the place of another, or more together than the account has.
            0 => (sign(&secret, chain_id(), next + self.rng.u64(0..6), amount, 1), None),
            1 => (sign(&secret, chain_id(), next, amount, self.rng.u64(0..50)), None),
            2 => {
                let stranger = key("stranger", self.rng.usize(0..100));
                (sign(&stranger, chain_id(), 0, amount, 1), Some("what has no funds"))
            }
            3 => (sign(&secret, another, next, amount, 1), Some("what is of another chain")),
            4 => match self.forged() {
                Some(forged) => (forged, Some("what nobody signed")),
                None => return Ok(()),
            },
            // What is final, where it is known to be, and another in the place of what is.
            5 => match self.included_at(at) {
                Some(again) => (again, Some("what is final")),
                None => return Ok(()),
            },
            6 => match used {
                Some(nonce) => (sign(&secret, chain_id(), nonce, amount, 9), Some("a used nonce")),
                None => return Ok(()),
            },
            _ => match self.sent.values().nth(self.rng.usize(0..self.sent.len().max(1))) {
                Some(again) => (again.clone(), None),
                None => return Ok(()),
            },
        };
        self.offer(at, &one, what)
    }

    /// Sends a transaction that a node may take, or must not if it says what.
    fn offer(&mut self, at: usize, one: &Transaction, what: Option<&str>) -> Result<(), Violation> {
        let (now_ms, site) = (self.now_ms, &mut self.sites[at]);
        let Some(process) = &mut site.process else { return Ok(()) };
        let result = process.submit(vec![one.clone()], &mut site.work).pop();
        match (result, what) {
            (Some(Ok(_)), Some(what)) => {
                return Err(Violation::Accepted { node: at, what: what.to_owned() });
            }
            (Some(Ok(_)), None) => {
                self.checks.offered(at, one.hash());
                let is_good = self.checks.is_open(&one.hash());
                self.checks.keep(at, one, now_ms, is_good);
            }
            (Some(Err(SubmitError::Mempool(MempoolError::Journal { .. }))), None) => {
                self.checks.offered(at, one.hash());
            }
            _ => {}
        }
        self.work(at)
    }

    /// Keeps some final transactions, to be sent again.
    pub(super) fn remember(&mut self, transactions: &[Transaction]) {
        let Some(one) = transactions.first() else { return };
        if self.included.len() < INCLUDED_MAX {
            self.included.push(one.clone());
        } else {
            let place = self.rng.usize(0..INCLUDED_MAX);
            self.included[place] = one.clone();
        }
    }

    /// A final transaction whose block this node has.
    fn included_at(&mut self, at: usize) -> Option<Transaction> {
        let place = self.rng.usize(0..self.included.len().max(1));
        let one = self.included.get(place)?;
        let account = self.sites[at].process.as_ref()?.account(&one.sender()).ok()?;
        (account.nonce > one.nonce).then(|| one.clone())
    }

    /// A good transaction with one byte changed, if that can be decoded.
    fn forged(&mut self) -> Option<Transaction> {
        let place = self.rng.usize(0..self.sent.len().max(1));
        let mut bytes = self.sent.values().nth(place)?.encode();
        let at = self.rng.usize(0..bytes.len());
        bytes[at] ^= 1 << self.rng.u8(0..8);
        Transaction::decode(&bytes).ok()
    }
}
