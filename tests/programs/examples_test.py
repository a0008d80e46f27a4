#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the examples against each other and against plain sockets, and checks what they print.

examples_test.py INTEROP_PEER EXAMPLE... [-- NAME...]     NAME: only cases whose names contain it

The engine is the one of DGRAM_ENGINE. An example that was not built is skipped. Everything stays on
loopback.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest

sys.dont_write_bytecode = True  # nothing is left in the source tree
import peers

LOOPBACK = "lo"


class Case(unittest.TestCase):
    def run_example(self, name, *words):
        if name not in EXAMPLES:
            self.skipTest(f"{name} was not built")
        return peers.Program(self, EXAMPLES[name], *words)

    def run_embedded(self, name, *words):
        """One that needs dgram_loop_fd(), which a host with only poll(2) does not have."""
        program = self.run_example(name, *words)
        first = program.line()
        if first is not None and "not supported" in first:
            self.skipTest(f"{name}: no dgram_loop_fd() here")
        return program, first

    def port_of(self, line, pattern):
        self.assertRegex(line or "", pattern)
        return int(line.rpartition(":")[2])


class Manual(Case):
    """server.c and client.c."""

    def start_server(self, *words):
        server = self.run_example("server", *words)
        line = server.line()
        return server, self.port_of(line, r"^server listening [0-9.]+:[1-9]\d*$"), line

    def test_client_talks_to_server(self):
        server, port, line = self.start_server(0)
        self.assertEqual(line, f"server listening 0.0.0.0:{port}")
        client = self.run_example("client", port)  # localhost, a name
        self.assertEqual(client.finish(), ["client sent 10 bytes"])
        server.expect(r"^server got: Some bytes from 127\.0\.0\.1:[1-9]\d*$")
        server.terminate()

    def test_server_hears_python(self):
        server, port, line = self.start_server(0, "127.0.0.1")
        self.assertEqual(line, f"server listening 127.0.0.1:{port}")
        sock = peers.plain_socket(self)
        for text in ("hello", "", "x" * 1000):
            sock.sendto(text.encode(), ("127.0.0.1", port))
            mine = sock.getsockname()[1]
            self.assertEqual(server.line(), f"server got: {text} from 127.0.0.1:{mine}")
        server.process.send_signal(signal.SIGINT)
        server.finish()

    def test_client_sends_to_python(self):
        for host in ("localhost", "127.0.0.1"):
            sock = peers.plain_socket(self)
            client = self.run_example("client", sock.getsockname()[1], host)
            self.assertEqual(sock.recv(100), b"Some bytes")
            client.finish()

    def test_given_port_is_taken(self):
        port = peers.free_port()
        server, found, _ = self.start_server(port, "127.0.0.1")
        self.assertEqual(found, port)
        second = self.run_example("server", port, "127.0.0.1")
        self.assertEqual(second.finish(status=1), ["bind: Address already in use"])
        server.terminate()

    def test_mistakes_are_told(self):
        for words, status, said in (
                ([0], 1, "send: the port is above 65535, or the destination port is 0"),
                ([70000], 2, "70000 is no port"),
                (["12x"], 2, "12x is no port")):
            client = self.run_example("client", *words)
            self.assertEqual(client.finish(status), [said])


class BulkSender(Case):
    TOTALS = (r"^sent (\d+), failed (\d+), (\d+) bytes, refused (\d+) times, [\d.]+ s, "
              r"\d+ a second$")

    def receive_all(self, sock, stop):
        """Takes what comes, as fast as it can: what the kernel drops is not the sender's fault."""
        sock.settimeout(0.05)
        self.received, self.wrong = 0, 0
        while not stop.is_set():
            try:
                while True:
                    self.wrong += len(sock.recv(65535)) != self.size
                    self.received += 1
            except TimeoutError:
                pass

    def send(self, family, address, count, size):
        """Runs the sender to a socket that listens; its last lines."""
        sock = peers.plain_socket(self, family, address)
        stop = threading.Event()
        self.size = size
        thread = threading.Thread(target=self.receive_all, args=(sock, stop))
        thread.start()
        try:
            sender = self.run_example("bulk_sender", address, sock.getsockname()[1], count, size)
            totals = sender.expect(self.TOTALS)
            sender.finish()
        finally:
            stop.set()
            thread.join()
        self.assertEqual([int(totals[i]) for i in (1, 2, 3)], [count, 0, count * size])
        self.assertGreater(self.received, 0)
        self.assertEqual(self.wrong, 0)
        return int(totals[4])

    def test_few(self):
        self.send(socket.AF_INET, "127.0.0.1", 3, 100)
        self.assertEqual(self.received, 3)

    def test_empty_ones(self):
        self.send(socket.AF_INET, "127.0.0.1", 10, 0)
        self.assertEqual(self.received, 10)

    def test_more_than_the_queue_holds(self):
        refused = self.send(socket.AF_INET, "127.0.0.1", 100000, 1000)
        self.assertGreater(refused, 0, "-EAGAIN and drain were not tried")

    def test_ipv6(self):
        if not peers.has_ipv6():
            self.skipTest("no IPv6 here")
        self.send(socket.AF_INET6, "::1", 5000, 1452)

    def test_mistakes_are_told(self):
        for words, status, said in (
                (["localhost", 9], 1, "^localhost: "),
                (["127.0.0.1", 0], 2, "^0 is no number from 1 to 65535$"),
                (["127.0.0.1", 9, 1, 65508], 1, "^send: Message too long$")):
            sender = self.run_example("bulk_sender", *words)
            sender.expect(said)
            sender.finish(status)


class Exporter(Case):
    def export(self, text, *words):
        """What arrives, and what the example says of it."""
        sock = peers.plain_socket(self)
        exporter = self.run_example("exporter", "127.0.0.1", sock.getsockname()[1], *words)
        exporter.process.stdin.write(text)
        exporter.close_stdin()
        said = exporter.expect(r"^(\d+) lines in (\d+) datagrams, (\d+) cut; sent (\d+), failed 0")
        exporter.finish()
        lines, datagrams, cut, sent = map(int, said.groups())
        self.assertEqual(sent, datagrams)
        return [sock.recv(65535).decode() for _ in range(datagrams)], lines, cut

    def test_lines_arrive_whole_and_in_order(self):
        text = "".join(f"{number} {'x' * (number % 90)}\n" for number in range(1000))
        for words in ((), ("zero-copy",)):
            datagrams, lines, cut = self.export(text, *words)
            self.assertEqual("".join(datagrams), text)
            self.assertEqual((lines, cut), (1000, 0))
            self.assertTrue(all(len(datagram) <= 1200 and datagram[-1] == "\n"
                                for datagram in datagrams))

    def test_ends(self):
        self.assertEqual(self.export(""), ([], 0, 0))
        self.assertEqual(self.export("no end"), (["no end"], 1, 0))
        self.assertEqual(self.export("y" * 1199 + "\n" + "z" * 1200 + "\nlast\n"),
                         (["y" * 1199 + "\n", "z" * 1199 + "\n", "last\n"], 3, 1))
        self.assertEqual(self.export("z" * 5000 + "\n"), (["z" * 1199 + "\n"], 1, 1))

    def test_bad_input(self):
        for words in ((), ("127.0.0.1", 9, "what")):
            exporter = self.run_example("exporter", *words)
            exporter.expect("^usage: ")
            exporter.finish(2)


class MulticastChat(Case):
    def join(self, group, port):
        """A program in the chat, and its port."""
        chat = self.run_example("multicast_chat", group, port, LOOPBACK)
        return chat, int(chat.expect(rf"^in {re.escape(group)}, port (\d+)$")[1])

    def test_everybody_hears_everybody(self):
        group = "239.255.41.7"
        first, port = self.join(group, 0)
        second, _ = self.join(group, port)
        for speaker, text in ((first, "is anybody here"), (second, "I am"), (first, "")):
            speaker.say(text)
            for listener in (first, second):
                listener.expect(rf"^[0-9.]+:{port}: {text}$")
        for chat in (first, second):
            chat.close_stdin()
            chat.finish()

    def test_last_words_are_sent(self):
        """What stood on stdin before its end leaves, however soon the end comes."""
        group = "239.255.41.8"
        listener, port = self.join(group, 0)
        for count in (1, 200):
            speaker, _ = self.join(group, port)
            for i in range(count):
                speaker.say(f"line {i} of {count}")
            speaker.close_stdin()
            for i in range(count):
                listener.expect(rf": line {i} of {count}$")
            speaker.finish()
        listener.close_stdin()
        listener.finish()

    def test_mistakes_are_told(self):
        for words, said in ((["127.0.0.1", 0, LOOPBACK], "^join: "),
                            (["239.255.41.9", 0, "nosuch0"], "^join: "),
                            (["here", 0], "^here: ")):
            chat = self.run_example("multicast_chat", *words)
            chat.expect(said)
            chat.finish(status=1)


class Embedded(Case):
    """embed_epoll.c and embed_uv.c."""

    def start_echo(self):
        echo, line = self.run_embedded("embed_epoll", 0)
        return echo, self.port_of(line, r"^echo on 0\.0\.0\.0:[1-9]\d*$")

    def end_echo(self, echo, count):
        echo.process.send_signal(signal.SIGTERM)
        self.assertRegex(echo.finish()[-1], rf"^echoed {count}, dropped 0, the timer ticked: ")

    def test_epoll_echoes(self):
        echo, port = self.start_echo()
        sock = peers.plain_socket(self)
        rounds = 50
        for i in range(rounds):
            payload = peers.pattern(i * 100, i)
            sock.sendto(payload, ("127.0.0.1", port))
            self.assertEqual(sock.recv(65535), payload)
        self.end_echo(echo, rounds)

    def test_epoll_has_time_for_others(self):
        """Its own timer ticks, with and without traffic."""
        echo, port = self.start_echo()
        sock = peers.plain_socket(self)
        for _ in range(30):
            sock.sendto(b"now and then", ("127.0.0.1", port))
            self.assertEqual(sock.recv(100), b"now and then")
            threading.Event().wait(0.01)
        echo.process.send_signal(signal.SIGTERM)
        self.assertEqual(echo.finish()[-1], "echoed 30, dropped 0, the timer ticked: yes")

    def test_uv_pings_epoll(self):
        echo, port = self.start_echo()
        for host, count in (("127.0.0.1", 3), ("localhost", 12)):
            uv, first = self.run_embedded("embed_uv", host, port, count)
            self.assertEqual(first, f"reply ping 1 from 127.0.0.1:{port}")
            replies = [f"reply ping {i + 1} from 127.0.0.1:{port}" for i in range(count)]
            self.assertEqual(uv.finish(), [*replies, f"{count} sent, {count} replies"])
        self.end_echo(echo, 15)

    def test_uv_gives_up(self):
        """A server that does not answer."""
        sock = peers.plain_socket(self)
        uv, first = self.run_embedded("embed_uv", "127.0.0.1", sock.getsockname()[1], 1)
        self.assertEqual(first, "1 sent, 0 replies")
        uv.finish(status=1)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    words = sys.argv[1:sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    EXAMPLES = {os.path.basename(path): path for path in words[1:]}
    probe = subprocess.run([words[0], "probe"], capture_output=True, text=True, check=False)
    if probe.returncode:
        peers.skip_everything(probe.stdout.strip() or probe.stderr.strip())
    peers.run_cases()
