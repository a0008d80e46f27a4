# SPDX-License-Identifier: MIT
"""What the tests with other programs share: child processes with watchdogs, free ports, a runner.

Nothing depends on timing: a test waits for a line, a datagram or an end, and fails when a generous
limit has passed; DGRAM_TEST_PATIENCE multiplies the limits. Children die with this process, however
it ends. Results are told in googletest's words, so that scripts/test counts them case by case.
"""
import faulthandler
import functools
import os
import queue
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import traceback
import unittest

FACTOR = max(1, int(os.environ.get("DGRAM_TEST_PATIENCE") or 1))
PATIENCE = 20 * FACTOR  # seconds for one step
WATCHDOG = 270 * FACTOR  # seconds for everything; meson's limit is above it
SKIPPED = 77


# ---- Child processes -----------------------------------------------------------------------------

def kept_short(command):
    """The command, killed by the kernel when this process ends without stopping it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else list(command)


class Program:
    """A child process whose lines can be waited for. Stopped with the test case."""

    def __init__(self, case, *command, env=None, stdin=subprocess.PIPE):
        self.name = os.path.basename(str(command[0]))
        self.case = case
        self.seen = []
        self.lines = queue.Queue()
        self.process = subprocess.Popen(
            kept_short([str(word) for word in command]), stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", bufsize=1,
            env={**os.environ, **(env or {})})
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        case.addCleanup(self.kill)

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def fail(self, why):
        self.case.fail("\n    ".join([f"{self.name}: {why}; it said:", *self.seen[-40:]]))

    def line(self, patience=PATIENCE):
        """The next line; None when the output has ended."""
        try:
            line = self.lines.get(timeout=patience)
        except queue.Empty:
            self.fail(f"silent for {patience} s")
        if line is None:
            self.lines.put(None)
        else:
            self.seen.append(line)
        return line

    def expect(self, pattern):
        """The match of the next line that matches; lines before it are passed over."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            line = self.line()
            if line is None:
                break
            match = re.search(pattern, line)
            if match:
                return match
        self.fail(f"nothing like {pattern!r}")

    def say(self, text):
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self.fail("it has ended")

    def close_stdin(self):
        self.process.stdin.close()

    def finish(self, status=0):
        """Waits for the end; all lines of its output."""
        try:
            ended = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.fail(f"still running after {PATIENCE} s")
        while self.line() is not None:
            pass
        if ended != status:
            self.fail(f"exit status {ended} instead of {status}")
        return self.seen

    def terminate(self, status=0):
        self.process.terminate()
        return self.finish(status)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdin:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        self.reader.join(PATIENCE)
        self.process.stdout.close()


def needed(case, name):
    """The path of a program; without it the test case is skipped."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not path:
        case.skipTest(f"no {name} here")
    return path


# ---- Ports and payloads --------------------------------------------------------------------------

def free_port(family=socket.AF_INET):
    """A port outside of the range of which the kernel takes ports for "port 0", so nobody comes by
    it between now and its use."""
    low = 32768
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first = int(file.read().split()[0])
            low = first if first > 12000 else low
    except OSError:
        pass
    while True:
        port = random.randrange(10240, low)
        with socket.socket(family, socket.SOCK_DGRAM) as chooser:
            try:
                chooser.bind(("", port))
                return port
            except OSError:
                pass


@functools.lru_cache
def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as prober:
            prober.bind(("::1", 0))
        return True
    except OSError:
        return False


def plain_socket(case, family=socket.AF_INET, address=None, port=0):
    """A bound socket that fails the test instead of waiting for ever."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    case.addCleanup(sock.close)
    sock.settimeout(PATIENCE)
    sock.bind((address or ("127.0.0.1" if family == socket.AF_INET else "::1"), port))
    return sock


BASE = bytes((i * 7 + (i >> 8) * 13) & 255 for i in range(65536))
SHIFTS = [bytes((i + shift) & 255 for i in range(256)) for shift in range(256)]


def pattern(size, seed):
    """Bytes that differ from place to place and from seed to seed; the C peers make the same."""
    return BASE[:size].translate(SHIFTS[seed * 31 & 255])


# ---- The runner ----------------------------------------------------------------------------------

class Result(unittest.TestResult):
    """googletest's output."""

    def begin(self, tests):
        self.tests, self.passed, self.skips = tests, 0, 0
        print(f"[==========] Running {tests} tests from 1 test suite.")

    def startTest(self, test):
        super().startTest(test)
        self.start = time.monotonic()
        self.failed = False
        print(f"[ RUN      ] {self.name(test)}", flush=True)

    @staticmethod
    def name(test):
        return ".".join(test.id().split(".")[-2:])

    def end(self, word, test):
        milliseconds = int((time.monotonic() - self.start) * 1000)
        print(f"[ {word:>8} ] {self.name(test)} ({milliseconds} ms)", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.end("OK", test)

    def addSkip(self, test, reason):
        self.skips += 1
        print(f"{self.name(test)}: Skipped\n{reason}")
        self.end("SKIPPED ", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.tell(test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.tell(test, self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.tell(test, f"{subtest}\n" + "".join(traceback.format_exception(*err)))

    def tell(self, test, text):
        print(text)
        if not self.failed:
            self.end("FAILED ", test)
        self.failed = True


def skip_everything(reason):
    print(reason)
    sys.exit(SKIPPED)


def run_cases(module="__main__"):
    """Runs the test cases of the module, or those named on the command line behind "--"."""
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    words = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{word}*" for word in words] or None
    suite = loader.loadTestsFromModule(sys.modules[module])
    result = Result()
    result.begin(suite.countTestCases())
    suite.run(result)
    good = result.wasSuccessful()
    print(f"[==========] {result.testsRun} tests ran.", flush=True)
    faulthandler.cancel_dump_traceback_later()
    sys.exit(1 if not good else SKIPPED if result.passed == 0 else 0)
