//! `RECEIPT_CLAIM`: who may claim a receipt, and what it is worth.

use super::{Context, Draft, Fault, Refusal};
use crate::limits::AMOUNT_MAX;
use crate::outcome::Reward;
use crate::params::Params;
use crate::receipt::{Receipt, ReceiptClaim};
use crate::state::{Coordinator, EntryKind, Key, Provider, StateView, Value};
use crate::types::{Address, Amount};

/// Applies a claim whose signatures were verified; gives what it minted.
pub(super) fn apply<V: StateView>(
    draft: &mut Draft<V>,
    context: &Context,
    params: &Params,
    sender: &Address,
    claim: &ReceiptClaim,
) -> Result<Vec<Reward>, Fault<V::Error>> {
    let receipt = Receipt::parse(&claim.receipt).map_err(Refusal::ReceiptMalformed)?;
    check_times(context, params, &receipt)?;
    check_provider(draft, sender, claim, &receipt)?;
    let payouts = attesting_coordinators(draft, params, claim)?;
    let (receipt_key, job_key) = (Key::receipt(&receipt.receipt_id), Key::job(&receipt.job_id));
    if draft.get(&receipt_key)?.is_some() {
        return Err(Refusal::ReceiptClaimed { receipt_id: receipt.receipt_id }.into());
    }
    if draft.get(&job_key)?.is_some() {
        return Err(Refusal::JobClaimed { job_id: receipt.job_id }.into());
    }
    let rewards = rewards(params, &receipt, *sender, &payouts)?;
    let minted = super::mint(draft, &rewards)?;
    draft.put(receipt_key, Value::receipt(context.height, minted));
    draft.put(job_key, Value::job(context.height));
    Ok(rewards)
}

fn check_times(context: &Context, params: &Params, receipt: &Receipt) -> Result<(), Refusal> {
    if let Some(found) = &receipt.chain_id
        && found != context.chain_id.as_str()
    {
        return Err(Refusal::ReceiptWrongChain {
            expected: context.chain_id,
            found: found.clone(),
        });
    }
    let (block_time, completed_at) = (context.time.get() / 1_000, receipt.completed_at);
    let Some(age) = block_time.checked_sub(completed_at) else {
        return Err(Refusal::ReceiptFromFuture { completed_at, block_time });
    };
    let max_age = params.receipt_age_s_max;
    if age > max_age {
        return Err(Refusal::ReceiptExpired { completed_at, max_age });
    }
    let (found, max) = (receipt.units.get(), params.receipt_micro_units_max);
    if found > max {
        return Err(Refusal::UnitsOverMaximum { found, max });
    }
    Ok(())
}

/// The provider must be the sender, under its address or under a name bound to it,
/// and the receipt signed by the key that the state has for it.
fn check_provider<V: StateView>(
    draft: &mut Draft<V>,
    sender: &Address,
    claim: &ReceiptClaim,
    receipt: &Receipt,
) -> Result<(), Fault<V::Error>> {
    if let Ok(address) = receipt.provider.parse::<Address>() {
        if address != *sender {
            return Err(Refusal::ProviderMismatch { expected: address }.into());
        }
        if claim.provider_key.address() != address {
            return Err(Refusal::ProviderKeyMismatch.into());
        }
        return Ok(());
    }
    let Some(value) = draft.get(&Key::provider(&receipt.provider))? else {
        return Err(Refusal::ProviderUnknown { provider: receipt.provider.clone() }.into());
    };
    let bound: Provider = value.decode(EntryKind::Provider).map_err(Fault::corrupt)?;
    if bound.account != *sender {
        return Err(Refusal::ProviderMismatch { expected: bound.account }.into());
    }
    if bound.receipt_key != claim.provider_key {
        return Err(Refusal::ProviderKeyMismatch.into());
    }
    Ok(())
}

/// Payout accounts of the coordinators that attested, in order of their keys.
fn attesting_coordinators<V: StateView>(
    draft: &mut Draft<V>,
    params: &Params,
    claim: &ReceiptClaim,
) -> Result<Vec<Address>, Fault<V::Error>> {
    let mut payouts = Vec::with_capacity(claim.attestations.len());
    for attestation in &claim.attestations {
        let known = match draft.get(&Key::coordinator(&attestation.coordinator))? {
            Some(value) => {
                Some(value.decode::<Coordinator>(EntryKind::Coordinator).map_err(Fault::corrupt)?)
            }
            None => None,
        };
        match known {
            Some(coordinator) if coordinator.active => payouts.push(coordinator.payout),
            _ => {
                let coordinator = attestation.coordinator;
                return Err(Refusal::CoordinatorUnknown { coordinator }.into());
            }
        }
    }
    let (found, needed) = (payouts.len() as u64, params.attestation_threshold);
    if found < needed {
        return Err(Refusal::AttestationsMissing { found, needed }.into());
    }
    Ok(payouts)
}

/// Provider: units x `mint_per_unit`, rounded down. Coordinators: that times the ratio,
/// rounded down, on top, in equal parts; what does not divide goes to the first.
fn rewards(
    params: &Params,
    receipt: &Receipt,
    provider: Address,
    payouts: &[Address],
) -> Result<Vec<Reward>, Refusal> {
    let product = |a: u128, b: u64| a.checked_mul(u128::from(b)).ok_or(Refusal::RewardOverflow);
    let minted = product(u128::from(receipt.units.get()), params.mint_per_unit)? / 1_000_000;
    if minted == 0 {
        return Err(Refusal::RewardZero);
    }
    if minted > u128::from(AMOUNT_MAX) {
        return Err(Refusal::RewardOverflow);
    }
    let amount = |value: u128| {
        u64::try_from(value).ok().and_then(Amount::new).ok_or(Refusal::RewardOverflow)
    };
    let mut rewards = vec![Reward { address: provider, amount: amount(minted)? }];
    let share = product(minted, params.coordinator_ratio_bps)? / 10_000;
    let count = payouts.len() as u128;
    let (Some(each), Some(rest)) = (share.checked_div(count), share.checked_rem(count)) else {
        // Nobody attested: a threshold of one at least was checked before.
        return Ok(rewards);
    };
    for (at, address) in payouts.iter().enumerate() {
        let extra = if at == 0 { rest } else { 0 };
        let part = each.checked_add(extra).ok_or(Refusal::RewardOverflow)?;
        if part > 0 {
            rewards.push(Reward { address: *address, amount: amount(part)? });
        }
    }
    Ok(rewards)
}
