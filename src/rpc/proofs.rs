//! Proofs: what the state holds or does not hold, and where a transaction stands, each
//! with the certified header that it leads to.

use ait_engine::block::Header;
use ait_engine::certificate::Certificate;
use ait_engine::codec::Canonical;
use ait_engine::list::{ListProof, leaf_hash};
use ait_engine::state::{Account, Claim, Key};
use ait_net::wire::{
    AccountProof, Anchor, CertificateJson, HeaderJson, ListProofJson, ReceiptProof,
    TransactionProof, ValidatorJson,
};

use super::call::{Answer, Call, json};
use super::reads::{Sought, indexed_block, misled};
use super::{Api, ApiError};
use crate::chain::{ChainError, Location};

fn anchor(
    api: &Api,
    header: &Header,
    certificate: Option<&Certificate>,
) -> Result<Anchor, ApiError> {
    Ok(Anchor {
        header: HeaderJson::from(header),
        certificate: certificate.map(CertificateJson::from),
        validators: ValidatorJson::list(&api.chain.validators()?),
    })
}

struct Proved {
    claim: Claim,
    proof: String,
    anchor: Anchor,
}

fn prove(api: &Api, key: &Key) -> Result<Proved, ApiError> {
    let proven = api.chain.prove(key)?;
    let claim = proven.proof.verify(&proven.header.state_root, key).map_err(corrupt)?;
    let proof = format!("0x{}", hex::encode(proven.proof.encode()));
    let anchor = anchor(api, &proven.header, proven.certificate.as_ref())?;
    Ok(Proved { claim, proof, anchor })
}

fn corrupt(error: impl std::fmt::Display) -> ApiError {
    ChainError::Corrupt { what: error.to_string() }.into()
}

/// `GET /rpc/proof/account/{address}`
pub(super) async fn account(call: Call) -> Answer {
    let address = call.address()?;
    if address.is_reserved() {
        let detail = format!("{address} begins with eight zero bytes: it is no account's");
        return Err(ApiError::unprocessable("not_an_account", detail, "ask for another address"));
    }
    let read = move |api: &Api| {
        let Proved { claim, proof, anchor } = prove(api, &Key::account(&address))?;
        let account = match &claim {
            Claim::Present(value) => Some(Account::try_from(value).map_err(corrupt)?),
            Claim::Absent => None,
        };
        let Account { balance, nonce } = account.unwrap_or_default();
        Ok(AccountProof { address, exists: account.is_some(), balance, nonce, proof, anchor })
    };
    call.answer(read).await
}

/// `GET /rpc/proof/receipt/{receipt_id}`
pub(super) async fn receipt(call: Call) -> Answer {
    let receipt_id = call.param(0).to_owned();
    let read = move |api: &Api| {
        let Proved { claim, proof, anchor } = prove(api, &Key::receipt(&receipt_id))?;
        let claimed = match &claim {
            Claim::Present(value) => Some(value.as_receipt().map_err(corrupt)?),
            Claim::Absent => None,
        };
        let (claimed_at, minted_amount) = claimed.unzip();
        let claimed = claimed_at.is_some();
        Ok(ReceiptProof { receipt_id, claimed, claimed_at, minted_amount, proof, anchor })
    };
    call.answer(read).await
}

/// `GET /rpc/proof/transaction/{hash}`
pub(super) async fn transaction(call: Call) -> Answer {
    let tx_hash = call.tx_hash()?;
    let find = move |api: &Api| {
        let at = api.chain.index().transaction(&tx_hash)?;
        let at = at.ok_or_else(|| ApiError::not_found("transaction not found"))?;
        Ok((Sought::Whole(at.height), at))
    };
    let show = move |api: &Api, at: Location| {
        let block = indexed_block(api, at.height)?;
        let misled = || misled(at.height);
        let place = usize::try_from(at.index).map_err(|_| misled())?;
        if block.tx_hashes.get(place) != Some(&tx_hash) {
            return Err(misled());
        }
        let transactions = &block.block.transactions;
        let leaves: Vec<_> = transactions.iter().map(|one| leaf_hash(&one.encode())).collect();
        let proof = ListProof::new(&leaves, at.index).ok_or_else(misled)?;
        let transaction = transactions.get(place).ok_or_else(misled)?.encode();
        json(&TransactionProof {
            tx_hash,
            transaction: format!("0x{}", hex::encode(transaction)),
            proof: ListProofJson::from(&proof),
            anchor: anchor(api, &block.block.header, block.certificate.as_ref())?,
        })
    };
    call.read_blocks(find, show).await
}
