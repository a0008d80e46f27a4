#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The library between hosts: network namespaces joined by veth pairs.

netns_test.py NETNS_PEER INTEROP_PEER [-- NAME...]   NAME: only cases whose names contain it

Needs root or CAP_NET_ADMIN, or a host that lets users make namespaces. The namespaces have no names
that could clash or be left behind: they live as long as this process holds them, and their
interfaces with them. The library's end is netns_peer.c with the engine of DGRAM_ENGINE.
"""
import re
import select
import socket
import struct
import subprocess
import sys

sys.dont_write_bytecode = True  # nothing is left in the source tree
import netns_hosts
import peers
from netns_hosts import VERSIONS, Case, both_versions, results

IP_RECVTTL, IPV6_RECVHOPLIMIT = 12, 51
GROUP4, GROUP6 = "239.255.77.1", "ff15::77:1"


# ---- Broadcast -----------------------------------------------------------------------------------

class Broadcast(Case):
    def test_needs_the_option(self):
        a, b = self.two_hosts()
        a.ip("route", "add", "default", "dev", "va")  # without one nobody is at 255.255.255.255
        sender, receiver = a.peer(4), b.peer(4)
        port = receiver.bind()
        for address in ("10.77.1.255", "255.255.255.255"):
            sender.ok("broadcast 0")
            self.assertEqual(results(sender.burst(3, 20, port, address)), {"good": 0, "EACCES": 3})
            sender.ok(f"tell 20 {port} {address}")
            self.assertEqual(sender.do("error"), "1 send EACCES")
            sender.ok("broadcast 1")
            sender.good(3, 20, port, address)
            self.assertIn("from 10.77.1.1 ", receiver.wait(3))

    def test_reaches_everybody(self):
        a, b = self.two_hosts()
        first, second = b.peer(4), b.peer(4)
        port = first.bind()
        second.bind("", port)
        sender = a.peer(4)
        sender.ok("broadcast 1")
        for size in (20, 1472):
            sender.good(64, size, port, "10.77.1.255")
            first.wait(64)
            second.wait(64)


# ---- Multicast -----------------------------------------------------------------------------------

MULTICAST = {4: GROUP4, 6: GROUP6}


@both_versions
class Multicast(Case):
    def test_needs_a_route_or_an_interface(self):
        a, b = self.two_hosts()
        sender, receiver = a.peer(4), b.peer(4)
        port = receiver.bind()
        receiver.ok(f"join {GROUP4} vb")
        self.assertEqual(results(sender.burst(2, 20, port, GROUP4)), {"good": 0, "ENETUNREACH": 2})
        self.assertEqual(sender.do(f"join {GROUP4}"), "ENODEV")
        sender.ok("interface va")
        sender.good(2, 20, port, GROUP4)
        receiver.wait(2)

    def with_several_receivers_get_it(self, version):
        a, b, c = self.three_hosts()
        group = MULTICAST[version]
        receivers = [b.peer(version), b.peer(version)]
        port = receivers[0].bind()
        receivers[1].bind("", port)
        elsewhere = c.peer(version)
        elsewhere.bind("", port)
        for receiver, interface in (*((r, "vb") for r in receivers), (elsewhere, "vd")):
            receiver.ok(f"join {group} {interface}")
        sender = a.peer(version)
        sender.ok("interface va")
        sender.good(64, 100, port, group)
        for receiver in receivers:
            receiver.wait(64)
        sender.ok("interface vc")
        sender.good(1, 50, port, group)
        self.assertIn("last 50 ", elsewhere.wait(1))  # and none of the 64

    def with_it_comes_by_the_joined_interface_only(self, version):
        a, b, c = self.three_hosts()
        group = MULTICAST[version]
        receiver = a.peer(version)
        port = receiver.bind()
        receiver.ok(f"join {group} va")
        near, far = b.peer(version), c.peer(version)
        near.ok("interface vb")
        far.ok("interface vd")
        near.good(5, 100, port, group)
        receiver.wait(5)
        far.good(5, 100, port, group)
        # Behind it: whatever was to come from there is here.
        far.good(1, 50, port, "10.77.2.1" if version == 4 else "2001:db8:77:2::1")
        self.assertIn("last 50 ", receiver.wait(1))

    def with_it_ends_with_leave(self, version):
        a, b = self.two_hosts()
        group = MULTICAST[version]
        receiver, sender = b.peer(version), a.peer(version)
        port = receiver.bind()
        sender.ok("interface va")
        for _ in range(2):
            receiver.ok(f"join {group} vb")
            self.assertEqual(receiver.do(f"join {group} vb"), "EADDRINUSE")
            sender.good(2, 100, port, group)
            receiver.wait(2)
            receiver.ok(f"leave {group} vb")
            self.assertEqual(receiver.do(f"leave {group} vb"), "EADDRNOTAVAIL")
            sender.good(2, 100, port, group)
            sender.good(1, 50, port, VERSIONS[version][1])
            self.assertIn("last 50 ", receiver.wait(1))

    def with_own_host_hears_it_unless_told(self, version):
        a, b = self.two_hosts()
        group = MULTICAST[version]
        here, there, sender = a.peer(version), b.peer(version), a.peer(version)
        port = here.bind()
        there.bind("", port)
        sender.bind("", port + 1)  # all share ports: a free one might be `here`'s, and get its mail
        here.ok(f"join {group} va")
        there.ok(f"join {group} vb")
        sender.ok("interface va")
        sender.good(3, 100, port, group)
        here.wait(3)
        there.wait(3)
        sender.ok("loopback 0")
        sender.good(3, 100, port, group)
        there.wait(3)
        sender.good(1, 50, port, VERSIONS[version][0])
        self.assertIn("last 50 ", here.wait(1))

    def with_an_interface_may_be_an_address_or_a_zone(self, version):
        a, b, _ = self.three_hosts()
        receiver, sender = b.peer(version), a.peer(version)
        port = receiver.bind()
        receiver.ok(f"join {MULTICAST[version]} " + ("10.77.1.2" if version == 4 else "::%vb"))
        sender.ok("interface " + ("10.77.1.1" if version == 4 else "::%va"))
        sender.good(3, 100, port, MULTICAST[version])
        receiver.wait(3)

    def test_zone_of_a_group_names_the_interface(self):
        if not peers.has_ipv6():
            self.skipTest("no IPv6 here")
        a, b, c = self.three_hosts()
        group = "ff02::77:2"
        near, far, sender = b.peer(6), c.peer(6), a.peer(6)
        port = near.bind()
        far.bind("", port)
        near.ok(f"join {group}%vb")
        far.ok(f"join {group}%vd")
        sender.good(3, 100, port, f"{group}%va")
        near.wait(3)
        sender.good(1, 50, port, f"{group}%vc")
        self.assertIn("last 50 ", far.wait(1))


# ---- TTL -----------------------------------------------------------------------------------------

@both_versions
class Ttl(Case):
    def counting(self, host, version, port=0):
        """A plain socket that tells the hops that are left."""
        sock = host.plain(version, port=port)
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
        return sock

    def hops(self, sock):
        _, facts, _, _ = sock.recvmsg(65535, 64)
        return struct.unpack("=i", facts[0][2])[0]

    def with_receiver_sees_it(self, version):
        a, b = self.two_hosts()
        sock = self.counting(b, version)
        sender = a.peer(version)
        port, there = sock.getsockname()[1], VERSIONS[version][1]
        sender.good(1, 100, port, there)
        self.assertEqual(self.hops(sock), 64)
        for ttl in (1, 7, 255):
            sender.ok(f"ttl {ttl}")
            sender.good(16, 100, port, there)  # a train
            self.assertEqual([self.hops(sock) for _ in range(16)], [ttl] * 16)

    def with_multicasts_have_their_own(self, version):
        a, b = self.two_hosts()
        here, there, sender = a.peer(version), self.counting(b, version), a.peer(version)
        port, group = there.getsockname()[1], MULTICAST[version]
        here.bind("", port)
        here.ok(f"join {group} va")
        with b.inside():
            index = socket.if_nametoindex("vb")
        packed = socket.inet_pton(socket.AF_INET if version == 4 else socket.AF_INET6, group)
        if version == 4:
            there.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                             struct.pack("=4s4si", packed, bytes(4), index))
        else:
            there.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                             struct.pack("=16si", packed, index))
        sender.ok("interface va", "ttl 9")
        sender.good(1, 100, port, group)
        self.assertEqual(self.hops(there), 1)  # the default
        here.wait(1)
        sender.ok("multicast_ttl 0")  # stays on its host
        sender.good(3, 100, port, group)
        here.wait(3)
        for ttl in (1, 5, 255):
            sender.ok(f"multicast_ttl {ttl}")
            sender.good(16, 100, port, group)
            self.assertEqual([self.hops(there) for _ in range(16)], [ttl] * 16)
            here.wait(16)
        sender.good(1, 100, port, VERSIONS[version][1])
        self.assertEqual(self.hops(there), 9)
        self.nothing(there)


# ---- Link-local addresses ------------------------------------------------------------------------

class LinkLocal(Case):
    def setUp(self):
        if not peers.has_ipv6():
            self.skipTest("no IPv6 here")

    def test_peers_carry_their_zone(self):
        a, b = self.two_hosts()
        here, there = a.link_local("va"), b.link_local("vb")
        for address in ("", f"{there}%vb"):
            receiver, sender = b.peer(6), a.peer(6)
            port = receiver.bind(address)
            receiver.ok("echo 1")
            for to in (f"{there}%va", f"{there}%{self.index(a, 'va')}"):
                sender.good(64, 500, port, to)
                self.assertIn(f"from {here}%vb ", receiver.wait(64))
                # It came back: a message's `from` is good to send to.
                self.assertIn(f"from {there}%va {port}", sender.wait(64))

    def index(self, host, name):
        with host.inside():
            return socket.if_nametoindex(name)

    def test_zone_tells_equal_addresses_apart(self):
        """Both neighbours have the same address, on different cables."""
        a, b, c = self.hosts(3)
        a.link("va", b, "vb")
        a.link("vc", c, "vd")
        b.address("fe80::7/64", "vb")
        c.address("fe80::7/64", "vd")
        near, far, sender = b.peer(6), c.peer(6), a.peer(6)
        port = near.bind()
        far.bind("", port)
        for receiver in (near, far):
            receiver.ok("echo 1")
        self.greet(sender, near, port, "fe80::7%va")
        self.greet(sender, far, port, "fe80::7%vc")
        sender.wait(2)
        sender.good(64, 100, port, "fe80::7%va", "fe80::7%vc")
        near.wait(32)
        far.wait(32)
        sender.wait(64)
        sender.good(1, 50, port, "fe80::7%vc")
        self.assertIn("from fe80::7%vc ", sender.wait(1))

    def test_wrong_zones_are_refused(self):
        a, _ = self.two_hosts()
        sender = a.peer(6)
        self.assertEqual(sender.burst(1, 20, 9, "fe80::1%nosuch"), "DGRAM_EBADINTERFACE")
        self.assertEqual(sender.do("bind 0 fe80::1%va"), "EADDRNOTAVAIL")


# ---- Datagrams above the MTU ---------------------------------------------------------------------

@both_versions
class Mtu(Case):
    BURST = 64
    fast = True

    def with_trains_above_it_arrive_all_the_same(self, version):
        a, b = self.two_hosts()
        sock, there = b.plain(version), VERSIONS[version][1]
        port = sock.getsockname()[1]
        largest = 1472 if version == 4 else 1452  # that travels in one piece
        for size in (largest + 1, 1473, 1500, 1501, 2000, 2500, 2960, 2961, 4000):
            sender = a.peer(version)  # which does not know yet that trains are refused
            self.greet(sender, sock, port, there)
            for refused in range(1, self.BURST), [0]:  # then it is remembered
                before = sender.stats()
                sizes = self.cross(sender, sock, self.BURST, size, port, there)
                self.assertEqual(sizes, [size] * self.BURST)
                stats = sender.stats()
                self.assertIn(stats["trains refused"] - before["trains refused"], refused)
                self.assertEqual(stats["sends"] - before["sends"], self.BURST)
            # What fits travels in trains as before.
            sizes = self.cross(sender, sock, self.BURST, largest, port, there)
            self.assertEqual(sizes, [largest] * self.BURST)
            self.assertLess(sender.stats()["sends"] - stats["sends"], 5)
            sender.close_stdin()
            sender.finish()

    def with_sizes_below_and_above_it_keep_their_order(self, version):
        a, b = self.two_hosts()
        sock, there = b.plain(version), VERSIONS[version][1]
        port = sock.getsockname()[1]
        sender = a.peer(version)
        self.greet(sender, sock, port, there)
        for _ in range(5):
            self.cross(sender, sock, 200, (1400, 1560), port, there)

    def with_it_shrinks_while_sending(self, version):
        a, b = self.two_hosts()
        sock, there = b.plain(version), VERSIONS[version][1]
        port = sock.getsockname()[1]
        sender = a.peer(version)
        self.greet(sender, sock, port, there)
        self.cross(sender, sock, self.BURST, 1400, port, there)
        self.assertEqual(sender.stats()["trains refused"], 0)
        a.ip("link", "set", "va", "mtu", "1300")
        self.cross(sender, sock, self.BURST, 1400, port, there)
        self.assertGreater(sender.stats()["trains refused"], 0)

    def with_largest_datagrams_cross_it(self, version):
        a, b = self.two_hosts()
        receiver, sender = b.peer(version), a.peer(version)
        port, there = receiver.bind(), VERSIONS[version][1]
        self.greet(sender, receiver, port, there)
        for size in (9000, 65507 if version == 4 else 65527):
            sender.good(1, size, port, there)
            self.assertIn(f"last {size} ", receiver.wait(1))


# ---- Back-pressure -------------------------------------------------------------------------------

@both_versions
class BackPressure(Case):
    """A slow device and the least send buffer: the kernel says EAGAIN soon."""

    def start(self, version, *words):
        """A sender behind a slow device, a plain receiver, its port and addresses."""
        a, b = self.two_hosts()
        sock, there = b.plain(version), VERSIONS[version][1:]
        sender = a.peer(version, *words)
        port = sock.getsockname()[1]
        self.greet(sender, sock, port, *there)
        # A limit that is never reached: what a device queue drops no sender is told.
        complaint = a.attempt("tc", "qdisc", "add", "dev", "va", "root", "tbf", "rate", "20mbit",
                              "burst", "5000", "limit", "10000000")
        if complaint:
            self.skipTest(f"no qdisc tbf: {complaint.strip()}")
        sender.ok("send_buffer 1")
        return a, sender, sock, port, there

    def check_parked(self, sender):
        self.assertGreater(sender.stats()["parked"], 0, "the kernel never said EAGAIN")

    def with_every_datagram_leaves_once_and_in_order(self, version):
        _, sender, sock, port, there = self.start(version)
        for size in (100, 1000, (16, 1400), 1400):
            self.cross(sender, sock, 1000, size, port, *there)
        self.check_parked(sender)

    def with_trains_that_are_refused_too(self, version):
        """EAGAIN in the middle of a train that goes one by one."""
        _, sender, sock, port, there = self.start(version)
        for _ in range(3):
            self.cross(sender, sock, 150, 2000, port, *there)
        self.check_parked(sender)
        self.assertGreater(sender.stats()["trains refused"], 0)

    def with_a_full_queue_refuses_and_drains(self, version):
        _, sender, sock, port, there = self.start(version, 30000)
        sender.say(sender.burst_command(1000, 1000, port, *there))
        self.take(sock, 1000)
        self.assertEqual(sender.answer("burst"), "1000 good, refused some, called again 0")

    def with_end_sends_all(self, version):
        _, sender, sock, port, there = self.start(version)
        sender.say(sender.burst_command(500, 1000, port, *there))
        sender.say("end")
        self.take(sock, 500)
        self.assertEqual(results(sender.answer("burst")), {"good": 500})
        self.assertEqual(sender.answer("end"), "closed")

    def with_close_cancels_the_rest(self, version):
        a, sender, sock, port, there = self.start(version)
        sender.say(sender.burst_command(500, 1000, port, *there))
        sender.say("close")
        count = results(sender.answer("burst"))
        self.assertEqual(sender.answer("close"), "closed")
        self.assertEqual(count["good"] + count["ECANCELED"], 500, count)
        # The device sends in order, so behind this one nothing comes.
        marker = a.peer(version)
        marker.good(1, 30, port, there[0])
        self.assertEqual(len([sock.recv(65535) for _ in range(count["good"] + 1)][-1]), 30)
        self.nothing(sock)

    def with_a_device_that_goes_down_meanwhile(self, version):
        a, sender, sock, port, there = self.start(version)
        sender.say(sender.burst_command(2000, 1000, port, there[0]))
        sock.recv(65535)
        a.down("va")
        count = results(sender.answer("burst"))
        self.assertEqual(sum(count.values()), 2000, count)
        self.assertGreater(sum(count.values()) - count["good"], 0, count)
        a.up("va")
        while select.select([sock], [], [], 0.2)[0]:  # what had left before
            sock.recv(65535)
        self.greet(sender, sock, port, there[0])
        self.cross(sender, sock, 100, 1000, port, there[0])


# ---- Zero copy -----------------------------------------------------------------------------------

@both_versions
class ZeroCopy(Case):
    """Buffers whose datagrams lie in a device's queue. Without zero copy (poll, older kernels)
    nothing of this can be seen, and everything must arrive all the same."""

    def start(self, version, *queue):
        a, b = self.two_hosts()
        sock, there = b.plain(version), VERSIONS[version][1]
        sender = a.peer(version)
        port = sock.getsockname()[1]
        self.greet(sender, sock, port, there)
        complaint = a.attempt("tc", "qdisc", "add", "dev", "va", "root", "tbf", *queue)
        if complaint:
            self.skipTest(f"no qdisc tbf: {complaint.strip()}")
        return sender, sock, port, there

    SLOW = ("rate", "400kbit", "burst", "5000", "limit", "10000000")  # 50 KB in a second
    DROPPING = ("rate", "8kbit", "burst", "2000", "limit", "1000")    # no room for 1,200 bytes

    def idle(self, sender):
        answer = re.fullmatch(r"sends (\d+), copied (\d+)", sender.do("idle"))
        return int(answer[1]), int(answer[2])

    def with_the_buffer_is_in_use_while_the_queue_has_it(self, version):
        sender, sock, port, there = self.start(version, *self.SLOW)
        granted = sender.do(f"buffer 40 1200 {port} {there}") == "OK"
        first = sock.recv(65535)
        in_use = sender.do("in_use")
        self.assertEqual(len(first), 1200)
        self.assertEqual(len([sock.recv(65535) for _ in range(39)]), 39)
        sends, copied = self.idle(sender)
        if granted and sends > 0:
            self.assertEqual(in_use, "yes")
        self.assertEqual(copied, sends)  # in the end, for the receiver's sake
        self.assertLessEqual(sends, 1)
        sender.do(f"buffer 40 1200 {port} {there}")
        self.assertEqual(self.idle(sender)[0], sends)  # so it was not tried again

    def with_what_is_sent_does_not_change(self, version):
        """The peer overwrites the buffer as soon as it is idle."""
        sender, sock, port, there = self.start(version, *self.SLOW)
        sender.do(f"buffer 40 1200 {port} {there}")
        self.take(sock, 40)

    def with_a_freed_buffer_is_sent_to_the_end(self, version):
        sender, sock, port, there = self.start(version, *self.SLOW)
        sender.do(f"buffer 40 1200 {port} {there}")
        sender.ok("buffer_free")
        self.take(sock, 40)

    def with_a_program_that_is_gone_has_sent_it(self, version):
        sender, sock, port, there = self.start(version, *self.SLOW)
        sender.do(f"buffer 40 1200 {port} {there}")
        first = sock.recv(65535)  # so the loop has turned
        sender.close_stdin()
        sender.finish()
        rest = [sock.recv(65535) for _ in range(39)]
        for number, payload in enumerate([first, *rest]):
            self.assertEqual(payload[16:], peers.pattern(1200, number)[16:], number)

    def with_a_queue_that_takes_the_pages_keeps_it_on(self, version):
        """As a network card would: the memory is read, or dropped, without having been copied."""
        sender, _, port, there = self.start(version, *self.DROPPING)
        granted = sender.do(f"buffer 40 1200 {port} {there}") == "OK"
        sends, copied = self.idle(sender)
        sender.do(f"buffer 40 1200 {port} {there}")
        again, copied = self.idle(sender)
        self.assertEqual(copied, 0)
        if granted and sends > 0:
            self.assertEqual((sends, again), (1, 2))


# ---- An interface goes down ----------------------------------------------------------------------

@both_versions
class Down(Case):
    def with_errors_are_reported_and_it_works_again(self, version):
        a, b = self.two_hosts()
        receiver, sender = b.peer(version), a.peer(version)
        port, there = receiver.bind(), VERSIONS[version][1]
        self.greet(sender, receiver, port, there)
        for _ in range(2):
            a.down("va")
            self.assertEqual(results(sender.burst(64, 100, port, there)),
                             {"good": 0, "ENETUNREACH": 64})
            sender.ok(f"tell 100 {port} {there}")
            self.assertEqual(sender.do("error"), "1 send ENETUNREACH")
            a.up("va")
            self.greet(sender, receiver, port, there)
            sender.good(64, 100, port, there)
            receiver.wait(64)

    def with_multicast_too(self, version):
        a, b = self.two_hosts()
        receiver, sender = b.peer(version), a.peer(version)
        port, group = receiver.bind(), MULTICAST[version]
        receiver.ok(f"join {group} vb")
        sender.ok("interface va")
        sender.good(3, 100, port, group)
        receiver.wait(3)
        a.down("va")
        count = results(sender.burst(3, 100, port, group))
        self.assertEqual(count.pop("good"), 0, count)
        self.assertIn(list(count), (["ENETUNREACH"], ["ENETDOWN"]))
        a.up("va")
        sender.good(3, 100, port, group)
        receiver.wait(3)

    def with_receiver_survives_it(self, version):
        a, b = self.two_hosts()
        receiver = b.peer(version)
        port, there = receiver.bind(VERSIONS[version][1]), VERSIONS[version][1]
        sender = a.peer(version)
        for _ in range(2):
            self.greet(sender, receiver, port, there)
            b.down("vb")
            b.up("vb")
        self.greet(sender, receiver, port, there)

    def with_a_removed_interface(self, version):
        a, b = self.two_hosts()
        receiver, sender = b.peer(version), a.peer(version)
        port, there = receiver.bind(), VERSIONS[version][1]
        receiver.ok(f"join {MULTICAST[version]} vb")
        self.greet(sender, receiver, port, there)
        a.ip("link", "del", "va")
        self.assertEqual(results(sender.burst(3, 100, port, there)), {"good": 0, "ENETUNREACH": 3})
        a.link("va", b, "vb")
        for host, address in ((a, VERSIONS[version][0]), (b, there)):
            host.address(f"{address}/{24 if version == 4 else 64}", "va" if host is a else "vb")
        self.greet(sender, receiver, port, there)


# ---- Encryption ----------------------------------------------------------------------------------

class Xfrm(Case):
    def test_trains_that_ipsec_refuses_arrive_all_the_same(self):
        """The kernel makes no trains of what it encrypts: EIO."""
        a, b = self.two_hosts()
        for source, target in (("10.77.1.1", "10.77.1.2"), ("10.77.1.2", "10.77.1.1")):
            for host in (a, b):
                complaint = host.attempt(
                    "ip", "xfrm", "state", "add", "src", source, "dst", target, "proto", "esp",
                    "spi", "0x77", "mode", "transport", "enc", "ecb(cipher_null)", "",
                    "auth", "digest_null", "")
                if complaint:
                    self.skipTest("no ESP in this kernel, and only what is encrypted gets EIO: "
                                  + complaint.strip())
        a.ip("xfrm", "policy", "add", "dir", "out", "src", "10.77.1.1", "dst", "10.77.1.2",
             "tmpl", "proto", "esp", "mode", "transport")
        sock = b.plain(4)
        port = sock.getsockname()[1]
        sender = a.peer(4)
        self.greet(sender, sock, port, "10.77.1.2")
        for _ in range(3):
            self.cross(sender, sock, 64, 100, port, "10.77.1.2")
        self.assertGreater(sender.stats()["trains refused"], 0)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    netns_hosts.begin(sys.argv[1])
    probe = subprocess.run([sys.argv[2], "probe"], capture_output=True, text=True, check=False)
    if probe.returncode:
        peers.skip_everything(probe.stdout.strip() or probe.stderr.strip())
    peers.run_cases()
