//! A node that follows a chain, in this process, with its REST interface.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::path::Path;
use std::sync::LazyLock;

use ait_engine::genesis::GenesisDocument;
use ait_engine::types::Height;
use ait_net::rest::{RestClient, RestError};
use ait_node::chain::{ChainError, GenesisSource, StorageEngine};
use ait_node::config::{Layers, NodeConfig, RpcConfig};
use ait_node::import::{ImportBlock, ImportError, Imported};
use ait_node::node::{Joining, Node, NodeOptions};
use ait_node::rpc::{self, Backend};
use ait_node::telemetry::metrics;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;

/// Status, and the answer or the error.
pub type Answer = (u16, Value);

/// A node that follows.
pub struct Follower {
    pub node: Node,
    pub url: String,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Follower {
    /// A node of this genesis document, without any block.
    pub fn start(genesis: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = join(directory.path(), genesis);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut follower = Self { node, url: String::new(), runtime, _directory: directory };
        follower.url = follower.serve(|_| {});
        follower
    }

    /// Serves the node once more, with another back end.
    pub fn serve(&self, change: impl FnOnce(&mut Backend)) -> String {
        self.serve_as(|backend, _| change(backend))
    }

    /// As [`Follower::serve`], and with other options.
    pub fn serve_as(&self, change: impl FnOnce(&mut Backend, &mut RpcConfig)) -> String {
        static PAGE: LazyLock<PrometheusHandle> =
            LazyLock::new(|| metrics::install(false).unwrap());
        let page = PAGE.clone();
        let mut backend = self.node.backend(&ait_node::clock::system(), page);
        let mut options = NodeConfig::from_layers(&Layers::default()).unwrap().rpc;
        options.bind.set_port(0);
        change(&mut backend, &mut options);
        let served = rpc::serve(options, backend, std::future::pending());
        let (address, _) = self.runtime.block_on(served).unwrap();
        format!("http://{address}")
    }

    pub fn import(&self, import: ImportBlock) -> Result<Imported, ImportError> {
        self.runtime.block_on(self.node.importer().import(import))
    }

    /// Runs it in the node's runtime.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn height(&self) -> u64 {
        self.node.chain().head().height.get()
    }

    /// Root of the state after the newest block.
    pub fn root(&self) -> String {
        self.node.chain().head().header.state_root.to_string()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.get_at(&self.url, path)
    }

    pub fn get_at(&self, url: &str, path: &str) -> Answer {
        let client = RestClient::new(url).unwrap();
        answer(self.runtime.block_on(client.get(path)))
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_at(&self.url, path, body.to_string())
    }

    pub fn post_at(&self, url: &str, path: &str, body: String) -> Answer {
        let client = RestClient::new(url).unwrap();
        answer(self.runtime.block_on(client.post_text(path, body)))
    }

    pub fn block(&self, height: u64) -> ImportBlock {
        let block = self.node.chain().block(Height::saturating(height)).unwrap().unwrap();
        let certificate = block.certificate.clone().unwrap();
        ImportBlock { block: block.block.clone(), certificate }
    }
}

fn answer(result: Result<Value, RestError>) -> Answer {
    match result {
        Ok(value) => (200, value),
        Err(RestError::Refused { status, body }) => (status, serde_json::to_value(body).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

fn join(path: &Path, genesis: &str) -> Node {
    let build = || Ok::<_, ChainError>(GenesisDocument::parse(genesis)?.build()?);
    let fingerprint = GenesisSource::fingerprint(genesis.as_bytes());
    let source = GenesisSource { fingerprint, build: &build };
    let options = NodeOptions::new(path, StorageEngine::Memory);
    let joining = Joining { key: None, effects: None };
    Node::join(&options, &source, joining, &ait_node::clock::system(), &mut |_| {}).unwrap()
}
