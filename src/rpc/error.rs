//! The one shape of every error.

use std::time::Duration;

use ait_net::wire::ErrorBody;
use warp::Reply;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use crate::chain::ChainError;
use crate::ingress::SubmitError;
use crate::receipts::ClaimError;

/// An answer that says what is wrong and what to do.
#[derive(Debug)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// What went wrong.
    pub detail: String,
    /// Stable code.
    pub code: &'static str,
    /// What to do.
    pub hint: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { status, detail: detail.into(), code, hint: hint.into(), retry_after: None }
    }

    pub(super) fn unprocessable(code: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail, hint)
    }

    /// A page that cannot be given; the old node's status and wording.
    pub(super) fn page(detail: impl Into<String>) -> Self {
        let hint = "use limit, offset and cursor as the OpenAPI document says";
        Self::new(StatusCode::BAD_REQUEST, "page_invalid", detail, hint)
    }

    pub(super) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail, "")
    }

    pub(super) fn forbidden(code: &'static str, detail: &str, hint: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail, hint)
    }

    /// As many large things are under way as the node has room for.
    pub(super) fn crowded() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let detail = "as much is under way as this node does at once";
        let error = Self::new(status, "busy", detail, "try again in a moment");
        Self { retry_after: Some(Duration::from_secs(1)), ..error }
    }

    pub(super) fn rate_limited(wait: Duration) -> Self {
        let hint = "wait as long as the header Retry-After says";
        let status = StatusCode::TOO_MANY_REQUESTS;
        let error = Self::new(status, "rate_limited", "Rate limit exceeded", hint);
        Self { retry_after: Some(wait), ..error }
    }

    /// The answer to the request of this id.
    pub(super) fn into_response(self, request_id: &str) -> Response {
        let body = ErrorBody {
            detail: self.detail,
            code: self.code.to_owned(),
            hint: self.hint,
            request_id: request_id.to_owned(),
        };
        let reply = warp::reply::with_status(warp::reply::json(&body), self.status);
        let mut response = reply.into_response();
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that waits this long is served.
            let seconds = wait.as_secs().saturating_add(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<ChainError> for ApiError {
    fn from(error: ChainError) -> Self {
        if matches!(error, ChainError::IndexDisabled) {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Self::new(status, error.code(), error.to_string(), error.hint());
        }
        tracing::error!(%error, "a request failed on the chain");
        let hint = "the node's log says more";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.code(), "the chain cannot be read", hint)
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let status = if error.is_temporary() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::BAD_REQUEST
        };
        Self::new(status, error.code(), error.to_string(), error.hint())
    }
}

impl From<ClaimError> for ApiError {
    fn from(error: ClaimError) -> Self {
        Self::unprocessable(error.code(), error.to_string(), error.hint())
    }
}
