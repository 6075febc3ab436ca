//! From a connection to a handler and back: limits, request ids, metrics, error shape.

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::Stream;
use http_body_util::BodyDataStream;
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use warp::path::FullPath;
use warp::reply::Response;
use warp::ws::Ws;
use warp::{Buf, Filter, Rejection, Reply};

use super::bodies;
use super::call::{Call, Query};
use super::route::{Found, Route, find};
use super::routes::ROUTES;
use super::{Api, ApiError, Shared, subscribe};
use crate::http::{Client, Offence};
use crate::telemetry::metrics;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// How long the answer to a client that asks too much is kept back: who asks again at once whatever
/// is answered would take a processor with it.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);

/// What comes most, a transaction, goes to its handler without warp's filters: they cost as much
/// as it takes to read.
const SUBMIT: &str = "/rpc/sendTx";

/// Answers one request.
pub(super) fn answer(
    api: &Shared,
    routes: &BoxedFilter<(Response,)>,
    request: Request<Incoming>,
    client: Client,
) -> impl Future<Output = Response> + Send + use<> {
    let is_submit = request.method() == Method::POST
        && request.uri().path_and_query().is_some_and(|place| place == SUBMIT);
    // Pages of other sites are the filters' affair.
    let is_plain = is_submit && !request.headers().contains_key(header::ORIGIN);
    let way = if is_plain { Ok(api.clone()) } else { Err(routes.clone()) };
    async move {
        match way {
            Ok(api) => {
                let (head, body) = request.into_parts();
                let (query, body) = (Some(Vec::new()), BodyDataStream::new(body));
                handle(head.method, SUBMIT, query, head.headers, client, body, api).await
            }
            Err(routes) => filtered(routes, request, client).await,
        }
    }
}

async fn filtered(
    routes: BoxedFilter<(Response,)>,
    mut request: Request<Incoming>,
    client: Client,
) -> Response {
    request.extensions_mut().insert(client);
    let service = TowerToHyperService::new(warp::service(routes));
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// All that is served.
pub(super) fn routes(api: &Shared) -> BoxedFilter<(Response,)> {
    let api = api.clone();
    let origins = api.options.cors_origins.clone();
    let with = warp::any().map(move || api.clone());
    // None: a query that is there and cannot be read.
    let query = warp::query::<Vec<(String, String)>>().map(Some);
    let query = query.or(warp::any().map(|| None)).unify();
    let socket = warp::path!("rpc" / "ws" / String)
        .and(warp::ws())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Client>())
        .and(with.clone())
        .then(upgrade);
    let rest = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Client>())
        .and(warp::body::stream())
        .and(with)
        .then(|method, path: FullPath, query, headers, client, body, api| async move {
            handle(method, path.as_str(), query, headers, client, body, api).await
        });
    let all = socket.or(rest).unify().recover(recover).unify();
    if origins.is_empty() {
        return all.boxed();
    }
    let cors = warp::cors()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            "content-type",
            "authorization",
            "x-api-key",
            "x-admin-token",
            "x-request-id",
        ])
        .expose_headers(["x-request-id", "x-next-cursor", "retry-after"]);
    let cors = if origins.iter().any(|origin| origin == "*") {
        cors.allow_any_origin()
    } else {
        cors.allow_origins(origins.iter().map(String::as_str))
    };
    // A foreign page is refused by `cors` itself: that refusal, too, gets our shape.
    all.with(cors).recover(recover).map(Reply::into_response).boxed()
}

async fn recover(rejection: Rejection) -> Result<Response, Infallible> {
    let error = if rejection.find::<warp::cors::CorsForbidden>().is_some() {
        let hint = "the node's operator lists allowed origins in rpc.cors_origins";
        ApiError::forbidden("origin_forbidden", "this origin may not ask", hint)
    } else {
        let hint = "see /docs";
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", "the request cannot be read", hint)
    };
    let id = request_id(&HeaderMap::new());
    Ok(with_id(error.into_response(&id), id))
}

fn with_id(mut response: Response, id: String) -> Response {
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

async fn upgrade(
    topic: String,
    ws: Ws,
    headers: HeaderMap,
    client: Client,
    api: Shared,
) -> Response {
    let id = request_id(&headers);
    let began = Instant::now();
    let allowed = api.rate.check(client.ip).map_err(|wait| {
        metrics::rate_limited();
        ApiError::rate_limited(wait)
    });
    let upgraded = allowed.and_then(|()| subscribe::upgrade(api.clone(), &topic, ws, client.ip));
    let response = upgraded.unwrap_or_else(|error| {
        note(&api, client, error.code);
        error.into_response(&id)
    });
    metrics::request("subscribe", response.status(), began.elapsed());
    with_id(response, id)
}

async fn handle<B: Buf, E: Display>(
    method: Method,
    path: &str,
    query: Option<Vec<(String, String)>>,
    headers: HeaderMap,
    client: Client,
    body: impl Stream<Item = Result<B, E>> + Send,
    api: Shared,
) -> Response {
    let began = Instant::now();
    let id = request_id(&headers);
    let shared = api.clone();
    let (route, result) = match admit(&api, &method, path, client) {
        Ok((route, params)) => {
            let body = if *route.method == Method::POST {
                bodies::take(&api, route, &headers, client.ip, body).await
            } else {
                Ok(bodies::Body::default())
            };
            let query = query.ok_or_else(bad_query);
            let result = match body.and_then(|body| Ok((body, query?))) {
                // What it takes of the room is held until it is answered.
                Ok((room, query)) => {
                    let (query, body) = (Query(query), room.bytes.clone());
                    (route.handler)(Call { api, params, query, headers, body, client }).await
                }
                Err(error) => Err(error),
            };
            (Some(route), result)
        }
        Err(error) => (None, Err(error)),
    };
    let code = result.as_ref().err().map_or("", |error| error.code);
    note(&shared, client, code);
    let response = match result {
        Ok(response) => response,
        Err(error) => error.into_response(&id),
    };
    shared.takers.note(client.ip, Body::size_hint(response.body()).lower());
    let name = route.map_or("unknown", |route| route.name);
    metrics::request(name, response.status(), began.elapsed());
    if code == "rate_limited" {
        tokio::time::sleep(REFUSAL_WAIT).await;
    }
    let status = response.status().as_u16();
    // Whoever asks for too much does not write the log: that is counted.
    if status >= 500 && code != "busy" {
        tracing::warn!(request_id = id, route = name, status, code, "request failed");
    } else {
        tracing::debug!(request_id = id, route = name, status, code, "request");
    }
    with_id(response, id)
}

/// Names a client that was limited.
fn note(api: &Api, client: Client, code: &str) {
    let offence = match code {
        "rate_limited" => Offence::Rate,
        "timeout" => Offence::SlowBody,
        "body_too_large" => Offence::LargeBody,
        "subscriptions_too_many" => Offence::Subscriptions,
        _ => return,
    };
    api.offenders.note(client.ip, offence);
}

/// The endpoint of a request, if this client may ask it now.
fn admit(
    api: &Api,
    method: &Method,
    path: &str,
    client: Client,
) -> Result<(&'static Route, Vec<String>), ApiError> {
    api.rate.check(client.ip).map_err(|wait| {
        metrics::rate_limited();
        ApiError::rate_limited(wait)
    })?;
    match find(ROUTES, method, path) {
        Found::Route(route, params) => Ok((route, params)),
        Found::OtherMethods(methods) => {
            let methods: Vec<_> = methods.iter().map(|method| method.as_str()).collect();
            let hint = format!("use {}", methods.join(" or "));
            let status = StatusCode::METHOD_NOT_ALLOWED;
            Err(ApiError::new(status, "method_not_allowed", "Method Not Allowed", hint))
        }
        Found::Nothing => {
            let hint = "GET /docs lists every path".to_owned();
            Err(ApiError { hint, ..ApiError::not_found("Not Found") })
        }
    }
}

fn bad_query() -> ApiError {
    let detail = "what stands behind the question mark cannot be read";
    ApiError::unprocessable("query_invalid", detail, "use name=value pairs, percent-encoded")
}

/// The client's own request id if it is a plain one, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Asked for once: it takes a system call.
    static PROCESS: LazyLock<u32> = LazyLock::new(std::process::id);
    let plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given.filter(plain) {
        Some(id) => id.to_owned(),
        None => format!("{:x}-{:x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed)),
    }
}
