//! One request as handlers see it: who asks, what was in the path, the query and the body.

use ait_engine::types::{Address, ParseError, TxHash};
use ait_net::wire::read_integer;
use serde::Serialize;
use serde_json::Value;
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::hyper::body::Bytes;
use warp::reply::Response;

use super::submit::object_of;
use super::{ApiError, Shared};
use crate::behind::GivingWay;
use crate::http::Client;

/// What a handler gives.
pub(super) type Answer = Result<Response, ApiError>;

/// A JSON answer. A thread that stands behind gives way while it writes it.
pub(super) fn json<T: Serialize>(body: &T) -> Answer {
    // As much as a small answer has, which would grow to it in many steps.
    let mut text = Vec::with_capacity(256);
    serde_json::to_writer(GivingWay::new(&mut text), body).map_err(|error| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        ApiError::new(status, "answer_unwritten", error.to_string(), "the node's log says more")
    })?;
    let mut answer = Response::new(text.into());
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(answer)
}

/// The parameters behind the question mark; unknown ones are ignored.
#[derive(Debug, Default)]
pub(super) struct Query(pub Vec<(String, String)>);

impl Query {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is set: `true` or `1`.
    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// An integer; may be negative.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let read = text.trim().parse::<i64>();
        read.map(Some).map_err(|_| {
            let found: String = text.chars().take(40).collect();
            let detail = format!("{name} is {found:?}, expected an integer");
            ApiError::unprocessable("parameter_invalid", detail, "use an integer")
        })
    }

    /// The page asked for, by the old node's rules.
    pub(super) fn page(&self, default_limit: u64) -> Result<Page, ApiError> {
        let limit = match self.integer("limit")? {
            None => default_limit,
            Some(limit @ 1..=100) => limit.unsigned_abs(),
            Some(_) => return Err(ApiError::page("limit must be between 1 and 100")),
        };
        let offset = self.integer("offset")?.unwrap_or(0);
        let offset =
            u64::try_from(offset).map_err(|_| ApiError::page("offset must be non-negative"))?;
        Ok(Page { limit, offset, cursor: self.get("cursor").map(str::to_owned) })
    }
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub limit: u64,
    pub offset: u64,
    pub cursor: Option<String>,
}

impl Page {
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    /// How many of a list of `total` are skipped, the newest first. A cursor counts from the oldest,
    /// so that what comes meanwhile does not move it.
    pub(super) fn skipped(&self, total: u64) -> Result<u64, ApiError> {
        let Some(cursor) = &self.cursor else { return Ok(self.offset) };
        let place: u64 = cursor.parse().map_err(|_| bad_cursor())?;
        Ok(total.saturating_sub(place).saturating_add(self.offset))
    }

    /// Refuses to skip so much that the cost of it shows.
    pub(super) fn bounded_offset(&self, max: u64) -> Result<(), ApiError> {
        if self.offset <= max {
            return Ok(());
        }
        Err(ApiError::page(format!("offset must be at most {max}; go on with next_cursor")))
    }
}

/// A cursor of another list, or a damaged one.
pub(super) fn bad_cursor() -> ApiError {
    ApiError::page("cursor is none that this list gave; begin without one")
}

/// One request.
#[derive(Debug)]
pub(super) struct Call {
    pub api: Shared,
    /// What stood in the path's braces, percent-decoded.
    pub params: Vec<String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub client: Client,
}

impl Call {
    /// The `n`th parameter of the path.
    pub(super) fn param(&self, n: usize) -> &str {
        self.params.get(n).map_or("", String::as_str)
    }

    /// The address in the path: one, or a development account's name.
    pub(super) fn address(&self) -> Result<Address, ApiError> {
        self.resolve(self.param(0))
    }

    /// An address, or a development account's name where there are any. Only a program on
    /// this machine makes the node remember names.
    pub(super) fn resolve(&self, text: &str) -> Result<Address, ApiError> {
        let result = match &self.api.dev {
            Some(dev) if self.client.local => {
                dev.names.speak(text).map_err(|error| error.to_string())
            }
            Some(dev) => dev.names.peek(text).map_err(|error| error.to_string()),
            None => text.parse::<Address>().map_err(|error| error.to_string()),
        };
        result.map_err(|detail| {
            let hint = "use a bech32m address that begins with ait1";
            ApiError::unprocessable("address_invalid", detail, hint)
        })
    }

    /// The transaction hash in the path.
    pub(super) fn tx_hash(&self) -> Result<TxHash, ApiError> {
        self.param(0).parse().map_err(|error| bad_hash(&error))
    }

    /// The body as a JSON object.
    pub(super) fn object(&self) -> Result<Value, ApiError> {
        object_of(&self.body)
    }
}

pub(super) fn bad_hash(error: &ParseError) -> ApiError {
    ApiError::unprocessable("hash_invalid", error.to_string(), "use 0x and 64 hex digits")
}

/// A field that must be an integer up to 2^63 - 1.
pub(super) fn integer_field(body: &Value, name: &'static str) -> Result<u64, ApiError> {
    let found = body.get(name).unwrap_or(&Value::Null);
    let value = read_integer(found).map_err(|reason| format!("{name}: {reason}"));
    let bounded = value.and_then(|value| {
        let fits = i64::try_from(value).is_ok();
        if fits { Ok(value) } else { Err(format!("{name}: {value} is over 2^63 - 1")) }
    });
    bounded.map_err(|detail| {
        ApiError::unprocessable("integer_invalid", detail, "use an integer from 0 to 2^63 - 1")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_have_the_old_bounds_and_words() {
        let page = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            Query(pairs.collect()).page(10).map(|page| (page.limit, page.offset))
        };
        assert_eq!(page(&[]).unwrap(), (10, 0));
        assert_eq!(page(&[("limit", "100"), ("offset", "7"), ("x", "y")]).unwrap(), (100, 7));
        for limit in ["0", "101", "-1"] {
            let error = page(&[("limit", limit)]).unwrap_err();
            assert_eq!(error.detail, "limit must be between 1 and 100");
            assert_eq!(error.status.as_u16(), 400);
        }
        assert_eq!(page(&[("offset", "-1")]).unwrap_err().detail, "offset must be non-negative");
        assert_eq!(page(&[("limit", "ten")]).unwrap_err().status.as_u16(), 422);
    }
}
