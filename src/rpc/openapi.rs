//! The OpenAPI 3.1 document, made from the table of routes and the wire types.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use ait_net::wire::ErrorBody;
use serde_json::{Map, Value, json};

use super::route::{Route, Shape, schema};
use super::routes::ROUTES;
use super::submit::set;

const ABOUT: &str = "REST interface of an ait-node. Amounts are integers of base units; hashes, \
keys and signatures are 0x and hex digits; addresses are bech32m with the prefix ait. \
Every error has the same shape: detail, code, hint, request_id.";

/// Statuses of failures, as `specs/rpc.md` says what each is for. No other is ever answered.
const FAILURES: &[&str] =
    &["400", "401", "403", "404", "405", "408", "409", "413", "422", "426", "429", "503"];

/// The document. Made once.
pub(super) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(make)
}

fn make() -> Value {
    let mut schemas = BTreeMap::new();
    let error = reference(schema::<ErrorBody>, &mut schemas);
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in ROUTES {
        let operation = operation(route, &error, &mut schemas);
        let methods = paths.entry(route.path).or_default();
        methods.insert(route.method.as_str().to_ascii_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ait-node",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "admin_token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

type Schemas = BTreeMap<String, Value>;

fn reference(schema: super::route::SchemaFn, schemas: &mut Schemas) -> Value {
    let (name, all) = schema();
    for (name, schema) in all {
        // A schema of our own types always is JSON.
        schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn content(shape: Shape, schemas: &mut Schemas) -> Option<Value> {
    let json = |schema: Value| Some(json!({ "application/json": { "schema": schema } }));
    match shape {
        Shape::Nothing => None,
        Shape::Json(schema) => json(reference(schema, schemas)),
        Shape::List(schema) => {
            json(json!({ "type": "array", "items": reference(schema, schemas) }))
        }
        Shape::ListOrBytes(schema) => Some(json!({
            "application/json": {
                "schema": { "type": "array", "items": reference(schema, schemas) },
            },
            "application/octet-stream": { "schema": { "type": "string", "format": "binary" } },
        })),
        Shape::OneOrList(one, item) => {
            let list = json!({ "type": "array", "items": reference(item, schemas) });
            json(json!({ "oneOf": [reference(one, schemas), list] }))
        }
        Shape::Object => json(json!({ "type": "object" })),
        Shape::Other(media) => Some(json!({ media: { "schema": { "type": "string" } } })),
    }
}

fn tag(path: &str) -> &'static str {
    match path.trim_start_matches("/rpc").split('/').nth(1).unwrap_or_default() {
        "sendTx" | "sendTxs" | "transaction" | "submitReceipt" | "estimateFee" | "attest" => {
            "submit"
        }
        "admin" => "admin",
        "proof" => "proofs",
        "ws" | "events" => "subscriptions",
        "health" | "readyz" | "metrics" | "openapi.json" | "docs" | "" | "info" => "node",
        _ => "chain",
    }
}

fn operation(route: &Route, error: &Value, schemas: &mut Schemas) -> Value {
    let in_path =
        route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let text = json!({ "type": "string" });
    let mut parameters: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": text }))
        .collect();
    parameters.extend(route.query.iter().map(|(name, about)| {
        json!({ "name": name, "in": "query", "description": about, "schema": text })
    }));
    let mut ok = json!({ "description": "Done" });
    if let Some(content) = content(route.answer, schemas) {
        set(&mut ok, "content", content);
    }
    let failed = json!({
        "description": "What went wrong and what to do",
        "content": { "application/json": { "schema": error } },
    });
    let failures = FAILURES.iter().map(|status| ((*status).to_owned(), failed.clone()));
    let mut responses: Map<String, Value> = failures.collect();
    responses.insert("200".to_owned(), ok);
    let mut operation = json!({
        "operationId": route.name,
        "summary": route.about,
        "tags": [tag(route.path)],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(content) = content(route.body, schemas) {
        set(&mut operation, "requestBody", json!({ "required": true, "content": content }));
    }
    if route.admin {
        set(&mut operation, "security", json!([{ "admin_token": [] }]));
    }
    operation
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn has_every_route_and_only_references_that_lead_somewhere() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        for route in ROUTES {
            let method = route.method.as_str().to_ascii_lowercase();
            let operation = &document["paths"][route.path][&method];
            assert_eq!(operation["operationId"], route.name, "{}", route.path);
        }
        let text = document.to_string();
        for part in text.split("\"$ref\":\"").skip(1) {
            let pointer = part.split('"').next().unwrap().trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.len() > 25, "{}", schemas.len());
        let head = &document["components"]["schemas"]["Head"]["properties"];
        assert_eq!(head["height"]["type"], "integer");
    }
}
