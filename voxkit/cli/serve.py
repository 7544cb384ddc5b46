"""`voxkit serve`: an artifact or a checkpoint for many at once: live by WebSocket and gRPC, files by HTTP (docs/serving.md)."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "serve an artifact or a checkpoint: WebSocket, gRPC, HTTP"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.search_options import add_search_arguments, add_times_argument, add_tuned_argument

    parser = subparsers.add_parser("serve", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default="",
                        help="an artifact of `voxkit export`, a checkpoint, a run, or exp/NAME for its newest run; omitted with --config")
    parser.add_argument("--config", metavar="FILE", help="models, searches and endpoints as this file says (docs/export.md), in place of a "
                                                         "checkpoint and the options of searches")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines ask (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--grpc-port", type=int, metavar="PORT", help="also serve gRPC there (by default not)")
    parser.add_argument("--tokens-file", metavar="FILE", help="tokens of those that are let in, one a line (by default everybody is)")
    parser.add_argument("--tls-certificate", metavar="FILE", help="serve over TLS: certificate in PEM")
    parser.add_argument("--tls-key", metavar="FILE", help="its key")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = as torch or onnxruntime chooses")
    parser.add_argument("--second", metavar="DIR", help="with a streaming artifact: one over whole utterances, which says the final texts")
    parser.add_argument("--method", help="as of `voxkit decode`; by default the configuration's, of an artifact its usual one")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    add_times_argument(parser)
    parser.add_argument("--calibration", metavar="FILE", help="what `voxkit decode --calibrate` fitted; by default that of the run, "
                                                              "decode/calibration.json")
    group = parser.add_argument_group("limits")
    group.add_argument("--max-sessions", type=int, default=64, help="live sessions at a time (default 64)")
    group.add_argument("--max-delay", type=float, default=0.25, metavar="S",
                       help="no more live sessions while half a second of all of them takes longer than this to work on (default 0.25)")
    group.add_argument("--idle-timeout", type=float, default=10.0, help="seconds of a live session without audio or KeepAlive (default 10)")
    group.add_argument("--session-seconds", type=float, default=14_400.0, help="of audio in a live session (default 14400)")
    group.add_argument("--max-batch", type=int, default=16, help="requests recognized together (default 16)")
    group.add_argument("--max-wait", type=float, default=0.01, help="seconds to wait for others (default 0.01)")
    group.add_argument("--max-waiting", type=int, default=256, help="requests that may wait before 503 (default 256)")
    group.add_argument("--timeout", type=float, default=30.0, help="seconds from a request's last byte to 504 (default 30)")
    group.add_argument("--upload-timeout", type=float, default=30.0, help="seconds that a body may take to arrive (default 30)")
    group.add_argument("--head-timeout", type=float, default=10.0, help="likewise the head of a request (default 10)")
    group.add_argument("--drain", type=float, default=20.0, help="seconds to answer what has arrived once told to stop (default 20)")
    group.add_argument("--max-seconds", type=float, default=60.0, help="of one utterance (default 60)")
    group.add_argument("--max-megabytes", type=float, default=32.0, help="of one request (default 32)")


def run(args: argparse.Namespace) -> int:
    from voxkit.cli.search_options import refuse_beside_config
    from voxkit.experiments.serving import application
    from voxkit.serve.server import make_server

    if bool(args.tls_certificate) != bool(args.tls_key):
        raise ValueError("--tls-certificate and --tls-key: give both, or neither")
    if bool(args.checkpoint) == bool(args.config):
        raise ValueError("name an artifact or a checkpoint, or give --config FILE, which names it: one of them")
    if args.config:
        refuse_beside_config(args, {"method": None, "calibration": None, "second": None, "threads": 0, "device": "auto"})
    app = application(_job(args), print)
    make_server(app, host=args.host, port=args.port, certificate=args.tls_certificate, key=args.tls_key,
                grpc_port=args.grpc_port).run()
    return 0


def _job(args: argparse.Namespace) -> Any:
    from voxkit.cli.search_options import job_fields, search_settings
    from voxkit.experiments.serving import ServeJob
    from voxkit.serve.batcher import BatchingConfig
    from voxkit.serve.inputs import Limits
    from voxkit.serve.live.sessions import LiveLimits

    limits = Limits(max_seconds=args.max_seconds, max_bytes=round(args.max_megabytes * 2**20), timeout=args.timeout,
                    upload_timeout=args.upload_timeout, head_timeout=args.head_timeout, drain=args.drain)
    batching = BatchingConfig(max_batch=args.max_batch, max_wait=args.max_wait, max_waiting=args.max_waiting)
    live = LiveLimits(max_sessions=args.max_sessions, max_delay=args.max_delay, idle=args.idle_timeout,
                      session_seconds=args.session_seconds)
    return ServeJob(search=search_settings(args), limits=limits, batching=batching, live=live, tokens=args.tokens_file,
                    **job_fields(args, "checkpoint", "config", "method", "calibration", "second", "threads", "device"))
