#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs dgperf: every subcommand with every engine that is here, on small counts.

dgperf_test.py DGPERF [-- NAME...]     NAME: only the cases whose names contain it

What is checked is what it counts, prints and answers, never how fast it was. An engine that cannot
run here is skipped, after it has said so with the right exit code.
"""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

sys.dont_write_bytecode = True  # nothing is left in the source tree
import peers

GOOD, BAD_RUN, USAGE, UNAVAILABLE = range(4)
COMMANDS = ["collect", "respond", "stream", "fanout", "ping", "echo", "send", "recv"]
ENGINES = ["auto", "uring", "poll", "raw-mmsg", "raw-gso", "libuv", "asio", "node"]
IN_LIBRARY = ["uring", "poll"]
WITH_MODES = ["libuv", "asio"]
KEYS = ("engine scenario size window seconds sent received lost send_pps recv_pps gbps send_cpu_ns "
        "recv_cpu_ns kernel cpu version").split()
PERCENTILES = [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98,
               99.99]
TIME_KEYS = ["min", "p50", "p90", "p99", "p999", "max"]
FITS = 200  # datagrams of 64 bytes that every receive buffer holds: nothing is lost without credit


class Case(unittest.TestCase):
    def dgperf(self, *words, **options):
        return peers.Program(self, DGPERF, *words, **options)

    def the_json(self, lines):
        """The object that a run printed as one line."""
        objects = [line for line in lines if line.startswith("{")]
        self.assertEqual(len(objects), 1, lines)
        result = json.loads(objects[0])
        self.assertEqual([key for key in KEYS if key not in result], [])
        return result

    def run_json(self, *words, status=GOOD):
        return self.the_json(self.dgperf(*words, "--json").finish(status))

    def listen(self, command, *words):
        """A dgperf that waits for others, and its port."""
        program = self.dgperf(command, "--host", "127.0.0.1", *words)
        return program, int(program.expect(rf"^{command}, [\w-]+: 127\.0\.0\.1 port (\d+)$")[1])

    def check_whole(self, result, count):
        self.assertEqual((result["sent"], result["received"], result["lost"]), (count, count, 0))
        self.assertEqual((result["disordered"], result["corrupt"]), (0, 0))


def each_engine(cls):
    """Makes a test_..._ENGINE of each method with_...(self, engine)."""
    for name in [name for name in vars(cls) if name.startswith("with_")]:
        for engine in ENGINES:
            def test(self, function=getattr(cls, name), engine=engine):
                self.need(engine)
                function(self, engine)
            setattr(cls, f"test_{name[len('with_'):]}_{engine}", test)
    return cls


# ---- Engines -------------------------------------------------------------------------------------

@each_engine
class Engine(Case):
    here = None

    def need(self, engine):
        if Engine.here is None:
            lines = self.dgperf("peers", "--json").finish()
            Engine.here = {peer["engine"]: peer for peer in json.loads(lines[-1])["peers"]}
            self.assertEqual(list(Engine.here), ENGINES)
        peer = Engine.here[engine]
        if not peer["available"]:
            lines = self.dgperf("stream", "--engine", engine, "--count", 1).finish(UNAVAILABLE)
            self.assertIn(peer["why"], lines[-1])
            self.skipTest(f"{engine}: {peer['why']}")

    def check_engine(self, result, engine):
        self.assertIn(result["engine"], ["uring", "poll"] if engine == "auto" else [engine])

    def with_stream(self, engine):
        for words in ([], ["--size", 1200], ["--size", 1200, "--distinct-sizes"], ["--window", 1]):
            result = self.run_json("stream", "--engine", engine, "--count", 3000, *words)
            self.check_engine(result, engine)
            self.check_whole(result, 3000)
            self.assertEqual(result["scenario"], "stream")
            self.assertEqual(result["size"], 1200 if "--size" in words else 64)
            self.assertGreater(result["send_cpu_ns"] + result["recv_cpu_ns"], 0)

    def with_fanout(self, engine):
        result = self.run_json("fanout", "--engine", engine, "--count", 6400)
        self.check_engine(result, engine)
        self.check_whole(result, 6400)
        self.assertEqual(result["peers"], 64)

    def with_ping(self, engine):
        for words in ([], ["--window", 4, "--size", 1000, "--distinct-sizes"]):
            result = self.run_json("ping", "--engine", engine, "--count", 50, *words)
            self.check_engine(result, engine)
            self.assertEqual((result["received"], result["corrupt"]), (50, 0))
            self.check_times(result["rtt_ns"])

    def check_times(self, times):
        values = [times[key] for key in TIME_KEYS]
        self.assertEqual(values, sorted(values))
        self.assertGreater(values[0], 0)
        series = dict(times["percentiles"])
        self.assertEqual(list(series), PERCENTILES)
        self.assertEqual(list(series.values()), sorted(series.values()))
        self.assertEqual([series[50], series[90], series[99], series[99.9]],
                         [times["p50"], times["p90"], times["p99"], times["p999"]])

    def with_collect(self, engine):
        for words, rate, size in (([], 20000, 64), (["--rate", 5000, "--size", 16], 5000, 16),
                                  (["--senders", 3, "--size", 1200], 20000, 1200)):
            result = self.run_json("collect", "--engine", engine, "--count", FITS, *words)
            self.check_engine(result, engine)
            self.check_whole(result, FITS)
            self.assertEqual((result["scenario"], result["rate"], result["size"]),
                             ("collect", rate, size))
            self.assertEqual(result["senders"], 3 if "--senders" in words else 8)
            self.assertGreater(result["recv_cpu_ns"], 0)
            self.check_times(result["delay_ns"])
            self.check_turns(result, engine)

    def check_turns(self, result, engine):
        if engine == "node":
            self.assertEqual((result["turns"], result["wakeups"]), (None, None))
        else:
            self.assertGreater(result["turns"], 0)
            self.assertGreaterEqual(result["wakeups"], 0)

    def with_saturated_collect(self, engine):
        for words in (["--saturate"], ["--rate", 0]):
            result = self.run_json("collect", "--engine", engine, "--seconds", 0.05, *words)
            self.assertEqual((result["rate"], result["disordered"], result["corrupt"]), (0, 0, 0))
            self.assertEqual(result["sent"], result["received"] + result["lost"])
            self.assertGreater(result["received"], 0)

    def with_respond(self, engine):
        if engine == "node":
            lines = self.dgperf("respond", "--engine", engine).finish(USAGE)
            self.assertIn("respond: engine node has no such choice; these have: auto, uring,",
                          lines[-1])
            return
        server, port = self.listen("respond", "--engine", engine, "--json")
        sock = peers.plain_socket(self)
        sock.connect(("127.0.0.1", port))
        name = b"\3www\7example\3com\0"
        head = b"\x12\x34\x01\0\0\1\0\0\0\0\0"
        edns = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
        for kind, answers in ((b"\0\1", 1), (b"\0\x1c", 0)):
            question = name + kind + b"\0\1"
            sock.send(head + b"\1" + question + edns)
            reply = sock.recv(1000)
            self.assertEqual(reply[:12], b"\x12\x34\x85\0\0\1\0" + bytes([answers, 0, 0, 0, 0]))
            self.assertEqual(reply[12:12 + len(question)], question)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if answers else b""
            self.assertEqual(reply[12 + len(question):], record)
        senseless = [b"", b"hello", head + b"\0", head + b"\1" + name, head + b"\1" + b"\xc0" * 9,
                     head + b"\1" + b"\x3f" * 200, b"\x12\x34\x81" + head[3:] + b"\1" + question]
        for datagram in senseless:
            sock.send(datagram)
        sock.send(head + b"\1" + question)  # what was senseless has been read when this is answered
        self.assertEqual(sock.recv(1000)[:2], b"\x12\x34")
        result = self.the_json(server.terminate())
        self.check_engine(result, engine)
        self.assertEqual((result["scenario"], result["received"], result["sent"]),
                         ("respond", 3 + len(senseless), 3))
        self.assertEqual((result["lost"], result["corrupt"]), (0, len(senseless)))
        self.assertGreater(result["recv_cpu_ns"], 0)

    def with_echo(self, engine):
        echo, port = self.listen("echo", "--engine", engine, "--json")
        ping = self.run_json("ping", "--engine", "poll", "--host", "127.0.0.1", "--port", port,
                             "--count", 20)
        self.assertEqual(ping["received"], 20)
        self.assertIsNone(ping["recv_cpu_ns"])
        result = self.the_json(echo.terminate())
        self.check_engine(result, engine)
        self.assertEqual(result["received"], ping["sent"])

    def with_send_and_recv(self, engine):
        for words in ([], ["--size", 500, "--distinct-sizes"]):
            recv, port = self.listen("recv", "--engine", engine, "--json", *words)
            sent = self.run_json("send", "--engine", engine, "--port", port, "--count", FITS,
                                 *words)
            self.check_engine(sent, engine)
            self.assertEqual(sent["sent"], FITS)
            self.assertIsNone(sent["received"])
            received = self.the_json(recv.finish())
            self.check_engine(received, engine)
            self.check_whole(received, FITS)
            self.assertIsNone(received["send_cpu_ns"])

    def with_counted_recv(self, engine):
        """Without being told the end."""
        recv, port = self.listen("recv", "--engine", engine, "--json", "--count", 3, "--size", 8)
        sock = peers.plain_socket(self)
        for number in range(3):
            sock.sendto(struct.pack("<Q", number), ("127.0.0.1", port))
        self.check_whole(self.the_json(recv.finish()), 3)

    def dnsperf(self, *words, **options):
        """scripts/bench_respond, which drives it."""
        script = pathlib.Path(__file__).resolve().parents[2] / "scripts/bench_respond"
        return peers.Program(self, sys.executable, script, DGPERF, *words, **options)

    def test_dnsperf(self):
        peers.needed(self, "dnsperf")
        for engine, words in (("poll", ["--max-delay", 0]), ("libuv", ["--mode", "send+recvmsg"])):
            with self.subTest(engine):
                self.need(engine)
                result = self.the_json(self.dnsperf(engine, 500, 0.4, *words).finish())
                self.check_engine(result, engine)
                self.assertEqual((result["scenario"], result["queries"]), ("respond", 500))
                self.assertEqual((result["lost"], result["corrupt"], result["unanswered"]),
                                 (0, 0, 0))
                self.assertGreater(result["answered"], 0)
                self.assertGreater(result["latency_ns"], 0)
                self.assertEqual(result["sent"], result["received"])
        lines = self.dnsperf("node", 500, 0.4).finish(USAGE)
        self.assertIn("respond: engine node has no such choice", lines[-1])

    def test_without_dnsperf(self):
        lines = self.dnsperf("poll", 500, 1, env={"PATH": "/nonexistent"}).finish(UNAVAILABLE)
        self.assertEqual(lines, ["respond: no dnsperf here"])

    def test_modes(self):
        for engine in WITH_MODES:
            with self.subTest(engine):
                self.need(engine)
                lines = self.dgperf("stream", "--engine", engine, "--mode", "none").finish(USAGE)
                modes = re.findall(r"--mode (\S+) is one", "\n".join(lines))
                self.assertGreater(len(modes), 1)
                for mode in modes:
                    result = self.run_json("stream", "--engine", engine, "--mode", mode,
                                           "--count", 1000)
                    self.assertEqual(result["mode"], mode)
                    self.check_whole(result, 1000)

    def test_modes_of_collect(self):
        for engine in WITH_MODES:
            with self.subTest(engine):
                self.need(engine)
                lines = self.dgperf("collect", "--engine", engine, "--mode", "none").finish(USAGE)
                modes = re.findall(r"--mode (\S+) is one", "\n".join(lines))
                self.assertEqual(len(modes), 2)
                for mode in modes:
                    result = self.run_json("collect", "--engine", engine, "--mode", mode,
                                           "--count", FITS)
                    self.assertEqual(result["mode"], mode)
                    self.check_whole(result, FITS)

    def test_engines_meet(self):
        """One engine's client and another's server."""
        self.need("node")
        for client, server in (("poll", "raw-mmsg"), ("poll", "node"), ("node", "poll")):
            result = self.run_json("ping", "--engine", client, "--server-engine", server,
                                   "--count", 20)
            self.assertEqual((result["engine"], result["server_engine"]), (client, server))
            self.assertEqual(result["received"], 20)

    def test_options_of_the_library(self):
        for words in (["--borrow"], ["--in-place"], ["--in-place", "--size", 20000],
                      ["--in-place", "--distinct-sizes", "--size", 1200], ["--busy-poll", 20],
                      ["--idle-sockets", 100], ["--max-delay", 0], ["--max-delay", 1000]):
            result = self.run_json("stream", "--engine", "poll", "--count", 2000, *words)
            self.check_whole(result, 2000)

    def kernel_calls(self, engine, count, *words):
        """The sends and the receives of a stream."""
        self.need(engine)
        result = self.run_json("stream", "--engine", engine, "--count", count, *words)
        self.check_whole(result, count)
        if engine in IN_LIBRARY and result["segments"] == 1 and "--segments" not in words:
            self.skipTest("no trains here")
        return result["kernel_sends"], result["kernel_receives"]

    def test_segments(self):
        """How many datagrams a train holds is how many share a send and a receive."""
        for engine in IN_LIBRARY:
            with self.subTest(engine):
                self.assertEqual(self.kernel_calls(engine, 2000, "--segments", 1), (2000, 2000))
                for calls in self.kernel_calls(engine, 2000, "--segments", 8):
                    self.assertTrue(250 <= calls < 300, calls)
                for calls in self.kernel_calls(engine, 2000):
                    self.assertTrue(2000 // 128 < calls < 100, calls)

    def test_without_gro(self):
        for engine in IN_LIBRARY:
            with self.subTest(engine):
                sends, receives = self.kernel_calls(engine, 2000, "--no-gro")
                self.assertLess(sends, 100)
                self.assertEqual(receives, 2000)

    def test_lent_bytes_are_not_gathered(self):
        """A train of copies holds 31 datagrams of 2,048 bytes. Of lent ones it holds fewer, for
        each is a vector of its own."""
        for engine in IN_LIBRARY:
            with self.subTest(engine):
                copied, _ = self.kernel_calls(engine, 3100, "--size", 2048)
                lent, _ = self.kernel_calls(engine, 3100, "--size", 2048, "--borrow")
                self.assertLess(copied, 150)
                self.assertGreater(lent, 2 * copied)

    def test_buffers_end_trains(self):
        """109 datagrams of 1,200 bytes fit into dgperf's buffers: trains of 54, of 54 and of 1."""
        for engine in IN_LIBRARY:
            with self.subTest(engine):
                copied, _ = self.kernel_calls(engine, 10900, "--size", 1200)
                in_place, _ = self.kernel_calls(engine, 10900, "--size", 1200, "--in-place")
                self.assertLess(copied, 250)
                self.assertGreaterEqual(in_place, 300)

    def test_others_tell_no_calls(self):
        self.assertEqual(self.kernel_calls("raw-mmsg", 2000), (None, None))

    def test_zero_copy(self):
        words = ("stream", "--zero-copy", "--size", 1200, "--count", 2000)
        self.need("uring")
        result = self.run_json(*words, "--engine", "uring")
        self.check_whole(result, 2000)
        self.assertTrue(result["zero_copy"])

    def test_what_zero_copy_needs(self):
        for command in (["stream"], ["send", "--port", 9]):
            lines = self.dgperf(*command, "--zero-copy", "--engine", "poll").finish(UNAVAILABLE)
            self.assertRegex(lines[-1], "^dgperf: --zero-copy: engine poll cannot here: on poll "
                                        "the kernel copies; .* uring on Linux 6.15 and later$")

    def test_a_server_that_cannot_spin_sleeps(self):
        self.need("libuv")
        result = self.run_json("ping", "--engine", "poll", "--server-engine", "libuv",
                               "--busy-poll", 20, "--count", 20)
        self.assertEqual(result["received"], 20)

    def test_spins_as_it_is_told(self):
        for words, told in (([], None), (["--busy-poll", 0], 0), (["--busy-poll", 20], 20)):
            result = self.run_json("ping", "--engine", "poll", "--count", 2000, *words)
            self.assertEqual(result["received"], 2000)
            self.assertEqual(result.get("busy_poll_us"), told)

    def test_ping_beside_a_flood(self):
        for engine in ("poll", "raw-mmsg", "raw-gso"):
            result = self.run_json("ping", "--engine", engine, "--flood", 100, "--count", 50)
            self.assertEqual(result["received"], 50)

    def test_between_hosts(self):
        names = [f"dgperf-{os.getpid()}-{side}" for side in "ab"]
        try:
            subprocess.run(["ip", "netns", "add", names[0]], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("no network namespaces here")
        self.addCleanup(subprocess.run, ["ip", "netns", "del", names[0]])
        for command in (f"netns add {names[1]}",
                        f"link add cable netns {names[0]} type veth peer cable netns {names[1]}",
                        f"-n {names[0]} address add 10.77.1.1/24 dev cable",
                        f"-n {names[1]} address add 10.77.1.2/24 dev cable",
                        f"-n {names[0]} link set cable up", f"-n {names[1]} link set cable up",
                        # raw-gso tries itself on it
                        f"-n {names[0]} link set lo up", f"-n {names[1]} link set lo up"):
            subprocess.run(["ip", *command.split()], check=True)
        self.addCleanup(subprocess.run, ["ip", "netns", "del", names[1]])
        spots = f"{names[0]}=10.77.1.1,{names[1]}=10.77.1.2"
        for engine in ("poll", "raw-gso"):
            for command in ("stream", "fanout", "collect"):
                self.check_whole(self.run_json(command, "--engine", engine, "--between", spots,
                                               "--count", FITS), FITS)
            self.assertEqual(self.run_json("ping", "--engine", engine, "--between", spots,
                                           "--count", 10)["received"], 10)

    def test_ipv6(self):
        if not peers.has_ipv6():
            self.skipTest("no IPv6 here")
        recv = self.dgperf("recv", "--engine", "poll", "--host", "::1", "--json")
        port = int(recv.expect(r"^recv, poll: ::1 port (\d+)$")[1])
        self.run_json("send", "--engine", "poll", "--host", "::1", "--port", port, "--count", FITS)
        self.check_whole(self.the_json(recv.finish()), FITS)


# ---- What recv makes of numbers ------------------------------------------------------------------

END = 1 << 63


class Numbers(Case):
    def receive(self, numbers, status, payload=lambda number: struct.pack("<Q", number)):
        """recv's result after it got these."""
        recv, port = self.listen("recv", "--engine", "poll", "--json", "--size", 8)
        sock = peers.plain_socket(self)
        for number in numbers:
            sock.sendto(payload(number), ("127.0.0.1", port))
        return self.the_json(recv.finish(status))

    def check(self, result, **expected):
        self.assertEqual({key: result[key] for key in expected}, expected)

    def run_of(self, mark, numbers, told=None):
        """Numbers with a run's mark, and its end."""
        end = [] if told is None else [END | told]
        return [mark << 48 | number for number in [*numbers, *end]]

    def test_gaps_are_lost(self):
        result = self.receive(self.run_of(7, [0, 1, 4, 5], told=6), BAD_RUN)
        self.check(result, sent=6, received=4, lost=2, disordered=0, corrupt=0)

    def test_what_the_end_tells_is_lost(self):
        result = self.receive(self.run_of(7, [0, 1], told=10), BAD_RUN)
        self.check(result, sent=10, received=2, lost=8)

    def test_late_ones_are_disordered(self):
        result = self.receive(self.run_of(7, [0, 2, 1, 3], told=4), BAD_RUN)
        self.check(result, sent=4, received=4, lost=0, disordered=1)

    def test_a_fresh_sender_is_no_disorder(self):
        result = self.receive([*self.run_of(7, range(100)), *self.run_of(9, range(50), told=50)],
                              GOOD)
        self.check_whole(result, 150)

    def test_the_run_before_is(self):
        result = self.receive([*self.run_of(7, [0, 1]), *self.run_of(9, [0]), *self.run_of(7, [2]),
                               *self.run_of(9, [1], told=2)], BAD_RUN)
        self.check(result, sent=4, disordered=1, corrupt=0)

    def test_strangers_begin_no_run(self):
        result = self.receive(
            self.run_of(7, [0, 1, 77, 2], told=3), BAD_RUN,
            lambda number: b"hello" if number & 0xffff == 77 else struct.pack("<Q", number))
        self.check(result, sent=3, received=3, lost=0, corrupt=1)

    def test_the_end_of_another_run_is_none(self):
        result = self.receive([*self.run_of(5, [], told=3), *self.run_of(7, range(9), told=9)],
                              GOOD)
        self.check_whole(result, 9)

    def test_a_wrong_size_is_told(self):
        recv, port = self.listen("recv", "--engine", "poll", "--size", 100)
        sock = peers.plain_socket(self)
        sock.sendto(bytes(50), ("127.0.0.1", port))
        recv.process.send_signal(signal.SIGINT)
        recv.expect(r"datagrams of 50 bytes came: --size must be the sender's")
        recv.finish(BAD_RUN)


# ---- Ctrl-C and the live line --------------------------------------------------------------------

class Interrupt(Case):
    def start(self, *words):
        """With its standard error on a terminal: the process and the terminal."""
        terminal, slave = pty.openpty()
        self.addCleanup(os.close, terminal)
        process = subprocess.Popen(
            peers.kept_short([DGPERF, *map(str, words)]), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=slave, text=True)
        os.close(slave)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process, terminal

    def first_line(self, terminal):
        """What is shown until it is shown anew."""
        shown = ""
        while shown.count("\r\033[K") < 2:
            ready, _, _ = select.select([terminal], [], [], peers.PATIENCE)
            self.assertTrue(ready, shown)
            shown += os.read(terminal, 4096).decode()
        return shown.split("\r\033[K")[1]

    def test_narrow_terminals(self):
        for columns, environment in ((30, None), (20, "20"), (200, "200")):
            terminal, slave = pty.openpty()
            self.addCleanup(os.close, terminal)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 30, 0, 0))
            process = subprocess.Popen(
                peers.kept_short([DGPERF, "echo", "--engine", "poll"]), stderr=slave,
                stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                env={**os.environ, **({"COLUMNS": environment} if environment else {})})
            os.close(slave)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            line = self.first_line(terminal)
            self.assertTrue("echo poll: 0.0 k/s, 0 received, 0 dropped".startswith(line), line)
            self.assertEqual(len(line), min(columns - 1, 41))

    def expect_live(self, terminal, pattern):
        deadline = time.monotonic() + peers.PATIENCE
        shown = ""
        while not re.search(pattern, shown):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([terminal], [], [], max(left, 0))
            self.assertTrue(ready, f"no live line like {pattern!r} in {shown!r}")
            shown += os.read(terminal, 4096).decode()

    def check(self, words, live, summary, signum=signal.SIGINT):
        process, terminal = self.start(*words)
        self.expect_live(terminal, live)
        process.send_signal(signum)
        output, _ = process.communicate(timeout=peers.PATIENCE)
        self.assertEqual(process.returncode, GOOD, output)
        self.assertRegex(output, summary)

    def test_stream(self):
        for engine in ("auto", "raw-mmsg"):
            self.check(["stream", "--engine", engine, "--seconds", 1000],
                       r"stream \S+: \d+\.\d+ M/s received, 0 lost, \d+ s left",
                       r"(?s)^stream, .*\n  received +[1-9].*\n  lost +0\n")

    def test_fanout(self):
        self.check(["fanout", "--count", 10 ** 14], r"fanout \S+: .* received, 0 lost, \d+ s left",
                   r"(?s)^fanout, .*\n  received +[1-9].*\n  lost +0\n", signal.SIGTERM)

    def test_ping(self):
        self.check(["ping", "--seconds", 1000], r"ping \S+: [\d.]+ k/s, \d+ lost, \d+ s left",
                   r"(?s)^ping, .*\n  round trip, microseconds: min .* p99\.9 ")

    def test_node(self):
        """The child must outlive the signal, and not dgperf."""
        peers.needed(self, "node")
        self.check(["stream", "--engine", "node", "--seconds", 1000], r" received, 0 lost, ",
                   r"(?s)^stream, node, .*\n  received +[1-9].*\n  lost +0\n")

    def test_node_that_does_not_open(self):
        with tempfile.TemporaryDirectory() as folder:
            fake = pathlib.Path(folder, "node")
            fake.write_text("#!/bin/sh\necho started >&2\nexec cat\n", encoding="ascii")
            fake.chmod(0o755)
            run = self.dgperf("stream", "--engine", "node",
                              env={"PATH": f"{folder}:{os.environ['PATH']}"})
            run.expect("^started$")
            run.process.send_signal(signal.SIGINT)
            run.expect("interrupted before it had opened its sockets")
            run.finish(BAD_RUN)

    def test_send(self):
        sock = peers.plain_socket(self)
        self.check(["send", "--port", sock.getsockname()[1], "--rate", 1000, "--seconds", 1000],
                   r"send \S+: \d+\.\d+ M/s sent, \d+ s left", r"^send, .*\n.*\n  sent +[1-9]")

    def test_collect(self):
        self.check(["collect", "--rate", 1000, "--seconds", 1000],
                   r"collect \S+: [\d.]+ k/s sent, \d+ lost, \d+ s left",
                   r"(?s)^collect, .*, 1000/s of 8 sockets\n.*\n  received +[1-9].*\n  delay, ")

    def test_respond(self):
        process, terminal = self.start("respond", "--json")
        self.expect_live(terminal, r"respond \S+: [\d.]+ k/s, 0 received, 0 dropped")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=peers.PATIENCE)
        self.assertEqual(self.the_json(output.splitlines())["received"], 0)

    def test_echo(self):
        process, terminal = self.start("echo", "--json")
        self.expect_live(terminal, r"echo \S+: [\d.]+ k/s, 0 received, 0 dropped")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=peers.PATIENCE)
        self.assertEqual(self.the_json(output.splitlines())["received"], 0)

    def test_recv(self):
        process, terminal = self.start("recv", "--json", "--seconds", 1000)
        self.expect_live(terminal, r"recv \S+: 0\.000 M/s received, 0 lost, waiting, \d+ s left")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=peers.PATIENCE)
        self.assertEqual(process.returncode, BAD_RUN)  # nothing has come
        self.assertEqual(self.the_json(output.splitlines())["received"], 0)

    def test_send_tells_its_end_after_it(self):
        recv, port = self.listen("recv", "--json")
        process, terminal = self.start("send", "--port", port, "--rate", 100, "--seconds", 1000,
                                       "--json")
        self.expect_live(terminal, r" sent, ")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=peers.PATIENCE)
        self.check_whole(self.the_json(recv.finish()), self.the_json([output])["sent"])


# ---- The command line ----------------------------------------------------------------------------

class CommandLine(Case):
    def test_help(self):
        for words in (["--help"], ["-h"], ["help"]):
            text = "\n".join(self.dgperf(*words).finish())
            for name in [*COMMANDS, *ENGINES, "peers"]:
                self.assertIn(f"\n  {name} ", text)
        for command in [*COMMANDS, "peers"]:
            text = "\n".join(self.dgperf(command, "--help").finish())
            self.assertIn(f"usage: dgperf {command} ", text)
            self.assertIn("--json", text)

    def test_version(self):
        self.assertRegex(self.dgperf("--version").finish()[0], r"^dgperf \d+\.\d+\.\d+$")

    def test_peers(self):
        lines = self.dgperf("peers").finish()
        for engine in ENGINES:
            self.assertTrue(any(re.match(rf"{engine} +(yes|no) ", line) for line in lines), engine)

    def test_text(self):
        lines = self.dgperf("stream", "--engine", "poll", "--count", 1234).finish()
        self.assertRegex(lines[0], r"^stream, poll, 64 bytes, window \d+")
        self.assertRegex("\n".join(lines), r"(?s)\n  sent +1,234 .*\n  received +1,234 .*lost +0\n")

    def test_mistakes(self):
        for words, said in (
                ([], "usage: dgperf COMMAND"),
                (["dance"], "no command 'dance'"),
                (["stream", "--what"], "--what: no such option"),
                (["stream", "more"], "'more' is no option"),
                (["stream", "--size"], "--size: needs a value"),
                (["stream", "--size", "7"], "--size 7: must be a whole number from 8 to 65507"),
                (["stream", "--size", "65508"], "must be a whole number"),
                (["stream", "--count", "0"], "must be a whole number"),
                (["stream", "--count", "1x"], "must be a whole number"),
                (["stream", "--count", "-1"], "must be a whole number"),
                (["stream", "--seconds", "0"], "must be a number from"),
                (["stream", "--seconds", "nan"], "must be a number from"),
                (["stream", "--seconds", "1", "--count", "1"], "exclude each other"),
                (["stream", "--window", "0"], "must be a whole number"),
                (["stream", "--engine", "none"], "must be one of auto, uring, poll, "),
                (["stream", "--engine", "raw-mmsg", "--segments", "2"],
                 "--segments: engine raw-mmsg has no such choice; these have: auto, uring, poll, "
                 "raw-gso"),
                (["stream", "--engine", "raw-mmsg", "--borrow"],
                 "--borrow: engine raw-mmsg has no such choice; these have: auto, uring, poll"),
                (["stream", "--engine", "libuv", "--no-gro"], "--no-gro: engine libuv has no"),
                (["stream", "--engine", "libuv", "--in-place"], "--in-place: engine libuv has no"),
                (["stream", "--engine", "raw-gso", "--zero-copy"],
                 "--zero-copy: engine raw-gso has no such choice; these have: auto, uring, poll"),
                (["stream", "--borrow", "--in-place"], "exclude each other"),
                (["fanout", "--in-place"], "no such option"),
                (["stream", "--engine", "libuv", "--idle-sockets", 1],
                 "--idle-sockets: engine libuv has no such choice"),
                (["ping", "--engine", "node", "--flood", 1], "--flood: engine node has no such"),
                (["stream", "--engine", "libuv", "--max-delay", 20], "--max-delay: engine libuv"),
                (["stream", "--max-delay", 100001], "must be a whole number from 0 to 100000"),
                (["collect", "--size", 15], "--size 15: collect needs 16 to 65507"),
                (["collect", "--senders", 0], "must be a whole number from 1 to 1024"),
                (["collect", "--senders", 1025], "must be a whole number from 1 to 1024"),
                (["collect", "--rate", "some"], "must be a whole number"),
                (["collect", "--segments", 2], "no such option"),
                (["collect", "--engine", "libuv", "--mode", "send+recvmsg"], "not a mode of"),
                (["collect", "--seconds", 1, "--count", 1], "exclude each other"),
                (["respond", "--count", 1], "no such option"),
                (["respond", "--host", "localhost"], "must be the text of an IP address"),
                (["respond", "--engine", "libuv", "--mode", "fast"], "not a mode of engine libuv"),
                (["ping", "--host", "127.0.0.1", "--port", 9, "--flood", 1], "excludes"),
                (["stream", "--between", "here"], "must be NAME=ADDRESS"),
                (["stream", "--between", "a=127.0.0.1"], "must be NAME=ADDRESS"),
                (["stream", "--between", "a=host,b=127.0.0.1"], "must be NAME=ADDRESS"),
                (["stream", "--engine", "node", "--busy-poll", "9"], "--busy-poll: engine node"),
                (["stream", "--engine", "poll", "--mode", "fast"], "not a mode of engine poll"),
                (["stream", "--distinct-sizes", "--size", "8"], "needs --size from 9"),
                (["stream", "--rate", "9"], "--rate: no such option"),
                (["ping", "--port", "9"], "--port needs --host"),
                (["ping", "--host", "127.0.0.1"], "--host needs --port"),
                (["ping", "--host", "127.0.0.1", "--port", "9", "--server-engine", "poll"],
                 "exclude each other"),
                (["echo", "--host", "localhost"], "must be the text of an IP address"),
                (["echo", "--size", "9"], "no such option"),
                (["recv", "--port", "65536"], "must be a whole number"),
                (["recv", "--borrow"], "no such option"),
                (["send"], "send needs --port"),
                (["send", "--port", "9", "--rate", "fast"], "must be a whole number"),
                (["send", "--port", "9", "--window", "9"], "no such option"),
                (["peers", "--engine", "poll"], "no such option")):
            with self.subTest(words):
                lines = self.dgperf(*words).finish(USAGE)
                self.assertIn(said, "\n".join(lines))

    def test_unavailable(self):
        for command in ("stream", "recv"):
            node = self.dgperf(command, "--engine", "node", "--count", 1,
                               env={"PATH": "/nonexistent"})
            self.assertIn("--engine node cannot run here: no program node in PATH",
                          node.finish(UNAVAILABLE)[0])

    def test_results_that_nobody_can_read(self):
        for words in (["--help"], ["peers"], ["stream", "--help"],
                      ["stream", "--engine", "poll", "--count", 10],
                      ["collect", "--engine", "poll", "--count", 10, "--json"],
                      ["recv", "--host", "127.0.0.1"], ["echo"]):
            for to, why in (("/dev/full", "No space left on device"), ("&-", "is closed")):
                command = ["sh", "-c", f'exec "$@" 2>&1 >{to}', "sh", DGPERF, *words]
                self.assertRegex(peers.Program(self, *command).finish(BAD_RUN)[-1],
                                 f"^dgperf: standard output:? {why}$")

    def test_a_reader_that_has_gone(self):
        reader, writer = os.pipe()
        os.close(reader)
        run = subprocess.run([DGPERF, "peers"], stdout=writer, stderr=subprocess.PIPE, text=True,
                             timeout=peers.PATIENCE, check=False)
        os.close(writer)
        self.assertEqual((run.returncode, run.stderr),
                         (BAD_RUN, "dgperf: standard output: Broken pipe\n"))

    def test_other_descriptors_may_be_closed(self):
        command = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", DGPERF, "stream", "--engine", "poll",
                   "--count", FITS, "--json"]
        self.check_whole(self.the_json(peers.Program(self, *command).finish()), FITS)

    def test_what_cannot_run_fails(self):
        sock = peers.plain_socket(self)
        words = ["--host", "127.0.0.1", "--port", sock.getsockname()[1]]
        for command in ("echo", "recv"):
            self.assertRegex(self.dgperf(command, *words).finish(BAD_RUN)[0], "in use")

    def test_nobody_answers(self):
        sock = peers.plain_socket(self)
        result = self.run_json("ping", "--host", "127.0.0.1", "--port", sock.getsockname()[1],
                               "--seconds", "0.01", status=BAD_RUN)
        self.assertEqual((result["received"], result["rtt_ns"]), (0, None))
        self.assertGreater(result["lost"], 0)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    DGPERF = sys.argv[1]
    peers.run_cases()
