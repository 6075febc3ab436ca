//! The machine's clock, read in one place.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ait_engine::types::TimestampMs;

use crate::ingress::Clock;

/// The system's clock; before 1970 it shows 1970.
#[must_use]
pub fn system() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs::saturating(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}
