//! A block handed in over HTTP: as JSON or as canonical bytes in base64. What is read in one
//! form is read as the same in the other, is what the body says of it, and its certificate is
//! kept as it was.

use ait_engine::types::BlockId;
use ait_net::wire::{
    CertificateJson, HeaderJson, ImportForm, TransactionJson, canonical_block, read_canonical,
};
use serde_json::{Value, json};

use crate::world::WORLD;

pub fn run(input: &[u8]) {
    let Ok(form) = ImportForm::parse(input) else { return };
    let (height, hash, parent) = (form.height, form.hash, form.parent);
    let Ok((block, certificate)) = form.block() else { return };
    assert_eq!((block.header.height, block.header.parent), (height, parent));
    assert_eq!(block.header.id(), hash, "another block than the body names");
    let text = canonical_block(&block, &certificate);
    match read_canonical(&text) {
        Ok(read) => assert_eq!(read, (block, certificate), "the canonical form is another"),
        // Its form does not say whether the header counts these transactions.
        Err(error) => assert!(!block.body_matches_header(), "{error}"),
    }
}

/// A block as `GET /rpc/blocks/{height}` answers, as far as it is read.
fn body(at: usize) -> Value {
    let (block, certificate) = &WORLD.blocks[at];
    let transactions: Vec<_> = block.transactions.iter().map(TransactionJson::from).collect();
    json!({
        "height": block.header.height,
        "hash": block.header.id(),
        "parent_hash": block.header.parent,
        "header": HeaderJson::from(&block.header),
        "transactions": transactions,
        "certificate": CertificateJson::from(certificate),
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for at in [0, 1] {
        let (block, certificate) = &WORLD.blocks[at];
        let canonical = canonical_block(block, certificate);
        seeds.push(json!({ "canonical": canonical }).to_string().into_bytes());
        let both = json!({ "canonical": canonical, "height": 1, "hash": BlockId([1; 32]) });
        seeds.push(both.to_string().into_bytes());
        seeds.push(body(at).to_string().into_bytes());
        let mut unsigned = body(at);
        unsigned["certificate"].take();
        seeds.push(unsigned.to_string().into_bytes());
    }
    seeds
}
