#![allow(clippy::unwrap_used)]

use ait_engine::block::Header;
use ait_engine::execute::BlockBuilder;
use ait_engine::state::{Account, Key, MemoryState, Unproven};
use ait_engine::transaction::Payload;
use ait_engine::types::{Amount, Hash, Nonce, StateRoot, TimestampMs};

use super::*;
use crate::devnet::DevnetPlan;

/// A chain of one block: the state before it, the parent's header and the block.
struct World {
    state: MemoryState,
    parent: Header,
    block: Block,
}

impl World {
    fn new() -> Self {
        let plan = DevnetPlan::new([42; 32], 1_700_000_000).unwrap();
        let genesis = plan.document.build().unwrap();
        let (parent, mut state) = (genesis.header, MemoryState::default());
        state.apply(&genesis.state);
        let time = TimestampMs::saturating(parent.time.get() + 1_000);
        let proposer = plan.validator.public_key().address();
        let mut builder = BlockBuilder::new(&state, &parent, time, proposer).unwrap();
        for n in 0..3 {
            let to = plan.names.resolve(&format!("to-{n}")).unwrap();
            let payload = Payload::Transfer { to, amount: Amount::saturating(5) };
            let (nonce, fee) = (Nonce::saturating(n), Amount::saturating(1));
            let alice = plan.names.secret_key("alice");
            let signed =
                Transaction::sign(&alice, parent.chain_id, nonce, fee, None, payload).verify();
            builder.push(signed.unwrap()).unwrap();
        }
        let block = builder.finish().unwrap().0;
        Self { state, parent, block }
    }

    fn record(&self, change: impl FnOnce(&mut Block)) -> Divergence {
        let mut block = self.block.clone();
        change(&mut block);
        Divergence::record(&self.state, &self.parent, &block, "it differs").unwrap()
    }
}

fn wrong_root(block: &mut Block) {
    block.header.state_root = StateRoot([7; 32]);
}

fn names(examined: &Examined) -> Vec<&str> {
    examined.fields.iter().map(|field| field.name).collect()
}

#[test]
fn names_each_field_that_differs_with_all_three_values() {
    let world = World::new();
    let divergence = world.record(|block| {
        wrong_root(block);
        block.header.outcomes_root = Hash([8; 32]);
    });
    let examined = examine(&divergence).unwrap();
    assert_eq!((examined.verdict(), examined.is_as_made), (Verdict::Differs, true));
    assert_eq!(names(&examined), ["outcomes_root", "state_root"]);
    let field = &examined.fields[1];
    let right = Some(world.block.header.state_root.to_string());
    assert_eq!(field.header, StateRoot([7; 32]).to_string());
    assert_eq!((&field.here, &field.maker), (&right, &right));
    // Sender, three recipients, the proposer.
    assert_eq!(examined.entries.len(), 5);
    assert_eq!(examined.entries.iter().filter(|entry| entry.before.is_none()).count(), 4);
}

#[test]
fn a_good_block_agrees_and_a_refused_one_says_why() {
    let world = World::new();
    let examined = examine(&world.record(|_| ())).unwrap();
    assert_eq!((examined.verdict(), names(&examined).len()), (Verdict::Agrees, 0));
    let refused = world.record(|block| drop(block.transactions.remove(0)));
    assert!(matches!(refused.executed, Executed::Refused { .. }));
    assert_eq!(Divergence::decode(&refused.encode()).as_ref(), Ok(&refused));
    let examined = examine(&refused).unwrap();
    assert_eq!((examined.verdict(), examined.is_as_made), (Verdict::Differs, true));
    let forged = world.record(|block| block.transactions[1].fee = Amount::saturating(2));
    assert_eq!(examine(&forged).unwrap_err().index, 1);
}

#[test]
fn tells_machines_that_disagree_and_states_that_are_not_the_parents() {
    let world = World::new();
    let mut divergence = world.record(|_| ());
    let Executed::Block(made) = &mut divergence.executed else { panic!("refused") };
    made.header.state_root = StateRoot([9; 32]);
    let (_, leaf) = made.leaves.pop_first().unwrap();
    let examined = examine(&divergence).unwrap();
    assert_eq!((examined.verdict(), examined.is_as_made), (Verdict::Agrees, false));
    assert_eq!(examined.fields[0].maker, Some(StateRoot([9; 32]).to_string()));
    assert!(examined.entries.iter().all(|entry| entry.key != leaf.key || entry.maker.is_none()));

    divergence.parent.state_root = StateRoot([1; 32]);
    let examined = examine(&divergence).unwrap();
    assert_eq!(examined.verdict(), Verdict::Unproven);
    assert!(matches!(examined.proof, Err(Unproven::Root { .. })));

    let mut bare = world.record(|_| ());
    bare.state = RecordedState::default();
    let examined = examine(&bare).unwrap();
    assert!(matches!(examined.proof, Err(Unproven::Lacks(_))));
    assert!(matches!(examined.here, Executed::Refused { .. }));
}

#[test]
fn a_node_with_a_damaged_state_is_told_from_a_wrong_block() {
    let mut world = World::new();
    let plan = DevnetPlan::new([42; 32], 1_700_000_000).unwrap();
    let key = Key::account(&plan.names.resolve("alice").unwrap());
    let number = world.state.number_of(&key).unwrap().unwrap();
    let mut leaf = world.state.leaf(number).unwrap();
    leaf.value = Account { balance: Amount::saturating(77), ..Account::default() }.into();
    let mut writes = plan.document.build().unwrap().state;
    for (at, written) in &mut writes.leaves {
        if *at == number {
            *written = leaf.clone();
        }
    }
    world.state.apply(&writes);
    let divergence = world.record(|_| ());
    let made = &divergence.executed.rebuilt().unwrap().header;
    assert_ne!(made.state_root, world.block.header.state_root);
    let examined = examine(&divergence).unwrap();
    assert_eq!((examined.verdict(), examined.is_as_made), (Verdict::Unproven, true));
}

#[test]
fn refuses_every_cut_and_every_changed_bit_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let divergence = World::new().record(wrong_root);
    let path = write(directory.path(), &divergence).unwrap();
    assert_eq!(read(&path).unwrap(), divergence);
    let bytes = std::fs::read(&path).unwrap();
    for end in 0..bytes.len() {
        assert!(file::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(file::decode(&changed[..]).is_err(), "bit {bit}");
    }
    assert!(file::decode(&[&bytes[..], &[0]].concat()[..]).is_err());
    // A length that promises a GiB takes no memory.
    let promise = [&b"AITDIVRG\x01"[..], &(1_u32 << 30).to_le_bytes()].concat();
    assert!(matches!(file::decode(&promise[..]), Err(BundleError::Length { .. })));
    let over = [&b"AITDIVRG\x01"[..], &u32::MAX.to_le_bytes()].concat();
    assert!(matches!(file::decode(&over[..]), Err(BundleError::TooLong { .. })));
    assert!(matches!(file::decode(&b"AITDIVRG\x02...."[..]), Err(BundleError::Version { .. })));
}

#[test]
fn the_layout_is_frozen() {
    let mut divergence = World::new().record(wrong_root);
    divergence.made_by = "a program on a machine".to_owned();
    let directory = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(write(directory.path(), &divergence).unwrap()).unwrap();
    let digest = blake3::hash(&bytes).to_hex()[..16].to_owned();
    let what = "the layout changed: raise the version of the file, and record the new digest";
    assert_eq!((bytes.len(), digest.as_str()), (3_881, "8dc10ddc8f73da9e"), "{what}");
}

/// As with a checksum made anew by whoever changed it.
#[test]
fn content_that_was_changed_or_cut_is_examined_without_a_panic() {
    let divergence = World::new().record(wrong_root);
    let content = divergence.encode();
    for end in 0..content.len() {
        assert!(Divergence::decode(&content[..end]).is_err(), "cut at {end}");
    }
    let mut agreeing = 0;
    for at in 0..content.len() {
        let mut changed = content.clone();
        changed[at] ^= 1 << (at % 8);
        let Ok(decoded) = Divergence::decode(&changed) else { continue };
        assert_eq!(decoded.encode(), changed, "byte {at} has two spellings");
        let Ok(examined) = examine(&decoded) else { continue };
        agreeing += usize::from(examined.verdict() == Verdict::Agrees);
    }
    assert_eq!(agreeing, 0, "no changed bit makes a wrong header right");
}

#[test]
fn keeps_the_newest_files_and_writes_none_twice() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new();
    let bundle = |n: u8| world.record(|block| block.header.state_root = StateRoot([n; 32]));
    let folder = directory.path().join("divergence");
    let first = write(directory.path(), &bundle(0)).unwrap();
    let id = hex::encode(&bundle(0).block.header.id().0[..8]);
    assert_eq!(first, folder.join(format!("1-{id}.ait")));
    std::fs::write(&first, b"kept as it is").unwrap();
    assert_eq!(write(directory.path(), &bundle(0)).unwrap(), first);
    assert_eq!(std::fs::read(&first).unwrap(), b"kept as it is");
    let old = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().write(true).open(&first).unwrap().set_modified(old).unwrap();
    std::fs::write(folder.join("notes.txt"), b"a person's").unwrap();
    std::fs::write(folder.join(format!("1-{id}.ait.part")), b"half").unwrap();
    for n in 1..=FILES_MAX {
        write(directory.path(), &bundle(u8::try_from(n).unwrap())).unwrap();
    }
    assert!(!first.exists(), "the oldest goes");
    let mut left: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name != "notes.txt");
    assert_eq!(left.len(), FILES_MAX);
    assert!(left.iter().all(|name| name.to_string_lossy().ends_with(".ait")), "{left:?}");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_and_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("a-file");
    std::fs::write(&data_dir, b"").unwrap();
    let divergence = World::new().record(wrong_root);
    assert!(write(&data_dir, &divergence).is_err());
    report(&data_dir, &divergence);
}
