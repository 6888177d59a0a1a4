"""Throng and the servers it is compared with: how each is started, and what it may lack.

Every server gets its port, a folder of its own to write in, and the same clients. What a peer is
given beyond its defaults stands here or in peers/, with the reason.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODE = HERE / "peers"
NCHAN_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/share/nginx/modules/ngx_nchan_module.so"),
)
BASE = "throng"  # what the others' ratios are to


@dataclass(frozen=True)
class Place:
    """Where a server runs: the folder of binaries, its own folder, its port."""

    binaries: Path
    folder: Path
    port: int


@dataclass(frozen=True)
class Command:
    """What to start, and with what in its environment."""

    argv: list
    env: dict
    forks: bool = False  # the work is done by its one child


@dataclass(frozen=True)
class Peer:
    """A server of the comparison."""

    name: str
    about: str
    command: Callable[[Place], Command]
    lacks: Callable[[Path], str | None]  # given the folder of binaries
    protocol: str = "socketio"  # as throng-load calls it
    path: str | None = None
    usual: bool = True  # takes part unless others are named


def throng(workers):
    """Throng without the limits that a load from one address would meet."""

    def command(place):
        env = {
            "MAX_WORKERS": str(workers), "MAX_CONNECTIONS_PER_IP": "0", "MESSAGE_RATE_LIMIT": "0",
            "MAX_CONNECTIONS": "20000", "LOG": "warn", "DATA_DIR": str(place.folder),
            "PORT": str(place.port),
        }
        return Command([str(place.binaries / "throng")], env)

    return command


def rust(binary):
    """A server of this crate."""
    return lambda place: Command([str(place.binaries / binary), "--port", str(place.port)], {})


def node(script, *flags):
    """A server of peers/."""
    return lambda place: Command(["node", str(NODE / script), *flags], {"PORT": str(place.port)})


def nchan(place):
    """nginx with its own prefix, one worker."""
    text = (NODE / "nchan.conf").read_text(encoding="utf-8")
    for name, value in (("port", place.port), ("prefix", place.folder), ("module", nchan_module())):
        text = text.replace("{" + name + "}", str(value))
    config = place.folder / "nginx.conf"
    config.write_text(text, encoding="utf-8")
    log = str(place.folder / "error.log")
    argv = [nginx(), "-p", str(place.folder), "-c", str(config), "-e", log]
    return Command(argv, {}, forks=True)


def nginx():
    """nginx's binary; Debian puts it where only root's PATH looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def nchan_module():
    """nginx's module nchan, where Debian installs it."""
    return next((path for path in NCHAN_MODULES if path.exists()), None)


def lacks_binary(name, package):
    """Says what is missing of a binary that cargo builds."""
    def lacks(binaries):
        if not (binaries / name).exists():
            return f"{binaries / name} is missing: cargo build --release -p {package}"
        return None

    return lacks


def lacks_node(_binaries):
    """Says what is missing of the Node peers."""
    if not shutil.which("node"):
        return "node is missing: install Node.js 20 or newer"
    if not (NODE / "node_modules").exists():
        return f"its packages are missing: npm ci --prefix {NODE}"
    return None


def lacks_nchan(_binaries):
    """Says what is missing of nginx with nchan."""
    if not nginx() or not nchan_module():
        return "nginx with nchan is missing: apt-get install nginx libnginx-mod-nchan"
    return None


HAS_THRONG = lacks_binary("throng", "throng")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("throng", "Throng, one shard", throng(1), HAS_THRONG),
        Peer("floor", "a bare epoll send() loop", rust("epoll-floor"),
             lacks_binary("epoll-floor", "throng-benches")),
        Peer("socketioxide", "the Rust crate, on axum and tokio", rust("socketioxide-peer"),
             lacks_binary("socketioxide-peer", "throng-benches")),
        Peer("socket.io", "npm, tuned as its documentation says", node("socketio.mjs"), lacks_node),
        Peer("ws", "npm, plain JSON and sets as rooms", node("ws.mjs"), lacks_node, "ws"),
        Peer("nchan", "nginx with nchan, a channel per path", nchan, lacks_nchan, "plain",
             "/pubsub/{room}"),
        Peer("throng-json", "Throng on /ws, to set beside ws", throng(1), HAS_THRONG, "ws",
             usual=False),
        Peer("throng-8", "Throng, eight shards on the one core", throng(8), HAS_THRONG,
             usual=False),
        Peer("socket.io-defaults", "npm, as it is after install",
             node("socketio.mjs", "--defaults"), lacks_node, usual=False),
    )
}
USUAL = [peer.name for peer in PEERS.values() if peer.usual]
