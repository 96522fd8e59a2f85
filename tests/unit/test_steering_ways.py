"""The ways beside `encoder`, and the limit: what moves, by how much, by hand and by finite differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import steering_models as tiny
import torch
from palate.adapters.encoders import ClipFacts, text_model_from_state_dict
from palate.adapters.errors import ShapeError
from palate.adapters.steering import METHODS, PromptTower, SteeringSettings, TextConditioner, adapt_text_weights
from palate.adapters.steering.adapted import Adapted
from palate.adapters.steering.descent import Descent
from palate.adapters.steering.objective import TasteObjective
from palate.adapters.steering.text_model import TextModel
from palate.adapters.steering.ways import way_of
from torch.nn import functional as F

NEW = ("token_input", "eos_token")
END = 5  # where the tests' chunks end


@pytest.fixture(scope="module")
def model():
    return tiny.new_text_model()


def bits(module: torch.nn.Module) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in [*module.parameters(), *module.buffers()]]


def adapt(model, method: str, chunks: int = 1, ids=None, limit: float = 60.0, **more) -> Adapted:
    settings = more.pop("settings", SteeringSettings(method=method, steps=2, limit=limit))
    ids = tiny.token_ids(chunks) if ids is None else ids
    more = {"takes_pooled": True} | more
    return adapt_text_weights(model, ids, tiny.taste(), tiny.encoder().text_projection, settings, **more)


def moved_rows(adapted: Adapted) -> list[int]:
    return (adapted.adapted != adapted.plain).any(dim=-1)[0].nonzero().flatten().tolist()


@pytest.mark.parametrize("method", NEW)
@pytest.mark.parametrize("skip", [0, 1])
def test_the_model_keeps_its_bits_and_the_embedding_turns_as_far_as_asked(model, method: str, skip: int) -> None:
    before = bits(model)
    adapted = adapt(model, method, clip_skip=skip)
    moved = adapted.movement()
    assert bits(model) == before and all(p.grad is None for p in model.parameters())
    assert moved.objective_after < moved.objective_before and moved.token_change > 0
    assert moved.degrees == pytest.approx(SteeringSettings().turn, rel=0.2)


@pytest.mark.parametrize("method", NEW)
@pytest.mark.parametrize("off", [{"strength": 0.0}, {"steps": 0}])
def test_off_is_the_same_bits(model, method: str, off: dict[str, float]) -> None:
    adapted = adapt(model, method, settings=SteeringSettings(method=method, **off))
    with torch.no_grad():
        assert torch.equal(adapted.tokens(0.0), model(tiny.token_ids()).last_hidden_state)
    assert adapted.tokens(1.0) is adapted.plain and adapted.change is None and adapted.movement().degrees == 0.0


@pytest.mark.parametrize("method", [method for method in METHODS if method != "pooled"])
def test_what_is_said_of_the_embedding_is_what_an_encoder_makes_of_the_change(model, method: str) -> None:
    """The change goes once more through a model of its own; its end token, projected, is the embedding."""
    adapted = adapt(model, method, chunks=2)
    rows = adapted.adapted.reshape(2, 77, tiny.WIDTH)[:, [END]][:, 0]
    assert torch.allclose(rows @ tiny.encoder().text_projection.T, adapted.adapted_embedding, atol=1e-4)


def test_eos_token_moves_one_row_of_a_chunk_and_no_bit_of_the_others(model) -> None:
    assert moved_rows(adapt(model, "eos_token")) == [END]
    assert moved_rows(adapt(model, "eos_token", chunks=2)) == [END, 77 + END]


def test_one_eos_step_is_the_closed_form_by_hand(model) -> None:
    """h − ε · W^T (I − x̂ x̂^T) ∇x̂ / ‖W h‖ with ∇x̂ = mean of s (p − 1) (y_chosen − y_rejected), papers' eq. 4."""
    taste, projection = tiny.taste(), tiny.encoder().text_projection
    settings = SteeringSettings(method="eos_token", steps=1, learning_rate=0.01, logit_scale=3.0, limit=180.0)
    adapted = adapt(model, "eos_token", settings=settings)
    h = adapted.plain[0, END]
    x = projection @ h
    unit, difference = x / x.norm(), taste.chosen - taste.rejected
    p = torch.sigmoid(3.0 * difference @ unit)
    gradient = (3.0 * (p - 1)[:, None] * difference).mean(dim=0)
    through = (gradient - unit * (unit @ gradient)) / x.norm()
    assert torch.allclose(adapted.adapted[0, END], h - 0.01 * projection.T @ through, atol=1e-6)


@pytest.mark.parametrize("skip", [1, 2])
def test_with_earlier_layers_the_gradient_comes_through_those_after_them(model, skip: int) -> None:
    """Against central differences in the layer's states; rows after the end token have none."""
    projection = tiny.encoder().text_projection
    with torch.no_grad():
        way = way_of("eos_token", TextModel(tiny.new_text_model(), tiny.token_ids(), projection, clip_skip=skip))
        objective = TasteObjective.of(tiny.taste(), "bradley_terry", 2.0)
        with torch.enable_grad():
            x = F.normalize(way.embedding(), dim=-1)
        (delta,) = way.steps.variables
        (gradient,) = torch.autograd.grad(x, [delta], objective.gradient(x.detach()))
        assert float(gradient[0, END + 1 :].abs().max()) == 0.0 and float(gradient[0, :END].abs().max()) > 0.0
        along = gradient / gradient.norm()
        losses = []
        for step in (0.02, -0.02):
            delta.copy_(step * along)
            losses.append(float(objective.loss(F.normalize(way.embedding(), dim=-1))))
        assert (losses[0] - losses[1]) / 0.04 == pytest.approx(float(gradient.norm()), rel=2e-2)


@pytest.mark.parametrize("norm", [True, False])
def test_eos_token_with_clip_skip_adds_to_the_states_that_condition(model, norm: bool) -> None:
    adapted = adapt(model, "eos_token", clip_skip=1, norm_skipped=norm)
    with torch.no_grad():
        plain = model(tiny.token_ids(), output_hidden_states=True).hidden_states[-2]
        plain = model.final_layer_norm(plain) if norm else plain
    assert torch.equal(adapted.plain, plain)
    assert torch.allclose(adapted.adapted, plain + adapted.change.delta, atol=1e-6)
    assert moved_rows(adapted)[-1] == END and len(moved_rows(adapted)) > 1


def test_token_input_moves_words_and_what_comes_after_them(model) -> None:
    adapted = adapt(model, "token_input")
    table = model.get_input_embeddings().weight
    changed = (adapted.change.inputs[0] != table[tiny.token_ids()[0]]).any(dim=-1)
    assert changed.nonzero().flatten().tolist() == [1, 2, 3, 4] == adapted.change.rows[0].nonzero().flatten().tolist()
    assert moved_rows(adapted) == list(range(1, 77))  # not the start token: attention looks back only


def test_an_empty_prompt_is_moved_by_its_end_token(model) -> None:
    ids = torch.cat([tiny.token_ids(), torch.tensor([[tiny.BOS] + [tiny.EOS] * 76])])
    adapted = adapt(model, "token_input", ids=ids)
    assert adapted.change.rows.nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [1, 1]]
    assert moved_rows(adapted)[-1] == 153


def test_one_step_of_token_input_is_adams_by_hand(model) -> None:
    """Adam's first step moves each number by lr · sign(g), g by autograd through the whole text model."""
    taste, projection = tiny.taste(), tiny.encoder().text_projection
    inputs = model.get_input_embeddings()(tiny.token_ids()).detach().requires_grad_()
    handle = model.get_input_embeddings().register_forward_hook(lambda *_: inputs)
    x = F.normalize(model(tiny.token_ids()).pooler_output @ projection.T, dim=-1)
    handle.remove()
    loss = F.softplus(-100.0 * x @ (taste.chosen - taste.rejected).T).mean()
    (gradient,) = torch.autograd.grad(loss, inputs)
    settings = SteeringSettings(method="token_input", steps=1, learning_rate=1e-3)
    step = inputs.detach() - adapt(model, "token_input", settings=settings).change.inputs
    assert torch.allclose(step[0, 1:END], 1e-3 * gradient[0, 1:END].sign(), atol=1e-5)


def test_vectors_that_stand_for_tokens_take_part_and_are_moved(model) -> None:
    """As a textual inversion in ComfyUI: place 2 is a vector, not token 3; the host encodes what is given to it."""
    tower = text_model_from_state_dict(model.state_dict(), ClipFacts("quick_gelu", text_heads=2, eos_token_id=tiny.EOS))
    vector = tiny.drawn(tiny.WIDTH, seed=5)
    given = []

    def encode(change):
        given.append(change)
        return torch.zeros(1, 77, tiny.WIDTH)

    with_vector = adapt(tower, "token_input", encode=encode, vectors={(0, 2): vector})
    without = adapt(tower, "token_input", encode=encode)
    assert not torch.allclose(with_vector.plain_embedding, without.plain_embedding, atol=1e-3)
    change = given[1]
    assert given[0] is None and change.rows[0, 2]
    assert 0 < float((change.inputs[0, 2] - vector).norm()) < float(vector.norm())


@pytest.mark.parametrize("method", METHODS)
def test_the_limit_holds_at_every_strength_and_under_it_nothing_changes(model, method: str) -> None:
    far = adapt(model, method)
    near = replace(far, limit=10.0)
    assert near.movement(0.1) == far.movement(0.1) and near.tokens(0.0) is near.plain
    for strength in (1.0, 2.0):
        assert near.movement(strength).degrees == pytest.approx(10.0, abs=1e-3)
        assert near.movement(strength).strength == strength
    assert torch.equal(near.tokens(1.0), near.tokens(2.0)) and torch.equal(near.embedding(1.0), near.embedding(2.0))
    assert not torch.equal(near.embedding(1.0), near.plain_embedding)
    assert torch.equal(near.tokens(1.0), near.plain) == (method == "pooled") != near.moves_tokens


def test_the_limit_by_hand() -> None:
    """From (1, 0) to (1, 1) is 45°; at strength s the angle is atan s, so 30° is held at s = tan 30° = 0.57735."""
    objective = TasteObjective(torch.tensor([0.0, 1.0]), None, None)
    adapted = Adapted(
        torch.zeros(1, 1, 2), torch.ones(1, 1, 2), torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]), objective
    )
    assert adapted.movement().degrees == pytest.approx(45.0)
    assert replace(adapted, limit=30.0).held(1.0) == pytest.approx(0.57735, abs=1e-4)
    assert replace(adapted, limit=30.0).held(0.5) == 0.5 and adapted.held(2.0) == 2.0


def test_a_step_of_plain_descent_by_hand() -> None:
    """Gradient (3, 4), length 1: the first try goes 1 far, rate 1/5; then as far as the step before, rate · 5 / 10."""
    variable = torch.zeros(2)
    steps = Descent(variable, 1.0)
    steps.read([torch.tensor([3.0, 4.0])])
    assert steps.first_try(None) == pytest.approx(0.2)
    steps.move(0.4)
    steps.move(-0.2)
    assert torch.allclose(variable, torch.tensor([-0.6, -0.8]))
    steps.read([torch.tensor([6.0, 8.0])])
    assert steps.first_try(0.2) == pytest.approx(0.1)
    steps.read([None])
    assert steps.first_try(0.1) == 0.0


def test_a_conditioner_keeps_each_way_and_takes_the_limit_later(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    tiny.write_tokenizer(tmp_path / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    text = TextConditioner(PromptTower("clip_l", tokenizer, tiny.new_text_model(), tiny.encoder()))
    steps: list[int] = []
    moved = {}
    for method in NEW:
        settings = SteeringSettings(method=method, steps=1)
        note = lambda done, total: steps.append(done)  # noqa: E731
        steered, movement = text.steered("a red star", tiny.taste(), settings, note)
        moved[method] = steered.tokens
        held = text.steered("a red star", tiny.taste(), replace(settings, limit=5.0), lambda *_: steps.append(0))[1]
        assert held.degrees == pytest.approx(5.0, abs=1e-3) and movement.degrees > 10.0
    assert steps == [1, 1] and not torch.equal(*moved.values())


def test_more_layers_than_there_are_cannot_be_skipped(model) -> None:
    with pytest.raises(ShapeError, match="3 layers are skipped of 2"):
        adapt(model, "eos_token", clip_skip=3)
