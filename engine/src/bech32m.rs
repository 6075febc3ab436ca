//! The text of an address, read by tables: BIP 350 (bech32m) for this prefix and length.
//!
//! Every transaction that comes as JSON has two addresses, and a genesis document millions. This
//! reads what is written as it should be; the library reads everything else, and says what is
//! wrong with it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "tables that are made while compiling, where a fault is an error; later one index of five bits"
)]

const PREFIX: &[u8] = b"ait1";
/// Characters after the prefix: of 32 bytes, and of the checksum.
const DATA: usize = 52;
const CHECKSUM: usize = 6;
/// What a good checksum leaves (BIP 350).
const CONSTANT: u32 = 0x2bc8_30a3;
const CHARACTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// No character of the alphabet has a value with one of these bits.
const NONE: u8 = 0xe0;

/// Value of each lower-case character.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut at = 0;
    while at < 32 {
        values[CHARACTERS[at] as usize] = at as u8;
        at += 1;
    }
    values
};

/// What the five bits that leave the checksum add to it.
const FEEDBACK: [u32; 32] = {
    let generator = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mut feedback = [0; 32];
    let mut top = 0;
    while top < 32 {
        let mut bit = 0;
        while bit < 5 {
            if top >> bit & 1 == 1 {
                feedback[top] ^= generator[bit];
            }
            bit += 1;
        }
        top += 1;
    }
    feedback
};

/// The checksum after one more value.
const fn step(sum: u32, value: u8) -> u32 {
    ((sum & 0x01ff_ffff) << 5) ^ value as u32 ^ FEEDBACK[(sum >> 25) as usize & 31]
}

/// What is left of the checksum of a text whose values are all 0 after the prefix.
const REST: u32 = {
    let mut sum = 1;
    let mut at = 0;
    while at < PREFIX.len() - 1 {
        sum = step(sum, PREFIX[at] >> 5);
        at += 1;
    }
    sum = step(sum, 0);
    at = 0;
    while at < PREFIX.len() - 1 {
        sum = step(sum, PREFIX[at] & 31);
        at += 1;
    }
    at = 0;
    while at < DATA + CHECKSUM {
        sum = step(sum, 0);
        at += 1;
    }
    sum
};

/// What each value adds to the checksum, by its place: the checksum is linear, so that no value
/// waits for the sum of those before it.
const ADDED: [[u32; 32]; DATA + CHECKSUM] = {
    let mut added = [[0; 32]; DATA + CHECKSUM];
    let mut value = 1;
    while value < 32 {
        let mut sum = value as u32;
        let mut at = DATA + CHECKSUM;
        while at > 0 {
            at -= 1;
            added[at][value] = sum;
            sum = step(sum, 0);
        }
        value += 1;
    }
    added
};

/// The 32 bytes of an address in lower case without a fault; none of any other text.
pub(crate) fn decode(text: &str) -> Option<[u8; 32]> {
    let characters: &[u8; DATA + CHECKSUM] =
        text.as_bytes().strip_prefix(PREFIX)?.try_into().ok()?;
    let value = |character| VALUES.get(usize::from(character)).copied().unwrap_or(NONE);
    let values = characters.map(value);
    let (mut sum, mut all) = (REST, 0);
    for (value, added) in values.iter().zip(&ADDED) {
        sum ^= added[usize::from(value & 31)];
        all |= value;
    }
    if all & NONE != 0 || sum != CONSTANT {
        return None;
    }
    let (data, _) = values.split_first_chunk::<DATA>()?;
    let mut bytes = [0; 32];
    // Eight characters are five bytes; the last four are two bytes and four bits of 0.
    let (whole, rest) = data.as_chunks::<8>();
    for (to, from) in bytes.chunks_mut(5).zip(whole) {
        let bits = from.iter().fold(0_u64, |bits, value| bits << 5 | u64::from(*value));
        to.copy_from_slice(bits.to_be_bytes().last_chunk::<5>()?);
    }
    let bits = rest.iter().fold(0_u32, |bits, value| bits << 5 | u32::from(*value));
    let [.., high, low] = (bits >> 4).to_be_bytes();
    *bytes.last_chunk_mut::<2>()? = [high, low];
    (bits & 15 == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::types::Address;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes: [u8; 32]) {
            prop_assert_eq!(decode(&Address(bytes).to_string()), Some(bytes));
        }

        #[test]
        fn what_is_read_is_what_the_library_reads(
            bytes: [u8; 32],
            at in 0_usize..62,
            with in "[a-z0-9A-Z1]",
        ) {
            let mut text = Address(bytes).to_string();
            text.replace_range(at..=at, &with);
            let expected = Address::by_library(&text).ok().map(|address| address.0);
            let found = decode(&text);
            prop_assert!(found.is_none() || found == expected, "{text}");
        }
    }

    #[test]
    fn other_forms_are_left_to_the_library() {
        let text = Address([7; 32]).to_string();
        let upper = text.to_uppercase();
        assert_eq!(decode(&upper), None);
        assert_eq!(upper.parse(), Ok(Address([7; 32])));
        for bad in ["", "ait1", &text[1..], &text[..61], &format!("{text}q"), "ait1é"] {
            assert_eq!(decode(bad), None, "{bad}");
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
