//! The proxy, as a process of its own.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::origin::Origin;

/// How the proxy is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub threads: usize,
    pub work_stealing: bool,
    /// For each thread: Pingora multiplies it.
    pub pool_size: usize,
    pub idle_timeout: Option<Duration>,
    pub daemon: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { threads: 2, work_stealing: true, pool_size: 128, idle_timeout: None, daemon: false }
    }
}

/// A proxy that runs, and where its files are.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    pid: libc::pid_t,
    /// None of a daemon, which is nobody's child.
    child: Option<Child>,
    folder: PathBuf,
}

impl Proxy {
    /// Starts one on a port that is free.
    pub fn start(setup: &Setup, h1: &[Origin], h2: &[Origin]) -> io::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let folder = std::env::temp_dir().join(format!("pingora-on-slabpool-{}", address.port()));
        fs::create_dir_all(&folder)?;
        Self::launch(setup, h1, h2, address, &folder, false)
    }

    /// Starts one that takes the place of this one, which then ends by itself.
    pub fn upgrade(&self, setup: &Setup, h1: &[Origin], h2: &[Origin]) -> io::Result<Self> {
        let successor = Self::launch(setup, h1, h2, self.address, &self.folder, true)?;
        self.signal(libc::SIGQUIT);
        Ok(successor)
    }

    fn launch(
        setup: &Setup,
        h1: &[Origin],
        h2: &[Origin],
        address: SocketAddr,
        folder: &Path,
        upgrade: bool,
    ) -> io::Result<Self> {
        let file = |name: &str| folder.join(name).display().to_string();
        let conf = format!(
            "version: 1\nthreads: {}\nwork_stealing: {}\nupstream_keepalive_pool_size: {}\n\
             daemon: {}\npid_file: {}\nupgrade_sock: {}\nerror_log: {}\n\
             grace_period_seconds: 2\ngraceful_shutdown_timeout_seconds: 2\n",
            setup.threads,
            setup.work_stealing,
            setup.pool_size,
            setup.daemon,
            file("pid"),
            file("upgrade.sock"),
            file("error.log"),
        );
        fs::write(folder.join("conf.yaml"), conf)?;
        let list = |origins: &[Origin]| {
            let addresses = origins.iter().map(|origin| origin.address.to_string());
            addresses.collect::<Vec<_>>().join(",")
        };
        let mut command = Command::new(std::env::current_exe()?.with_file_name("proxy"));
        command.args(["-c", &file("conf.yaml")]);
        if upgrade {
            command.arg("-u");
        }
        command
            .env("LISTEN", address.to_string())
            .env("UPSTREAMS_H1", list(h1))
            .env("UPSTREAMS_H2", list(h2))
            .stdin(Stdio::null());
        if let Some(timeout) = setup.idle_timeout {
            command.env("IDLE_TIMEOUT_MS", timeout.as_millis().to_string());
        }
        let mut child = command.spawn()?;
        let (pid, child) = if setup.daemon {
            // The parent ends when the daemon is there, which has written its number.
            child.wait()?;
            let path = folder.join("pid");
            wait_for("the daemon's number", || number_in(&path).is_some())?;
            (number_in(&path).expect("just seen"), None)
        } else {
            (child.id() as libc::pid_t, Some(child))
        };
        let proxy = Self { address, pid, child, folder: folder.to_owned() };
        if !upgrade {
            wait_for("the proxy", || std::net::TcpStream::connect(address).is_ok())?;
        }
        Ok(proxy)
    }

    /// File descriptors of the process.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Threads of the process.
    pub fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// Memory of the process, in KiB.
    pub fn memory_kib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Waits until the process has ended by itself.
    pub fn ended(mut self) -> io::Result<()> {
        wait_for("the old proxy to end", || match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => self.threads() == 0,
        })
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: no memory is involved. The process is this one's child, not waited for, or
        // a daemon that it has started.
        unsafe { libc::kill(self.pid, signal) };
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.threads() > 0 {
            self.signal(libc::SIGKILL);
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
        // Gone already, if this is the successor of another one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn number_in(path: &Path) -> Option<libc::pid_t> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Waits until something is so, for a minute at most.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> io::Result<()> {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("waited for {what}")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
