"""A Redis, hosts, and a proxy between each host and Redis."""

from fleet.hosts import Hosts
from fleet.proxy import Proxy
from fleet.redis import Redis

# Enough for every fault here to be mended without a gap; a test of gaps says less.
HISTORY_SIZE = "5000"


class World:
    """`with` it. `proxies[n]` stands before host n."""

    def __init__(self, count=3, redis=None, receive_bytes=None, aof=False, **env):
        self.redis = redis or Redis(aof=aof)
        self.proxies, self.hosts = [], None
        try:
            for n in range(count):
                proxy = Proxy(self.redis.port, self.redis.host, n, receive_bytes)
                self.proxies.append(proxy)
            env = {"HISTORY_SIZE": HISTORY_SIZE} | env
            self.hosts = Hosts([it.url for it in self.proxies], **env)
            self.hosts.until_ready()
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            if self.hosts:
                self.hosts.__exit__(*error)
        finally:
            self.end()

    def end(self):
        if self.hosts:
            self.hosts.end()
        for it in self.proxies:
            it.close()
        self.redis.end()

    def key(self, kind, room):
        """The full name of a room's key in Redis; there must be one."""
        (key,) = [it for it in self.redis.keys(f"throng:*:{kind}:*") if it.endswith(f":{room}")]
        return key

    def entries(self, room):
        """The room's stream: (id, fields) of each."""
        return self.redis.ask("XRANGE", self.key("stream", room), "-", "+")

    def entries_with(self, room, text):
        return [it for it in self.entries(room) if any(text.encode() in part for part in it[1])]
