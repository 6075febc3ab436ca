#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::*;

const SEED: [u8; 32] = [7; 32];

#[test]
fn the_same_seed_and_time_make_the_same_chain() {
    let build =
        |seed, time| DevnetPlan::new(seed, time).unwrap().document.build().unwrap().block_id;
    let id = build(SEED, 1_700_000_000);
    assert_eq!(build(SEED, 1_700_000_000), id);
    assert_ne!(build([8; 32], 1_700_000_000), id);
    assert_ne!(build(SEED, 1_700_000_001), id);
}

#[test]
fn every_role_and_account_has_a_key_of_its_own() {
    let plan = DevnetPlan::new(SEED, 0).unwrap();
    let roles = [&plan.validator, &plan.minter, &plan.governor, &plan.coordinator];
    let mut addresses: BTreeSet<_> = roles.iter().map(|key| key.public_key().address()).collect();
    for account in &plan.accounts {
        let seed = hex::decode(account.secret_key.as_bytes()).unwrap();
        let key = ait_engine::crypto::SecretKey::from_seed(seed.try_into().unwrap());
        assert_eq!(key.public_key().address(), account.address);
        assert_eq!(plan.names.name_of(&account.address).as_deref(), Some(account.name.as_str()));
        addresses.insert(account.address);
    }
    assert_eq!(addresses.len(), roles.len() + FUNDED_NAMES.len());
    assert_eq!(plan.accounts[0].name, "alice");
    assert_eq!(plan.document.minter, Some(plan.minter.public_key().address()));
}

#[test]
fn a_name_stands_for_one_address_and_is_remembered_once_used() {
    let names = DevAccounts::from_seed(SEED);
    let address = names.secret_key("ait1alice").public_key().address();
    assert_eq!(names.name_of(&address), None);
    assert!(names.unlocked(&address.to_string()).is_none(), "unlocked before its name was used");
    assert_eq!(names.resolve("ait1alice"), Ok(address));
    assert_eq!(names.name_of(&address).as_deref(), Some("ait1alice"));
    assert_eq!(names.resolve(&address.to_string()), Ok(address));
    let key = names.unlocked(&address.to_string()).unwrap();
    assert_eq!(key.public_key().address(), address);
    assert_eq!(names.clone().name_of(&address).as_deref(), Some("ait1alice"));
}

#[test]
fn an_account_is_shown_by_name_only_once_it_was_named() {
    let names = DevAccounts::from_seed(SEED);
    let address = names.resolve("alice").unwrap();
    assert_eq!(names.speak(&address.to_string()), Ok(address));
    assert_eq!(names.spoken(&address), None);
    assert_eq!(names.speak("alice"), Ok(address));
    assert_eq!(names.spoken(&address).as_deref(), Some("alice"));
}

#[test]
fn refuses_what_is_neither_name_nor_address() {
    let names = DevAccounts::from_seed(SEED);
    let address = names.secret_key("x").public_key().address().to_string();
    let mistyped = format!("{}{}", &address[..61], if address.ends_with('q') { 'p' } else { 'q' });
    let short = &address[..60];
    for bad in ["", "role/minter", "a b", "é", &"n".repeat(65), &mistyped, short] {
        assert!(names.resolve(bad).is_err(), "{bad:?} was taken");
        assert!(names.unlocked(bad).is_none());
    }
    assert!(!is_plain_name(&address));
    let old_style = format!("ait1{}", "0".repeat(40));
    for good in ["a", "miner-0", "test_user", "n.1", &"n".repeat(64), &old_style] {
        assert!(is_plain_name(good), "{good:?} was refused");
    }
}

#[test]
fn memory_of_names_is_bounded() {
    let names = DevAccounts::from_seed(SEED);
    let first = names.resolve("first").unwrap();
    for n in 0..10_000 {
        names.resolve(&format!("n{n}")).unwrap();
    }
    assert_eq!(names.name_of(&first), None);
    let last = names.resolve("n9999").unwrap();
    assert_eq!(names.name_of(&last).as_deref(), Some("n9999"));
    assert_eq!(format!("{names:?}"), "DevAccounts { names: 10000, .. }");
}
