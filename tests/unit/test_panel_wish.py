"""What a page may ask of Generate, and what is refused by name."""

import pytest
from palate.adapters.errors import SteeringError
from palate.ui.panel.blends import Part
from palate.ui.panel.wish import Wish

SENT = {
    "prompt": " a red star ",
    "negative": "blur",
    "seeds": ["1", 2, "18446744073709551615"],
    "tastes": [{"source": "person:me", "weight": 1}, {"source": "file:a.safetensors", "weight": -0.5}],
    "strength": 1.5,
    "method": "encoder",
    "steps": 4,
    "guidance": 3,
    "size": [64, 128],
    "limit": 30,
}


def test_a_wish_is_read_as_it_was_sent():
    wish = Wish.read(SENT)
    assert (wish.prompt, wish.negative, wish.seeds) == ("a red star", "blur", (1, 2, 2**64 - 1))
    assert wish.parts == (Part("person:me", 1.0), Part("file:a.safetensors", -0.5))
    assert (wish.settings.method, wish.settings.strength, wish.settings.limit) == ("encoder", 1.5, 30.0)
    assert (wish.steps, wish.guidance, wish.size) == (4, 3.0, (64, 128))


def test_what_is_left_out_is_the_models_own():
    wish = Wish.read({"prompt": "a"})
    assert (wish.seeds, wish.parts, wish.steps, wish.guidance, wish.size) == ((1,), (), None, None, None)
    assert wish.settings.method == "auto"


def test_strengths_are_painted_plain_first_then_the_one_asked_for():
    assert Wish.read(SENT | {"strength": 0.8}).strengths() == (0.0, 0.8, 0.5, 1.0, 1.5, 2.0)
    assert Wish.read({"prompt": "a"}).strengths() == (0.0,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": "  "}, "the prompt is empty"),
        ({"prompt": None}, "prompt is None; expected text"),
        ({"prompt": "x" * 100_001}, "over 100,000 characters"),
        ({"strength": -5}, "strength -5.0; expected 0 to 2"),
        ({"surprise": 1.5}, "surprise 1.5; expected 0 to 1"),
        ({"strength": 100}, "strength 100.0; expected 0 to 2"),
        ({"strength": "much"}, "strength is 'much'"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"strength": 10**400}, "strength is 1000"),
        ({"seeds": ["+-5"]}, "seed is '\\+-5'"),
        ({"method": "magic"}, "method 'magic'"),
        ({"seeds": [3, -1]}, "seed -1; expected 0 to"),
        ({"seeds": [2**64]}, "expected 0 to 18,446,744,073,709,551,615"),
        ({"seeds": ["100000000000000000000"]}, "seed 100000000000000000000; expected 0 to"),
        ({"seeds": ["one"]}, "seed is 'one'"),
        ({"seeds": list(range(9))}, "9 seeds; expected 1 to 8"),
        ({"seeds": "1"}, "seeds are '1'; expected a list"),
        ({"tastes": [{"source": "person:me", "weight": -2}]}, "'me' with weight -2"),
        ({"tastes": [{"source": "/etc/passwd", "weight": 1}]}, "Cannot use the taste"),
        ({"tastes": "me"}, "tastes are 'me'"),
        ({"steps": 0}, "0 steps"),
        ({"guidance": 1000}, "guidance 1000"),
        ({"size": [63, 64]}, "63x64 pixels; expected multiples of 8"),
        ({"size": 100_000}, "100000x100000 pixels"),
        ({"limit": 0}, "limit 0"),
    ],
)
def test_what_cannot_be_painted_is_named(change, named):
    with pytest.raises(SteeringError, match=named):
        Wish.read(SENT | change)


def test_all_faults_are_named_at_once():
    with pytest.raises(SteeringError, match=r"the prompt is empty.*0 steps.*pixels"):
        Wish.read(SENT | {"prompt": "", "steps": 0, "size": 7})


@pytest.mark.parametrize("prompt", ["word " * 2000, "🌟" * 50, "((a:1.3) [b] {c|d} \\( <lora:x:1>", "a\nb\x00c"])
def test_any_text_is_a_prompt(prompt):
    assert Wish.read({"prompt": prompt}).prompt == prompt.strip()
