"""Rows of validation loss in units that do not depend on a tokenizer."""

import json
import math
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from juliagpt_jax.data.tokenizer import LibraryTokenizer
from juliagpt_jax.inference import scoring
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.state import initial_state


def test_validation_in_bytes_and_words_where_a_token_is_no_character(tiny):
    """Counted over the targets of the very windows that are scored."""
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.Tokenizer(tokenizers.models.Unigram([(c, -3.0) for c in "abc \n\u00e9"] + [("ab ", -1.0)]))
    library.decoder = tokenizers.decoders.Fuse()
    tokenizer = LibraryTokenizer(json.loads(library.to_str()), 7, None)
    config = tiny("model.width=16", "model.layers=1", "train.eval_windows=3")
    model = build_model(config, 7)
    params = jax.jit(lambda: initial_state(config, model).params)()
    val = tokenizer.encode("ab c\u00e9 ab ab\n" * 40)
    spread = scoring.spread(val, 16, 3, tokenizer.lead)
    self: Any = SimpleNamespace(corpus=SimpleNamespace(val=val, tokenizer=tokenizer), config=config, place=None)
    self.eval_batch, self.fixed, self._eval_windows = 4, lambda params, step: model, spread
    self.whole = lambda params: params
    self._eval_counts = Events._counted(self)
    texts = [tokenizer.decode(row) for row in spread[1]]
    assert self._eval_counts.bytes == len("".join(texts).encode()) and self._eval_counts.characters == len(
        "".join(texts)
    )
    state: Any = SimpleNamespace(params=params, averaged=params, step=0)
    rows = Events.evaluate(self, state)
    nats = rows["val_loss"] * spread[1].size
    assert rows["val_bpb"] == pytest.approx(nats / math.log(2) / self._eval_counts.bytes)
    assert rows["val_word_perplexity"] == pytest.approx(math.exp(nats / self._eval_counts.words))
    assert rows["averaged_val_bpb"] == rows["val_bpb"]
    self._eval_counts = None
    assert list(Events.evaluate(self, state)) == ["val_loss", "averaged_val_loss"]
    places = scoring.spread_places(len(val), 16, 3)
    np.testing.assert_array_equal(val[places], spread[1])
