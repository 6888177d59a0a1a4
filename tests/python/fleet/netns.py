"""A network of its own, so that packets can be dropped in it: Redis there, hosts here.

Needs root, `ip` and `nft`. Nothing outside of its own namespace is filtered.
"""

import os
import re
import subprocess
from pathlib import Path


class NotPermitted(Exception):
    """Why there can be none."""


class Apart:
    """`with` it. `address` is on the far side, `before` runs a command there."""

    def __init__(self):
        number = os.getpid()
        self.name, self.near, self.far = f"throng{number}", f"th{number}a", f"th{number}b"
        third = number % 250
        self.address, self.here = f"10.213.{third}.2", f"10.213.{third}.1"
        self.before = ["ip", "netns", "exec", self.name]

    def __enter__(self):
        self._forget_the_dead()
        try:
            self._run("ip", "netns", "add", self.name)
            self._run("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far,
                      "netns", self.name)
            self._run("ip", "addr", "add", f"{self.here}/30", "dev", self.near)
            self._run("ip", "link", "set", self.near, "up")
            self._run(*self.before, "ip", "addr", "add", f"{self.address}/30", "dev", self.far)
            for link in (self.far, "lo"):
                self._run(*self.before, "ip", "link", "set", link, "up")
            self._nft("add", "table", "inet", "hole")
        except NotPermitted:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._remove(self.name, self.near)

    @classmethod
    def _forget_the_dead(cls):
        """Takes away what is left of processes that were killed: each is named by its number."""
        try:
            listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
        except OSError:
            return
        for number in re.findall(r"^throng(\d+)\b", listed, re.MULTILINE):
            if not Path(f"/proc/{number}").exists():
                cls._remove(f"throng{number}", f"th{number}a")

    @staticmethod
    def _remove(name, link):
        for command in (["ip", "netns", "del", name], ["ip", "link", "del", link]):
            subprocess.run(command, capture_output=True)

    def drop(self):
        """Every packet, both ways, from now on."""
        for hook in ("input", "output"):
            self._nft("add", "chain", "inet", "hole", hook,
                      f"{{ type filter hook {hook} priority 0; policy drop; }}")

    def pass_again(self):
        self._nft("flush", "ruleset")
        self._nft("add", "table", "inet", "hole")

    def _nft(self, *args):
        self._run(*self.before, "nft", *args)

    @staticmethod
    def _run(*command):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise NotPermitted(f"{command[0]}: {error}") from error
        if done.returncode:
            raise NotPermitted(f"{' '.join(command)}: {done.stderr.strip()}")
