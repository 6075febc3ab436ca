//! Certified blocks from outside: `blocks/import`, and `importBlock` in the later dialect.
//!
//! Open to all, for a certificate proves itself. Before a block is handed to the importer
//! its certificate and its body are checked here, so that forged ones do not stand in the
//! way of real ones. Nothing is committed here.

use ait_engine::block::{Block, Header};
use ait_engine::certificate::Certificate;
use ait_engine::types::{BlockId, Height};
use ait_net::wire::{ImportForm, ImportFormError, ImportOutcome, ImportStatus};
use warp::http::StatusCode;
use warp::hyper::body::Bytes;

use super::bodies::LARGE_BODIES_BYTES_MAX;
use super::call::{Answer, Call, json};
use super::reads::PROMPT_BYTES_MAX;
use super::{Api, ApiError};
use crate::import::{ImportBlock, ImportError, Imported};
use crate::telemetry::metrics;

/// JSON of a block is at most so many times its canonical body, and this on top. Where that is
/// over what all bodies may be, a block comes in its canonical bytes.
const JSON_FACTOR: u64 = 8;
const JSON_BYTES_MORE: u64 = 1 << 20;

/// Longest body that these routes take, by the chain's parameters, in bytes.
pub(super) async fn body_bytes_max(api: &Api) -> Result<usize, ApiError> {
    let chain = api.chain.clone();
    let settings = tokio::task::spawn_blocking(move || chain.settings()).await;
    let settings = settings.map_err(|_| ApiError::crowded())??;
    let bytes = settings.params.block_bytes_max.saturating_mul(JSON_FACTOR);
    let bytes = usize::try_from(bytes.saturating_add(JSON_BYTES_MORE)).unwrap_or(usize::MAX);
    Ok(bytes.min(LARGE_BODIES_BYTES_MAX))
}

/// What a body says of its block, as far as it could be read.
#[derive(Debug, Clone, Copy)]
struct Stated {
    height: Height,
    hash: BlockId,
}

/// What became of a block.
struct Done {
    stated: Stated,
    imported: Imported,
    tx_count: u32,
}

/// Why a block was not taken: as an answer, and as the later dialect says it.
struct Refused {
    stated: Option<Stated>,
    error: ApiError,
    reason: Option<String>,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self { stated: None, error, reason: None }
    }
}

/// What the looks before the import gave.
enum Looked {
    Here(Stated),
    HandIn(Stated, Box<ImportBlock>),
    Refused(Box<Refused>),
}

/// `POST /rpc/blocks/import`
pub(super) async fn block(call: Call) -> Answer {
    let done = counted(&call).await.map_err(|refused| refused.error)?;
    let Stated { height, hash } = done.stated;
    let (status, tx_count) = match done.imported {
        Imported::Committed => ("imported", Some(done.tx_count)),
        Imported::Exists => ("exists", None),
    };
    let (height, hash) = (height.get(), hash.to_string());
    json(&ImportStatus { status: status.to_owned(), height, hash, tx_count })
}

/// `POST /rpc/importBlock`: always 200.
pub(super) async fn outcome(call: Call) -> Answer {
    let (stated, accepted, reason, code) = match counted(&call).await {
        Ok(done) => {
            let reason = match done.imported {
                Imported::Committed => "Appended to chain",
                Imported::Exists => "Block already exists",
            };
            (Some(done.stated), true, reason.to_owned(), None)
        }
        Err(refused) => {
            let Refused { stated, error, reason } = *refused;
            (stated, false, reason.unwrap_or(error.detail), Some(error.code.to_owned()))
        }
    };
    json(&ImportOutcome {
        accepted,
        height: stated.map(|stated| stated.height.get()),
        hash: stated.map(|stated| stated.hash.to_string()),
        reason,
        code,
        reorged: false,
        reorg_depth: 0,
    })
}

async fn counted(call: &Call) -> Result<Done, Box<Refused>> {
    let result = import(call).await;
    metrics::import(match &result {
        Ok(Done { imported: Imported::Committed, .. }) => "imported",
        Ok(_) => "exists",
        Err(refused) => refused.error.code,
    });
    result
}

async fn import(call: &Call) -> Result<Done, Box<Refused>> {
    let boxed = |error: ApiError| Box::new(Refused::from(error));
    let Some(importer) = &call.api.importer else {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let (detail, hint) = ("this node imports no blocks", "send it to another node");
        return Err(boxed(ApiError::new(status, "not_importing", detail, hint)));
    };
    let body = call.body.clone();
    // Large ones are read behind, and hold their room among blocks until they are here.
    let (looked, _room) = match body.len() as u64 {
        bytes if bytes <= PROMPT_BYTES_MAX => {
            (call.read(move |api| look(api, &body)).await.map_err(boxed)?, None)
        }
        bytes => {
            let looked = call.read_behind(bytes, move |api| look(api, &body)).await;
            looked.map(|(looked, room)| (looked, Some(room))).map_err(boxed)?
        }
    };
    let (stated, import) = match looked {
        Looked::Refused(refused) => return Err(refused),
        Looked::Here(stated) => {
            return Ok(Done { stated, imported: Imported::Exists, tx_count: 0 });
        }
        Looked::HandIn(stated, import) => (stated, import),
    };
    let tx_count = import.block.header.transaction_count;
    match importer.import(*import).await {
        Ok(imported) => Ok(Done { stated, imported, tx_count }),
        Err(error) => Err(Box::new(refuse(&call.api, stated, &error))),
    }
}

/// What can be told without executing: whether the block is here, then its parent, its
/// hash, its chain, its certificate and its body.
fn look(api: &Api, body: &Bytes) -> Result<Looked, ApiError> {
    let refused = |stated, error: &ImportFormError| {
        let (error, reason) = (form_error(error), None);
        Ok(Looked::Refused(Box::new(Refused { stated, error, reason })))
    };
    let form = match ImportForm::parse(body) {
        Ok(form) => form,
        Err(error) => return refused(None, &error),
    };
    let stated = Stated { height: form.height, hash: form.hash };
    let failed = |error: &ImportError| Ok(Looked::Refused(Box::new(refuse(api, stated, error))));
    if let Some((ours, _)) = api.chain.header(form.height)? {
        if ours == form.hash {
            return Ok(Looked::Here(stated));
        }
        return failed(&ImportError::Conflict { height: form.height, ours });
    }
    let head = api.chain.head();
    if Some(form.height) != head.height.next() || form.parent != head.block_id {
        return failed(&ImportError::UnknownParent { head: head.height });
    }
    let (block, certificate) = match form.block() {
        Ok(whole) => whole,
        Err(error) => return refused(Some(stated), &error),
    };
    match check(api, &head.header, &block, &certificate)? {
        Some(error) => failed(&error),
        None => Ok(Looked::HandIn(stated, Box::new(ImportBlock { block, certificate }))),
    }
}

/// What is wrong with a block of the next height, but for its transactions' signatures and
/// what executing it gives.
fn check(
    api: &Api,
    parent: &Header,
    block: &Block,
    certificate: &Certificate,
) -> Result<Option<ImportError>, ApiError> {
    let header = &block.header;
    if header.chain_id != parent.chain_id {
        let (expected, found) = (parent.chain_id.to_string(), header.chain_id.to_string());
        return Ok(Some(ImportError::OtherChain { expected, found }));
    }
    let validators = api.chain.validators()?;
    let certified = certificate.verify(&header.chain_id, header.height, header.id(), &validators);
    if let Err(error) = certified {
        // The head may have moved meanwhile, and the validators with it.
        return Ok(Some(ImportError::BadCertificate { reason: error.to_string() }));
    }
    if !block.body_matches_header() {
        let reason = "the transactions are not those the header commits to".to_owned();
        return Ok(Some(ImportError::BadBody { reason }));
    }
    Ok(None)
}

fn form_error(error: &ImportFormError) -> ApiError {
    let detail = error.to_string();
    match error {
        ImportFormError::Unsigned => {
            let hint = "a block needs its certificate: send all of what blocks/{height} answers, or blocks/{height}?canonical=true of a node of this version";
            ApiError::unprocessable("certificate_missing", detail, hint)
        }
        ImportFormError::Hash { .. } => {
            let hint = "send the block as a node of its chain answers it";
            ApiError::new(StatusCode::BAD_REQUEST, "bad_hash", detail, hint)
        }
        ImportFormError::Json { .. } => {
            ApiError::unprocessable("json_invalid", detail, "send one JSON object")
        }
        ImportFormError::Field { .. } | ImportFormError::Decode(_) => {
            let hint = "send what blocks/{height} answers, or its canonical alone";
            ApiError::unprocessable("block_invalid", detail, hint)
        }
    }
}

fn refuse(api: &Api, stated: Stated, error: &ImportError) -> Refused {
    let (head, height) = (api.chain.head().height, stated.height);
    let status = match error {
        ImportError::Conflict { .. } => StatusCode::CONFLICT,
        ImportError::BadRoot { .. }
        | ImportError::Busy
        | ImportError::Paused(_)
        | ImportError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    // Old clients look for these very words.
    let (detail, hint, reason) = match error {
        ImportError::UnknownParent { .. } => {
            let hint = format!("this node is at height {head}; {}", error.hint());
            let is_gap = head.next().is_some_and(|next| height > next);
            let reason = format!("Gap detected (our height: {head}, received: {height})");
            ("Parent block not found".to_owned(), hint, Some(reason).filter(|_| is_gap))
        }
        ImportError::Conflict { .. } => {
            let reason = format!(
                "Fork rejected: our chain is longer or equal (our height: {head}, received: {height})"
            );
            (error.to_string(), error.hint().to_owned(), Some(reason))
        }
        _ => (error.to_string(), error.hint().to_owned(), None),
    };
    let error = ApiError::new(status, error.code(), detail, hint);
    Refused { stated: Some(stated), error, reason }
}
