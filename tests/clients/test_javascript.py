"""What only the JavaScript client does: it can be asked for a change before it is connected."""

import json
import subprocess

from tests.clients.conftest import build
from tests.clients.fake import FakeServer, Plan

SCRIPT = """
import { Stream } from "%s";
const stream = new Stream({ url: "%s" }, ({ raw, ...event }) => console.log(JSON.stringify(event)));
stream.configure({ phrases: ["new"] });
await stream.finish();
"""


def test_a_change_before_the_server_took_the_stream_is_not_lost(repository, tmp_path_factory):
    *node, _ = build("javascript", repository, tmp_path_factory).command
    with FakeServer(Plan(late=0.1)) as server:
        script = SCRIPT % ((repository / "voxkit/serve/static/voxkit.js").as_uri(), server.url)
        done = subprocess.run([*node, "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {"event": "Configured", "problem": ""} in [json.loads(line) for line in done.stdout.splitlines()]
    assert [command.get("keyterms") for command in server.seen[0].commands] == [["new"], None]
