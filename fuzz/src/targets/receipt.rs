//! Receipts. The first byte chooses: the engine's JSON reader against that of `serde_json`; a
//! receipt's canonical text; a signed receipt in the old software's form, which is written and
//! read again as the same claim.

use ait_engine::json::{self, Json};
use ait_engine::receipt::{Attestation, Receipt, ReceiptClaim};
use ait_node::receipts;
use serde_json::Value;

use crate::world::{WORLD, claim};

/// Whether both mean the same. Numbers are compared as they are spelled where both keep that.
fn same(ours: &Json, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(a), Value::Bool(b)) => a == b,
        (Json::Number(text), Value::Number(number)) => {
            let (a, b) = (text.parse::<f64>().ok(), number.as_f64());
            let is_integer = text.bytes().all(|byte| byte.is_ascii_digit());
            match number.as_u64() {
                Some(number) if is_integer => text.parse() == Ok(number),
                // `serde_json` is fast rather than exact in the last digit.
                _ => a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= a.abs() * 1e-12),
            }
        }
        (Json::Text(a), Value::String(b)) => a == b,
        (Json::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => false,
    }
}

/// What the canonical text keeps.
fn without_nulls(json: Value) -> Value {
    let is_kept = |value: &Value| !value.is_null();
    match json {
        Value::Array(items) => items.into_iter().filter(is_kept).map(without_nulls).collect(),
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| is_kept(value));
            kept.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        other => other,
    }
}

fn reader(text: &[u8]) {
    let Ok(ours) = json::parse(text) else { return };
    let canonical = ours.canonical();
    assert!(canonical.bytes().all(|byte| matches!(byte, b' '..=b'~')), "not printable");
    match serde_json::from_slice::<Value>(text) {
        Ok(theirs) => {
            assert!(same(&ours, &theirs), "{ours:?} and {theirs:?}");
            let read: Value = serde_json::from_str(&canonical).expect("canonical text is JSON");
            assert_eq!(read, without_nulls(theirs), "the canonical text holds something else");
        }
        // No float holds them; the engine makes none.
        Err(error) => assert!(error.to_string().contains("number out of range"), "{error}"),
    }
    let again = json::parse(canonical.as_bytes()).map(|json| json.canonical());
    // Escapes may make a text longer than any receipt is.
    assert!(again == Ok(canonical) || again.is_err_and(|e| e == json::JsonError::TooLong));
}

fn receipt(text: &[u8]) {
    let Ok(receipt) = Receipt::parse(text) else { return };
    let json = json::parse(text).expect("a receipt is JSON");
    assert_eq!(json.canonical().as_bytes(), text, "a receipt with another spelling");
    assert!(receipt.completed_at >= receipt.started_at && receipt.units.get() > 0);
    assert!(text.is_ascii(), "canonical text is ASCII");
}

fn signed(text: &[u8]) {
    let Ok(claim) = ReceiptClaim::from_signed_json(text) else { return };
    Receipt::parse(&claim.receipt).expect("the receipt of a claim is one");
    let written = claim.to_signed_json().expect("a claim is written");
    match ReceiptClaim::from_signed_json(written.as_bytes()) {
        Ok(read) => assert_eq!(read, claim, "{written}"),
        Err(error) => assert!(error.to_string().contains("longer than"), "{error}: {written}"),
    }
}

pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, text)) => reader(text),
        Some((1, text)) => receipt(text),
        Some((2, text)) => signed(text),
        _ => {}
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut claim = claim(&WORLD.plan, 7);
    let second = WORLD.plan.names.secret_key("second");
    let (coordinator, signature) = (second.public_key(), second.sign(&claim.receipt));
    receipts::attach(&mut claim, Attestation { coordinator, signature });
    let signed = claim.to_signed_json().unwrap();
    let pretty: Value = serde_json::from_str(&signed).unwrap();
    let pretty = serde_json::to_string_pretty(&pretty).unwrap();
    let odd = r#" { "a" : [1.5e3, -0, 0.000001, 18446744073709551615, true, null] ,"ü":"\ud83d\ude00\u00e9\n\/" } "#;
    let texts: [(u8, &[u8]); 6] = [
        (0, odd.as_bytes()),
        (0, pretty.as_bytes()),
        (1, &claim.receipt),
        (2, signed.as_bytes()),
        (2, pretty.as_bytes()),
        (0, b"[[[[{\"a\":{\"b\":[0.1,2E-2]}}]]]]"),
    ];
    texts.iter().map(|(kind, text)| [&[*kind][..], text].concat()).collect()
}
