//! Who takes most of what is answered: whom an operator may want to look at, though it keeps to
//! every bound.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::network;

/// Clients that are counted: whoever takes more than this part of all bytes is among them.
const COUNTED_MAX: usize = 64;

/// Bytes of answers by client, for those that take most. A new client takes the place of the one
/// with least and goes on from its number (the space-saving sketch of Metwally, Agrawal and El
/// Abbadi), which may so be too high by a 64th of all bytes.
#[derive(Debug, Clone, Default)]
pub struct Takers(Arc<Mutex<HashMap<IpAddr, u64>>>);

impl Takers {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer of so many bytes was given to a client.
    pub fn note(&self, client: IpAddr, bytes: u64) {
        let client = network(client);
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&client) {
            *count = count.saturating_add(bytes);
            return;
        }
        let mut least = 0;
        if counts.len() >= COUNTED_MAX {
            let found = counts.iter().min_by_key(|(client, count)| (**count, **client));
            let found = found.map(|(client, _)| *client);
            least = found.and_then(|found| counts.remove(&found)).unwrap_or(0);
        }
        counts.insert(client, least.saturating_add(bytes));
    }

    /// What a metrics page says of them, who takes most first.
    #[must_use]
    pub fn metrics(&self) -> String {
        const NAME: &str = "rpc_client_answer_bytes_total";
        let mut counts: Vec<_> =
            self.counts().iter().map(|(client, count)| (*count, *client)).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let mut page = String::new();
        if !counts.is_empty() {
            page.push_str("# HELP rpc_client_answer_bytes_total Bytes of answers, for the clients that take most.\n");
            page.push_str("# TYPE rpc_client_answer_bytes_total counter\n");
        }
        for (count, client) in counts {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "{NAME}{{client=\"{client}\"}} {count}");
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_most_is_named_however_many_others_there_are() {
        let takers = Takers::default();
        assert_eq!(takers.metrics(), "");
        let greedy = IpAddr::from([192, 0, 2, 1]);
        let (mut all, mut greedys) = (0, 0);
        for n in 0..10_000_u32 {
            takers.note(IpAddr::from(n.to_be_bytes()), 100);
            all += 100;
            if n % 20 == 0 {
                takers.note(greedy, 200);
                (all, greedys) = (all + 200, greedys + 200);
            }
        }
        assert_eq!(takers.counts().len(), COUNTED_MAX);
        let found = takers.counts().get(&greedy).copied().unwrap_or(0);
        assert!(found >= greedys && found <= greedys + all / 64, "{found} of {greedys}");
        let page = takers.metrics();
        let first = page.lines().find(|line| !line.starts_with('#'));
        assert_eq!(
            first,
            Some(&*format!("rpc_client_answer_bytes_total{{client=\"192.0.2.1\"}} {found}"))
        );
    }
}
