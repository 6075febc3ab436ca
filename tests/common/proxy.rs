//! A real nginx with TLS in front of nodes, and the authority behind its certificate.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part")]

mod certificates;

use std::fmt::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian puts it, for who has no `sbin` in the path.
const PROGRAM: &str = "/usr/sbin/nginx";

/// A running nginx, ended when dropped.
pub struct Nginx {
    pub port: u16,
    /// Certificate of the authority, in PEM.
    pub authority: PathBuf,
    directory: PathBuf,
    child: Child,
}

impl Nginx {
    /// Serves `https://localhost:port`; what begins with a prefix goes to the REST interface
    /// on its port.
    pub fn start(folder: &Path, prefixes: &[(&str, u16)]) -> Self {
        let directory = folder.join("nginx");
        std::fs::create_dir(&directory).unwrap();
        certificates::make(&directory, certificates::OURS);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut locations = String::new();
        for (prefix, port) in prefixes {
            writeln!(locations, "location {prefix} {{ proxy_pass http://127.0.0.1:{port}/rpc/; }}")
                .unwrap();
        }
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log errors.log;
            events {{ worker_connections 64; }}
            http {{
                access_log off;
                client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate server.pem; ssl_certificate_key server.key;
                    {locations}
                }}
            }}"
        );
        std::fs::write(directory.join("nginx.conf"), text).unwrap();
        let child = spawn(&directory, port);
        Self { port, authority: directory.join("authority.pem"), directory, child }
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn restart(&mut self) {
        self.child = spawn(&self.directory, self.port);
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path, port: u16) -> Child {
    let program = if Path::new(PROGRAM).exists() { PROGRAM } else { "nginx" };
    let mut child = Command::new(program)
        .arg("-p")
        .arg(directory)
        .args(["-e", "errors.log", "-c", "nginx.conf"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("install the Debian package nginx");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let errors = || std::fs::read_to_string(directory.join("errors.log")).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none(), "nginx ended: {}", errors());
        assert!(began.elapsed() < Duration::from_secs(10), "nginx does not listen: {}", errors());
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}
