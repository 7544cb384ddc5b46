"""A small speech encoder to stand in for WavLM where nothing can be downloaded: Whisper's architecture, trained for a minute with
CTC on characters, saved as an ordinary Hugging Face folder. The stages that follow freeze it, as they would WavLM.

    python local/pretrain.py --data-dir data --out data/encoder
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from voxkit.batch import Batch
from voxkit.config import structure
from voxkit.data.config import DataConfig
from voxkit.data.loader import build_train_loader
from voxkit.encoders.pretrained.whisper import WhisperBackbone
from voxkit.losses.hybrid import ctc_loss
from voxkit.text.tokenizer import train_characters
from voxkit.train.config import TrainConfig
from voxkit.train.loop import Trainer
from voxkit.training import read_sets


class EncoderWithCTC(nn.Module):
    """Whisper's encoder with every weight open, and a character head that is thrown away afterwards."""

    def __init__(self, encoder: WhisperEncoder, vocab_size: int) -> None:
        super().__init__()
        self.backbone = WhisperBackbone(encoder, {})
        self.head = nn.Linear(encoder.config.d_model, vocab_size)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        x, lengths = self.backbone.embed(batch.audio, batch.lengths, batch.ids)
        context = self.backbone.context(lengths, x.shape[1])
        for i in range(len(self.backbone.layers)):
            x = self.backbone.layer(i, x, context)
        log_probs = self.head(self.backbone.final(x)).float().log_softmax(-1)
        tokens = batch.token_lengths.sum()
        loss = ctc_loss(log_probs, lengths, batch.tokens, batch.token_lengths).sum() / tokens
        return {"loss": loss, "weight": tokens}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--out", type=Path, default=Path("data/encoder"))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--max-duration", type=float, default=60.0)
    args = parser.parse_args()
    if (args.out / "model.safetensors").is_file():
        print(f"{args.out} is there")
        return
    torch.manual_seed(1)
    cuts = read_sets(args.data_dir, ["train"])
    tokenizer = train_characters([c.supervisions[0].text for c in cuts], Path(args.data_dir) / "characters")
    config = WhisperConfig(d_model=args.dim, encoder_layers=args.layers, encoder_attention_heads=4, encoder_ffn_dim=4 * args.dim,
                           decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=args.dim, num_mel_bins=80, dropout=0.1)
    encoder = WhisperEncoder(config)
    data = DataConfig(data_dir=args.data_dir, max_duration=args.max_duration, num_workers=0, frames_per_second=50)
    train = structure(TrainConfig, {
        "epochs": args.epochs, "optimiser": {"lr": args.lr}, "schedule": {"warmup_steps": 40, "min_lr_ratio": 0.02}, "precision": "bf16",
        "checkpoint_every": 0, "keep_last": 1, "log_every": 20})
    with tempfile.TemporaryDirectory() as scratch:
        Trainer(EncoderWithCTC(encoder, tokenizer.vocab_size), build_train_loader(cuts, tokenizer, data, seed=1), train, scratch,
                tensorboard=False).fit()
    part = args.out.with_name(args.out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    encoder.save_pretrained(part)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(part)
    part.rename(args.out)


if __name__ == "__main__":
    main()
