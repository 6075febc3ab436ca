//! What a route is, and how a path finds its own.

use std::future::Future;
use std::pin::Pin;

use utoipa::openapi::{RefOr, Schema};
use warp::http::Method;

use super::call::{Answer, Call};

type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A parameter behind the question mark: name and meaning.
pub(super) type QueryParam = (&'static str, &'static str);

/// Schemas of a type: its own name, and all that it needs.
pub(super) type SchemaFn = fn() -> (String, Vec<(String, RefOr<Schema>)>);

/// What stands in a body or an answer.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// No body.
    Nothing,
    /// JSON of this schema.
    Json(SchemaFn),
    /// A JSON list of this schema.
    List(SchemaFn),
    /// JSON of the first schema, or a JSON list of the second.
    OneOrList(SchemaFn, SchemaFn),
    /// A JSON list of this schema, or bytes.
    ListOrBytes(SchemaFn),
    /// A JSON object that is described in words.
    Object,
    /// Another media type.
    Other(&'static str),
}

/// One endpoint.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub method: &'static Method,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Name in metrics and in the OpenAPI document.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    pub query: &'static [QueryParam],
    pub body: Shape,
    pub answer: Shape,
    /// Whether the admin token is needed.
    pub admin: bool,
    /// Whether a body may be as long as a block.
    pub large: bool,
    pub handler: fn(Call) -> Running,
}

/// Schemas of a wire type.
pub(super) fn schema<T: utoipa::ToSchema>() -> (String, Vec<(String, RefOr<Schema>)>) {
    let name = T::name().into_owned();
    let mut all = Vec::new();
    T::schemas(&mut all);
    all.push((name.clone(), T::schema()));
    (name, all)
}

/// The parameters of a path that fits a template; none if it does not.
pub(super) fn fit(template: &str, path: &str) -> Option<Vec<String>> {
    let mut params = Vec::new();
    let mut given = path.split('/');
    for expected in template.split('/') {
        let segment = given.next()?;
        if expected.starts_with('{') {
            let decoded = percent_encoding::percent_decode_str(segment).decode_utf8().ok()?;
            if decoded.is_empty() {
                return None;
            }
            params.push(decoded.into_owned());
        } else if expected != segment {
            return None;
        }
    }
    given.next().is_none().then_some(params)
}

/// What a request's method and path lead to.
pub(super) enum Found {
    /// An endpoint, with the parameters of the path.
    Route(&'static Route, Vec<String>),
    /// Nothing for this method, but for these.
    OtherMethods(Vec<&'static Method>),
    /// Nothing.
    Nothing,
}

/// Finds the endpoint of a request.
pub(super) fn find(routes: &'static [Route], method: &Method, path: &str) -> Found {
    // A trailing slash is no other place.
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let mut others = Vec::new();
    for route in routes {
        if let Some(params) = fit(route.path, path) {
            if route.method == method {
                return Found::Route(route, params);
            }
            others.push(route.method);
        }
    }
    if others.is_empty() { Found::Nothing } else { Found::OtherMethods(others) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_their_templates_only() {
        let none: Vec<String> = Vec::new();
        assert_eq!(fit("/rpc/head", "/rpc/head"), Some(none));
        assert_eq!(fit("/rpc/tx/{hash}/why", "/rpc/tx/a/why"), Some(vec!["a".to_owned()]));
        assert_eq!(fit("/rpc/receipts/{id}", "/rpc/receipts/a%2Fb"), Some(vec!["a/b".to_owned()]));
        for (template, path) in [
            ("/rpc/head", "/rpc/head/x"),
            ("/rpc/head", "/rpc"),
            ("/rpc/tx/{hash}", "/rpc/tx/"),
            ("/rpc/tx/{hash}", "/rpc/tx/a/why"),
            ("/rpc/tx/{hash}", "/rpc/tx/%ff"),
        ] {
            assert_eq!(fit(template, path), None, "{path} fits {template}");
        }
    }
}
