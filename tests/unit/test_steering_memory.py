"""What steering leaves behind: nothing. A copy of SDXL's larger text encoder is 2.8 GB, and Python sweeps seldom."""

from __future__ import annotations

import gc
import weakref

import pytest
import steering_models as tiny
from palate.adapters.steering import METHODS, SteeringSettings, adapt_text_weights


@pytest.mark.parametrize("method", METHODS)
def test_a_host_s_copy_is_gone_at_once(method: str) -> None:
    model = tiny.new_text_model()
    gone = weakref.ref(next(model.parameters()))
    gc.disable()
    try:
        settings = SteeringSettings(method=method, steps=1)
        projection = tiny.encoder().text_projection
        found = adapt_text_weights(
            model, tiny.token_ids(), tiny.taste(), projection, settings, clip_skip=1, takes_pooled=True
        )
        del model
        assert found.plain is not None and gone() is None
    finally:
        gc.enable()
