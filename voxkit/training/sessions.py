"""Reader of systems that carry state from utterance to utterance: sets → batches made of sessions."""

from __future__ import annotations

from typing import Any

from voxkit.data.loader import Loader
from voxkit.data.sessions import build_session_loader
from voxkit.training.speech import SpeechReader


class SessionReader(SpeechReader):
    """As SpeechReader; data.sessions says how long sessions are and under which conditions. Dev sets come in sessions too."""

    def _train_loader(self, cuts: Any, states: Any) -> Loader:
        return self._sessions(cuts, states, train=True)

    def _dev_loader(self, cuts: Any, states: Any) -> Loader:
        return self._sessions(cuts, states, train=False)

    def _sessions(self, cuts: Any, states: Any, *, train: bool) -> Loader:
        config, world = self.setup.config, self.world
        return build_session_loader(cuts, self.vocabulary, config.data, config.data.sessions, seed=config.seed, train=train,
                                    rank=world.rank, world_size=world.size, states=states)
