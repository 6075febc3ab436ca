//! Certificates of a server with TLS, made by the openssl of the machine.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

use std::path::Path;
use std::process::Command;

/// Names of this machine.
pub const OURS: &str = "DNS:localhost,IP:127.0.0.1";

/// An authority that nobody knows (`authority.pem`), and a certificate of it for these names
/// (`server.pem`, `server.key`).
pub fn make(directory: &Path, names: &str) {
    let openssl = |arguments: &[&str]| {
        let made = Command::new("openssl")
            .args(arguments)
            .current_dir(directory)
            .output()
            .expect("install the Debian package openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    let files = ["-keyout", "authority.key", "-out", "authority.pem"];
    openssl(&[&authority[..], &key, &files].concat());
    let request = ["req", "-subj", "/CN=localhost"];
    let files = ["-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &key, &files].concat());
    let names = format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\n");
    std::fs::write(directory.join("names"), names).unwrap();
    let issue = ["x509", "-req", "-days", "2", "-in", "server.csr", "-out", "server.pem"];
    let by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"];
    openssl(&[&issue[..], &by, &["-extfile", "names"]].concat());
}
