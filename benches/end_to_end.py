"""The processes of benches/end-to-end: how they are built, set up, started and stopped."""

import contextlib
import ctypes
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Pingoras, under the names by which they are shown.
KEPT = ROOT / "target" / "end-to-end"
PINGORAS = {"Pingora": True, "Pingora on slabpool": False}
CORES = os.cpu_count() or 1
BODY = "x" * 128
# Nobody closes a connection because of how often it was used: that would be counted as a miss.
ENDLESS = 1_000_000_000

NGINX = """
daemon off; {user} worker_processes {workers}; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type text/plain; keepalive_requests {endless}; keepalive_timeout 1h;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  {rest}
}}
"""


class Processes:
    """What runs. Nothing is left, also when the program is stopped."""

    def __init__(self, folder):
        self.folder, self.running = folder, []

    def start(self, command, **options):
        # A signal waits until the process is noted. A group of its own, so that Ctrl-C comes
        # here only; and when this program is killed, so are they.
        signals = {signal.SIGINT, signal.SIGTERM}
        libc, die_with_parent = ctypes.CDLL(None), 1

        def in_child():
            libc.prctl(die_with_parent, signal.SIGINT)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

        log = open(self.folder / "log", "ab")
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            options = {"stdout": log, "stderr": log, **options}
            process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL,
                start_new_session=True, preexec_fn=in_child, **options)
            self.running.append(process)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
            log.close()
        return process

    def stop(self, process):
        for sign, patience in ((signal.SIGINT, 5), (signal.SIGKILL, 5)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
        self.running.remove(process)

    def stop_all(self):
        while self.running:
            self.stop(self.running[-1])

    @contextlib.contextmanager
    def server(self, command, port, **options):
        """One that runs, and listens, as long as it is needed."""
        process = self.start(command, **options)
        deadline = time.monotonic() + 10
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / "log").read_text(errors="replace")[-2000:]
                sys.exit(f"{command[0]} does not listen on port {port}:\n{log}")
            time.sleep(0.02)
        yield process
        self.stop(process)


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def free_port(taken=set()):
    """One that no connection gets: the system takes those from 32768 on, unless it is told."""
    for port in random.sample(range(20_000, 32_000), 200):
        with contextlib.suppress(OSError), socket.socket() as attempt:
            attempt.bind(("127.0.0.1", port))
            if port not in taken:
                taken.add(port)
                return port
    sys.exit("no port from 20000 to 31999 is free")


def processor_time(group):
    """Of all processes of a group, in seconds."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def nginx(folder, workers, rest):
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    conf = NGINX.format(folder=folder, workers=workers, rest=rest, user=user, endless=ENDLESS)
    (folder / "conf").write_text(conf)
    return ["nginx", "-p", folder, "-e", folder / "error.log", "-c", folder / "conf"]


def nginx_origin(folder, port):
    return nginx(folder / "origin", 1, f"""server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 {BODY}; }}
        location = /counters {{ stub_status; }} }}""")


def nginx_proxy(folder, port, origin, pooled):
    pool = f"keepalive 64; keepalive_requests {ENDLESS};" if pooled else ""
    header = 'proxy_set_header Connection "";' if pooled else ""
    return nginx(folder / ("pooled" if pooled else "unpooled"), CORES, f"""
        upstream origin {{ server 127.0.0.1:{origin}; {pool} }}
        server {{ listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://origin; proxy_http_version 1.1; {header} }} }}""")


def ours(folder, port, origin, pooled):
    conf = folder / f"{'pooled' if pooled else 'unpooled'}.yaml"
    uses = "" if pooled else ", max_uses: 1"
    conf.write_text(f"""listen: 127.0.0.1:{port}
drain_timeout: 1
upstreams: {{ origin: {{ hosts: ["127.0.0.1:{origin}"], http2: false,
  connection_pool: {{ max_connections: 64{uses} }} }} }}
""")
    return [target() / "release/examples/reverse_proxy", "--config", conf]


def pingora(folder, binary):
    conf = folder / "pingora.yaml"
    conf.write_text(f"""version: 1
threads: {CORES}
pid_file: {folder}/pingora.pid
upgrade_sock: {folder}/pingora.sock
error_log: {folder}/pingora.log
""")
    return [binary, "-c", conf]


def target():
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "--all-features", "--example",
                    "reverse_proxy"], cwd=ROOT, check=True)


def build_pingora():
    """compat/proxy as it is, on slabpool, and without the lines that put it there."""
    if not shutil.which("cmake"):
        sys.exit("cmake is needed to build Pingora")
    for name, stock in PINGORAS.items():
        copy = KEPT / f"{name} source"
        shutil.copytree(ROOT / "compat/proxy", copy, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("target"))
        manifest = (copy / "Cargo.toml").read_text()
        patch = re.compile(r"\[patch\.crates-io\]\npingora-pool = .*\n")
        standin = ROOT / "compat/pingora-pool"
        lines = f'[patch.crates-io]\npingora-pool = {{ path = "{standin}" }}\n'
        manifest, found = patch.subn(lambda _: "" if stock else lines, manifest)
        if found != 1:
            sys.exit("compat/proxy/Cargo.toml has no patch of pingora-pool any more")
        (copy / "Cargo.toml").write_text(manifest)
        subprocess.run(["cargo", "build", "--release", "--bin", "proxy", "--manifest-path",
                        copy / "Cargo.toml", "--target-dir", KEPT / "build"], check=True)
        shutil.copy2(KEPT / "build/release/proxy", KEPT / name)


def install():
    missing = [name for name in ("nginx", "wrk") if not shutil.which(name)]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    subprocess.run([*sudo, *quiet, "update"], check=True)
    subprocess.run([*sudo, *quiet, "install", "--no-install-recommends", *missing], check=True)
