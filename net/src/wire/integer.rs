//! Integers as clients of the old node write them: `10`, `"10"` or `10.0`.
//! Never rounded: what is not a whole number is refused.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, de};
use serde_json::Value;

/// Whole numbers up to this are exact as a JSON float.
const EXACT_FLOAT_MAX: f64 = 9_007_199_254_740_992.0;

/// The whole number that a JSON value stands for, or what is wrong with it.
///
/// # Errors
/// A sentence that names what was found and what is expected.
pub fn read_integer(value: &Value) -> Result<u64, String> {
    let found = match value {
        Value::Number(number) => {
            if let Some(integer) = number.as_u64() {
                return Ok(integer);
            }
            if let Some(float) = number.as_f64()
                && float.fract() == 0.0
                && (0.0..=EXACT_FLOAT_MAX).contains(&float)
            {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole, not negative and exact, checked above"
                )]
                return Ok(float as u64);
            }
            number.to_string()
        }
        Value::String(text) => {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if let (true, Ok(integer)) = (digits, text.parse()) {
                return Ok(integer);
            }
            format!("{:?}", text.chars().take(40).collect::<String>())
        }
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    };
    Err(format!("{found} is not a whole number from 0 to 18446744073709551615"))
}

/// Reads an integer field leniently; for `#[serde(deserialize_with)]`.
///
/// # Errors
/// As [`read_integer`].
pub fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    read_integer(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads an integer field that may be null or absent; for `#[serde(default, deserialize_with)]`.
///
/// # Errors
/// As [`read_integer`].
pub fn optional_integer<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read_integer(&value).map(Some).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn accepts_integers_decimal_strings_and_integral_floats() {
        assert_eq!(read_integer(&json!(10)), Ok(10));
        assert_eq!(read_integer(&json!("10")), Ok(10));
        assert_eq!(read_integer(&json!(10.0)), Ok(10));
        assert_eq!(read_integer(&json!(u64::MAX)), Ok(u64::MAX));
        assert_eq!(read_integer(&json!(u64::MAX.to_string())), Ok(u64::MAX));
    }

    #[test]
    fn refuses_what_would_have_to_be_rounded() {
        for value in [
            json!(10.5),
            json!(-1),
            json!("-1"),
            json!("+1"),
            json!(" 1"),
            json!("1.0"),
            json!(""),
            json!(1e19),
            json!(9_007_199_254_740_994.0),
            json!("18446744073709551616"),
            json!(null),
            json!(true),
            json!([1]),
            json!({}),
        ] {
            assert!(read_integer(&value).is_err(), "{value} was accepted");
        }
    }
}
