//! Whether replaying a log again contradicts nothing that replaying it once said.

use std::collections::BTreeMap;
use std::path::Path;

use ait_engine::message::Message;
use ait_engine::types::Height;
use ait_engine::vote::VoteKind;

use super::plan::key;
use crate::chain::ChainWriter;
use crate::consensus::{Action, Logged};
use crate::node::open_voter;

/// Replays the log of the height under way three times, on copies of the files.
///
/// # Errors
/// What differs.
pub(super) fn check(directory: &Path, writer: &ChainWriter, n: usize) -> Result<(), String> {
    let copy = directory.join("replay");
    let text = |error: std::io::Error| error.to_string();
    std::fs::create_dir_all(&copy).map_err(text)?;
    for name in ["consensus.log", "signer.record"] {
        if directory.join(name).exists() {
            std::fs::copy(directory.join(name), copy.join(name)).map_err(text)?;
        }
    }
    let replay = || -> Result<(Option<Logged>, Vec<Action>), String> {
        let opened = open_voter(&copy, writer, key("validator", n));
        let (mut voter, logged) = opened.map_err(|error| error.to_string())?;
        let next = writer.height().next();
        let under_way =
            logged.as_ref().filter(|(height, all)| Some(*height) == next && !all.is_empty());
        let actions = match under_way {
            Some((_, entries)) => voter.consensus.recover(writer.validators(), entries),
            None => Ok(Vec::new()),
        };
        Ok((logged, actions.map_err(|error| error.to_string())?))
    };
    let (first, again, third) = (replay()?, replay()?, replay()?);
    std::fs::remove_dir_all(&copy).map_err(text)?;
    let logged = |logged: Option<Logged>| logged.unwrap_or((Height::ZERO, Vec::new()));
    let ((height, entries), (height_again, entries_again)) = (logged(first.0), logged(again.0));
    // What it says again it may log again.
    if height != height_again || !entries_again.starts_with(&entries) {
        let (before, after) = (entries.len(), entries_again.len());
        return Err(format!("{before} entries of height {height}, then {after} of {height_again}"));
    }
    let (said, said_again, said_third) = (said(&first.1), said(&again.1), said(&third.1));
    let contradicts = |(place, message)| said.get(place).is_some_and(|before| before != message);
    if said_again.iter().any(contradicts) || said_again != said_third {
        return Err(format!("it says {said:?}, then {said_again:?}, then {said_third:?}"));
    }
    Ok(())
}

/// What is published, by height, round and step.
fn said(actions: &[Action]) -> BTreeMap<(u64, u64, u8), Message> {
    let said = actions.iter().filter_map(|action| match action {
        Action::Publish(message) => {
            let step = match message {
                Message::Proposal(_) => 0,
                Message::Vote(signed) if signed.vote.kind == VoteKind::Prevote => 1,
                Message::Vote(_) => 2,
                _ => return None,
            };
            Some(((message.height().get(), message.round().get(), step), message.clone()))
        }
        _ => None,
    });
    said.collect()
}
