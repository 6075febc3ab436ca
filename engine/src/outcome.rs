//! What executing a transaction did: an outcome each, committed to by the header.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::limits::ATTESTATION_COUNT_MAX;
use crate::types::{Address, Amount, TxHash};

/// Rewards of one transaction: the provider's and each coordinator's.
const REWARD_COUNT_MAX: usize = ATTESTATION_COUNT_MAX + 1;

/// Newly minted tokens and who got them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reward {
    /// Who got them.
    pub address: Address,
    /// How many base units.
    pub amount: Amount,
}

/// What executing a transaction did beyond what it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction.
    pub tx_hash: TxHash,
    /// What its sender paid to the proposer.
    pub fee: Amount,
    /// What it minted; the provider's or recipient's first.
    pub rewards: Vec<Reward>,
}

impl Outcome {
    /// Sum of what it minted. The execution checked that it is in bounds.
    #[must_use]
    pub fn minted(&self) -> Amount {
        let sum = self.rewards.iter().try_fold(Amount::ZERO, |sum, r| sum.checked_add(r.amount));
        sum.unwrap_or(Amount::MAX)
    }
}

impl Canonical for Outcome {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put(&self.tx_hash.0);
        out.put_u64(self.fee.get());
        out.put_count(self.rewards.len());
        for reward in &self.rewards {
            out.put(&reward.address.0);
            out.put_u64(reward.amount.get());
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tx_hash = TxHash(reader.array()?);
        let fee = reader.amount()?;
        let count = reader.count("reward count", REWARD_COUNT_MAX)?;
        let mut rewards = Vec::with_capacity(count);
        for _ in 0..count {
            rewards.push(Reward { address: reader.address()?, amount: reader.amount()? });
        }
        Ok(Self { tx_hash, fee, rewards })
    }
}
