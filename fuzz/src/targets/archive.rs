//! Archives. The first byte says in what pieces the file is read. Read in pieces it is what it
//! is as a whole; one that is read to its end is what writing its content gives, byte for byte.

use std::io::Read;

use ait_engine::block::Block;
use ait_engine::certificate::Certificate;
use ait_engine::types::Height;
use ait_node::archive::{ArchiveError, ArchiveReader, ArchiveWriter};

use crate::world::WORLD;

struct Read1 {
    genesis: String,
    first: Height,
    blocks: Vec<(Block, Certificate)>,
    end: Option<String>,
}

/// Reads as far as it goes, and why it ended there.
fn read(input: impl Read) -> Result<Read1, ArchiveError> {
    let mut reader = ArchiveReader::begin(input)?;
    let (genesis, first) = (reader.genesis().to_owned(), reader.first());
    let mut blocks = Vec::new();
    let end = loop {
        match reader.next_block() {
            Ok(Some(block)) => blocks.push(block),
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    Ok(Read1 { genesis, first, blocks, end })
}

/// Gives at most so many bytes at once.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let most = out.len().min(self.1);
        self.0.read(&mut out[..most])
    }
}

pub fn run(input: &[u8]) {
    let Some((pieces, bytes)) = input.split_first() else { return };
    let whole = read(bytes);
    let parted = read(Pieces(bytes, usize::from(*pieces).max(1)));
    let (whole, parted) = match (whole, parted) {
        (Ok(whole), Ok(parted)) => (whole, parted),
        (a, b) => {
            let said = [a, b].map(|read| read.err().map(|error| error.to_string()));
            assert_eq!(said[0], said[1], "the size of pieces shows");
            return;
        }
    };
    assert_eq!((&whole.blocks, &whole.end), (&parted.blocks, &parted.end), "pieces show");
    if whole.end.is_none() {
        let written = write(&whole.genesis, whole.first, &whole.blocks);
        assert_eq!(written, bytes, "an archive with another spelling");
    }
}

fn write(genesis: &str, first: Height, blocks: &[(Block, Certificate)]) -> Vec<u8> {
    let mut writer = ArchiveWriter::begin(Vec::new(), genesis, first).unwrap();
    for (block, certificate) in blocks {
        writer.add(block, certificate).unwrap();
    }
    writer.end().unwrap()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let small = "{\"chain_id\":\"x\"}";
    [(&WORLD.genesis[..], 1_u64, 2), (small, 3, 1), (small, 0, 0)]
        .iter()
        .zip([255, 7, 1])
        .map(|((genesis, first, count), pieces)| {
            let archive = write(genesis, Height::saturating(*first), &WORLD.blocks[..*count]);
            [&[pieces][..], &archive].concat()
        })
        .collect()
}
