"""The committed stubs of gRPC are those of the .proto beside them."""

import ast
import re
import subprocess
import sys

import pytest


def test_the_stubs_are_of_the_proto(repository, tmp_path):
    pytest.importorskip("grpc_tools", reason="pip install grpcio-tools")
    committed = pytest.importorskip("voxkit.serve.voxkit_pb2", reason="the service needs the extra serve").DESCRIPTOR.serialized_pb
    subprocess.run([repository / "tools/make_stubs.sh", tmp_path], check=True, env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"})
    made = (tmp_path / "voxkit_pb2.py").read_text()  # by another version of the compiler, maybe; what it describes is the same
    assert ast.literal_eval(re.search(r"AddSerializedFile\((b.*)\)\n", made)[1]) == committed
