#![allow(clippy::unwrap_used)]
use std::path::Path;
use std::time::Duration;

use super::layers::read_env_file;
use super::*;

fn with(file: &str, variables: &[(&str, &str)]) -> Layers {
    let mut layers = Layers::default();
    layers.read_toml(file, Path::new("config.toml"));
    layers.read_variables(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    layers
}

fn load(file: &str, variables: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
    NodeConfig::from_layers(&with(file, variables))
}

fn problems(file: &str, variables: &[(&str, &str)]) -> String {
    load(file, variables).unwrap_err().problems.join("\n")
}

#[test]
fn every_default_is_valid_and_the_commented_file_gives_the_defaults() {
    let defaults = load("", &[]).unwrap();
    assert_eq!(load(&default_file(), &[]).unwrap(), defaults);
    let uncommented: String = default_file()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if KEYS.iter().any(|k| {
                    let name = k.path.rsplit('.').next().unwrap();
                    rest == format!("{name} = {}", k.default)
                }) =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(
        uncommented.lines().filter(|l| l.contains(" = ") && !l.starts_with('#')).count(),
        KEYS.len()
    );
    assert_eq!(load(&uncommented, &[]).unwrap(), defaults);
    assert_eq!(defaults.sequencer.block_interval, Duration::from_secs(2));
    assert_eq!(defaults.rpc.bind.port(), 8080);
}

#[test]
fn the_environment_wins_over_the_file_and_flags_over_both() {
    let file = "[rpc]\nbind = \"127.0.0.1:1\"\n[mempool]\ntransactions_max = 7\n";
    assert_eq!(load(file, &[]).unwrap().rpc.bind.port(), 1);
    let variables = [("AIT_RPC_BIND", "127.0.0.1:2"), ("RPC_BIND_PORT", "9")];
    let mut layers = with(file, &variables);
    assert_eq!(NodeConfig::from_layers(&layers).unwrap().rpc.bind.port(), 2);
    layers.set_flag("rpc.bind", "127.0.0.1:3");
    let config = NodeConfig::from_layers(&layers).unwrap();
    assert_eq!(config.rpc.bind.port(), 3);
    assert_eq!(config.mempool.transactions_max, 7);
    assert_eq!(load(file, &[("AIT_RPC__BIND", "127.0.0.1:4")]).unwrap().rpc.bind.port(), 4);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_one() {
    let found = problems("[rpc]\nbnid = \"x\"\n", &[]);
    assert!(found.contains("unknown key rpc.bnid; did you mean rpc.bind?"), "{found}");
    let found = problems("", &[("AIT_MEMPOOL_TRANSACTION_MAX", "1")]);
    assert!(found.contains("did you mean AIT_MEMPOOL_TRANSACTIONS_MAX?"), "{found}");
    assert!(load("", &[("AIT_KEY_PASSPHRASE", "p"), ("PATH", "/bin")]).is_ok());
}

#[test]
fn all_problems_are_reported_together_with_their_source() {
    let file = "log.format = \"xml\"\n[rpc]\nconnections_max = 0\n[storage]\nengine = 5\n";
    let found = problems(file, &[("AIT_SEQUENCER_BLOCK_INTERVAL", "soon")]);
    for part in [
        "log.format (config.toml): found \"xml\", expected text or json",
        "rpc.connections_max (config.toml): found 0, expected a whole number from 1",
        "storage.engine (config.toml): found 5, expected redb or memory",
        "sequencer.block_interval (variable AIT_SEQUENCER_BLOCK_INTERVAL): found \"soon\"",
    ] {
        assert!(found.contains(part), "{part} is not in:\n{found}");
    }
}

#[test]
fn old_names_are_understood_whatever_their_case() {
    let config = load(
        "",
        &[
            ("chain_id", "old-chain"),
            ("DB_PATH", "./data/old/chain.db"),
            ("RPC_BIND_HOST", "0.0.0.0"),
            ("RPC_BIND_PORT", "8082"),
            ("P2P_BIND_HOST", "::1"),
            ("P2P_BIND_PORT", "7071"),
            ("PROPOSER_KEY", "key.json"),
            ("MINT_PER_UNIT", "50"),
            ("COORDINATOR_RATIO", "0.05"),
            ("BLOCK_TIME_SECONDS", "3"),
        ],
    )
    .unwrap();
    assert_eq!(config.chain_id.as_str(), "old-chain");
    assert_eq!(config.data_dir, Path::new("./data/old"));
    assert_eq!(config.rpc.bind.to_string(), "0.0.0.0:8082");
    assert_eq!(config.p2p.bind.to_string(), "[::1]:7071");
    assert_eq!(config.sequencer.key, "key.json");
    assert_eq!(config.genesis.mint_per_unit, 50);
    assert_eq!(config.genesis.coordinator_ratio_bps, 500);
    assert_eq!(config.sequencer.block_interval, Duration::from_secs(3));
    for ratio in ["1.5", "-0.1", "0.00001", "x"] {
        assert!(problems("", &[("COORDINATOR_RATIO", ratio)]).contains("COORDINATOR_RATIO"));
    }
}

#[test]
fn reads_env_files_with_comments_and_quotes() {
    let read = read_env_file("# note\nexport A=1\n B = \"two\" \nnothing\n");
    assert_eq!(read, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "two".to_owned())]);
}

#[test]
fn origins_are_checked_before_they_reach_the_server() {
    let problems = |origin: &str| {
        let mut layers = Layers::default();
        let text = format!("[rpc]\ncors_origins = [{origin:?}]\n");
        layers.read_toml(&text, Path::new("config.toml"));
        NodeConfig::from_layers(&layers).err()
    };
    for good in ["*", "https://example.org", "http://127.0.0.1:3000", "http://[::1]:80"] {
        assert_eq!(problems(good), None, "{good}");
    }
    for bad in [
        "example.org",
        "null",
        "",
        "https://",
        "https://example.org/path",
        "ftp://x",
        "http://a b",
        "http://x:99999",
    ] {
        assert!(problems(bad).is_some(), "{bad} was taken");
    }
}

#[test]
fn remotes_of_other_sites_are_urls_and_the_old_names_mean_the_same() {
    let shown = |config: &NodeConfig| -> Vec<String> {
        config.cross_site.remotes.iter().map(ToString::to_string).collect()
    };
    let urls = ["https://a.example/rpc", "http://b.example:8081/rpc2"];
    for listed in [
        r#"["https://a.example/rpc/", "http://b.example:8081/rpc2"]"#,
        "https://a.example/rpc,http://b.example:8081/rpc2,",
    ] {
        let old = [("CROSS_SITE_REMOTE_ENDPOINTS", listed), ("CROSS_SITE_POLL_INTERVAL", "7")];
        let config = load("", &old).unwrap();
        assert_eq!(shown(&config), urls);
        assert_eq!(config.cross_site.poll_interval, Duration::from_secs(7));
        let off = [old[0], ("CROSS_SITE_SYNC_ENABLED", "False")];
        assert!(shown(&load("", &off).unwrap()).is_empty());
    }
    let file = "[cross_site]\nremotes = [\"https://a.example/rpc\"]\nca_file = \"ca.pem\"\n";
    let config = load(file, &[]).unwrap();
    assert_eq!(config.cross_site.ca_file.as_deref(), Some(Path::new("ca.pem")));
    assert!(config.cross_site.mempool);
    assert_eq!(load("", &[]).unwrap().cross_site.ca_file, None);
    for bad in ["ftp://a/rpc", "a.example/rpc", "https://a.example/rpc?x=1"] {
        let found = problems("", &[("AIT_CROSS_SITE_REMOTES", bad)]);
        assert!(
            found.contains("cross_site.remotes") && found.contains("https://site/rpc"),
            "{found}"
        );
    }
}

#[test]
fn redis_is_named_by_a_url_that_no_message_shows() {
    let of = |config: &NodeConfig| config.gossip.redis.as_ref().map(ToString::to_string);
    assert_eq!(of(&load("", &[]).unwrap()), None);
    let url = "redis://user:hidden@redis.example:7000/1";
    let config = load("", &[("AIT_GOSSIP_REDIS_URL", url)]).unwrap();
    assert_eq!(of(&config).as_deref(), Some("redis.example:7000"));
    assert!(!format!("{config:?}").contains("hidden"));
    let old = [("GOSSIP_BACKEND", "redis"), ("GOSSIP_BROADCAST_URL", url)];
    assert_eq!(of(&load("", &old).unwrap()).as_deref(), Some("redis.example:7000"));
    assert_eq!(of(&load("", &old[..1]).unwrap()).as_deref(), Some("127.0.0.1:6379"));
    assert_eq!(of(&load("", &[("GOSSIP_BACKEND", "memory"), old[1]]).unwrap()), None);
    let found = problems("", &[("AIT_GOSSIP_REDIS_URL", "http://user:hidden@redis.example")]);
    assert!(found.contains("gossip.redis_url") && found.contains("rediss://"), "{found}");
    assert!(!found.contains("hidden"), "{found}");
}

#[test]
fn a_line_that_cannot_be_read_is_numbered_and_not_quoted() {
    let found = problems("[gossip]\nredis_url = \"redis://user:hidden@redis.example\n", &[]);
    assert!(found.contains("config.toml: line 2, "), "{found}");
    assert!(!found.contains("hidden"), "{found}");
}

#[test]
fn a_secret_in_a_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let problems_of = |text: &str, mode| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut layers = Layers::default();
        layers.read_file(&path);
        layers.problems().join("\n")
    };
    let seed = "ab".repeat(32);
    let secrets = [
        "[gossip]\nredis_url = \"redis://user:hidden@redis.example\"".to_owned(),
        "[cross_site]\nremotes = [\"https://user:hidden@site/rpc\"]".to_owned(),
        format!("[sequencer]\nkey_file = \"{seed}\""),
    ];
    for text in secrets {
        let found = problems_of(&text, 0o644);
        assert!(found.contains("chmod 600") && found.contains("644"), "{found}");
        assert!(!found.contains("hidden") && !found.contains(&seed), "{found}");
        // A group of its own may read it, as packages arrange it, and not change it.
        assert_eq!(problems_of(&text, 0o640), "");
        assert!(problems_of(&text, 0o660).contains("660"));
    }
    let plain =
        "[gossip]\nredis_url = \"redis://redis.example\"\n[sequencer]\nkey_file = \"a.key\"";
    assert_eq!(problems_of(plain, 0o644), "");
}

#[test]
fn a_secret_in_an_env_file_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".env");
    let problems_of = |text: &str, mode| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut layers = Layers::default();
        layers.check_env_file(&path);
        layers.problems().join("\n")
    };
    let seed = "ab".repeat(32);
    for (text, key) in [
        ("AIT_GOSSIP_REDIS_URL=redis://user:hidden@redis.example".to_owned(), "gossip.redis_url"),
        (format!("export PROPOSER_KEY=\"{seed}\""), "sequencer.key_file"),
    ] {
        let found = problems_of(&text, 0o644);
        assert!(found.contains(key) && found.contains("chmod 600"), "{found}");
        assert!(!found.contains("hidden") && !found.contains(&seed), "{found}");
        assert_eq!(problems_of(&text, 0o640), "");
    }
    assert_eq!(problems_of("AIT_LOG_LEVEL=debug", 0o644), "");
    std::fs::remove_file(&path).unwrap();
    let mut layers = Layers::default();
    layers.check_env_file(&path);
    assert!(layers.problems().is_empty());
}

#[test]
fn a_configuration_shows_no_key() {
    let seed = "ab".repeat(32);
    let config = load("", &[("PROPOSER_KEY", &seed)]).unwrap();
    assert_eq!(config.sequencer.key, seed);
    assert!(!format!("{config:?}").contains(&seed));
}
