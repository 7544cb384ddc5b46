"""`voxkit serve`: a checkpoint over HTTP: features as nested arrays, samples or audio files → text with confidences."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "serve a checkpoint over HTTP"


def add_parser(subparsers: Any) -> None:
    from voxkit.cli.search_options import add_search_arguments, add_times_argument, add_tuned_argument

    parser = subparsers.add_parser("serve", help=HELP, description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint, a run, or exp/NAME for the newest run of that name")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines ask (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = as torch chooses")
    parser.add_argument("--method", help="as of `voxkit decode`; by default the configuration's")
    add_search_arguments(parser)
    add_tuned_argument(parser)
    add_times_argument(parser)
    parser.add_argument("--calibration", metavar="FILE", help="what `voxkit decode --calibrate` fitted; by default that of the run, "
                                                              "decode/calibration.json")
    parser.add_argument("--max-batch", type=int, default=16, help="requests recognized together (default 16)")
    parser.add_argument("--max-wait", type=float, default=0.01, help="seconds to wait for others (default 0.01)")
    parser.add_argument("--max-waiting", type=int, default=256, help="requests that may wait before 503 (default 256)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds from a request's last byte to 504 (default 30)")
    parser.add_argument("--upload-timeout", type=float, default=30.0, help="seconds that a body may take to arrive (default 30)")
    parser.add_argument("--drain", type=float, default=20.0, help="seconds to answer what has arrived once told to stop (default 20)")
    parser.add_argument("--max-seconds", type=float, default=60.0, help="of one utterance (default 60)")
    parser.add_argument("--max-megabytes", type=float, default=32.0, help="of one request (default 32)")


def run(args: argparse.Namespace) -> int:
    from voxkit.experiments.serving import application
    from voxkit.serve.server import make_server

    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    make_server(application(_job(args), print), host=args.host, port=args.port).run()
    return 0


def _job(args: argparse.Namespace) -> Any:
    from voxkit.cli.search_options import job_fields, search_settings
    from voxkit.experiments.serving import ServeJob
    from voxkit.serve.batcher import BatchingConfig
    from voxkit.serve.inputs import Limits

    limits = Limits(max_seconds=args.max_seconds, max_bytes=round(args.max_megabytes * 2**20), timeout=args.timeout,
                    upload_timeout=args.upload_timeout, drain=args.drain)
    batching = BatchingConfig(max_batch=args.max_batch, max_wait=args.max_wait, max_waiting=args.max_waiting)
    return ServeJob(search=search_settings(args), limits=limits, batching=batching,
                    **job_fields(args, "checkpoint", "method", "calibration", "device"))
