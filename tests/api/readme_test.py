#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compiles the README's example as it stands there, runs it and talks to it.

readme_test.py README.md INCLUDE_DIR LIBRARY_DIR COMPILER...
"""
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

readme, include, library = sys.argv[1:4]
compiler = sys.argv[4:]
source = re.search(r"```c\n(.*?)```", pathlib.Path(readme).read_text(), re.S).group(1)
assert "41234" in source, "the example binds a fixed port, which a test must not"

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as chooser:
    chooser.bind(("127.0.0.1", 0))
    port = chooser.getsockname()[1]

with tempfile.TemporaryDirectory() as folder:
    program = f"{folder}/example"
    pathlib.Path(f"{program}.c").write_text(source.replace("41234", str(port)))
    subprocess.run([*compiler, "-std=c11", "-Wall", "-Werror", f"-I{include}", f"{program}.c",
                    f"-L{library}", "-ldgram", "-o", program], check=True)
    environment = dict(os.environ, LD_LIBRARY_PATH=library)
    with subprocess.Popen([program], env=environment) as server, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.1)
        reply = None
        for _ in range(100):  # the server may not have bound yet: 10 s in all
            client.sendto(b"hello", ("127.0.0.1", port))
            try:
                reply = client.recv(100)
                break
            except TimeoutError:
                assert server.poll() is None, "the example ended"
        server.kill()
assert reply == b"hello", reply
print("the README's example echoes")
