//! `[cross_site]`: sync with other sites over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use ait_net::cross_site::RemoteUrl;

use super::typed::Fields;

/// Most remotes.
const REMOTES_MAX: usize = 64;

/// `[cross_site]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrossSiteConfig {
    /// REST interfaces of other sites.
    pub remotes: Vec<RemoteUrl>,
    /// Time between two polls of a remote.
    pub poll_interval: Duration,
    /// Authorities to trust beside the machine's own; none if there is no such file.
    pub ca_file: Option<PathBuf>,
    /// Whether pending transactions are shared.
    pub mempool: bool,
}

impl CrossSiteConfig {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let expected = format!("at most {REMOTES_MAX} URLs like \"https://site/rpc\"");
        let remotes = fields.read("cross_site.remotes", &expected, |value| {
            let list = value.as_array().filter(|list| list.len() <= REMOTES_MAX)?;
            list.iter().map(|item| item.as_str()?.parse().ok()).collect()
        });
        let ca_file = fields.text("cross_site.ca_file");
        Self {
            remotes: remotes.unwrap_or_default(),
            poll_interval: fields.duration("cross_site.poll_interval", Duration::from_secs(3_600)),
            ca_file: Some(ca_file).filter(|path| !path.is_empty()).map(PathBuf::from),
            mempool: fields.flag("cross_site.mempool"),
        }
    }
}
