//! A real Redis server of our own, which keeps nothing.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

pub mod certificates;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Redis {
    pub port: u16,
    is_secured: bool,
    process: Child,
    folder: tempfile::TempDir,
}

fn launch(port: u16, is_secured: bool, folder: &Path) -> Child {
    let port = port.to_string();
    let mut command = Command::new("redis-server");
    if is_secured {
        command
            .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
            .args(["--tls-cert-file", "server.pem", "--tls-key-file", "server.key"])
            .args(["--tls-ca-cert-file", "authority.pem"]);
    } else {
        command.args(["--port", &port]);
    }
    command
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--loglevel", "verbose", "--logfile", "log"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server runs; it is in the package redis-server")
}

impl Redis {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), false)
    }

    /// A server with TLS alone, whose certificate is for these names.
    pub fn secured(names: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        certificates::make(folder.path(), names);
        Self::start_in(folder, true)
    }

    fn start_in(folder: tempfile::TempDir, is_secured: bool) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = launch(port, is_secured, folder.path());
        Self { port, is_secured, process, folder }
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.process = launch(self.port, self.is_secured, self.folder.path());
    }

    pub fn url(&self) -> String {
        let scheme = if self.is_secured { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Certificate of the authority behind that of a secured server.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
