"""The `encoder` way: the host's model stays untouched, zero is off, the loss falls, hosts plug in their own encoder."""

from __future__ import annotations

import copy
import math

import pytest
import steering_models as tiny
import torch
from palate.adapters.encoders import ClipFacts, text_model_from_state_dict
from palate.adapters.errors import CancelledError, ShapeError, SteeringError
from palate.adapters.steering import SteeringSettings, adapt_text_weights
from palate.adapters.steering.objective import TasteObjective
from torch.func import functional_call

QUICK = SteeringSettings(learning_rate=2e-3, steps=3)
FACTS = ClipFacts("quick_gelu", text_heads=2, eos_token_id=tiny.EOS)


@pytest.fixture(scope="module")
def model():
    return tiny.new_text_model()


def bits(module: torch.nn.Module) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in [*module.parameters(), *module.buffers()]]


def adapt(model, settings=QUICK, taste=None, chunks: int = 1, **more):
    projection = tiny.encoder().text_projection
    return adapt_text_weights(model, tiny.token_ids(chunks), taste or tiny.taste(), projection, settings, **more)


def test_the_hosts_model_keeps_its_bits_and_the_loss_falls(model) -> None:
    before = bits(model)
    adapted = adapt(model)
    moved = adapted.movement()
    assert bits(model) == before and all(not p.grad_fn and p.grad is None for p in model.parameters())
    assert moved.objective_after < moved.objective_before and moved.cosine < 1 and moved.token_change > 0
    assert set(adapted.change.weights) == {n for n, _ in model.named_parameters()}


def test_plain_is_what_the_model_itself_gives(model) -> None:
    with torch.no_grad():
        wanted = model(tiny.token_ids()).last_hidden_state
    assert torch.equal(adapt(model).plain, wanted)


@pytest.mark.parametrize("off", [SteeringSettings(strength=0.0), SteeringSettings(steps=0)])
def test_off_is_the_same_bits_and_runs_no_step(model, off: SteeringSettings) -> None:
    steps: list[int] = []
    adapted = adapt(model, off, on_step=lambda step, total: steps.append(step))
    assert torch.equal(adapted.tokens(1.0), adapted.plain) and adapted.change is None and not steps
    assert adapted.movement().degrees == 0.0 and adapted.movement(0.0).token_change == 0.0


def test_strength_goes_straight_from_plain_through_adapted(model) -> None:
    adapted = adapt(model, SteeringSettings(learning_rate=2e-3, steps=3, limit=180.0))
    assert adapted.tokens(0.0) is adapted.plain and adapted.tokens(1.0) is adapted.adapted
    assert torch.allclose(adapted.tokens(0.5), (adapted.plain + adapted.adapted) / 2, atol=1e-6)
    changes = [adapted.movement(s).token_change for s in (0.0, 0.5, 1.0, 2.0)]
    assert changes == pytest.approx([0.0, changes[2] / 2, changes[2], changes[2] * 2], rel=1e-4)


def test_one_step_is_adams_by_hand(model) -> None:
    """Adam's first step moves every weight by lr · g / (|g| + 1e-8), g by autograd through the whole loss."""
    projection, taste = tiny.encoder().text_projection, tiny.taste()
    twin = copy.deepcopy(model)
    x = torch.nn.functional.normalize(twin(tiny.token_ids()).pooler_output @ projection.T, dim=-1)
    loss = torch.nn.functional.softplus(-100.0 * x @ (taste.chosen - taste.rejected).T).mean()
    loss.backward()
    adapted = adapt(model, SteeringSettings(steps=1, learning_rate=1e-5))
    for name, parameter in twin.named_parameters():
        step = parameter.detach() - adapted.change.weights[name]
        if "layers.1.mlp.fc2.weight" in name:
            assert torch.allclose(step, 1e-5 * parameter.grad.sign(), atol=2e-7)


def test_callers_inference_mode_is_no_obstacle() -> None:
    with torch.inference_mode():
        model = tiny.new_text_model()
        before = bits(model)
        moved = adapt(model, taste=tiny.taste()).movement()
    assert moved.objective_after < moved.objective_before and bits(model) == before


def test_each_chunk_is_moved_by_its_own_end_token(model) -> None:
    both = adapt(model, chunks=2)
    assert both.adapted.shape == (1, 154, tiny.WIDTH) and both.plain_embedding.shape == (2, tiny.JOINT)
    assert not torch.equal(both.plain_embedding[0], both.plain_embedding[1])
    change = (both.adapted - both.plain).abs().amax(dim=-1)[0]
    assert float(change[:77].max()) > 0 and float(change[77:].max()) > 0


def test_half_precision_models_are_adapted_in_float32(model) -> None:
    half = tiny.new_text_model().to(torch.bfloat16)
    adapted = adapt(half)
    assert adapted.plain.dtype == adapted.adapted.dtype == torch.bfloat16
    assert all(w.dtype == torch.float32 for w in adapted.change.weights.values())


@pytest.mark.parametrize(("skip", "norm"), [(1, True), (1, False), (2, True)])
def test_skipped_layers_are_those_that_diffusers_skips(model, skip: int, norm: bool) -> None:
    adapted = adapt(model, clip_skip=skip, norm_skipped=norm)
    with torch.no_grad():
        wanted = model(tiny.token_ids(), output_hidden_states=True).hidden_states[-(skip + 1)]
        wanted = model.final_layer_norm(wanted) if norm else wanted
    assert torch.allclose(adapted.plain, wanted, atol=1e-6)
    # the embedding itself is as adapted without skipping
    assert torch.allclose(adapted.adapted_embedding, adapt(model).adapted_embedding, atol=1e-5)


def test_our_tower_gives_what_transformers_gives(model) -> None:
    tower = text_model_from_state_dict(model.state_dict(), FACTS)
    theirs, ours = adapt(model), adapt(tower)
    assert torch.allclose(ours.plain, theirs.plain, atol=1e-5)
    assert torch.allclose(ours.adapted, theirs.adapted, atol=1e-3)
    assert all(name.startswith("text_model.") for name in ours.change.weights)


def test_a_host_encodes_with_its_own_encoder(model) -> None:
    """As ComfyUI's node does: gradients on our tower, conditioning by the host with the adapted weights by name."""
    tower = text_model_from_state_dict(model.state_dict(), FACTS)
    host = tiny.new_text_model()
    before, calls = bits(host), []

    def encode(change):
        calls.append(change)
        if change is None:
            return host(tiny.token_ids()).last_hidden_state * 2  # as a prompt weight would
        own = {n: change.weights[f"text_model.{n}"] for n, _ in host.named_parameters()}
        return functional_call(host, own, (tiny.token_ids(),)).last_hidden_state * 2

    with torch.inference_mode():
        adapted = adapt(tower, encode=encode)
    assert calls[0] is None and len(calls) == 2 and bits(host) == before
    assert torch.allclose(adapted.adapted, adapt(model).adapted * 2, atol=1e-3)


def test_a_taste_without_pairs_moves_along_its_weights(model) -> None:
    taste = tiny.taste(pairs=0)
    adapted = adapt(model, taste=taste)
    along = torch.nn.functional.normalize(taste.weights, dim=-1)
    unit = torch.nn.functional.normalize
    assert unit(adapted.adapted_embedding, dim=-1) @ along > unit(adapted.plain_embedding, dim=-1) @ along


def test_positive_pulls_to_the_chosen_and_needs_them(model) -> None:
    settings = SteeringSettings(objective="positive", steps=2, learning_rate=2e-3)
    assert adapt(model, settings).movement().objective_after < adapt(model, settings).movement().objective_before
    with pytest.raises(SteeringError, match="holds no images"):
        adapt(model, settings, taste=tiny.taste(pairs=0))


def test_text_weights_replace_a_missing_projection(model) -> None:
    taste = tiny.taste(pairs=0)
    carried = tiny.PlainTaste(taste.weights, taste.encoder, text_weights=taste.weights @ tiny.encoder().text_projection)
    adapted = adapt_text_weights(model, tiny.token_ids(), carried, None, QUICK)
    assert adapted.movement().objective_after < adapted.movement().objective_before
    with pytest.raises(SteeringError, match=r"no text projection.*open_clip:ViT-L-14/openai"):
        adapt_text_weights(model, tiny.token_ids(), taste, None, QUICK)


@pytest.mark.parametrize(("turn", "steps", "layers"), [(5.0, 1, 2), (20.0, 5, 2), (40.0, 5, 4)])
def test_steps_are_as_long_as_turns_the_embedding(turn: float, steps: int, layers: int) -> None:
    moved = adapt(tiny.new_text_model(layers), SteeringSettings(turn=turn, steps=steps)).movement()
    assert moved.degrees == pytest.approx(turn, rel=0.21 / steps + 0.1)


def test_without_a_gradient_nothing_moves(model) -> None:
    """Chosen and rejected alike: no pair says anything."""
    same = tiny.unit(3, tiny.JOINT)
    taste = tiny.PlainTaste(torch.ones(tiny.JOINT), tiny.encoder().identity, chosen=same, rejected=same)
    adapted = adapt(model, SteeringSettings(), taste=taste)
    assert adapted.movement().degrees < 0.1 and torch.isfinite(adapted.adapted).all()


def test_progress_and_cancelling(model) -> None:
    seen: list[tuple[int, int]] = []
    adapt(model, on_step=lambda step, total: seen.append((step, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    before = bits(model)
    with pytest.raises(CancelledError, match="after 2 of 3 steps"):
        adapt(model, cancelled=iter([False, False, True]).__next__)
    assert bits(model) == before


def test_same_input_same_result(model) -> None:
    assert torch.equal(adapt(model).adapted, adapt(model).adapted)


def test_what_does_not_fit_is_named(model) -> None:
    projection = tiny.encoder().text_projection
    with pytest.raises(ShapeError, match=r"token ids are \(77,\)"):
        adapt_text_weights(model, tiny.token_ids()[0], tiny.taste(), projection)
    with pytest.raises(ShapeError, match=r"projection is \(24, 32\) and the taste 7 wide"):
        adapt_text_weights(model, tiny.token_ids(), tiny.PlainTaste(torch.ones(7), "x"), projection)
    with pytest.raises(ShapeError, match="32 wide and the taste's text side 40"):
        adapt_text_weights(model, tiny.token_ids(), tiny.taste(), torch.ones(tiny.JOINT, 40))
    with pytest.raises(SteeringError, match="all zeros"):
        TasteObjective.of(tiny.PlainTaste(torch.zeros(4), "x"))
    with pytest.raises(ShapeError, match="NaN"):
        TasteObjective.of(tiny.PlainTaste(torch.tensor([math.nan, 1.0]), "x"))


def test_settings_name_all_their_faults() -> None:
    with pytest.raises(SteeringError, match=r"method 'magic'.*-1 steps.*strength 3"):
        SteeringSettings(method="magic", steps=-1, strength=3.0)
    for wrong in ({"objective": "x"}, {"learning_rate": 0.0}, {"logit_scale": -1.0}, {"turn": 0.0}, {"limit": 181.0}):
        with pytest.raises(SteeringError, match="Cannot steer with these settings"):
            SteeringSettings(**wrong)
