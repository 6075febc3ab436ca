//! Genesis documents. One that is read is written and read as the same; one that makes a chain
//! makes the same one from what was written, the supply is the sum of its accounts, and its
//! first state has the root that its header names.

use std::collections::BTreeMap;

use ait_engine::genesis::GenesisDocument;
use ait_engine::state::{Account, Key, MemoryState, StateProof, StateView, Supply};
use ait_node::devnet::DevnetPlan;
use serde_json::json;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(document) = GenesisDocument::parse(text) else { return };
    let written = serde_json::to_string(&document).unwrap();
    let again = GenesisDocument::parse(&written).expect("what is written is read");
    assert_eq!(again, document, "{written}");
    let Ok(genesis) = document.build() else { return };
    assert_eq!(again.build().unwrap().block_id, genesis.block_id, "another chain");
    assert_eq!(genesis.header.id(), genesis.block_id);
    assert_eq!(genesis.header.validators_hash, genesis.validators.hash());
    let mut state = MemoryState::default();
    state.apply(&genesis.state);
    let held = |key: &Key| state.number_of(key).unwrap().map(|n| state.leaf(n).unwrap().value);
    let mut balances = BTreeMap::new();
    for allocation in &document.accounts {
        let value =
            held(&Key::account(&allocation.address)).expect("an allocated account is there");
        assert_eq!(Account::try_from(&value).unwrap().balance, allocation.balance);
        balances.insert(allocation.address, u128::from(allocation.balance.get()));
    }
    let total = balances.values().sum::<u128>();
    let supply = Supply::try_from(&held(&Key::supply()).expect("there is a supply")).unwrap();
    assert_eq!(u128::from(supply.total.get()), total, "the supply is not what accounts hold");
    let proof = StateProof::new(&state, &Key::supply()).unwrap();
    proof
        .verify(&genesis.header.state_root, &Key::supply())
        .expect("the root is that of the state");
}

pub fn seeds() -> Vec<Vec<u8>> {
    let plan = DevnetPlan::new([42; 32], 1_700_000_000).unwrap();
    let full = serde_json::to_value(&plan.document).unwrap();
    let mut small = full.clone();
    small["accounts"] = json!([full["accounts"][0]]);
    small["params"] = json!({ "mint_per_unit": 5, "coordinator_ratio_bps": 500 });
    let mut twice = small.clone();
    twice["accounts"] = json!([full["accounts"][0], full["accounts"][0]]);
    let mut old = small.clone();
    old["allocations"] = old["accounts"].take();
    old.as_object_mut().unwrap().remove("accounts");
    let mut weights = small.clone();
    let second = plan.names.secret_key("second").public_key();
    weights["authorities"] = json!([
        { "public_key": full["authorities"][0]["public_key"], "weight": 3 },
        { "public_key": second, "weight": 1, "payout": full["accounts"][1]["address"] },
    ]);
    let texts = [full, small, old, weights, twice];
    texts.iter().map(|json| json.to_string().into_bytes()).collect()
}
