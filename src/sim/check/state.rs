//! What a node's own state holds, read from its store: the root, the sum of all balances, each
//! balance, and what the index says of them.

use ait_engine::state::{Account, Claim, Key, StateProof, StateView};
use ait_engine::types::{Amount, Height};

use super::{Checks, Violation};
use crate::chain::{Chain, ChainError};
use crate::sim::plan::balances;

fn failed(node: usize, error: &dyn std::fmt::Display) -> Violation {
    Violation::Failed { node, reason: error.to_string() }
}

impl Checks {
    /// Whether the state of a node, at whatever height it is, is the one that the header of that
    /// height names, and all accounts together hold what those of genesis did: nobody can mint.
    pub(in crate::sim) fn own_state(&self, node: usize, chain: &Chain) -> Result<(), Violation> {
        let (height, found) = chain.state_head();
        // A block that was committed and is not told yet is compared when it is.
        if let Some(known) = self.blocks.get(&height.get()).filter(|known| known.root != found) {
            let (height, expected) = (height.get(), known.root);
            return Err(Violation::Root { height, node, found, expected });
        }
        let expected: u64 = balances().map(|(_, balance)| balance).sum();
        let stored = chain.supply().map_err(|error| failed(node, &error))?.total.get();
        let held = held(chain).map_err(|error| failed(node, &error))?;
        match [u128::from(stored), held].into_iter().find(|found| *found != u128::from(expected)) {
            Some(found) => Err(Violation::Supply { node, found, expected }),
            None => Ok(()),
        }
    }

    /// Whether a node that is at the newest height holds what the model says.
    pub(in crate::sim) fn balances(&self, node: usize, chain: &Chain) -> Result<(), Violation> {
        for (address, (balance, nonce)) in &self.balances {
            let account = chain.account(address).map_err(|error| failed(node, &error))?;
            let account = account.unwrap_or_default();
            if i128::from(account.balance.get()) != *balance || account.nonce.get() != *nonce {
                return Err(Violation::Balance {
                    node,
                    address: *address,
                    found: format!("{} at nonce {}", account.balance, account.nonce),
                    expected: format!("{balance} at nonce {nonce}"),
                });
            }
        }
        Ok(())
    }

    /// Whether what a node holds of each account of the model is what hashes to its root.
    pub(in crate::sim) fn proofs(&self, node: usize, chain: &Chain) -> Result<(), Violation> {
        let (height, expected) = chain.state_head();
        for address in self.balances.keys() {
            let held = chain.account(address).map_err(|error| failed(node, &error))?;
            let key = Key::account(address);
            let proof = StateProof::new(&chain.state(), &key).map_err(|e| failed(node, &e))?;
            let claim = match held {
                Some(account) => Claim::Present(account.into()),
                None => Claim::Absent,
            };
            if proof.verify(&expected, &key) != Ok(claim) {
                let what =
                    format!("the root {expected} of height {height} does not prove {address}");
                return Err(failed(node, &what));
            }
        }
        Ok(())
    }

    /// Whether every final block can be read as it was.
    pub(in crate::sim) fn blocks_stand(
        &self,
        node: usize,
        chain: &Chain,
        heights: impl Iterator<Item = u64>,
    ) -> Result<(), Violation> {
        for height in heights {
            let Some(known) = self.blocks.get(&height) else { continue };
            let changed = |what: String| Violation::Changed { node, height, what };
            let block = chain.stored_block(Height::saturating(height));
            let block = block.map_err(|error| changed(error.to_string()))?;
            let block = block.ok_or_else(|| changed("it is gone".to_owned()))?;
            // The store read it by its header, whose id covers the transactions.
            if block.block.header.id() != known.id || !block.block.body_matches_header() {
                return Err(changed(format!("it is {}, and was {}", block.id, known.id)));
            }
            let certificate = block.certificate.as_ref();
            let checked = self.members.check(block.height(), known.id, certificate);
            checked.map_err(|reason| changed(format!("its certificate is {reason}")))?;
        }
        Ok(())
    }

    /// Whether the index of a node, which is up to the newest block, says of transactions and
    /// accounts what the model does.
    pub(in crate::sim) fn index(&self, node: usize, chain: &Chain) -> Result<(), Violation> {
        let failed = |error: ChainError| Violation::Failed { node, reason: error.to_string() };
        let wrong = |what| Err(Violation::Index { node, what });
        let (index, count) = (chain.index(), self.included.len() as u64);
        let found = index.transaction_count().map_err(failed)?;
        if found != count {
            return wrong(format!("has {found} transactions, the chain {count}"));
        }
        for (hash, at) in &self.included {
            let found = index.transaction(hash).map_err(failed)?;
            if found != Some(*at) {
                return wrong(format!("has {hash} at {found:?}, the chain at {at:?}"));
            }
        }
        let mut listed = Vec::new();
        for (address, (balance, nonce)) in &self.balances {
            // The model has an entry for a proposer of whose blocks none had a fee.
            let Some(account) = chain.account(address).map_err(failed)? else { continue };
            let sent = index.account(address, &account).map_err(failed)?.map(|stats| stats.sent);
            if sent != Some(*nonce) {
                return wrong(format!("says that {address} sent {sent:?}, expected {nonce}"));
            }
            listed.push((std::cmp::Reverse(*balance), *address));
        }
        listed.sort_unstable();
        let richest = index.richest(Amount::ZERO, None, listed.len() + 1).map_err(failed)?;
        let richest =
            richest.into_iter().map(|(address, balance)| (i128::from(balance.get()), address));
        let expected = listed.into_iter().map(|(balance, address)| (balance.0, address));
        if !richest.eq(expected) {
            return wrong("lists accounts by other balances".to_owned());
        }
        Ok(())
    }
}

/// What all accounts hold together, entry by entry.
fn held(chain: &Chain) -> Result<u128, ChainError> {
    let state = chain.state();
    let mut sum = 0;
    for number in 0..state.entry_count()? {
        let leaf = state.leaf(number)?;
        sum += Account::try_from(&leaf.value).map_or(0, |a| u128::from(a.balance.get()));
    }
    Ok(sum)
}
