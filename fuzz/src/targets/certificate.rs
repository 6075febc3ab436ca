//! Certificates of four validators of unequal weight. Whatever certificate verifies for a
//! block is one whose signatures are good one by one, of different validators, whose power
//! summed up here is over two thirds; and it verifies for no other height, block or chain.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ait_engine::certificate::{Certificate, CommitSignature};
use ait_engine::codec::Canonical;
use ait_engine::crypto::{self, SecretKey};
use ait_engine::types::{Address, BlockId, ChainId, Height, Round, VotingPower};
use ait_engine::validator::{Validator, ValidatorSet};
use ait_engine::vote::{Vote, VoteKind};

const POWERS: [u64; 4] = [50, 30, 15, 5];
/// Bytes of a certificate before its signers, the last four their count; and of each.
const HEAD_BYTES: usize = 50;
const SIGNER_BYTES: usize = 96;
const HEIGHT: Height = Height::saturating(5);
const BLOCK: BlockId = BlockId([7; 32]);

struct Council {
    chain_id: ChainId,
    keys: Vec<SecretKey>,
    set: ValidatorSet,
}

static COUNCIL: LazyLock<Council> = LazyLock::new(|| {
    let keys: Vec<_> = (1..=4).map(|n| SecretKey::from_seed([n; 32])).collect();
    let validators = keys.iter().zip(POWERS).map(|(key, power)| Validator {
        public_key: key.public_key(),
        power: VotingPower::saturating(power),
        payout: key.public_key().address(),
    });
    let set = ValidatorSet::new(validators.collect()).unwrap();
    Council { chain_id: "test".parse().unwrap(), keys, set }
});

fn precommit(round: Round, validator: Address) -> Vote {
    let kind = VoteKind::Precommit;
    Vote { kind, height: HEIGHT, round, block_id: Some(BLOCK), validator }
}

/// The rule of `specs/consensus.md`, in plain integers.
fn is_final(certificate: &Certificate) -> bool {
    let council = &*COUNCIL;
    let mut powers = BTreeMap::new();
    for CommitSignature { validator, signature } in certificate.signatures() {
        let at = council.keys.iter().position(|key| key.public_key().address() == *validator);
        let Some(at) = at else { return false };
        let hash = precommit(certificate.round, *validator).sign_hash(&council.chain_id);
        let key = council.keys[at].public_key();
        if crypto::verify(&key, hash.as_bytes(), signature).is_err() {
            return false;
        }
        powers.insert(at, POWERS[at]);
    }
    let total: u64 = POWERS.iter().sum();
    powers.values().sum::<u64>() * 3 > total * 2
}

pub fn run(input: &[u8]) {
    let Ok(certificate) = Certificate::decode(input) else { return };
    let council = &*COUNCIL;
    let verify = |chain_id, height, block_id| {
        certificate.verify(chain_id, height, block_id, &council.set).is_ok()
    };
    let expected =
        certificate.height == HEIGHT && certificate.block_id == BLOCK && is_final(&certificate);
    assert_eq!(verify(&council.chain_id, HEIGHT, BLOCK), expected, "{certificate:?}");
    let elsewhere = "other".parse().unwrap();
    assert!(!verify(&elsewhere, HEIGHT, BLOCK), "it is good for another chain");
    // Nobody signed anything else: what is claimed of another block is false.
    let (height, block_id) = (certificate.height, certificate.block_id);
    assert!(
        (height, block_id) == (HEIGHT, BLOCK) || !verify(&council.chain_id, height, block_id),
        "a certificate for what nobody signed"
    );
}

/// The same certificate with its last signer once more, which no constructor makes.
fn repeat_signer(mut certificate: Vec<u8>) -> Vec<u8> {
    let last = certificate[certificate.len() - SIGNER_BYTES..].to_vec();
    certificate.extend(last);
    certificate[HEAD_BYTES - 4] += 1;
    certificate
}

pub fn seeds() -> Vec<Vec<u8>> {
    let council = &*COUNCIL;
    let certificate = |round: u64, signers: &[usize]| {
        let round = Round::saturating(round);
        let sign = |at: &usize| {
            let validator = council.keys[*at].public_key().address();
            let hash = precommit(round, validator).sign_hash(&council.chain_id);
            CommitSignature { validator, signature: council.keys[*at].sign(hash.as_bytes()) }
        };
        Certificate::new(HEIGHT, round, BLOCK, signers.iter().map(sign).collect()).encode()
    };
    let signers: [&[usize]; 6] = [&[0, 1], &[0, 1, 2, 3], &[0, 2], &[0, 2, 3], &[1, 2, 3], &[]];
    let mut seeds: Vec<_> = signers.iter().map(|signers| certificate(0, signers)).collect();
    seeds.push(certificate(3, &[0, 1, 3]));
    seeds.push(repeat_signer(certificate(0, &[0])));
    seeds.push(repeat_signer(certificate(0, &[1, 0])));
    seeds
}
