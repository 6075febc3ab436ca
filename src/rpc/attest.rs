//! The mock coordinator at the node's own address, as the old design had it.

use super::call::{Answer, Call, json};
use super::{ApiError, dev};

/// `POST /rpc/attest`
pub(super) async fn attest(call: Call) -> Answer {
    if call.api.dev.is_none() {
        let hint = "ask the coordinator itself; ait-node coordinator runs a mock";
        return Err(ApiError::forbidden("no_coordinator", "this node has no coordinator", hint));
    }
    let edge = dev::edge(&call)?;
    let answer = edge.coordinator.answer_old(&call.body);
    json(
        &answer.map_err(|error| {
            ApiError::unprocessable(error.code(), error.to_string(), error.hint())
        })?,
    )
}
