//! A bounded JSON reader and the writer of the one canonical text that receipts are
//! signed in: keys sorted by code point, no spaces, no nulls, ASCII with `\u` escapes,
//! as Python's `json.dumps(sort_keys=True, separators=(",", ":"))` writes it.
//!
//! A text is canonical if reading and writing it gives it back. Numbers are kept as
//! they are spelled: no float is ever made here.

use crate::limits::{RECEIPT_BYTES_MAX, RECEIPT_DEPTH_MAX};

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is spelled.
    Number(String),
    /// A string.
    Text(String),
    /// A list.
    Array(Vec<Json>),
    /// An object, in the order of the text, without duplicate keys.
    Object(Vec<(String, Json)>),
}

/// Why a text is not JSON within the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Longer than a receipt may be.
    #[error("longer than {RECEIPT_BYTES_MAX} bytes")]
    TooLong,
    /// Nested too deeply.
    #[error("nested more than {RECEIPT_DEPTH_MAX} deep at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// One key twice in an object.
    #[error("a key stands twice in an object before byte {at}")]
    DuplicateKey {
        /// Where.
        at: usize,
    },
    /// Not JSON.
    #[error("not JSON at byte {at}: expected {expected}")]
    Syntax {
        /// Where.
        at: usize,
        /// What should stand there.
        expected: &'static str,
    },
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    depth: usize,
}

/// Reads one JSON value that fills the text.
///
/// # Errors
/// [`JsonError`] for anything else, for duplicate keys, and over the bounds.
pub fn parse(input: &[u8]) -> Result<Json, JsonError> {
    if input.len() > RECEIPT_BYTES_MAX {
        return Err(JsonError::TooLong);
    }
    let mut parser = Parser { input, at: 0, depth: 0 };
    let value = parser.value()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(value),
        Some(_) => Err(parser.expected("the end")),
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    const fn expected(&self, expected: &'static str) -> JsonError {
        JsonError::Syntax { at: self.at, expected }
    }

    /// Goes on by bytes that were looked at, so that the place is never past the end.
    const fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.skip(1);
        }
    }

    fn eat(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.skip(1);
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    fn value(&mut self) -> Result<Json, JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.text().map(Json::Text),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.expected("a value")),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Json, JsonError>,
    ) -> Result<Json, JsonError> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > RECEIPT_DEPTH_MAX {
            return Err(JsonError::TooDeep { at: self.at });
        }
        self.skip(1);
        let value = read(self)?;
        self.depth = self.depth.saturating_sub(1);
        Ok(value)
    }

    fn word(&mut self, word: &'static str, value: Json) -> Result<Json, JsonError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.expected(word));
        }
        self.skip(word.len());
        Ok(value)
    }

    fn object(&mut self) -> Result<Json, JsonError> {
        let mut members: Vec<(String, Json)> = Vec::new();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.skip(1);
            return Ok(Json::Object(members));
        }
        loop {
            self.skip_space();
            let key = self.text()?;
            self.skip_space();
            self.eat(b':', "':'")?;
            let value = self.value()?;
            members.push((key, value));
            self.skip_space();
            if self.peek() == Some(b'}') {
                self.skip(1);
                break;
            }
            self.eat(b',', "',' or '}'")?;
        }
        let mut keys: Vec<_> = members.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(JsonError::DuplicateKey { at: self.at });
        }
        Ok(Json::Object(members))
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.skip(1);
            return Ok(Json::Array(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_space();
            if self.peek() == Some(b']') {
                self.skip(1);
                return Ok(Json::Array(items));
            }
            self.eat(b',', "',' or ']'")?;
        }
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.skip(1);
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.skip(1);
        }
        if self.peek() == Some(b'0') {
            self.skip(1);
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.skip(1);
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.skip(1);
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.skip(1);
            }
            self.digits()?;
        }
        let spelled = self.input.get(start..self.at).unwrap_or_default();
        Ok(Json::Number(String::from_utf8_lossy(spelled).into_owned()))
    }

    fn text(&mut self) -> Result<String, JsonError> {
        self.eat(b'"', "'\"'")?;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.skip(1);
                    return String::from_utf8(text).map_err(|_| self.expected("UTF-8"));
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    text.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Some(byte @ 0x20..) => {
                    text.push(byte);
                    self.skip(1);
                }
                _ => return Err(self.expected("a character or '\"'")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.skip(1);
        let byte = self.peek().ok_or_else(|| self.expected("an escape"))?;
        self.skip(1);
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    self.eat(b'\\', "the second half of a pair")?;
                    self.eat(b'u', "the second half of a pair")?;
                    let second = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.expected("the second half of a pair"));
                    }
                    // Ten bits of each, counted from the first character that needs a pair.
                    ((first & 0x3ff) << 10 | (second & 0x3ff)).saturating_add(0x1_0000)
                } else {
                    first
                };
                char::from_u32(code).ok_or_else(|| self.expected("a character"))?
            }
            _ => return Err(self.expected("an escape")),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code << 4 | digit.ok_or_else(|| self.expected("four hex digits"))?;
            self.skip(1);
        }
        Ok(code)
    }
}

impl Json {
    /// The canonical text. Nulls are left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(spelled) => out.push_str(spelled),
            Self::Text(text) => write_text(text, out),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().filter(|item| **item != Self::Null).enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> =
                    members.iter().filter(|(_, value)| *value != Self::Null).collect();
                // The order of UTF-8 bytes is that of code points.
                members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                out.push('{');
                for (at, (key, value)) in members.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The member of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str("\\u");
                    out.push_str(&hex::encode(unit.to_be_bytes()));
                }
            }
        }
    }
    out.push('"');
}

/// A decimal as an integer of millionths: at most six places, not negative.
///
/// Gives nothing for a sign, more places than six that are not zero, or a value over 2^64 - 1.
#[must_use]
pub fn millionths(spelled: &str) -> Option<u64> {
    let (mantissa, exponent) = match spelled.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (spelled, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || all.len() > 30 || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: u128 = all.parse().ok()?;
    let scale = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?.checked_add(6)?;
    let power = 10_u128.checked_pow(scale.unsigned_abs());
    let value = match (digits, power) {
        (0, _) => 0,
        (digits, Some(power)) if scale >= 0 => digits.checked_mul(power)?,
        (digits, Some(power)) if digits.checked_rem(power) == Some(0) => {
            digits.checked_div(power)?
        }
        _ => return None,
    };
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_what_python_writes() {
        // Left: any spelling; right: json.dumps(.., sort_keys=True, separators=(",", ":")).
        let cases = [
            (r#"{ "b": 1, "a": [1, null, "x"], "n": null }"#, r#"{"a":[1,"x"],"b":1}"#),
            (r#"{"é":"€😀\u007f"}"#, r#"{"\u00e9":"\u20ac\ud83d\ude00\u007f"}"#),
            (r#""\u0001\b\f\n\r\t\"\\\/""#, r#""\u0001\b\f\n\r\t\"\\/""#),
            (r#"{"x":1.0,"y":1e-07,"z":-0}"#, r#"{"x":1.0,"y":1e-07,"z":-0}"#),
            (r#"{"\ud83d\ude00":1,"\uffff":2}"#, r#"{"\uffff":2,"\ud83d\ude00":1}"#),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text.as_bytes()).unwrap().canonical(), expected);
        }
    }

    #[test]
    fn refuses_what_is_not_json() {
        let deep = "[".repeat(RECEIPT_DEPTH_MAX + 1) + &"]".repeat(RECEIPT_DEPTH_MAX + 1);
        let long = format!("\"{}\"", "x".repeat(RECEIPT_BYTES_MAX));
        let bad = [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "NaN",
            "Infinity",
            "tru",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "\"\\x\"",
            "\"a\nb\"",
            "1 2",
            "{\"a\":1,\"a\":2}",
            "'a'",
            &deep,
            &long,
        ];
        for text in bad {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn reads_decimals_without_floats() {
        let good = [
            ("0", 0),
            ("1", 1_000_000),
            ("2500", 2_500_000_000),
            ("1.5", 1_500_000),
            ("0.000001", 1),
            ("1e-06", 1),
            ("5e-05", 50),
            ("1e+3", 1_000_000_000),
            ("1.5000000", 1_500_000),
            ("18446744073709.551615", u64::MAX),
        ];
        for (spelled, expected) in good {
            assert_eq!(millionths(spelled), Some(expected), "{spelled}");
        }
        for spelled in
            ["-1", "0.0000001", "1e-07", "18446744073709.551616", "1e99", "1e999999999999"]
        {
            assert_eq!(millionths(spelled), None, "{spelled}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_canonical_text_is_stable(text in "[\\[\\]{}:,\"a-c0-9.eE+\\\\u -]{0,40}") {
            if let Ok(value) = parse(text.as_bytes()) && value != Json::Null {
                let canonical = value.canonical();
                let again = parse(canonical.as_bytes()).unwrap();
                prop_assert_eq!(again.canonical(), canonical);
            }
        }

        #[test]
        fn any_string_survives(text: String) {
            let canonical = Json::Text(text.clone()).canonical();
            prop_assert!(canonical.is_ascii());
            prop_assert_eq!(parse(canonical.as_bytes()), Ok(Json::Text(text)));
        }
    }
}
