//! Verification of what a node answers, with nothing but the answer and a trusted
//! validator set or genesis.
//!
//! No network and no storage here.

use ait_engine::block::Header;
use ait_engine::certificate::{Certificate, CertificateError};
use ait_engine::codec::{Canonical, DecodeError};
use ait_engine::genesis::Genesis;
use ait_engine::list::{self, ListProof};
use ait_engine::state::{Account, Claim, Key, ProofError, StateProof, Value};
use ait_engine::transaction::Transaction;
use ait_engine::types::{Address, BlockId, Hash, TxHash};

use crate::wire::{AccountProof, Anchor, FormError, ReceiptProof, TransactionProof, ValidatorJson};

/// Why an answer proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// A part is not in its form.
    #[error("{what} is not in its form: {reason}")]
    Form {
        /// The part.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The proof is about something else than was asked for.
    #[error("the proof is about {found}, asked was {expected}")]
    Subject {
        /// What was asked for.
        expected: String,
        /// What the answer is about.
        found: String,
    },
    /// The header is of another chain than the genesis.
    #[error("the header is of chain {found}, expected {expected}")]
    Chain {
        /// The genesis' chain.
        expected: String,
        /// The header's.
        found: String,
    },
    /// The answer's genesis is not the one given.
    #[error("the block at height 0 is {found}, the genesis is {expected}")]
    OtherGenesis {
        /// Id of the genesis given.
        expected: BlockId,
        /// Id of the header.
        found: BlockId,
    },
    /// The validators are not those of the header.
    #[error("the validators hash to {found}, the header names {expected}")]
    Validators {
        /// What the header says.
        expected: Hash,
        /// Hash of the validators.
        found: Hash,
    },
    /// A header above genesis without a certificate.
    #[error("there is no certificate for the header")]
    NoCertificate,
    /// The certificate does not make the header final.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The state proof does not hold.
    #[error(transparent)]
    State(#[from] ProofError),
    /// The transaction is not where the proof says.
    #[error("the proof does not lead from the transaction to the header's transactions root")]
    Transaction,
    /// What the answer says is not what it proves.
    #[error("the answer says {found}, but proves {proved}")]
    Contradiction {
        /// What it says.
        found: String,
        /// What it proves.
        proved: String,
    },
}

impl From<FormError> for LightError {
    fn from(error: FormError) -> Self {
        Self::Form { what: "block", reason: error.to_string() }
    }
}

/// A header that a proof leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader {
    /// The header.
    pub header: Header,
    /// Its id.
    pub block_id: BlockId,
    /// Whether validators or genesis were those given by the caller; if not, the header is
    /// final only for whoever trusts the node's word about its validators.
    pub pinned: bool,
}

fn canonical<T: Canonical>(what: &'static str, text: &str) -> Result<T, LightError> {
    let form = |reason: String| LightError::Form { what, reason };
    let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text))
        .map_err(|error| form(error.to_string()))?;
    T::decode(&bytes).map_err(|error: DecodeError| form(error.to_string()))
}

/// Verifies that the header is final.
///
/// # Errors
/// [`LightError`] naming what does not hold.
pub fn header(anchor: &Anchor, genesis: Option<&Genesis>) -> Result<VerifiedHeader, LightError> {
    let header = Header::from(&anchor.header);
    let block_id = header.id();
    if let Some(genesis) = genesis
        && genesis.header.chain_id != header.chain_id
    {
        let (expected, found) = (genesis.header.chain_id.to_string(), header.chain_id.to_string());
        return Err(LightError::Chain { expected, found });
    }
    if header.height.get() == 0 {
        if let Some(genesis) = genesis
            && genesis.block_id != block_id
        {
            let expected = genesis.block_id;
            return Err(LightError::OtherGenesis { expected, found: block_id });
        }
        return Ok(VerifiedHeader { header, block_id, pinned: genesis.is_some() });
    }
    let given = ValidatorJson::set(&anchor.validators)?;
    let validators = genesis.map_or(&given, |genesis| &genesis.validators);
    let found = validators.hash();
    if found != header.validators_hash {
        return Err(LightError::Validators { expected: header.validators_hash, found });
    }
    let certificate = anchor.certificate.as_ref().ok_or(LightError::NoCertificate)?;
    let certificate = Certificate::from(certificate);
    certificate.verify(&header.chain_id, header.height, block_id, validators)?;
    Ok(VerifiedHeader { header, block_id, pinned: genesis.is_some() })
}

/// Verifies an account's proof; the account is none if its absence is proved.
///
/// # Errors
/// [`LightError`] naming what does not hold.
pub fn account(
    answer: &AccountProof,
    address: &Address,
    genesis: Option<&Genesis>,
) -> Result<(VerifiedHeader, Option<Account>), LightError> {
    if answer.address != *address {
        let (expected, found) = (address.to_string(), answer.address.to_string());
        return Err(LightError::Subject { expected, found });
    }
    let verified = header(&answer.anchor, genesis)?;
    let proof: StateProof = canonical("proof", &answer.proof)?;
    let claim = proof.verify(&verified.header.state_root, &Key::account(address))?;
    let account = match claim {
        Claim::Absent => None,
        Claim::Present(value) => Some(
            Account::try_from(&value)
                .map_err(|error| LightError::Form { what: "account", reason: error.to_string() })?,
        ),
    };
    let proved = account.unwrap_or_default();
    if answer.exists != account.is_some()
        || answer.balance != proved.balance
        || answer.nonce != proved.nonce
    {
        let text = |balance, nonce| format!("balance {balance}, nonce {nonce}");
        return Err(LightError::Contradiction {
            found: text(answer.balance, answer.nonce),
            proved: text(proved.balance, proved.nonce),
        });
    }
    Ok((verified, account))
}

/// Verifies whether a receipt was claimed.
///
/// # Errors
/// [`LightError`] naming what does not hold.
pub fn receipt(
    answer: &ReceiptProof,
    receipt_id: &str,
    genesis: Option<&Genesis>,
) -> Result<VerifiedHeader, LightError> {
    if answer.receipt_id != receipt_id {
        let (expected, found) = (receipt_id.to_owned(), answer.receipt_id.clone());
        return Err(LightError::Subject { expected, found });
    }
    let verified = header(&answer.anchor, genesis)?;
    let proof: StateProof = canonical("proof", &answer.proof)?;
    let said = match (answer.claimed, answer.claimed_at, answer.minted_amount) {
        (true, Some(height), Some(minted)) => Claim::Present(Value::receipt(height, minted)),
        (false, None, None) => Claim::Absent,
        _ => {
            let reason = "claimed, claimed_at and minted_amount do not fit together".to_owned();
            return Err(LightError::Form { what: "receipt", reason });
        }
    };
    let proved = proof.verify(&verified.header.state_root, &Key::receipt(receipt_id))?;
    if said != proved {
        let (found, proved) = (format!("{said:?}"), format!("{proved:?}"));
        return Err(LightError::Contradiction { found, proved });
    }
    Ok(verified)
}

/// Verifies that a transaction stands in a final block.
///
/// # Errors
/// [`LightError`] naming what does not hold.
pub fn transaction(
    answer: &TransactionProof,
    hash: &TxHash,
    genesis: Option<&Genesis>,
) -> Result<(VerifiedHeader, Transaction), LightError> {
    let transaction: Transaction = canonical("transaction", &answer.transaction)?;
    if transaction.hash() != *hash || answer.tx_hash != *hash {
        let (expected, found) = (hash.to_string(), transaction.hash().to_string());
        return Err(LightError::Subject { expected, found });
    }
    let verified = header(&answer.anchor, genesis)?;
    let proof = ListProof::from(&answer.proof);
    let leaf = list::leaf_hash(&transaction.encode());
    let holds = proof.count == verified.header.transaction_count
        && proof.verify(&verified.header.transactions_root, &leaf);
    if holds { Ok((verified, transaction)) } else { Err(LightError::Transaction) }
}
