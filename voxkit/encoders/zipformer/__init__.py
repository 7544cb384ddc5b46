"""Zipformer (Yao et al. 2023, arXiv 2310.11230): encoder, its convolutional front end, named sizes."""

from voxkit.encoders.zipformer.config import PRESETS, ZipformerConfig, from_preset
from voxkit.encoders.zipformer.model import Zipformer
from voxkit.encoders.zipformer.subsampling import ConvSubsampling
from voxkit.nn.scheduled import set_batch_count

__all__ = ["PRESETS", "ConvSubsampling", "Zipformer", "ZipformerConfig", "from_preset", "set_batch_count"]
