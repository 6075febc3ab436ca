//! Every endpoint, in one table: the server, the metrics' names and the OpenAPI document
//! all follow from it.

use ait_net::wire;
use warp::http::Method;

use super::route::{QueryParam, Route, Shape, schema};
use super::{
    accounts, admin, attest, batch, chain, import, node, peers, proofs, receipts, submit,
    subscribe, transactions,
};

const LIMIT: QueryParam = ("limit", "Most entries of the page, 1 to 100.");
const OFFSET: QueryParam = ("offset", "Entries to skip.");
const CURSOR: QueryParam = ("cursor", "`next_cursor` of the page before.");
const PAGE: &[QueryParam] = &[LIMIT, OFFSET, CURSOR];
const CANONICAL: QueryParam = (
    "canonical",
    "`true`: with `canonical`, the bytes that blocks/import takes; a range is then of at most 100 blocks, and ends early after 8 MiB.",
);

const fn get(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    answer: Shape,
    handler: fn(super::call::Call) -> Running,
) -> Route {
    let method = &Method::GET;
    let (query, body) = (&[], Shape::Nothing);
    Route { method, path, name, about, query, body, answer, admin: false, large: false, handler }
}

type Running = std::pin::Pin<Box<dyn Future<Output = super::call::Answer> + Send>>;

const fn post(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    body: Shape,
    answer: Shape,
    handler: fn(super::call::Call) -> Running,
) -> Route {
    let method = &Method::POST;
    Route {
        method,
        path,
        name,
        about,
        query: &[],
        body,
        answer,
        admin: false,
        large: false,
        handler,
    }
}

impl Route {
    const fn query(self, query: &'static [QueryParam]) -> Self {
        Self { query, ..self }
    }

    const fn admin(self) -> Self {
        Self { admin: true, ..self }
    }

    const fn large(self) -> Self {
        Self { large: true, ..self }
    }
}

/// A handler as the table holds it.
macro_rules! run {
    ($handler:path) => {
        |call| Box::pin($handler(call))
    };
}

/// JSON of a wire type.
macro_rules! of {
    ($type:ident) => {
        Shape::Json(schema::<wire::$type>)
    };
}

const TEXT: &str = "text/plain";
const HTML: &str = "text/html";
const EVENTS: &str = "text/event-stream";

/// Every endpoint. Names are those of the old node's metrics where it had one.
pub(super) const ROUTES: &[Route] = &[
    post("/rpc/sendTx", "send_tx", "Submit a signed transaction; on a devnet also an unsigned one of a named account.", of!(TransactionJson), of!(SendTxResponse), run!(submit::send)),
    post("/rpc/transaction", "send_transaction", "The same as sendTx.", of!(TransactionJson), of!(SendTxResponse), run!(submit::send)),
    post("/rpc/sendTxs", "send_txs", "Submit up to 4096 transactions: a list of what sendTx takes, or canonical bytes one after the other. Answered in their order, each as sendTx would.", Shape::ListOrBytes(schema::<wire::TransactionJson>), Shape::List(schema::<wire::SendTxsItem>), run!(batch::send)),
    post("/rpc/submitReceipt", "submit_receipt", "Claim a receipt: sendTx with the type RECEIPT_CLAIM.", of!(TransactionJson), of!(SendTxResponse), run!(submit::receipt)),
    post("/rpc/estimateFee", "estimate_fee", "Advised and least fee of `{type?, payload?}`.", Shape::Object, of!(FeeEstimate), run!(submit::estimate_fee)),
    post("/rpc/attest", "attest", "The mock coordinator's answer about a job (devnet only).", Shape::Object, Shape::Object, run!(attest::attest)),
    post("/rpc/admin/mintFaucet", "mint_faucet", "Mint `{address, amount}` on a devnet and wait for the block; open on loopback, elsewhere with the admin token.", Shape::Object, of!(MintResponse), run!(admin::mint)),
    post("/admin/mintFaucet", "mint_faucet_alias", "The same as /rpc/admin/mintFaucet.", Shape::Object, of!(MintResponse), run!(admin::mint)),
    post("/rpc/admin/paramSet", "param_set", "Change on-chain parameters: `{param, value}` or `{changes: [..]}`.", Shape::Object, of!(SendTxResponse), run!(admin::param_set)).admin(),
    post("/admin/paramSet", "param_set_alias", "The same as /rpc/admin/paramSet.", Shape::Object, of!(SendTxResponse), run!(admin::param_set)).admin(),
    get("/rpc/head", "get_head", "The newest block.", of!(Head), run!(chain::head)),
    get("/rpc/getHead", "get_head_alias", "Height and hash of the newest block.", Shape::Object, run!(chain::head_alias)),
    get("/rpc/blocks/{at}", "get_block", "A block by height or hash, with transactions, receipts and certificate.", of!(BlockBody), run!(chain::block)).query(&[CANONICAL]),
    get("/rpc/getBlock/{at}", "get_block_alias", "The same as blocks/{at}.", of!(BlockBody), run!(chain::block)).query(&[CANONICAL]),
    get("/rpc/blocks", "get_blocks", "Blocks, newest first.", of!(BlockList), run!(chain::list)).query(PAGE),
    get("/rpc/blocks-range", "get_blocks_range", "Blocks of a range of heights, oldest first: an object for `start` and `end`, a bare list for `start_height` and `end_height`.", Shape::OneOrList(schema::<wire::BlockRange>, schema::<wire::BlockSummary>), run!(chain::range)).query(&[
        ("start", "First height; at most 1000 blocks."),
        ("end", "Last height."),
        ("start_height", "First height in the older dialect; 0 if absent."),
        ("end_height", "Last height in the older dialect; 100 if absent."),
        ("limit", "Most blocks in the older dialect; 1000 if absent, at most 10000."),
        CANONICAL,
    ]),
    post("/rpc/blocks/import", "import_block", "Hand in a certified block: what blocks/{at} answers, or its canonical bytes.", of!(ImportBlockJson), of!(ImportStatus), run!(import::block)).large(),
    post("/rpc/importBlock", "import_block_alias", "The same in the later dialect: always 200, and what became of the block.", of!(ImportBlockJson), of!(ImportOutcome), run!(import::outcome)).large(),
    get("/rpc/tx/{hash}", "get_transaction", "A transaction of a block.", of!(TransactionView), run!(transactions::one)),
    get("/rpc/tx/{hash}/why", "get_why", "Where a transaction is, or why it is nowhere.", of!(WhyResponse), run!(transactions::why)),
    get("/rpc/getTx/{hash}", "get_transaction_alias", "Status of a transaction, and the transaction once it is in a block.", of!(TxStatusView), run!(transactions::status)),
    get("/rpc/transactions", "get_transactions", "Transactions, newest first.", of!(TransactionList), run!(transactions::list)).query(PAGE),
    get("/rpc/mempool", "get_mempool", "Pending transactions, oldest first; the header x-next-cursor leads to the next page.", Shape::List(schema::<wire::PendingTransaction>), run!(transactions::pending)).query(&[("limit", "Most entries, 1 to 1000."), ("cursor", "x-next-cursor of the page before.")]),
    get("/rpc/receipts/{receipt_id}", "get_receipt", "A claimed receipt.", of!(ReceiptView), run!(receipts::one)),
    get("/rpc/receipts", "get_receipts", "Claimed receipts, newest first.", of!(ReceiptList), run!(receipts::list)).query(PAGE),
    get("/rpc/getBalance/{address}", "get_balance", "Balance and next nonce of an account; zeros for an unused one.", of!(AccountBalance), run!(accounts::balance)),
    get("/rpc/getBalance", "get_balance_alias", "The same for the account that a parameter names.", of!(AccountBalance), run!(accounts::balance_of)).query(&[("address", "The account.")]),
    get("/rpc/address/{address}", "get_address", "An account and its latest transactions.", of!(AddressView), run!(accounts::history)).query(&[
        LIMIT,
        OFFSET,
        ("sent_cursor", "`next_sent_cursor` of the page before."),
        ("received_cursor", "`next_received_cursor` of the page before."),
    ]),
    get("/rpc/addresses", "get_addresses", "Accounts, richest first.", of!(AddressList), run!(accounts::list)).query(&[LIMIT, OFFSET, CURSOR, ("min_balance", "Base units that an account must hold.")]),
    get("/rpc/proof/account/{address}", "get_account_proof", "Proof of what an account holds, or that it does not exist.", of!(AccountProof), run!(proofs::account)),
    get("/rpc/proof/receipt/{receipt_id}", "get_receipt_proof", "Proof that a receipt was claimed, or that it was not.", of!(ReceiptProof), run!(proofs::receipt)),
    get("/rpc/proof/transaction/{hash}", "get_transaction_proof", "Proof of a transaction's place in a final block.", of!(TransactionProof), run!(proofs::transaction)),
    get("/rpc/info", "get_info", "The chain and the program that serves it.", of!(Info), run!(node::info)),
    get("/rpc/supply", "get_supply", "Base units that exist.", of!(SupplyView), run!(node::supply)),
    get("/rpc/validators", "get_validators", "Validators of the next height.", of!(ValidatorList), run!(node::validators)),
    get("/rpc/params", "get_params", "On-chain parameters.", of!(ParamsView), run!(node::params)),
    get("/rpc/peers", "get_peers", "Every node that this one knows, and how the connection stands.", of!(PeerList), run!(peers::list)),
    post("/rpc/admin/peers/add", "add_peer", "Connect with `{peer: \"ID@HOST:PORT\"}`, now and after every restart.", Shape::Object, of!(PeerAdded), run!(peers::add)).admin(),
    post("/admin/peers/add", "add_peer_alias", "The same as /rpc/admin/peers/add.", Shape::Object, of!(PeerAdded), run!(peers::add)).admin(),
    get("/rpc/syncStatus", "sync_status", "The chain as this node has it: how far, from whom, and why it does not move if it does not.", of!(SyncStatus), run!(node::sync_status)),
    get("/rpc/test-endpoint", "test_endpoint", "Always the same answer.", Shape::Object, run!(node::test_endpoint)),
    get("/rpc/ws/{topic}", "subscribe", "WebSocket: blocks, transactions or receipts as they come.", Shape::Nothing, run!(subscribe::not_upgraded)),
    get("/rpc/events/{topic}", "events", "Server-sent events: blocks, transactions or receipts as they come.", Shape::Other(EVENTS), run!(subscribe::events)),
    get("/rpc/metrics", "metrics_alias", "The same as /metrics.", Shape::Other(TEXT), run!(node::metrics)),
    get("/metrics", "metrics", "Metrics in the Prometheus text format.", Shape::Other(TEXT), run!(node::metrics)),
    get("/health", "health", "Whether the process should go on.", of!(Health), run!(node::health)),
    get("/readyz", "ready", "Whether the chain moves when it should.", of!(Health), run!(node::ready)),
    get("/openapi.json", "openapi", "This document.", Shape::Object, run!(node::openapi)),
    get("/docs", "docs", "This document as a page; needs no other site.", Shape::Other(HTML), run!(node::docs)),
    get("/", "root", "Leads to /docs.", Shape::Nothing, run!(node::root)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_and_name_stands_once() {
        for (at, route) in ROUTES.iter().enumerate() {
            for other in &ROUTES[at + 1..] {
                assert_ne!(route.name, other.name);
                assert!((route.method, route.path) != (other.method, other.path), "{}", route.path);
            }
        }
    }
}
