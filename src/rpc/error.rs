//! The one shape of every error.

use std::convert::Infallible;

use ait_net::wire::ErrorBody;
use serde::Serialize;
use warp::http::StatusCode;
use warp::reply::Response;
use warp::{Rejection, Reply};

use crate::chain::ChainError;
use crate::ingress::SubmitError;

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
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { status, detail: detail.into(), code, hint: hint.into() }
    }

    pub(super) fn unprocessable(code: &'static str, detail: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail, hint)
    }

    pub(super) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail, "")
    }
}

impl From<ChainError> for ApiError {
    fn from(error: ChainError) -> Self {
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

/// The answer of a handler.
pub(super) fn answer<T: Serialize>(result: Result<T, ApiError>) -> Response {
    match result {
        Ok(body) => warp::reply::json(&body).into_response(),
        Err(error) => {
            let body = ErrorBody {
                detail: error.detail,
                code: error.code.to_owned(),
                hint: error.hint,
                request_id: String::new(),
            };
            warp::reply::with_status(warp::reply::json(&body), error.status).into_response()
        }
    }
}

/// What no route took.
pub(super) async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    let error = if rejection.find::<warp::reject::MethodNotAllowed>().is_some()
        && rejection.find::<warp::reject::PayloadTooLarge>().is_none()
        && rejection.find::<warp::reject::LengthRequired>().is_none()
    {
        ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Method Not Allowed",
            "",
        )
    } else if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        let detail = format!("the body is over {} bytes", super::BODY_BYTES_MAX);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail, "send less at once")
    } else if rejection.find::<warp::reject::LengthRequired>().is_some() {
        let hint = "send a Content-Length header";
        ApiError::new(
            StatusCode::LENGTH_REQUIRED,
            "length_required",
            "the body has no length",
            hint,
        )
    } else {
        ApiError::not_found("Not Found")
    };
    Ok(answer::<()>(Err(error)))
}
