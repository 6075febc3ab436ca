//! Changed inputs: small and large changes of good ones, as a seed says.

use fastrand::Rng;

/// Values at which lengths, counts and signs tip over.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX.unsigned_abs(),
    u64::MAX,
];

/// Longest input that is made.
const BYTES_MAX: usize = 64 * 1024;

/// An input made of those in `pool`; mostly near one of them.
pub fn mutant(rng: &mut Rng, pool: &[Vec<u8>]) -> Vec<u8> {
    let mut input = match pool.is_empty() || rng.u8(..) < 4 {
        true => (0..rng.usize(..200)).map(|_| rng.u8(..)).collect(),
        false => pool[rng.usize(..pool.len())].clone(),
    };
    // Few changes are likelier to leave the rest of an input readable.
    let changes = [0, 1, 1, 1, 2, 2, 4, 16][rng.usize(..8)];
    for _ in 0..changes {
        change(rng, &mut input, pool);
    }
    input.truncate(BYTES_MAX);
    input
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
    let end = input.len();
    let at = rng.usize(..=end);
    // The beginning says what the rest is.
    let at = if rng.bool() { at } else { at.min(rng.usize(..64)) };
    match rng.u8(..13) {
        0..=2 if at < end => input[at] ^= 1 << rng.u8(..8),
        3 if at < end => input[at] = rng.u8(..),
        4 => input.insert(at, rng.u8(..)),
        5 if at < end => {
            let count = rng.usize(1..=(end - at).min(64));
            input.drain(at..at + count);
        }
        6 => input.truncate(at),
        7 => {
            let edge = EDGES[rng.usize(..EDGES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][rng.usize(..4)];
            for (place, byte) in input[at..].iter_mut().zip(&edge[..width]) {
                *place = *byte;
            }
        }
        8 if at < end => {
            let count = rng.usize(1..=(end - at).min(128));
            let part = input[at..at + count].to_vec();
            let to = rng.usize(..=end);
            input.splice(to..to, part);
        }
        9 if !pool.is_empty() => {
            let other = &pool[rng.usize(..pool.len())];
            let from = rng.usize(..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        10 => number(rng, input),
        11 => value(rng, input),
        _ if end > 0 => {
            input[rng.usize(..end)] = b"\"{}[]:,.-+eE\\/ \n0019%#&=x\0"[rng.usize(..26)]
        }
        _ => input.push(rng.u8(..)),
    }
}

/// Puts another number in the place of one in a text.
fn number(rng: &mut Rng, input: &mut Vec<u8>) {
    let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
    if digits.is_empty() {
        return;
    }
    let from = digits[rng.usize(..digits.len())];
    let length = input[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let edge = EDGES[rng.usize(..EDGES.len())].wrapping_add(u64::from(rng.u8(..3)));
    let text = match rng.u8(..6) {
        0 => format!("-{edge}"),
        1 => format!("{edge}.5"),
        2 => format!("{edge}e3"),
        _ => edge.to_string(),
    };
    input.splice(from..from + length, text.into_bytes());
}

/// Puts a value of another kind in the place of a text of JSON or TOML.
fn value(rng: &mut Rng, input: &mut Vec<u8>) {
    const VALUES: [&str; 8] = ["null", "true", "7", "1.5", "[]", "{}", "\"\"", "[{}]"];
    let quotes: Vec<usize> = (0..input.len()).filter(|at| input[*at] == b'"').collect();
    if quotes.len() < 2 {
        return;
    }
    let first = rng.usize(..quotes.len() - 1);
    let other = VALUES[rng.usize(..VALUES.len())];
    input.splice(quotes[first]..=quotes[first + 1], other.bytes());
}
