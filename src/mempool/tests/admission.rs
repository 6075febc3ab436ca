//! What is not taken, with which code; and that a refusal changes nothing.

use ait_engine::limits::AMOUNT_MAX;
use ait_engine::params::{ParamChange, ParamSet};

use super::*;

/// Inserts into a pool in which sender 1 has a pending nonce 0 paying 100, and checks
/// that a refusal leaves everything as it was.
fn refused(tx: Tx, with: Account, rules: &Rules) -> &'static str {
    let mut pool = Pool::new(MempoolLimits { bytes_max: 4 * transfer_bytes(), ..roomy() });
    add(&mut pool, Tx::of(1)).unwrap();
    let before = format!("{pool:?}");
    let error = pool.insert(Arc::new(tx.build()), with, rules, time(0)).unwrap_err();
    assert_eq!(format!("{pool:?}"), before, "{error}");
    assert!(!error.hint().is_empty());
    error.code()
}

fn refused_plainly(tx: Tx) -> &'static str {
    refused(tx, account(RICH, 0), &rules(0))
}

#[test]
fn each_stateless_rule_has_its_code() {
    let zero = Amount::ZERO;
    let to = address(3);
    let change = ParamChange::Param { name: "base_fee".to_owned(), value: 1 };
    let mut foreign = Tx::of(2);
    foreign.0.chain_id = ChainId::from_bytes(b"other").unwrap();
    let cases = [
        (foreign, "wrong_chain"),
        (Tx::of(2).pays(0), "amount_zero"),
        (Tx::of(2).payload(Payload::Mint { to, amount: zero }), "amount_zero"),
        (
            Tx::of(3).payload(Payload::Transfer { to, amount: zero.next().unwrap() }),
            "self_transfer",
        ),
        (Tx::of(2).pays(AMOUNT_MAX), "amount_overflow"),
        (Tx::of(2).payload(Payload::Mint { to, amount: zero.next().unwrap() }), "not_minter"),
        (
            Tx::of(2).payload(Payload::ParamSet(ParamSet::new(vec![change]).unwrap())),
            "not_governor",
        ),
        (Tx::of(2).nonce(u64::MAX), "nonce_exhausted"),
        (Tx::of(2).nonce(16), "nonce_too_far"),
        (Tx::of(2).pays(RICH), "insufficient_funds"),
    ];
    for (tx, expected) in cases {
        assert_eq!(refused_plainly(tx), expected);
    }
}

#[test]
fn roles_of_the_settings_may_mint_and_govern() {
    let to = address(3);
    let settings = Settings { minter: Some(address(2)), ..Settings::default() };
    let rules = Rules { settings, ..rules(0) };
    let mint = Tx::of(2).payload(Payload::Mint { to, amount: Amount::new(5).unwrap() });
    let mut pool = Pool::new(roomy());
    let taken = pool.insert(Arc::new(mint.build()), account(RICH, 0), &rules, time(0));
    assert!(matches!(taken, Ok(Taken::Accepted { .. })));
}

#[test]
fn refuses_a_used_nonce_and_takes_the_next() {
    assert_eq!(refused(Tx::of(2).nonce(4), account(RICH, 5), &rules(0)), "nonce_used");
    let mut pool = Pool::new(roomy());
    add_with(&mut pool, Tx::of(2).nonce(5), account(RICH, 5)).unwrap();
    add_with(&mut pool, Tx::of(2).nonce(20), account(RICH, 5)).unwrap();
    assert_eq!(code(add_with(&mut pool, Tx::of(2).nonce(21), account(RICH, 5))), "nonce_too_far");
}

#[test]
fn refuses_what_expires_before_the_next_block() {
    assert_eq!(refused(Tx::of(2).expires(7), account(RICH, 0), &rules(7)), "expired");
    let mut pool = Pool::new(roomy());
    let tx = Arc::new(Tx::of(2).expires(8).build());
    assert!(pool.insert(tx, account(RICH, 0), &rules(7), time(0)).is_ok());
}

#[test]
fn refuses_a_fee_below_the_enforced_one() {
    let mut settings = Settings::default();
    settings.params.set("min_fee_base", 10).unwrap();
    settings.params.set("min_fee_per_byte", 2).unwrap();
    let rules = Rules { settings, ..rules(0) };
    assert_eq!(refused(Tx::of(2).fee(89), account(RICH, 0), &rules), "fee_too_low");
    let mut pool = Pool::new(roomy());
    let tx = Arc::new(Tx::of(2).fee(90).build());
    assert!(pool.insert(tx, account(RICH, 0), &rules, time(0)).is_ok());
}

#[test]
fn counts_what_earlier_pending_transactions_spend() {
    let mut pool = Pool::new(roomy());
    let purse = account(1_000, 0);
    add_with(&mut pool, Tx::of(1).pays(400), purse).unwrap();
    assert_eq!(
        code(add_with(&mut pool, Tx::of(1).nonce(1).pays(401), purse)),
        "insufficient_funds"
    );
    add_with(&mut pool, Tx::of(1).nonce(1).pays(400), purse).unwrap();
    assert_eq!(
        code(add_with(&mut pool, Tx::of(1).nonce(2).fee(0).pays(1), purse)),
        "insufficient_funds"
    );
}

#[test]
fn drops_what_a_filled_gap_makes_unaffordable() {
    let mut pool = Pool::new(roomy());
    let purse = account(1_000, 0);
    let later = Tx::of(1).nonce(1).pays(800);
    add_with(&mut pool, later.clone(), purse).unwrap();
    let removed = add_with(&mut pool, Tx::of(1).pays(800), purse).unwrap();
    assert_eq!(codes(&removed), [(later.hash(), "insufficient_funds")]);
    assert_eq!(picks(&pool, 10, u64::MAX), [(1, 0)]);
}

#[test]
fn reports_a_duplicate_as_such() {
    let mut pool = Pool::new(roomy());
    add(&mut pool, Tx::of(1)).unwrap();
    let again = pool.insert(Arc::new(Tx::of(1).build()), account(0, 0), &rules(0), time(5));
    assert!(matches!(again, Ok(Taken::Duplicate)));
    assert_eq!(pool.len(), 1);
}

#[test]
fn refuses_an_account_read_before_the_last_block() {
    let mut pool = Pool::new(roomy());
    assert!(pool.end_block(height(3), &[], &[], time(0)).is_empty());
    assert_eq!(code(add(&mut pool, Tx::of(1))), "outdated");
    let taken = pool.insert(Arc::new(Tx::of(1).build()), account(RICH, 0), &rules(3), time(0));
    assert!(taken.is_ok());
}

#[test]
fn replaces_for_a_tenth_more_and_at_least_one() {
    for (old, needed) in [(100, 110), (101, 112), (1, 2), (0, 1), (9, 10), (10, 11), (11, 13)] {
        let mut pool = Pool::new(roomy());
        let first = Tx::of(1).fee(old);
        add(&mut pool, first.clone()).unwrap();
        let low = add(&mut pool, Tx::of(1).fee(needed - 1).pays(2));
        assert_eq!(code(low), "replacement_underpriced", "{old}");
        let removed = add(&mut pool, Tx::of(1).fee(needed).pays(2)).unwrap();
        assert_eq!(codes(&removed), [(first.hash(), "replaced")]);
        assert_eq!((pool.len(), pool.bytes()), (1, transfer_bytes()));
    }
}

#[test]
fn refuses_to_replace_by_what_the_account_cannot_pay() {
    let tx = Tx::of(1).fee(200).pays(RICH);
    assert_eq!(refused_plainly(tx), "insufficient_funds");
}

#[test]
fn bounds_the_bytes_of_one_sender() {
    let limits = MempoolLimits { per_sender_bytes_max: 3 * transfer_bytes(), ..roomy() };
    let mut pool = Pool::new(limits);
    for at in 2..5 {
        add(&mut pool, Tx::of(1).nonce(at)).unwrap();
    }
    assert_eq!(code(add(&mut pool, Tx::of(1).nonce(5).fee(900))), "sender_full");
    // A lower nonce is worth more than those that wait for it.
    let removed = add(&mut pool, Tx::of(1).nonce(0).fee(1)).unwrap();
    assert_eq!(codes(&removed), [(Tx::of(1).nonce(4).hash(), "sender_full")]);
    assert_eq!(pool.len(), 3);
}
