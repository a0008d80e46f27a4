#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The library and other programs talk to each other, both ways, over IPv4 and IPv6.

interop_test.py INTEROP_PEER [-- NAME...]     NAME: only the cases whose names contain it

The library's end is interop_peer.c, with the engine of DGRAM_ENGINE. The others are Node's
dgram, socat, Python's socket and dnsmasq; each is skipped where it is not installed. Everything
stays on loopback.
"""
import getpass
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from collections import namedtuple

sys.dont_write_bytecode = True  # nothing is left in the source tree
import peers

Family = namedtuple("Family", "name number options loopback size_max node socat")
IPV4 = Family("ipv4", socket.AF_INET, [], "127.0.0.1", 65507, "udp4", "UDP4")
IPV6 = Family("ipv6", socket.AF_INET6, ["-6"], "::1", 65527, "udp6", "UDP6")

BURST = 64  # enough for a train, few enough for everybody's receive buffer


def sizes(family, empty=True):
    return [0] * empty + [1, 17, 1000, 1472, 1473, 9000, family.size_max]


def both_families(cls):
    """Makes a test_..._ipv4 and a test_..._ipv6 of each method with_...(self, family)."""
    for name in [name for name in vars(cls) if name.startswith("with_")]:
        for family in (IPV4, IPV6):
            def test(self, function=getattr(cls, name), family=family):
                if family is IPV6 and not peers.has_ipv6():
                    self.skipTest("no IPv6 here")
                function(self, family)
            setattr(cls, f"test_{name[len('with_'):]}_{family.name}", test)
    return cls


class Case(unittest.TestCase):
    def peer(self, *words):
        return peers.Program(self, PEER, *words)

    def start_echo(self, family, address=None):
        """The library's echo server and its port."""
        echo = self.peer(*family.options, "echo", address or family.loopback, 0)
        return echo, int(echo.expect(r"^port (\d+)$")[1])

    def end_echo(self, echo, count):
        echo.terminate()
        echo.case.assertIn(f"received {count}, returned {count}, failed 0", echo.seen)

    def send(self, family, port, count, wanted, host=None, options=()):
        """The library sends; every datagram must come back."""
        return self.peer(*family.options, *options, "send", host or family.loopback, port, count,
                         *wanted)

    def check_sent(self, sender, count, wanted):
        lines = sender.finish()
        self.assertEqual(lines, [f"{count} x {size} bytes came back" for size in wanted])


def echo_until_end(sock, sender):
    """Python's echo server, until the program has ended."""
    sock.settimeout(0.05)
    while sender.process.poll() is None:
        try:
            payload, address = sock.recvfrom(65535)
        except TimeoutError:
            continue
        sock.sendto(payload, address)


# ---- Python --------------------------------------------------------------------------------------

@both_families
class Python(Case):
    def with_it_answers_us(self, family):
        sock = peers.plain_socket(self, family.number)
        port = sock.getsockname()[1]
        for count, wanted in ((1, sizes(family)), (BURST, [0, 1, 100, 1200])):
            sender = self.send(family, port, count, wanted)
            echo_until_end(sock, sender)
            self.check_sent(sender, count, wanted)

    def with_we_answer_it(self, family):
        echo, port = self.start_echo(family)
        sock = peers.plain_socket(self, family.number)
        for seed, size in enumerate(sizes(family)):
            payload = peers.pattern(size, seed)
            sock.sendto(payload, (family.loopback, port))
            answer, address = sock.recvfrom(65535)
            self.assertEqual(answer, payload)
            self.assertEqual(address[:2], (family.loopback, port))
        burst = [peers.pattern(100 + seed, seed) for seed in range(BURST)]
        for payload in burst:
            sock.sendto(payload, (family.loopback, port))
        self.assertEqual([sock.recv(65535) for _ in burst], burst)
        self.end_echo(echo, len(sizes(family)) + BURST)

    def test_we_answer_ipv4_from_an_ipv6_socket(self):
        if not peers.has_ipv6():
            self.skipTest("no IPv6 here")
        echo, port = self.start_echo(IPV6, "::")
        for family in (IPV4, IPV6):
            sock = peers.plain_socket(self, family.number)
            sock.sendto(b"who is it", (family.loopback, port))
            answer, address = sock.recvfrom(100)
            self.assertEqual(answer, b"who is it")
            self.assertEqual(address[:2], (family.loopback, port))
        self.end_echo(echo, 2)


# ---- Node ----------------------------------------------------------------------------------------

NODE_ECHO = """
const [type, address] = process.argv.slice(1);
const server = require('dgram').createSocket(type);
server.on('message', (message, from) => server.send(message, from.port, from.address));
server.bind(0, address, () => console.log('port ' + server.address().port));
"""

# Rounds of `count` datagrams at once, each of which must come back as it was, in order.
NODE_SEND = """
const [type, address, port, count, ...sizes] = process.argv.slice(1);
const client = require('dgram').createSocket(type);
let expected = [];
const pattern = (size, seed) => Buffer.from(
  Uint8Array.from({length: size}, (_, i) => seed * 31 + i * 7 + (i >> 8) * 13));
const check = (good, what) => { if (!good) { console.log('failed: ' + what); process.exit(1); } };
function round() {
  if (sizes.length === 0) return client.close(() => console.log('all came back'));
  const size = Number(sizes.shift());
  expected = Array.from({length: Number(count)}, (_, seed) => pattern(size, seed));
  for (const payload of expected) client.send(payload, Number(port), address, (error, bytes) =>
    check(!error && bytes === size, 'send of ' + size + ': ' + error));
}
client.on('message', (message, from) => {
  const wanted = expected.shift();
  check(wanted && wanted.equals(message) && from.size === wanted.length, 'an echo');
  check(from.port === Number(port) && from.address === address, 'the sender of an echo');
  if (expected.length === 0) round();
});
round();
"""


@both_families
class Node(Case):
    def node(self, script, *words):
        return peers.Program(self, peers.needed(self, "node"), "-e", script, "--", *words)

    def with_it_answers_us(self, family):
        server = self.node(NODE_ECHO, family.node, family.loopback)
        port = int(server.expect(r"^port (\d+)$")[1])
        for count, wanted in ((1, sizes(family)), (BURST, [0, 1, 100, 1200])):
            self.check_sent(self.send(family, port, count, wanted), count, wanted)

    def with_we_answer_it(self, family):
        echo, port = self.start_echo(family)
        rounds = ((1, sizes(family)), (BURST, [0, 1, 100, 1200]))
        for count, wanted in rounds:
            client = self.node(NODE_SEND, family.node, family.loopback, port, count, *wanted)
            self.assertEqual(client.finish(), ["all came back"])
        self.end_echo(echo, sum(count * len(wanted) for count, wanted in rounds))


# ---- socat ---------------------------------------------------------------------------------------

def ending(family, port):
    """The end of a socat address."""
    return f"[{family.loopback}]:{port}" if family is IPV6 else f"{family.loopback}:{port}"


def binding(family):
    return f"bind=[{family.loopback}]" if family is IPV6 else f"bind={family.loopback}"


@both_families
class Socat(Case):
    BUFFER = 66000  # socat cuts at its buffer, 8192 bytes by default

    def socat(self, *words):
        """Its output is what was received, so it is no Program."""
        command = [peers.needed(self, "socat"), "-b", str(self.BUFFER), *words]
        process = subprocess.Popen(peers.kept_short(command), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for_bind(self, family, port):
        """socat says nothing when it is ready; its port is taken then."""
        deadline = time.monotonic() + peers.PATIENCE
        while time.monotonic() < deadline:
            with socket.socket(family.number, socket.SOCK_DGRAM) as prober:
                try:
                    prober.bind((family.loopback, port))
                except OSError:
                    return
            time.sleep(0.02)
        self.fail("socat did not bind")

    def with_it_answers_us(self, family):
        port = peers.free_port(family.number)
        # Through a pipe to itself: what came from the peer goes back to it.
        self.socat(f"{family.socat}-LISTEN:{port},{binding(family)}", "PIPE")
        self.wait_for_bind(family, port)
        # It passes over empty datagrams, and a pipe would join those of a burst.
        wanted = sizes(family, empty=False)
        self.check_sent(self.send(family, port, 1, wanted), 1, wanted)

    def with_it_receives_from_us(self, family):
        port = peers.free_port(family.number)
        # null-eof: the empty datagram, and nothing else, ends it.
        socat = self.socat("-u", f"{family.socat}-RECV:{port},{binding(family)},null-eof", "-")
        self.wait_for_bind(family, port)
        sender = self.send(family, port, 1, [1000, family.size_max, 0], options=["-o"])
        sender.finish()
        output, _ = socat.communicate(timeout=peers.PATIENCE)
        self.assertEqual(socat.returncode, 0)
        # The peer counts its datagrams from 1.
        self.assertEqual(output, peers.pattern(1000, 1) + peers.pattern(family.size_max, 2))

    def with_we_answer_it(self, family):
        echo, port = self.start_echo(family)
        socat = self.socat("-", f"{family.socat}:{ending(family, port)}")
        self.addCleanup(socat.stdin.close)
        wanted = sizes(family, empty=False)
        for seed, size in enumerate(wanted):
            payload = peers.pattern(size, seed)
            self.assertEqual(os.write(socat.stdin.fileno(), payload), size)
            answer = b""
            while len(answer) < size:
                part = os.read(socat.stdout.fileno(), size - len(answer))
                self.assertNotEqual(part, b"", "socat ended")
                answer += part
            self.assertEqual(answer, payload)
        self.end_echo(echo, len(wanted))

    def with_we_get_its_empty_one(self, family):
        echo, port = self.start_echo(family)
        # shut-null: at the end of its input it sends an empty datagram.
        socat = self.socat("-u", "-", f"{family.socat}-SENDTO:{ending(family, port)},shut-null")
        socat.communicate(b"last words", timeout=peers.PATIENCE)
        echo.expect("^empty$")
        self.end_echo(echo, 2)


# ---- A name server -------------------------------------------------------------------------------

DNSMASQ = """
port={port}
listen-address=127.0.0.1
{listen_ipv6}
bind-interfaces
no-resolv
no-hosts
no-dhcp-interface=lo
pid-file={folder}/pid
user={user}
local=/test/
host-record=far.test,192.0.2.7,2001:db8::7
host-record=here.test,127.0.0.1,::1,60
"""


@both_families
class Dnsmasq(Case):
    def start(self):
        """dnsmasq on a free port; what it knows stands above."""
        program = peers.needed(self, "dnsmasq")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        port = peers.free_port()
        configuration = pathlib.Path(folder.name, "conf")
        configuration.write_text(DNSMASQ.format(
            port=port, folder=folder.name, user=getpass.getuser(),
            listen_ipv6="listen-address=::1" if peers.has_ipv6() else ""), encoding="ascii")
        server = peers.Program(self, program, "--keep-in-foreground", "--log-facility=-",
                               f"--conf-file={configuration}")
        server.expect("started")
        return port

    def query(self, family, port, name, rrtype):
        peer = self.peer(*family.options, "query", family.loopback, port, name, rrtype)
        return peer.finish()

    def with_it_answers_our_query(self, family):
        port = self.start()
        a, aaaa, nxdomain = 1, 28, 3
        self.assertEqual(self.query(family, port, "far.test", a), ["rcode 0", "answer 192.0.2.7"])
        self.assertEqual(self.query(family, port, "far.test", aaaa),
                         ["rcode 0", "answer 2001:db8::7"])
        self.assertEqual(self.query(family, port, "nobody.test", a), [f"rcode {nxdomain}"])

    def with_its_names_are_sent_to(self, family):
        """The library's own lookups, by name: of the family's records, asked over it too."""
        port = self.start()
        server = f"[{family.loopback}]:{port}" if family is IPV6 else f"127.0.0.1:{port}"
        sock = peers.plain_socket(self, family.number)
        sender = self.send(family, sock.getsockname()[1], 3, [10, 500], host="here.test",
                           options=["-d", server])
        echo_until_end(sock, sender)
        self.check_sent(sender, 3, [10, 500])
        sender = self.send(family, 9, 1, [10], host="nobody.test", options=["-d", server])
        self.assertIn("send of 10 bytes: -10019", sender.finish(status=1))  # DGRAM_ENOTFOUND


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    PEER = sys.argv[1]
    probe = subprocess.run([PEER, "probe"], capture_output=True, text=True, check=False)
    if probe.returncode:
        peers.skip_everything(probe.stdout.strip() or probe.stderr.strip())
    peers.run_cases()
