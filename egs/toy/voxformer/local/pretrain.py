"""A small speech encoder to stand in for WavLM where nothing can be downloaded: Whisper's architecture, trained for half a minute to say
of every frame which third of which word it belongs to (the toy corpus knows where its words lie), saved as an ordinary Hugging Face
folder. The stages that follow freeze it, as they would WavLM.

    python local/pretrain.py --data-dir data --out data/encoder
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from voxkit.batch import Batch
from voxkit.config import structure
from voxkit.data.config import DataConfig
from voxkit.data.loader import build_train_loader
from voxkit.data.sets import read_sets
from voxkit.encoders.pretrained.whisper import WhisperBackbone
from voxkit.losses.hybrid import correct_tokens
from voxkit.models.contract import Losses
from voxkit.train.config import TrainConfig
from voxkit.train.loop import Trainer


class FrameClassifier(nn.Module):
    """Whisper's encoder with every weight open, and a classifier of frames that is thrown away afterwards.

    Args:
        encoder: to be trained.
        labels: utterance id → [T] class of each frame at 50 frames/s.
    """

    def __init__(self, encoder: WhisperEncoder, labels: dict[str, Tensor]) -> None:
        super().__init__()
        self.backbone = WhisperBackbone(encoder, {})
        self.labels = labels
        self.head = nn.Linear(encoder.config.d_model, 1 + int(max(x.max() for x in labels.values())))

    def loss(self, batch: Batch) -> Losses:
        x, lengths = self.backbone.embed(batch.audio.values, batch.audio.lengths, batch.ids)
        context = self.backbone.context(lengths, x.shape[1])
        for i in range(len(self.backbone.layers)):
            x = self.backbone.layer(i, x, context)
        targets = torch.full(x.shape[:2], -100)
        for row, id, n in zip(targets, batch.ids, lengths.tolist()):
            row[:n] = self.labels[id][:n]
        logits = self.head(self.backbone.final(x)).float()
        return Losses(F.cross_entropy(logits.flatten(0, 1), targets.flatten()), lengths.sum(), {},
                      {"accuracy": correct_tokens(logits, targets)})


def frame_labels(cuts: Any, frame_rate: float = 50.0) -> dict[str, Tensor]:
    """Class 0 is silence; every word has three, for its beginning, middle and end."""
    words = sorted({item.symbol for cut in cuts for item in cut.supervisions[0].alignment["word"]})
    index = {word: 1 + 3 * i for i, word in enumerate(words)}
    out = {}
    for cut in cuts:
        labels = torch.zeros(math.ceil(cut.duration * frame_rate) + 1, dtype=torch.long)
        for item in cut.supervisions[0].alignment["word"]:
            edges = [round((item.start + item.duration * part / 3) * frame_rate) for part in range(4)]
            for third in range(3):
                labels[edges[third]:edges[third + 1]] = index[item.symbol] + third
        out[cut.id] = labels
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--sets", nargs="+", default=["train"])
    parser.add_argument("--out", type=Path, default=Path("data/encoder"))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=8e-3)
    parser.add_argument("--max-duration", type=float, default=20.0)
    args = parser.parse_args()
    if (args.out / "model.safetensors").is_file():
        print(f"{args.out} is there")
        return
    torch.manual_seed(1)
    cuts = read_sets(args.data_dir, args.sets)
    config = WhisperConfig(d_model=args.dim, encoder_layers=args.layers, encoder_attention_heads=4, encoder_ffn_dim=4 * args.dim,
                           decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=args.dim, num_mel_bins=80, dropout=0.1)
    encoder = WhisperEncoder(config)
    data = DataConfig(data_dir=args.data_dir, max_duration=args.max_duration, num_workers=0)
    train = structure(TrainConfig, {
        "epochs": args.epochs, "optimizer": {"name": "muon", "lr": args.lr}, "schedule": {"warmup_steps": 40, "min_lr_ratio": 0.02},
        "precision": "fp32", "checkpoint_every": 0, "keep_last": 1, "log_every": 20})
    with tempfile.TemporaryDirectory() as scratch:
        Trainer(FrameClassifier(encoder, frame_labels(cuts)), build_train_loader(cuts, None, data, seed=1), train, scratch,
                tensorboard=False).fit()
    part = args.out.with_name(args.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    encoder.save_pretrained(part)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(part)
    part.rename(args.out)


if __name__ == "__main__":
    main()
