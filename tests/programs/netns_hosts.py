# SPDX-License-Identifier: MIT
"""Hosts for netns_test.py: network namespaces, their interfaces, and the peers that run in them."""
import contextlib
import ctypes
import os
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import time
import unittest

import peers

CLONE_NEWNET = 0x40000000
SO_RCVBUFFORCE = 33
MAGIC = 0x6d617264

libc = ctypes.CDLL(None, use_errno=True)
home = None          # the network namespace of this process
peer_program = None  # netns_peer


# ---- Hosts ---------------------------------------------------------------------------------------

def system(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Host:
    """A network namespace. This thread visits it to open sockets and to start programs there."""

    def __init__(self, case):
        self.case = case
        system(libc.unshare(CLONE_NEWNET))
        try:
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            case.addCleanup(os.close, self.fd)
        finally:
            system(libc.setns(home, CLONE_NEWNET))
        # Addresses are usable at once, and stay when the interface goes down.
        for name, value in (("accept_dad", 0), ("dad_transmits", 0), ("accept_ra", 0),
                            ("keep_addr_on_down", 1)):
            for which in ("all", "default"):
                self.sysctl(f"net/ipv6/conf/{which}/{name}", value)
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self):
        system(libc.setns(self.fd, CLONE_NEWNET))
        try:
            yield
        finally:
            system(libc.setns(home, CLONE_NEWNET))

    def sysctl(self, name, value):
        with self.inside(), contextlib.suppress(FileNotFoundError):
            with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
                file.write(str(value))

    def attempt(self, *command):
        """Runs a command there; what it complains about, "" if nothing."""
        with self.inside():
            done = subprocess.run(command, capture_output=True, text=True, check=False,
                                  timeout=peers.PATIENCE)
        return (done.stderr or "failed") if done.returncode else ""

    def run(self, *command):
        complaint = self.attempt(*command)
        if complaint:
            self.case.fail(f"{' '.join(command)}: {complaint}")

    def ip(self, *words):
        self.run("ip", *words)

    def link(self, name, other, other_name):
        """A cable from an interface here to one of the other host, both up."""
        self.ip("link", "add", name, "type", "veth", "peer", "name", other_name,
                "netns", f"/proc/{os.getpid()}/fd/{other.fd}")
        other.ip("link", "set", other_name, "up")
        self.up(name)
        other.up(other_name)

    def down(self, name):
        self.ip("link", "set", name, "down")

    def says(self, *words):
        """What ip(8) prints."""
        with self.inside():
            return subprocess.run(["ip", *words], capture_output=True, text=True, check=True,
                                  timeout=peers.PATIENCE).stdout

    def up(self, name):
        """The kernel brings IPv6 up a little later: its addresses and the route of multicasts."""
        self.ip("link", "set", name, "up")
        deadline = time.monotonic() + peers.PATIENCE
        while peers.has_ipv6() and time.monotonic() < deadline:
            if "ff00::/8" in self.says("-6", "route", "show", "table", "all", "dev", name) \
                    and not self.says("-6", "address", "show", "dev", name, "tentative"):
                break
            time.sleep(0.02)

    def address(self, text, interface):
        how = ["nodad"] if ":" in text else ["broadcast", "+"]
        self.ip("address", "add", text, *how, "dev", interface)

    def link_local(self, interface):
        """The link-local address of an interface, without its zone."""
        said = self.says("-6", "address", "show", "dev", interface, "scope", "link")
        return re.search(r"inet6 (fe80:[0-9a-f:]+)/", said)[1]

    def peer(self, version, *words):
        """The library's end: obeys commands."""
        with self.inside():
            return Peer(self.case, peer_program, version, *words)

    def plain(self, version, address=None, port=0):
        """A plain socket with room for all that a test sends at once, where that may be had."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        anywhere = "0.0.0.0" if version == 4 else "::"
        with self.inside():
            sock = peers.plain_socket(self.case, family, address or anywhere, port)
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        except PermissionError:
            if self.case.fast:
                self.case.skipTest("only root gets a receive buffer that surely holds a burst")
        return sock


class Peer(peers.Program):
    """tests/programs/netns_peer.c"""

    def do(self, command):
        """Has it obey; its answer without the command's name."""
        self.say(command)
        return self.answer(command.split()[0])

    def answer(self, name):
        line = self.line()
        if line is None or not line.startswith(f"{name}: "):
            self.fail(f"no answer to {name}")
        return line[len(name) + 2:]

    def ok(self, *commands):
        for command in commands:
            self.case.assertEqual(self.do(command), "OK", command)

    def bind(self, address="", port=0):
        answer = self.do(f"bind {port} {address}")
        self.case.assertTrue(answer.startswith("OK "), answer)
        return int(answer[3:])

    def wait(self, count):
        """Waits for so many datagrams; none may be lost, late, damaged or too many."""
        answer = self.do(f"wait {count}")
        good = f"{count} came, {count} in order, 0 lost, 0 late, 0 corrupt, 0 other, "
        self.case.assertTrue(answer.startswith(good), f"instead of {count}: {answer}")
        return answer

    @staticmethod
    def burst_command(count, size, port, *addresses):
        smallest, largest = size if isinstance(size, tuple) else (size, size)
        return f"burst {count} {smallest} {largest} {port} {' '.join(addresses)}"

    def burst(self, *words):
        return self.do(self.burst_command(*words))

    def check_good(self, count, answer):
        self.case.assertRegex(answer, rf"^{count} good, refused \w+, called again 0$")

    def good(self, count, *words):
        self.check_good(count, self.burst(count, *words))

    def stats(self):
        return {name: int(number) for name, number in
                re.findall(r"([a-z ]+) (\d+)", self.do("stats").replace(", ", ","))}


def results(answer):
    """{"good": 3, "EACCES": 2} of a burst's answer; no callback may have come twice."""
    text, _, again = answer.partition(", refused ")
    if not again.endswith("called again 0"):
        raise AssertionError(answer)
    return {name: int(count) for count, name in (part.split() for part in text.split(", "))}


class Case(unittest.TestCase):
    fast = False  # datagrams come faster than a receiver surely takes them

    def hosts(self, count):
        return [Host(self) for _ in range(count)]

    def two_hosts(self):
        """Joined by va and vb, with addresses of both families: ...1 and ...2, ...3."""
        a, b = self.hosts(2)
        a.link("va", b, "vb")
        a.address("10.77.1.1/24", "va")
        a.address("2001:db8:77::1/64", "va")
        for last in (2, 3):
            b.address(f"10.77.1.{last}/24", "vb")
            b.address(f"2001:db8:77::{last}/64", "vb")
        return a, b

    def three_hosts(self):
        """The first has two interfaces: va to the second host, vc to the third."""
        a, b, c = self.hosts(3)
        a.link("va", b, "vb")
        a.link("vc", c, "vd")
        for host, name, text in ((a, "va", "1.1"), (b, "vb", "1.2"), (a, "vc", "2.1"),
                                 (c, "vd", "2.2")):
            host.address(f"10.77.{text}/24", name)
            host.address(f"2001:db8:77:{text.replace('.', '::')}/64", name)
        return a, b, c

    def greet(self, sender, receiver, port, *addresses):
        """Has the neighbours found: what waits for that is not what a test is about."""
        for address in addresses:
            sender.good(1, 20, port, address)
        if isinstance(receiver, Peer):
            receiver.wait(len(addresses))
        else:
            for _ in addresses:
                receiver.recv(100)

    def take(self, sock, count):
        """Receives so many datagrams of bursts, whole and in the order of their streams."""
        following, sizes = {}, []
        for _ in range(count):
            payload = sock.recv(65535)
            magic, stream, sequence, size = struct.unpack_from("=4I", payload)
            self.assertEqual((magic, size), (MAGIC, len(payload)))
            self.assertEqual(sequence, following.get(stream, 0), f"stream {stream}")
            self.assertEqual(payload[16:], peers.pattern(size, sequence)[16:])
            following[stream] = sequence + 1
            sizes.append(size)
        self.nothing(sock)
        return sizes

    def cross(self, sender, sock, count, size, port, *addresses):
        """A burst and its arrival, at the same time; the sizes that came."""
        sender.say(sender.burst_command(count, size, port, *addresses))
        sizes = self.take(sock, count)
        sender.check_good(count, sender.answer("burst"))
        return sizes

    def nothing(self, sock):
        """Only behind a datagram that was sent last: then all that was to come is here."""
        self.assertEqual(select.select([sock], [], [], 0)[0], [], "one datagram too many")


VERSIONS = {4: ("10.77.1.1", "10.77.1.2", "10.77.1.3"),
            6: ("2001:db8:77::1", "2001:db8:77::2", "2001:db8:77::3")}


def both_versions(cls):
    """Makes a test_..._ipv4 and a test_..._ipv6 of each method with_...(self, version)."""
    for name in [name for name in vars(cls) if name.startswith("with_")]:
        for version in VERSIONS:
            def test(self, function=getattr(cls, name), version=version):
                if version == 6 and not peers.has_ipv6():
                    self.skipTest("no IPv6 here")
                function(self, version)
            setattr(cls, f"test_{name[len('with_'):]}_ipv{version}", test)
    return cls


# ---- Where namespaces can be made ----------------------------------------------------------------

def why_not():
    """Why namespaces cannot be made here, "" if they can."""
    for program in ("ip", "tc"):
        if not shutil.which(program):
            return f"no {program} here"
    try:
        system(libc.unshare(CLONE_NEWNET))
    except OSError as error:
        return f"network namespaces need root or CAP_NET_ADMIN: {error.strerror}"
    made = subprocess.run(["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb"],
                          capture_output=True, text=True, check=False)
    system(libc.setns(home, CLONE_NEWNET))
    return f"no veth pairs here: {made.stderr.strip()}" if made.returncode else ""


def become_root_of_a_namespace():
    """A user may be root in a user namespace, where the host allows it."""
    unshare = shutil.which("unshare")
    command = [unshare, "--user", "--map-root-user", "--net"]
    if unshare and "DGRAM_NETNS_INSIDE" not in os.environ and \
            subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
        os.environ["DGRAM_NETNS_INSIDE"] = "1"
        os.execv(unshare, [*command, sys.executable, *sys.argv])


def begin(program):
    """Before the first host: `program` is netns_peer. Ends the process where there can be none."""
    global home, peer_program
    peer_program = program
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    reason = why_not()
    if reason:
        become_root_of_a_namespace()
        peers.skip_everything(reason)
    if "DGRAM_NETNS_INSIDE" in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
