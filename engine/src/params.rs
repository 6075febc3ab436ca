//! On-chain parameters, their bounds, and the changes that `PARAM_SET` makes.
//!
//! Every parameter is a `u64` with a name, a lower and an upper bound, listed once
//! in [`PARAMS`]; genesis, state encoding and JSON all follow from that list.

use crate::codec::{Canonical, DecodeError, Reader, Writer};
use crate::crypto::PublicKey;
use crate::limits::{
    AMOUNT_MAX, ATTESTATION_COUNT_MAX, BLOCK_BODY_BYTES_MAX, BLOCK_TRANSACTION_COUNT_MAX,
    NAME_BYTES_MAX, PARAM_CHANGE_COUNT_MAX, TRANSACTION_BYTES_MAX,
};
use crate::types::Address;

const VERSION: u8 = 1;

/// One parameter: its name, meaning, bounds and default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParamSpec {
    /// Name in genesis, JSON and `PARAM_SET`.
    pub name: &'static str,
    /// What it means, with its unit.
    pub about: &'static str,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
    /// Value where a genesis names none (the devnet's).
    pub default: u64,
}

macro_rules! params {
    ($($field:ident: $min:expr, $max:expr, $default:expr, $about:expr;)*) => {
        /// Values of all parameters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct Params {
            $(#[doc = $about] pub $field: u64,)*
        }

        /// Every parameter in the order of its encoding.
        pub const PARAMS: &[ParamSpec] = &[
            $(ParamSpec { name: stringify!($field), about: $about, min: $min, max: $max, default: $default },)*
        ];

        impl Default for Params {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Params {
            /// Names and values in the order of the encoding.
            #[must_use]
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field),)*]
            }

            fn field_mut(&mut self, name: &str) -> Option<&mut u64> {
                match name {
                    $(stringify!($field) => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

params! {
    mint_per_unit: 0, 1_000_000_000_000, 1_000, "Base units minted to the provider for one attested compute unit.";
    coordinator_ratio_bps: 0, 10_000, 500, "Coordinators' share, minted on top of the provider's, in basis points of it.";
    base_fee: 0, AMOUNT_MAX, 10, "Advised base fee in base units (what estimateFee answers).";
    fee_per_byte: 0, 1_000_000_000, 1, "Advised fee in base units for each byte of the payload.";
    min_fee_base: 0, AMOUNT_MAX, 0, "Enforced base fee in base units.";
    min_fee_per_byte: 0, 1_000_000_000, 0, "Enforced fee in base units for each byte of the payload.";
    attestation_threshold: 1, ATTESTATION_COUNT_MAX as u64, 1, "How many coordinators must have attested a receipt.";
    receipt_age_s_max: 60, 10 * 366 * 86_400, 30 * 86_400, "Seconds after its completion within which a receipt can be claimed.";
    receipt_micro_units_max: 1, 1_000_000_000_000_000, 1_000_000_000_000, "Most compute units of one receipt, in millionths.";
    block_transactions_max: 1, BLOCK_TRANSACTION_COUNT_MAX as u64, 20_000, "Most transactions in a block.";
    block_bytes_max: TRANSACTION_BYTES_MAX as u64, BLOCK_BODY_BYTES_MAX as u64, 8 * 1024 * 1024, "Most bytes of transactions in a block.";
}

/// Why a parameter does not take a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// No such parameter.
    #[error("there is no parameter named {name:?}")]
    Unknown {
        /// The name given.
        name: String,
    },
    /// Outside of its bounds.
    #[error("{name} is {found}, it must be between {min} and {max}")]
    OutOfBounds {
        /// The parameter.
        name: &'static str,
        /// The value given.
        found: u64,
        /// Its lower bound.
        min: u64,
        /// Its upper bound.
        max: u64,
    },
}

impl Params {
    /// Sets one parameter.
    ///
    /// # Errors
    /// [`ParamError`] for an unknown name or a value outside of its bounds.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), ParamError> {
        let unknown = || ParamError::Unknown { name: name.to_owned() };
        let spec = PARAMS.iter().find(|spec| spec.name == name).ok_or_else(unknown)?;
        if value < spec.min || value > spec.max {
            let ParamSpec { name, min, max, .. } = *spec;
            return Err(ParamError::OutOfBounds { name, found: value, min, max });
        }
        *self.field_mut(name).ok_or_else(unknown)? = value;
        Ok(())
    }

    /// The least fee for a payload of `byte_count` bytes; `None` if it overflows.
    #[must_use]
    pub fn min_fee(&self, byte_count: usize) -> Option<u64> {
        let bytes = u64::try_from(byte_count).ok()?;
        self.min_fee_per_byte.checked_mul(bytes)?.checked_add(self.min_fee_base)
    }

    /// The advised fee for a payload of `byte_count` bytes; `None` if it overflows.
    #[must_use]
    pub fn advised_fee(&self, byte_count: usize) -> Option<u64> {
        let bytes = u64::try_from(byte_count).ok()?;
        self.fee_per_byte.checked_mul(bytes)?.checked_add(self.base_fee)
    }
}

/// What stands in the state entry of the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// The parameters.
    pub params: Params,
    /// Who may change them; nobody if none.
    pub governor: Option<Address>,
    /// Who may mint; nobody if none.
    pub minter: Option<Address>,
}

impl Canonical for Settings {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        for (_, value) in self.params.entries() {
            out.put_u64(value);
        }
        for address in [self.governor, self.minter] {
            out.put_u8(u8::from(address.is_some()));
            out.put(&address.unwrap_or(Address::ZERO).0);
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.tag("settings version", VERSION)?;
        let mut params = Params::default();
        for spec in PARAMS {
            params
                .set(spec.name, reader.u64()?)
                .map_err(|_| DecodeError::Invalid { what: spec.name })?;
        }
        let mut role = |what| {
            let is_some = reader.flag(what)?;
            let address = reader.address()?;
            match (is_some, address) {
                (false, Address::ZERO) => Ok(None),
                (false, _) => Err(DecodeError::Invalid { what }),
                (true, address) => Ok(Some(address)),
            }
        };
        let governor = role("governor")?;
        let minter = role("minter")?;
        Ok(Self { params, governor, minter })
    }
}

/// One change that a `PARAM_SET` makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParamChange {
    /// Sets a parameter.
    Param {
        /// Its name.
        name: String,
        /// Its new value.
        value: u64,
    },
    /// Adds, changes or retires a coordinator.
    Coordinator {
        /// The key that attests.
        public_key: PublicKey,
        /// Account that receives its share.
        payout: Address,
        /// Whether its attestations count from now on.
        active: bool,
    },
    /// Hands the governor's role over.
    Governor {
        /// The new governor.
        address: Address,
    },
}

/// Changes of one `PARAM_SET`, applied together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamSet {
    /// The changes, in strictly ascending order.
    changes: Vec<ParamChange>,
}

impl ParamSet {
    /// These changes in canonical order; none may stand twice.
    ///
    /// # Errors
    /// [`DecodeError`] for no change, too many, or the same twice.
    pub fn new(mut changes: Vec<ParamChange>) -> Result<Self, DecodeError> {
        changes.sort();
        let found = changes.len();
        if found == 0 {
            return Err(DecodeError::Invalid { what: "empty list of parameter changes" });
        }
        if found > PARAM_CHANGE_COUNT_MAX {
            let max = PARAM_CHANGE_COUNT_MAX as u64;
            return Err(DecodeError::TooLarge {
                what: "parameter change count",
                found: found as u64,
                max,
            });
        }
        if changes.windows(2).any(same_subject) {
            return Err(DecodeError::Invalid { what: "parameter changed twice" });
        }
        Ok(Self { changes })
    }

    /// The changes in order.
    #[must_use]
    pub fn changes(&self) -> &[ParamChange] {
        &self.changes
    }
}

fn same_subject(pair: &[ParamChange]) -> bool {
    match pair {
        [ParamChange::Param { name: a, .. }, ParamChange::Param { name: b, .. }] => a == b,
        [
            ParamChange::Coordinator { public_key: a, .. },
            ParamChange::Coordinator { public_key: b, .. },
        ] => a == b,
        [ParamChange::Governor { .. }, ParamChange::Governor { .. }] => true,
        _ => false,
    }
}

impl Canonical for ParamSet {
    fn encode_to(&self, out: &mut Vec<u8>) {
        out.put_count(self.changes.len());
        for change in &self.changes {
            match change {
                ParamChange::Param { name, value } => {
                    out.put_u8(1);
                    out.put_bytes(name.as_bytes());
                    out.put_u64(*value);
                }
                ParamChange::Coordinator { public_key, payout, active } => {
                    out.put_u8(2);
                    out.put(&public_key.0);
                    out.put(&payout.0);
                    out.put_u8(u8::from(*active));
                }
                ParamChange::Governor { address } => {
                    out.put_u8(3);
                    out.put(&address.0);
                }
            }
        }
    }

    fn decode_from(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("parameter change count", PARAM_CHANGE_COUNT_MAX)?;
        let mut changes = Vec::with_capacity(count);
        for _ in 0..count {
            changes.push(match reader.u8()? {
                1 => ParamChange::Param {
                    name: reader.text("parameter name", NAME_BYTES_MAX)?.to_owned(),
                    value: reader.u64()?,
                },
                2 => ParamChange::Coordinator {
                    public_key: PublicKey(reader.array()?),
                    payout: reader.address()?,
                    active: reader.flag("coordinator active flag")?,
                },
                3 => ParamChange::Governor { address: reader.address()? },
                found => {
                    return Err(DecodeError::Unknown {
                        what: "parameter change",
                        found: u64::from(found),
                    });
                }
            });
        }
        let sorted = changes.is_sorted();
        let set = Self::new(changes)?;
        if sorted {
            Ok(set)
        } else {
            Err(DecodeError::Invalid { what: "order of parameter changes" })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn defaults_are_in_bounds_and_round_trip() {
        for spec in PARAMS {
            Params::default().set(spec.name, spec.default).unwrap();
            let over = spec.max.checked_add(1).unwrap();
            let error = Params::default().set(spec.name, over).unwrap_err();
            assert!(matches!(error, ParamError::OutOfBounds { .. }));
        }
        let settings = Settings { governor: Some(Address([3; 32])), ..Settings::default() };
        assert_eq!(Settings::decode(&settings.encode()).unwrap(), settings);
    }

    #[test]
    fn changes_have_one_order_and_no_doubles() {
        let param = |name: &str, value| ParamChange::Param { name: name.to_owned(), value };
        let set = ParamSet::new(vec![param("b", 1), param("a", 2)]).unwrap();
        assert_eq!(ParamSet::decode(&set.encode()).unwrap(), set);
        assert!(ParamSet::new(vec![param("a", 1), param("a", 2)]).is_err());
        assert!(ParamSet::new(vec![]).is_err());
        let unsorted = ParamSet { changes: vec![param("b", 1), param("a", 2)] };
        assert!(ParamSet::decode(&unsorted.encode()).is_err());
    }
}
