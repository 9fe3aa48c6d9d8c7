"""Hub ids, against a server on this machine that answers as the Hugging Face hub does: what is downloaded, resumed,
found again without a network, and refused."""

import fcntl
import hashlib
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from longhand.engine.hub import PATTERNS

REVISION = hashlib.sha1(b"a commit").hexdigest()
NEEDED = {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors"}
IDLE = {
    "README.md": b"# Tiny", "pytorch_model.bin": b"\x80" * 99, "onnx/model.onnx": b"onnx",
    "vocab.json": b"{ }",
    "checkpoint-500/model.safetensors": b"\0" * 99,
}  # fmt: skip

# Prints a line per step: the folder or the file, or what was refused. The library waits a second and more between its
# attempts; here it need not.
STEPS = """
import sys, time
from longhand.engine.errors import LonghandError
from longhand.engine.hub import local_copy, resolve, resolve_config

time.sleep = lambda seconds: None
for step in sys.argv[1:]:
    try:
        print({"whole": resolve, "config": resolve_config, "local": local_copy}[step]("owner/tiny"))
    except LonghandError as error:
        print(f"refused: {error}")
"""


class Hub(ThreadingHTTPServer):
    """`files` of owner/tiny; `asked` lists (method, file or "", Range header) of each request. A file in `cut` ends
    half-way once, one in `withheld` is answered with 403. The first of `answers` (status, error code) goes to the next
    question about the repository."""

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.cut = files, [], set()
        self.withheld, self.answers = set(), []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def fetched(self):
        """Names of files whose content was asked for, in order."""
        return [name for method, name, _ in self.asked if method == "GET" and name]

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self):
        hub, path = self.server, self.path.partition("?")[0]
        match = re.fullmatch(f"/owner/tiny/resolve/(?:{REVISION}|main)/(.+)", path)
        name = match[1] if match else ""
        hub.asked.append((self.command, name, self.headers["Range"]))
        if name in hub.withheld:
            self.reply(403)
        elif hub.answers and path.startswith("/api/models/owner/tiny"):
            status, code = hub.answers.pop(0)
            self.reply(status, X_Error_Code=code)
        elif path.startswith("/api/models/owner/tiny/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in hub.files.items()
            ]
            self.reply(200, json.dumps(entries).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/owner/tiny"):
            about = {"id": "owner/tiny", "sha": REVISION, "siblings": [{"rfilename": name} for name in hub.files]}
            self.reply(200, json.dumps(about).encode(), Content_Type="application/json")
        elif name in hub.files:
            self.send_file(name, hub.files[name])
        else:
            self.reply(404, X_Error_Code="EntryNotFound" if match else "RepoNotFound")

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def send_file(self, name, content):
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X_Repo_Commit": REVISION,
            "Accept_Ranges": "bytes",
        }
        start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        whole = len(content)
        if start:
            headers["Content_Range"] = f"bytes {start[1]}-{whole - 1}/{whole}"
            content = content[int(start[1]) :]
        if self.command == "GET" and name in self.server.cut:
            self.server.cut.remove(name)
            self.reply(206 if start else 200, content[: len(content) // 2], len(content), **headers)
            self.close_connection = True
        else:
            self.reply(206 if start else 200, content, **headers)


@pytest.fixture
def tiny_files(tiny_folder):
    return {path.name: path.read_bytes() for path in tiny_folder.iterdir()} | {"generation_config.json": b"{}"} | IDLE


@pytest.fixture
def hub(tiny_files):
    server = Hub(tiny_files)
    yield server
    server.close()


@pytest.fixture
def environment(hub, tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": hub.url, "no_proxy": "127.0.0.1"}


@pytest.fixture
def steps(environment):
    """steps("whole", "local") -> the lines that STEPS prints, in a process of its own; `warns`: standard error is not
    looked at. Other keywords are environment variables."""

    def run(*steps, warns=False, **changes):
        done = subprocess.run([sys.executable, "-c", STEPS, *steps], capture_output=True, text=True, timeout=60,
                              env={**environment, **changes}, stdin=subprocess.DEVNULL)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert warns or done.stderr == ""
        return done.stdout.splitlines()

    return run


def holds(folder, files, names):
    found = {os.path.relpath(os.path.join(at, name), folder) for at, _, here in os.walk(folder) for name in here}
    assert found == set(names)
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            assert file.read() == files[name], name


def test_only_what_is_needed_is_downloaded_and_once(hub, steps):
    (folder,) = steps("whole")
    holds(folder, hub.files, NEEDED)
    assert sorted(hub.fetched()) == sorted(NEEDED)
    hub.asked.clear()
    assert steps("whole", "config", "local") == [folder, f"{folder}/config.json", folder]
    assert hub.asked == []  # what is here is not asked for


def test_the_config_alone_and_the_rest_later(hub, steps):
    config, none, folder = steps("config", "local", "whole")
    assert none == "None"  # no checkpoint yet
    assert config == f"{folder}/config.json"
    assert hub.fetched()[0] == "config.json"
    assert sorted(hub.fetched()) == sorted(NEEDED)
    holds(folder, hub.files, NEEDED)


def test_the_patterns_cover_shards():
    assert "model*.safetensors" in PATTERNS
    assert "model.safetensors.index.json" in PATTERNS


def test_a_download_that_is_cut_off_goes_on_where_it_was(hub, steps):
    hub.files["model.safetensors"] = os.urandom(24 << 20)  # the library takes 10 MiB at a time
    hub.cut.add("model.safetensors")
    (folder,) = steps("whole", warns=True)  # the library says that it tries again
    holds(folder, hub.files, NEEDED)
    ranges = [asked for method, name, asked in hub.asked if (method, name) == ("GET", "model.safetensors")]
    assert len(ranges) == 2
    assert ranges[0] is None
    # The half that was sent, or less: what the library had not taken from the connection yet is lost.
    assert (
        0 <= int(re.fullmatch(r"bytes=(\d+)-", ranges[1] or "bytes=0-")[1]) <= len(hub.files["model.safetensors"]) // 2
    )


def test_a_download_that_failed_is_no_copy_and_is_completed(hub, steps, make_checkpoint):
    del hub.files["model.safetensors"]
    hub.files |= {path.name: path.read_bytes() for path in make_checkpoint(shards=2).iterdir()}
    last = "model-00002-of-00002.safetensors"
    hub.withheld.add(last)
    assert steps("whole", "local") == ["refused: owner/tiny: the hub answered with HTTP status 403", "None"]
    hub.asked.clear()
    hub.withheld.clear()
    (folder,) = steps("whole")
    assert last in hub.fetched()
    assert "config.json" not in hub.fetched()  # finished files stay
    holds(folder, hub.files, hub.files.keys() - IDLE.keys())


def forget_the_list_of_files(folder):
    """Older versions of the library keep none of a snapshot."""
    for at, _, names in os.walk(os.path.join(folder, "..", "..")):
        if os.path.basename(at) == "trees":
            for name in names:
                os.remove(os.path.join(at, name))


def test_a_copy_without_its_tokenizer_is_completed(hub, steps):
    (folder,) = steps("whole")
    os.remove(f"{folder}/tokenizer.json")
    forget_the_list_of_files(folder)
    assert steps("local", "whole") == ["None", folder]
    holds(folder, hub.files, NEEDED)


def test_an_incomplete_folder_that_the_library_takes_for_whole(hub, steps, make_checkpoint):
    del hub.files["model.safetensors"]
    hub.files |= {path.name: path.read_bytes() for path in make_checkpoint(shards=2).iterdir()}
    (folder,) = steps("whole")
    os.remove(f"{folder}/model-00001-of-00002.safetensors")
    forget_the_list_of_files(folder)
    assert steps("local", "whole") == ["None", folder]
    holds(folder, hub.files, hub.files.keys() - IDLE.keys())


def test_without_a_network_a_local_copy_does(hub, steps):
    (folder,) = steps("whole")
    hub.close()
    assert steps("whole", "config") == [folder, f"{folder}/config.json"]
    assert steps("whole", "config", HF_HUB_OFFLINE="1") == [folder, f"{folder}/config.json"]


def test_a_config_alone_does_for_fit_without_a_network(hub, steps):
    (config,) = steps("config")
    hub.close()
    again, line = steps("config", "whole")
    assert again == config
    assert line.startswith("refused: owner/tiny: not on this machine, and the hub cannot be reached")


@pytest.mark.parametrize("changes", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["no server", "asked to be offline"])
def test_without_a_network_and_a_copy_one_line_says_so(hub, steps, changes):
    hub.close()
    line = "refused: owner/tiny: not on this machine, and the hub cannot be reached; check the network"
    assert steps("whole", "config", **changes) == [line, line]


def test_what_the_hub_refuses_takes_one_line(hub, steps):
    said = {
        (404, "RepoNotFound"): "no such model on the hub, or it is private",
        (403, "GatedRepo"): "access is restricted; accept its terms on the hub and run `hf auth login`",
        (401, ""): "the hub answered with HTTP status 401; check the token (`hf auth login`)",
        (404, ""): "the hub answered with HTTP status 404",
        (500, ""): "the hub answered with HTTP status 500",
    }
    hub.answers = list(said)
    assert steps(*["whole"] * len(said)) == [f"refused: owner/tiny: {line}" for line in said.values()]
    hub.answers = list(said)
    assert steps(*["config"] * len(said)) == [f"refused: owner/tiny: {line}" for line in said.values()]


def test_a_repository_without_a_config(hub, steps):
    del hub.files["config.json"]
    line = "refused: owner/tiny: has no config.json on the hub, so it is no checkpoint"
    assert steps("whole", "config", warns=True) == [line, line]


def test_fit_and_piped_output(hub, environment):
    """From a hub id with config.json alone; nothing but the object is printed."""
    code = "from longhand.agent.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "fit", "owner/tiny", "--memory", "1GiB", "--json"], timeout=60,
                          capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["model"] == "owner/tiny"
    assert hub.fetched() == ["config.json"]


def test_a_terminal_sees_bytes_go_by(hub, environment):
    hub.files["model.safetensors"] = bytes(1 << 20)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # bars have no width without
    process = subprocess.Popen([sys.executable, "-c", STEPS, "whole"], env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=theirs, text=True)  # fmt: skip
    os.close(theirs)
    seen = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            seen += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert out.count("\n") == 1
    assert re.search(rb"1\.\d+MB? ?/ ?1\.\d+MB?", seen), seen
    assert b"100%" in seen


def test_what_cannot_fit_is_refused_before_it_is_downloaded(hub, environment):
    config = json.loads(hub.files["config.json"])
    hub.files["config.json"] = json.dumps(config | {"num_hidden_layers": 2_000_000}).encode()
    code = """
from longhand import Engine
from longhand.engine.errors import LonghandError
try:
    Engine.from_pretrained("owner/tiny")
except LonghandError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment,
                          stdin=subprocess.DEVNULL)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "does not fit" in done.stdout
    assert done.stdout.count("\n") == 1
    assert hub.fetched() == ["config.json"]
