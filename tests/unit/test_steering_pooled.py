"""SDXL's text side: the pooled vector moved on its sphere, penultimate layers without the norm, "auto"."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import steering_models as tiny
import torch
from palate.adapters.errors import SteeringError
from palate.adapters.steering import SteeringSettings, adapt_text_weights
from palate.adapters.steering.adapted import Adapted
from palate.adapters.steering.descent import Sphere
from palate.adapters.steering.objective import TasteObjective
from palate.adapters.steering.text_model import TextModel
from palate.adapters.steering.ways import way_of
from torch.nn import functional as F

SDXL = {"clip_skip": 1, "norm_skipped": False, "takes_pooled": True}


@pytest.fixture(scope="module")
def model():
    return tiny.new_text_model()


def adapt(model, method: str = "pooled", chunks: int = 1, **more) -> Adapted:
    settings = more.pop("settings", SteeringSettings(method=method, steps=5))
    projection = tiny.encoder().text_projection
    return adapt_text_weights(model, tiny.token_ids(chunks), tiny.taste(), projection, settings, **(SDXL | more))


def test_pooled_keeps_tokens_to_the_bit_and_turns_the_vector_as_far_as_asked(model) -> None:
    adapted = adapt(model)
    moved = adapted.movement()
    with torch.no_grad():
        assert torch.equal(adapted.tokens(1.0), model(tiny.token_ids(), output_hidden_states=True).hidden_states[-2])
    assert (
        moved.degrees == pytest.approx(SteeringSettings().turn, abs=3.0)
        and moved.token_change == 0.0
        and not adapted.moves_tokens
    )
    assert moved.objective_after < moved.objective_before
    assert torch.equal(adapted.change.pooled, adapted.adapted_embedding)


@pytest.mark.parametrize("strength", [0.3, 1.0, 1.7])
def test_pooled_stays_on_its_sphere_at_every_strength(model, strength: float) -> None:
    adapted = adapt(model)
    assert float(adapted.embedding(strength).norm()) == pytest.approx(float(adapted.embedding(0.0).norm()), rel=1e-5)
    assert adapted.movement(strength).degrees == pytest.approx(strength * adapted.movement().degrees, rel=1e-3)


def test_one_pooled_step_is_the_closed_form_by_hand(model) -> None:
    """u cos a − (g / ‖g‖) sin a with g = s (p − 1) Δ less its part along u, a = ε ‖g‖; times ‖x‖."""
    taste = tiny.taste()
    settings = SteeringSettings(method="pooled", steps=1, learning_rate=0.01, logit_scale=3.0)
    adapted = adapt(model, settings=settings)
    x = adapted.plain_embedding[0]
    unit, difference = x / x.norm(), taste.chosen - taste.rejected
    p = torch.sigmoid(3.0 * difference @ unit)
    gradient = (3.0 * (p - 1)[:, None] * difference).mean(dim=0)
    gradient = gradient - unit * (unit @ gradient)
    a = 0.01 * gradient.norm()
    wanted = x.norm() * (unit * a.cos() - gradient / gradient.norm() * a.sin())
    assert torch.allclose(adapted.adapted_embedding[0], wanted, atol=1e-6)


def test_only_the_first_chunks_vector_is_moved(model) -> None:
    one, two = adapt(model), adapt(model, chunks=2)
    assert two.embedding().shape == (1, tiny.JOINT) and torch.allclose(one.embedding(), two.embedding(), atol=1e-5)


def test_off_is_the_same_bits(model) -> None:
    adapted = adapt(model)
    assert adapted.embedding(0.0) is adapted.plain_embedding
    off = adapt(model, settings=SteeringSettings(method="pooled", strength=0.0))
    assert torch.allclose(off.embedding(1.0), adapted.plain_embedding) and off.movement().degrees == 0.0
    assert off.tokens(1.0) is off.plain


def test_a_model_without_a_pooled_vector_says_so(model) -> None:
    with pytest.raises(SteeringError, match=r"takes no pooled vector.*expected SDXL"):
        adapt(model, takes_pooled=False)
    carried = replace(tiny.taste(0), text_weights=tiny.drawn(tiny.WIDTH))
    settings = SteeringSettings(method="pooled")
    with pytest.raises(SteeringError, match="no text projection; expected the model's own"):
        adapt_text_weights(model, tiny.token_ids(), carried, None, settings, **SDXL)


def test_the_sphere_by_hand() -> None:
    """u = (1, 0), gradient (5, −2): its tangent is (0, −2), so rate π/4 turns by π/2 to (0, 1); then back."""
    variable = torch.tensor([[1.0, 0.0]])
    steps = Sphere(variable, 90.0)
    steps.read([torch.tensor([[5.0, -2.0]])])
    assert steps.first_try(None) == pytest.approx(math.pi / 4)
    steps.move(math.pi / 4)
    assert torch.allclose(variable, torch.tensor([[0.0, 1.0]]), atol=1e-6)
    steps.move(-math.pi / 8)
    assert torch.allclose(variable, torch.tensor([[0.5**0.5, 0.5**0.5]]), atol=1e-6)
    steps.read([None])
    assert steps.first_try(0.1) == 0.0


def test_halfway_on_the_sphere_by_hand() -> None:
    """From 2·(1, 0) to 2·(0, 1) a third of the way is 2·(cos 30°, sin 30°); twice the way is −2·(1, 0)."""
    objective = TasteObjective(torch.tensor([0.0, 1.0]), None, None)
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    adapted = Adapted(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), start, end, objective, moves_tokens=False)
    assert torch.allclose(adapted.embedding(1 / 3), torch.tensor([[3.0**0.5, 1.0]]), atol=1e-6)
    assert torch.allclose(adapted.embedding(2.0), torch.tensor([[-2.0, 0.0]]), atol=1e-6)
    assert torch.allclose(replace(adapted, limit=30.0).embedding(1.0), torch.tensor([[3.0**0.5, 1.0]]), atol=1e-5)


def test_penultimate_states_are_moved_by_the_gradient_through_the_last_layer(model) -> None:
    """Against autograd through the last layer and the final norm alone, both called by hand on hidden_states[-2]."""
    projection, taste, ids = tiny.encoder().text_projection, tiny.taste(), tiny.token_ids()
    core = getattr(model, "text_model", model)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states[-2]
    states = states.clone().requires_grad_()
    mask = torch.full((77, 77), -torch.inf).triu(1)[None, None]
    out = core.encoder.layers[-1](states, mask)
    last = core.final_layer_norm(out[0] if isinstance(out, tuple) else out)
    x = F.normalize(last[:, 5] @ projection.T, dim=-1)
    loss = F.softplus(-3.0 * x @ (taste.chosen - taste.rejected).T).mean()
    (wanted,) = torch.autograd.grad(loss, states)
    settings = SteeringSettings(method="eos_token", steps=1, learning_rate=0.1, logit_scale=3.0, limit=180.0)
    adapted = adapt(model, settings=settings)
    assert torch.equal(adapted.plain, states.detach())
    assert float(wanted.abs().max()) > 0 and torch.allclose(adapted.change.delta, -0.1 * wanted, atol=1e-6)
    assert torch.allclose(adapted.adapted, states.detach() - 0.1 * wanted, atol=1e-6)


@pytest.mark.parametrize("method", ["encoder", "token_input", "eos_token"])
def test_the_pooled_vector_is_what_the_adapted_tower_gives(model, method: str) -> None:
    """Tokens and vector agree: the moved penultimate states, run through the last layer, end in the embedding."""
    adapted = adapt(model, method)
    text = TextModel(model, tiny.token_ids(), tiny.encoder().text_projection, 1, False)
    weights = adapted.change.weights or text.start()
    with torch.no_grad():
        assert torch.allclose(text.embedding(weights, (text.layer, adapted.adapted)), adapted.embedding(), atol=1e-4)


def test_pooled_takes_no_gradient_through_the_model(model) -> None:
    with torch.no_grad():
        way = way_of("pooled", TextModel(model, tiny.token_ids(), tiny.encoder().text_projection))
    assert [v.shape for v in way.steps.variables] == [(1, tiny.JOINT)] and all(
        p.grad is None for p in model.parameters()
    )


def test_auto_is_encoder_for_one_tower_and_token_input_for_two(model) -> None:
    assert SteeringSettings().method == "auto" and SteeringSettings().settled().method == "encoder"
    assert SteeringSettings().settled(2).method == "token_input"
    assert SteeringSettings(method="eos_token").settled(2).method == "eos_token"
    assert adapt(model, "auto").change.weights is not None
