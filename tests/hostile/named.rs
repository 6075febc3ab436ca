//! Whom a node's metrics name for an attack.

use std::collections::HashMap;

use crate::Named;

/// Attackers' addresses begin with it, and no other.
const ATTACKER: &str = "10.77.0.1";

/// Numbers of a page by name and labels.
fn numbers(page: &str) -> HashMap<&str, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' ').and_then(|(of, n)| Some((of, n.parse().ok()?))))
        .collect()
}

/// What went up between two pages, and by how much.
struct Grown<'a> {
    before: HashMap<&'a str, f64>,
    after: HashMap<&'a str, f64>,
}

impl Grown<'_> {
    /// Of this metric: labels, and how much was added.
    fn of(&self, metric: &str) -> Vec<(&str, f64)> {
        let begin = format!("{metric}{{");
        let grown = self.after.iter().filter_map(|(of, value)| {
            let labels = of.strip_prefix(&*begin)?;
            let more = value - self.before.get(of).copied().unwrap_or(0.0);
            (more > 0.0).then_some((labels, more))
        });
        grown.collect()
    }
}

/// Who is named for an attack, if who should be is. To name the honest peer is none.
pub fn named(expected: Named, honest: &str, before: &str, after: &str) -> Option<String> {
    let grown = Grown { before: numbers(before), after: numbers(after) };
    let is_attacker = |label: &str, labels: &str| {
        labels.strip_prefix(label).is_some_and(|rest| rest.starts_with(ATTACKER))
    };
    let limited = grown.of("rpc_client_limited_total");
    let by_offence = |offences: &'static [&'static str]| -> Vec<&str> {
        let by_attackers = |offence: &&&str| {
            let of = format!("offence=\"{offence}\"");
            limited.iter().any(|(l, _)| is_attacker("client=\"", l) && l.contains(&of))
        };
        offences.iter().filter(by_attackers).copied().collect()
    };
    let found: Vec<&str> = match expected {
        Named::Nobody => return Some("-".to_owned()),
        Named::Client(offences) => by_offence(offences),
        Named::Taker(offences) => {
            const TAKEN: &str = "rpc_client_answer_bytes_total";
            let most = grown.of(TAKEN).into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
            let is_named = most.is_some_and(|(labels, _)| is_attacker("client=\"", labels));
            is_named.then_some(TAKEN).into_iter().chain(by_offence(offences)).collect()
        }
        Named::Peer(metrics) => {
            let by_others = |metric: &&&str| {
                grown.of(metric).iter().any(|(labels, _)| !labels.contains(honest))
            };
            metrics.iter().filter(by_others).copied().collect()
        }
        Named::Counted(metric) => {
            let of = |page: &HashMap<&str, f64>| page.get(metric).copied().unwrap_or(0.0);
            let has_grown = of(&grown.after) > of(&grown.before);
            has_grown.then_some(metric).into_iter().collect()
        }
        Named::Caller => {
            const REFUSED: &str = "peer_calls_refused_total";
            let is_named =
                grown.of(REFUSED).iter().any(|(labels, _)| is_attacker("host=\"", labels));
            is_named.then_some(REFUSED).into_iter().collect()
        }
    };
    let quoted: Vec<_> = found.into_iter().map(|name| format!("`{name}`")).collect();
    (!quoted.is_empty()).then(|| quoted.join(", "))
}
